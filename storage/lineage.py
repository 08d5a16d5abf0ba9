"""Lineage: the shards that a dataset version was made of, ``datasets/<name>/<version>/lineage/``.

A manifest names the shards with pictures only, since the same version can be made of others. The
last entry names all that the most recent build of the version used, so that ``idpose gc`` keeps
them and the same build finds its work done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from storage import logs
from storage.objects import Store


def name_of(path: str) -> str:
    """The name under which lineage knows a shard or a result: its path up to the first dot."""
    return path.split(".", 1)[0]


def record_lineage(store: Store, folder: str, paths: Iterable[str]) -> None:
    """Say what a version was made of, unless the last entry says the same.

    Args:
        store: The root.
        folder: ``datasets/<name>/<version>``.
        paths: Shards and results of global stages; none = not known, and nothing is said.
    """
    names = sorted(set(map(name_of, paths)))
    version = folder.rsplit("/", 1)[-1]
    if names and names != sorted(read_lineage(store, folder) or ()):
        logs.append_entry(store, f"{folder}/lineage", {"version": version, "names": names})


def read_lineage(store: Store, folder: str) -> set[str] | None:
    """The names of what a version was made of, or None where no build has said it.

    Raises:
        DamageError: The last entry cannot be used.
    """
    entry = logs.last_entry(store, f"{folder}/lineage")
    return None if entry is None else set(entry["names"])


def rename_in_lineages(store: Store, renamed: Mapping[str, str | None]) -> None:
    """Let every lineage name the new shards instead of the old ones.

    Args:
        store: The root.
        renamed: The new path of each old one; None where nothing is left of it.
    """
    new = {name_of(old): name_of(path) if path else None for old, path in renamed.items()}
    folders = (path.split("/lineage/") for path in store.list("datasets"))
    for folder in sorted({parts[0] for parts in folders if len(parts) == 2}):
        names = read_lineage(store, folder) or set()
        if names & new.keys():
            now = (new.get(name, name) for name in names)
            record_lineage(store, folder, (name for name in now if name))
