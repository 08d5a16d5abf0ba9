"""The ``folder`` source: which files of a folder are videos to look at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NOT_VIDEOS = (".csv", ".csv.gz", ".txt", ".md", ".json")


@dataclass(frozen=True)
class MediaFile:
    """One file of a folder.

    Attributes:
        relative_path: Path below the folder, with forward slashes.
        bytes: Size; -1 for an entry that cannot be read.
        mtime_ns: Time of the last change; 0 for an entry that cannot be read.
    """

    relative_path: str
    bytes: int
    mtime_ns: int


def list_videos(folder: Path, *, leave_out: Path | None = None) -> list[MediaFile]:
    """List every regular file below a folder, whatever its extension, sorted by relative path.

    Left out: hidden files and folders, annotation tables and notes (.csv, .csv.gz, .txt, .md,
    .json), and symbolic links that lead out of the folder. A link to a folder within is not
    followed either: its files are listed where they are. What cannot be read (no permission,
    broken link, a name that is not UTF-8) is listed with bytes = -1.

    Args:
        folder: Where the videos are.
        leave_out: A folder below it that is not looked into: a root that lies among the videos.

    Raises:
        ValueError: There is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}")
    root = os.path.realpath(folder)
    skipped = None if leave_out is None else os.path.realpath(leave_out)
    files = [
        MediaFile(_printable(os.path.relpath(path, root)), size, mtime_ns)
        for path, size, mtime_ns in _walk(root, root, skipped)
    ]
    return sorted(files, key=lambda file: file.relative_path)


def _walk(root: str, folder: str, skipped: str | None) -> Iterator[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        yield folder, -1, 0
        return
    for entry in found:
        if entry.name.startswith(".") or entry.path == skipped:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, entry.path, skipped)
        elif not entry.name.lower().endswith(_NOT_VIDEOS):
            yield from _file(root, entry.path)


def _file(root: str, path: str) -> Iterator[tuple[str, int, int]]:
    if Path(path).is_symlink() and not os.path.realpath(path).startswith(root + os.sep):
        return
    try:
        status = os.stat(path)  # noqa: PTH116 - names may be no valid text
    except OSError:
        yield path, -1, 0
        return
    if stat.S_ISREG(status.st_mode):
        readable = os.access(path, os.R_OK) and _is_text(path)
        yield (path, status.st_size, status.st_mtime_ns) if readable else (path, -1, 0)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(relative: str) -> str:
    text = relative.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return text.replace(os.sep, "/")
