"""Pointer logs: numbered entries that are only ever added; the highest number wins.

A pointer such as "the latest version" is the last entry of its log. A rollback is a new entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from storage.digests import canonical
from storage.objects import Store


def append_entry(store: Store, folder: str, entry: Mapping[str, Any]) -> int:
    """Add an entry under the next free number and return that number.

    Two writers never share a number: the loser of a race takes the next one.
    """
    while True:
        number = _last_number(store, folder) + 1
        if store.publish(_path(folder, number), canonical({**entry, "number": number}) + b"\n"):
            return number


def last_entry(store: Store, folder: str) -> dict[str, Any] | None:
    """The entry with the highest number, or None where the log is empty."""
    number = _last_number(store, folder)
    return read_entry(store, folder, number) if number else None


def read_entry(store: Store, folder: str, number: int) -> dict[str, Any]:
    """One entry. Raises FileNotFoundError where there is no such number."""
    entry: dict[str, Any] = json.loads(store.read(_path(folder, number)))
    return entry


def entries(store: Store, folder: str) -> list[dict[str, Any]]:
    """All entries, oldest first."""
    return [read_entry(store, folder, number) for number in _numbers(store, folder)]


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:08d}.json"


def _numbers(store: Store, folder: str) -> list[int]:
    stems = (path.rsplit("/", 1)[-1].removesuffix(".json") for path in store.list(folder))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _last_number(store: Store, folder: str) -> int:
    return max(_numbers(store, folder), default=0)
