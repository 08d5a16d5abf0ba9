"""Results of global stages: one object under a key that names everything it was made from.

The key is in the name for looking up, the digest of the bytes for telling damage:
``<key>.<sha256>.<extension>``. Only who can compute a result anew removes a damaged one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from storage.digests import sha256
from storage.errors import DamageError
from storage.objects import Store


def find_result(store: Store, folder: str, key: str) -> tuple[str, bytes] | None:
    """Path and bytes of the result of this key, or None. Of several, the smallest name counts.

    Raises:
        DamageError: There are only damaged ones. They stay where they are.
    """
    damaged = []
    for path, data, intact in _candidates(store, folder, key):
        if intact:
            return path, data
        damaged.append(path)
    if damaged:
        raise DamageError(
            f"{damaged[0]} is damaged: put back a copy of it, or run the build that made it, which "
            "computes it again"
        )
    return None


def read_result(store: Store, folder: str, key: str) -> bytes | None:
    """The intact result of this key, or None where there is none.

    Raises:
        DamageError: There are only damaged ones. They stay where they are.
    """
    found = find_result(store, folder, key)
    return found[1] if found is not None else None


def result(
    store: Store, folder: str, key: str, extension: str, compute: Callable[[], bytes]
) -> tuple[bytes, bool]:
    """Read the result of this key, or compute and publish it as ``<key>.<sha256>.<extension>``.

    Damaged ones are removed once there is a new one to take their place.

    Returns:
        The bytes, and whether they were computed by this call.
    """
    with contextlib.suppress(DamageError):
        known = read_result(store, folder, key)
        if known is not None:
            return known, False
    data = compute()
    for path, _, intact in _candidates(store, folder, key):
        if not intact:
            store.delete(path)
    store.publish(f"{folder}/{key}.{sha256(data)}.{extension}", data)
    winner = read_result(store, folder, key)
    return (winner if winner is not None else data), True


def _candidates(store: Store, folder: str, key: str) -> Iterator[tuple[str, bytes, bool]]:
    """Path, bytes and intactness of what has the name of a result; other files are none."""
    pattern = re.compile(re.escape(f"{folder}/{key}.") + r"([0-9a-f]{64})\.[^./]+")
    for path in store.list(folder):
        name = pattern.fullmatch(path)
        if name is None:
            continue
        try:
            data = store.read(path)
        except FileNotFoundError:  # removed since by another build, which makes it anew
            continue
        yield path, data, sha256(data) == name[1]
