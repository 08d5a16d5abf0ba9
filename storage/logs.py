"""Pointer logs: numbered entries that are only ever added; the highest number wins.

A pointer such as "the latest version" is the last entry of its log. A rollback is a new entry;
``{"version": "..."}`` is enough of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from storage.digests import canonical
from storage.errors import DamageError
from storage.objects import Store


def append_entry(store: Store, folder: str, entry: Mapping[str, Any]) -> int:
    """Add an entry under the next free number and return that number.

    Two writers never share a number: the loser of a race takes the next one.
    """
    while True:
        number = last_number(store, folder)
        if append_after(store, folder, number, entry):
            return number + 1


def append_after(store: Store, folder: str, number: int, entry: Mapping[str, Any]) -> bool:
    """Add an entry behind that of a number (0: to an empty log), unless another came first."""
    text = canonical({**entry, "number": number + 1}) + b"\n"
    return store.publish(_path(folder, number + 1), text)


def point(store: Store, folder: str, cache: str) -> None:
    """Bring the file that caches the version of a log's last entry up to date.

    Written again until it is the last one, so that of several writers the newest entry wins.
    """
    while (newest := last_entry(store, folder)) is not None:
        text = newest["version"].encode() + b"\n"
        if store.exists(cache) and store.read(cache) == text:
            return
        store.replace(cache, text)


def last_entry(store: Store, folder: str) -> dict[str, Any] | None:
    """The entry with the highest number, or None where the log is empty.

    Raises:
        DamageError: That entry names no version.
    """
    number = last_number(store, folder)
    return read_entry(store, folder, number) if number else None


def read_entry(store: Store, folder: str, number: int) -> dict[str, Any]:
    """One entry.

    Raises:
        FileNotFoundError: There is no such number.
        DamageError: It names no version.
    """
    path = _path(folder, number)
    text = store.read(path)
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("version"), str):
        raise DamageError(
            f'{path} is not an entry such as {{"version": "..."}}: move it away (the entry before '
            "it counts then) or correct it"
        )
    return entry


def entries(store: Store, folder: str) -> list[dict[str, Any]]:
    """All entries, oldest first.

    Raises:
        DamageError: One of them names no version.
    """
    return [read_entry(store, folder, number) for number in _numbers(store, folder)]


def serving(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """The versions that a log pointed to one after the other, those rolled back taken out.

    Args:
        history: Entries of the log, oldest first.
    """
    served: list[str] = []
    for entry in history:
        version = entry["version"]
        if entry.get("action") == "rollback" and version in served:
            while served[-1] != version:
                served.pop()
        elif not served or served[-1] != version:
            served.append(version)
    return served


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:08d}.json"


def _numbers(store: Store, folder: str) -> list[int]:
    """The numbers of the entries; other files that lie there are none."""
    found = []
    for path in store.list(folder):
        stem = path.rsplit("/", 1)[-1].removesuffix(".json")
        if stem.isascii() and stem.isdecimal() and path == _path(folder, int(stem)):
            found.append(int(stem))
    return sorted(found)


def last_number(store: Store, folder: str) -> int:
    """The highest number; 0 where the log is empty."""
    return max(_numbers(store, folder), default=0)
