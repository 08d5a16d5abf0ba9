"""Objects under one root: a local folder or any fsspec URL.

Publication is create-if-absent: an object appears whole or not at all, is never overwritten, and
of two writers of one name the loser learns that it lost. Locally this is a temporary file, fsync,
hard link, fsync of the folder; elsewhere one PUT with the backend's create-only mode.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

_TEMPORARY = ".tmp-"


class Store:
    """The objects of one ROOT, named by paths relative to it.

    Args:
        root: A local path or an fsspec URL such as ``s3://bucket/prefix`` or ``memory://name``.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._fs: Any
        self._fs, base = fsspec.core.url_to_fs(self.root)
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
        return bool(self._fs.isfile(self._full(path)))

    def size(self, path: str) -> int:
        """Size in bytes. Raises FileNotFoundError where there is no such object."""
        return int(self._fs.size(self._full(path)))

    def read(self, path: str) -> bytes:
        """The whole object. Raises FileNotFoundError where there is none."""
        return bytes(self._fs.cat_file(self._full(path)))

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[Any]:
        """The object as a seekable binary file, for readers that need only a part of it."""
        with self._fs.open(self._full(path), "rb") as file:
            yield file

    def list(self, folder: str) -> list[str]:
        """The names of all objects below ``folder``, sorted; empty where there is none."""
        full = self._full(folder)
        self._fs.invalidate_cache()
        prefix = len(self._base.lstrip("/")) + 1
        names = (name.lstrip("/")[prefix:] for name in self._fs.find(full))
        return sorted(n for n in names if not PurePosixPath(n).name.startswith(_TEMPORARY))

    def publish(self, path: str, data: bytes) -> bool:
        """Create the object unless it exists.

        Returns:
            Whether this call created it. False means that another writer came first, and that
            its object stands unchanged.

        Raises:
            OSError: The bytes could not be written; nothing of this name was published then.
        """
        full = self._full(path)
        with _naming(full):
            if self._local:
                return _publish_local(Path(full), data)
            try:
                self._fs.pipe_file(full, data, mode="create")
            except FileExistsError:
                return False
            return True

    def publish_file(self, path: str, source: Path) -> bool:
        """``publish`` for a file below a local root, which gets a second name; it is not copied.

        Its bytes must be on the disk already.

        Raises:
            ValueError: The root is not a local folder.
            OSError: The name could not be given.
        """
        target = self.local_path(path)
        if target is None:
            raise ValueError(f"{self.root} is not a local folder")
        with _naming(str(target)):
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
        with _naming(full):
            if not self._local:
                self._fs.pipe_file(full, data)
                return
            temporary = _write_temporary(Path(full), data)
            temporary.replace(full)
            _sync_folder(temporary.parent)

    def delete(self, path: str) -> None:
        """Remove the object; no error where it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._full(path))

    def remove_temporary(self, folder: str) -> None:
        """Remove what killed writers left in a folder; only where no other one writes."""
        local = self.local_path(folder)
        for path in local.glob(f"{_TEMPORARY}*") if local is not None else ():
            path.unlink(missing_ok=True)

    def _full(self, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
            raise ValueError(f"not a path below the root: {path!r}")
        return f"{self._base}/{pure}" if pure.parts else self._base


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
