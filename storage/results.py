"""Results of global stages: one object under a key that names everything it was made from.

The key is in the name for looking up, the digest of the bytes for telling damage; a damaged
object is removed and computed again.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.digests import sha256
from storage.objects import Store


def read_result(store: Store, folder: str, key: str) -> bytes | None:
    """The intact result of this key, or None. Of several, the smallest name counts."""
    for path in store.list(folder):
        name = path.rsplit("/", 1)[-1].split(".")
        if name[0] != key or len(name) != 3:
            continue
        data = store.read(path)
        if sha256(data) == name[1]:
            return data
        store.delete(path)
    return None


def result(
    store: Store, folder: str, key: str, extension: str, compute: Callable[[], bytes]
) -> tuple[bytes, bool]:
    """Read the result of this key, or compute and publish it as ``<key>.<sha256>.<extension>``.

    Returns:
        The bytes, and whether they were computed by this call.
    """
    known = read_result(store, folder, key)
    if known is not None:
        return known, False
    data = compute()
    store.publish(f"{folder}/{key}.{sha256(data)}.{extension}", data)
    winner = read_result(store, folder, key)
    return (winner if winner is not None else data), True
