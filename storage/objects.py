"""Objects under one root: a local folder or any fsspec URL.

Publication is create-if-absent: an object appears whole or not at all, is never overwritten, and
of two writers of one name the loser learns that it lost. Locally this is a temporary file, fsync,
hard link, fsync of the folder; elsewhere one PUT with the backend's create-only mode. A remote
store is asked again for a while before it is given up (``StoreError``).
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from storage.remote import PART, open_filesystem, patiently

_TEMPORARY = ".tmp-"
_BUFFER = 1 << 20  # of an object that is read in parts


@dataclass(frozen=True)
class Found:
    """An object as a listing tells of it.

    Attributes:
        path: Relative to the root.
        bytes: Its size.
        modified: When it was written, in seconds since 1970 by the store's clock.
    """

    path: str
    bytes: int
    modified: float


class Store:
    """The objects of one ROOT, named by paths relative to it.

    Args:
        root: A local path or an fsspec URL such as ``s3://bucket/prefix`` or ``memory://name``.

    Raises:
        StoreError: From here and from every method, where a remote root cannot be reached or
            refuses.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._fs: Any
        self._fs, base = open_filesystem(self.root)
        self._local = isinstance(self._fs, LocalFileSystem)
        self._base = str(Path(base).absolute()) if self._local else base.rstrip("/")

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        # fsspec instances hold sockets and event loops; another process opens its own.
        return Store, (self.location,)

    @property
    def location(self) -> str:
        """The root as another process of this machine can open it."""
        return self._base if self._local else self.root

    def local_path(self, path: str) -> Path | None:
        """The file behind ``path`` where ROOT is a local folder, else None."""
        return Path(self._full(path)) if self._local else None

    def exists(self, path: str) -> bool:
        """Whether an object of this name was published."""
        full = self._full(path)
        if self._local:
            return Path(full).is_file()
        try:
            return bool(self._ask("info", full)["type"] == "file")
        except FileNotFoundError:
            return False

    def size(self, path: str) -> int:
        """Size in bytes. Raises FileNotFoundError where there is no such object."""
        return int(self._ask("size", self._full(path)))

    def read(self, path: str) -> bytes:
        """The whole object. Raises FileNotFoundError where there is none."""
        return bytes(self._ask("cat_file", self._full(path)))

    def read_part(self, path: str, start: int, stop: int) -> bytes:
        """The bytes ``start`` ... ``stop`` - 1 of an object."""
        return bytes(self._ask("cat_file", self._full(path), start=start, end=stop))

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[Any]:
        """The object as a seekable binary file, for readers that need only a part of it."""
        local = self.local_path(path)
        file: Any = local.open("rb") if local else io.BufferedReader(_Parts(self, path), _BUFFER)
        with file:
            yield file

    def fetch_file(self, path: str, target: Path) -> None:
        """Write the object to a file of this machine; a part of it at a time is in memory.

        Raises:
            FileNotFoundError: There is no such object.
            OSError: The file cannot be written.
        """
        with target.open("wb") as file:
            for start in range(0, size := self.size(path), PART):
                file.write(self.read_part(path, start, min(size, start + PART)))

    def list(self, folder: str) -> list[str]:
        """The names of all objects below ``folder``, sorted; empty where there is none."""
        full = self._full(folder)
        self._fs.invalidate_cache()
        prefix = len(self._base.lstrip("/")) + 1
        names = (name.lstrip("/")[prefix:] for name in self._ask("find", full))
        return sorted(n for n in names if not PurePosixPath(n).name.startswith(_TEMPORARY))

    def details(self, folder: str) -> tuple[Found, ...]:
        """All objects below ``folder`` with size and time, sorted; half-written ones too."""
        full = self._full(folder)
        if self._local:
            prefix = len(self._base) + 1
            found = [
                Found(name[prefix:], told.st_size, told.st_mtime)
                for name, told in _local_files(full)
            ]
        else:
            self._fs.invalidate_cache()
            prefix = len(self._base.lstrip("/")) + 1
            found = [
                Found(name.lstrip("/")[prefix:], int(told["size"]), self._modified(name, told))
                for name, told in self._ask("find", full, detail=True).items()
            ]
        return tuple(sorted(found, key=lambda each: each.path))

    def publish(self, path: str, data: bytes) -> bool:
        """Create the object unless it exists.

        Returns:
            Whether this call created it. False means that another writer came first, and that
            its object stands unchanged. On a remote root an object of these very bytes counts as
            created: a PUT whose answer was lost is sent again, and meets its own object.

        Raises:
            OSError: The bytes could not be written; nothing of this name was published then.
        """
        full = self._full(path)
        if self._local:
            with _naming(full):
                return _publish_local(Path(full), data)
        try:
            self._ask("pipe_file", full, data, mode="create")
        except FileExistsError:
            return self.read(path) == data
        return True

    def publish_file(self, path: str, source: Path) -> bool:
        """``publish`` for a file of this machine, whose name is to say what its bytes are.

        Below a local root it gets a second name and is not copied; its bytes must be on the disk
        already. To a remote one it goes in parts.

        Returns:
            Whether this call created the object; False also where it did and the answer was lost.

        Raises:
            OSError: The name could not be given.
        """
        full = self._full(path)
        if not self._local:
            try:
                self._ask("put_file", str(source), full, mode="create", chunksize=PART)
            except FileExistsError:
                return False
            return True
        with _naming(full):
            target = Path(full)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Overwrite the object atomically: only for caches that can be derived anew.

        Raises:
            OSError: The bytes could not be written; the object is as it was.
        """
        full = self._full(path)
        if not self._local:
            self._ask("pipe_file", full, data)
            return
        with _naming(full):
            temporary = _write_temporary(Path(full), data)
            temporary.replace(full)
            _sync_folder(temporary.parent)

    def delete(self, path: str) -> None:
        """Remove the object; no error where it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            self._ask("rm_file", self._full(path))

    def remove_temporary(self, folder: str) -> None:
        """Remove what killed writers left in a folder; only where no other one writes."""
        local = self.local_path(folder)
        for path in local.glob(f"{_TEMPORARY}*") if local is not None else ():
            path.unlink(missing_ok=True)

    def _modified(self, name: str, told: dict[str, Any]) -> float:
        """When an object was written: each backend has another word for it, or only an answer."""
        when = told.get("LastModified") or told.get("created") or self._fs.modified(name)
        return when.timestamp() if isinstance(when, datetime) else float(when)

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the filesystem, patiently where that is a remote one."""
        call = functools.partial(getattr(self._fs, method), *args, **kwargs)
        return call() if self._local else patiently(self.root, call)

    def _full(self, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
            raise ValueError(f"not a path below the root: {path!r}")
        return f"{self._base}/{pure}" if pure.parts else self._base


def _local_files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    for parent, _, names in os.walk(folder):  # which enters no links
        for name in names:
            path = f"{parent}/{name}"
            with contextlib.suppress(FileNotFoundError):  # removed since
                told = os.lstat(path)
                if stat.S_ISREG(told.st_mode):
                    yield path, told


class _Parts(io.RawIOBase):
    """An object of a remote root, of which only what is read is asked for."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path, self._at = store, path, 0
        self._size = store.size(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readall(self) -> bytes:
        return self.read(max(0, self._size - self._at)) or b""

    def readinto(self, buffer: Any) -> int:
        stop = min(self._size, self._at + len(buffer))
        if stop <= self._at:
            return 0
        data = self._store.read_part(self._path, self._at, stop)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """A full disk does not say which file it had no room for: the error gets its name."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = path
        raise


def _publish_local(target: Path, data: bytes) -> bool:
    if target.exists():
        return False
    temporary = _write_temporary(target, data)
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return True


def _write_temporary(target: Path, data: bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
