"""What a remote root needs on this machine: files under way, and copies of objects.

Decoders read files, and a training that goes on reads the pictures that it read before. Copies are
named by the SHA-256 of their bytes and are checked whenever they are used. Together they take at
most $IDPOSE_CACHE_GB (10 by default), what is in use apart; the least recently used go first. They
lie in $IDPOSE_CACHE, else in ~/.cache/idpose. A local root has no copies: its own files serve.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from storage.digests import digest
from storage.errors import DamageError, StoreError
from storage.objects import Store

_GB = 10.0


def working_path(store: Store, path: str) -> Path:
    """Where a file lies that this machine works on: below a local root, else beside the copies."""
    local = store.local_path(path)
    return local or _cache() / "roots" / digest(store.location)[:16] / path


@contextlib.contextmanager
def local_copy(store: Store, path: str, sha256: str) -> Iterator[Path]:
    """An object as a file of this machine, for as long as the context lasts.

    Args:
        store: The root.
        path: The object.
        sha256: Of its bytes. A file of a local root is not compared with it.

    Raises:
        DamageError: The object is missing or holds other bytes.
        OSError: The copy cannot be written.
    """
    local = store.local_path(path)
    if local is not None:
        yield local
        return
    folder = _cache() / "copies"
    handle = _hold(folder / sha256)
    if handle is None:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _fetch(store, path, folder / sha256)
        _make_room(folder)
    try:
        yield folder / sha256
    finally:
        os.close(handle)


@contextlib.contextmanager
def media_file(location: Mapping[str, Any], sha256: str) -> Iterator[str]:
    """A video as a file, for as long as the context lasts.

    Args:
        location: ``path`` of a file of this machine; or ``root``, and ``media`` in it.
        sha256: Of its bytes.

    Raises:
        DamageError, OSError: See ``local_copy``.
    """
    if "path" in location:
        yield location["path"]
        return
    with local_copy(Store(location["root"]), location["media"], sha256) as file:
        yield str(file)


def remove_copies(digests: Iterable[str]) -> None:
    """Remove the copies of objects by their SHA-256; who reads one reads it to its end."""
    for sha256 in digests:
        (_cache() / "copies" / sha256).unlink(missing_ok=True)


def _cache() -> Path:
    configured = os.environ.get("IDPOSE_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "idpose"


def _limit() -> float:
    text = os.environ.get("IDPOSE_CACHE_GB") or str(_GB)
    try:
        return float(text) * 1e9
    except ValueError as error:
        raise StoreError(f"$IDPOSE_CACHE_GB is {text!r}: set it to a number") from error


def _hold(file: Path) -> int | None:
    """A lock on a whole copy, which keeps it in the cache; None where there is no such copy."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    fcntl.flock(handle, fcntl.LOCK_SH)
    if _has_name(handle, file) and _sha256(handle) == file.name:
        os.utime(handle)
        return handle
    os.close(handle)
    return None


def _fetch(store: Store, path: str, file: Path) -> int:
    """Fetch a copy, which appears whole. Returns the lock on it."""
    temporary = file.parent / f".tmp-{uuid.uuid4().hex}"
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        try:
            store.fetch_file(path, temporary)
        except FileNotFoundError as error:
            raise DamageError(
                f"{path} is missing: run the same build again, which restores it"
            ) from error
        if _sha256(handle) != file.name:
            raise DamageError(
                f"{path} is damaged: delete it and run the same build again, which restores it"
            )
        temporary.replace(file)
    except BaseException:
        os.close(handle)
        temporary.unlink(missing_ok=True)
        raise
    return handle


def _make_room(folder: Path) -> None:
    """Remove the least recently used files that nobody holds, until the rest is small enough."""
    found = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            told = file.stat()
            found.append((told.st_mtime_ns, told.st_size, file))
    total, limit = sum(size for _, size, _ in found), _limit()
    for _, size, file in sorted(found):
        if total <= limit:
            return
        if _remove_unused(file):
            total -= size


def _remove_unused(file: Path) -> bool:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _has_name(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _sha256(handle: int) -> str:
    with open(handle, "rb", closefd=False) as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
