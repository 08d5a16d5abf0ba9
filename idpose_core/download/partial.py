"""A file that is being fetched: what is there of it, and a note of what it is a part of.

What was fetched stays through errors and kills. It is continued only where the server confirms
length and validator (ETag, or else time of change), and a kernel lock keeps two processes from
writing one file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.reasons import Status, Unusable

_NAP_S = 0.2


@dataclass(frozen=True)
class Note:
    """What is known of a partial file.

    Attributes:
        variant: Which of several forms of the video it is: a part of one is not continued with
            another.
        length: Bytes of the whole; None where the server does not say.
        validator: Its ETag, or else its time of change; None where it cannot be continued.
        media: Name of the published file, once all is there.
        licence: Of the video, where its site names one.
        failure: Status with which it failed in an earlier build, where it may yet succeed.
        failure_detail: Its words.
    """

    variant: str = ""
    length: int | None = None
    validator: str | None = None
    media: str | None = None
    licence: str | None = None
    failure: str | None = None
    failure_detail: str = ""


class Partial:
    """A file that a transfer fills, held by this process alone: see ``partial_file``."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return os.fstat(self._handle).st_size

    @property
    def is_published(self) -> bool:
        """Whether these bytes have their final name too: a kill came between that and the note."""
        return os.fstat(self._handle).st_nlink > 1

    @property
    def note(self) -> Note:
        """What is known of the file; nothing where the note is missing or damaged."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Note(**json.loads(note_path(self.path).read_text("utf-8")))
        return Note()

    def restart(self, note: Note) -> None:
        """Throw away what is there, and begin anew under this note."""
        os.ftruncate(self._handle, 0)
        self.describe(note)

    def describe(self, note: Note) -> None:
        """Keep a note, whole or not at all."""
        target = note_path(self.path)
        temporary = target.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(note)), encoding="utf-8")
        temporary.replace(target)

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        os.lseek(self._handle, 0, os.SEEK_END)
        while data:
            data = data[os.write(self._handle, data) :]

    def sync(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._handle)


@contextlib.contextmanager
def partial_file(path: Path, *, patience_s: float) -> Iterator[Partial]:
    """Hold a partial file for this process alone; it is made where there is none.

    Raises:
        Unusable: DOWNLOAD_TIMEOUT, where another process has held it for so many seconds.
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + patience_s
    while (handle := _try_to_lock(path)) is None:
        if time.monotonic() > end:
            raise Unusable(
                Status.DOWNLOAD_TIMEOUT, "another process has been fetching it all the time"
            )
        time.sleep(_NAP_S)
    try:
        yield Partial(path, handle)
    finally:
        os.close(handle)  # and with it the lock, as when this process is killed


def remove_partial(path: Path) -> None:
    """Remove a partial file and its note; no error where they are gone."""
    for file in (path, note_path(path), note_path(path).with_suffix(".tmp")):
        file.unlink(missing_ok=True)


def note_path(path: Path) -> Path:
    """Where the note of a partial file lies."""
    return path.with_suffix(".json")


def _try_to_lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who held it before may have removed it: then the lock is on a file without a name.
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None
