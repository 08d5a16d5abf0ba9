"""Manifests: reading and checking one, and the files that it names.

Readers take what they know of a manifest and ignore the rest. A manifest that cannot be used is
named in the message and never removed: what it lists may exist nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from storage.copies import local_copy
from storage.digests import sha256
from storage.errors import DatasetError
from storage.objects import Store
from storage.schemas import SCHEMA_VERSION, TABLES

# What every manifest has had from the first; later fields are optional to readers.
_FIELDS: dict[str, type] = {
    "name": str,
    "version": str,
    "content_digest": str,
    "config": dict,
    "tables": dict,
    "pose_space": str,
    "statistics": dict,
    "lineage": dict,
    "created_at": str,
}
_ENTRY: dict[str, type] = {"path": str, "bytes": int, "sha256": str}


def load_manifest(store: Store, path: str) -> dict[str, Any] | None:
    """The manifest at this path, checked, or None where there is none.

    Raises:
        DatasetError: It cannot be used.
    """
    try:
        text = store.read(path)
    except FileNotFoundError:
        return None
    try:
        manifest = json.loads(text)
        if not isinstance(manifest, dict):
            raise ValueError("not a JSON object")
        schema = _typed(manifest, "schema_version", int, "")
        if schema > SCHEMA_VERSION:
            raise DatasetError(
                f"{path} has schema_version {schema}, this idpose reads up to {SCHEMA_VERSION}: "
                "update idpose"
            )
        _check(manifest)
    except ValueError as error:
        raise DatasetError(
            f"{path} is damaged ({error}): put back a copy of it, or move it away and run the same "
            "build again, which commits the version anew"
        ) from error
    return manifest


def check_entry(entry: Any, where: str) -> None:
    """Raise ValueError unless this names a file with its size and digest."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is not a JSON object")
    for field, kind in _ENTRY.items():
        _typed(entry, field, kind, f"{where}.")


def file_entries(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The entry of every file that rows and training need; documents are not among them."""
    for entries in manifest["tables"].values():
        yield from entries
    if manifest.get("pose_space_file") is not None:
        yield manifest["pose_space_file"]


def verify(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Check every object that the manifest names. Returns one line for each that is not right."""
    problems = [*damaged_files(store, manifest), *damaged_documents(store, manifest)]
    return [problem for _, problem in problems]


def damaged_files(store: Store, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Path and problem of each file that rows and training need and that is not right."""
    found = []
    for entry in file_entries(manifest):
        try:
            read_checked(store, entry)
        except DatasetError as error:
            found.append((entry["path"], str(error)))
    return found


def damaged_documents(store: Store, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and problem of card and page, where they are not right."""
    found = []
    for entry in manifest.get("documents", []):
        try:
            read_document(store, manifest, entry["name"])
        except DatasetError as error:
            found.append((entry["name"], str(error)))
    return found


def read_document(store: Store, manifest: Mapping[str, Any], name: str) -> bytes:
    """README.md or report.html of a version: as committed, else as a later build put it beside.

    Raises:
        DatasetError: It is missing or damaged.
    """
    folder = f"datasets/{manifest['name']}/{manifest['version']}"
    if "documents" not in manifest:  # of the first manifests, which do not list them
        try:
            return store.read(f"{folder}/{name}")
        except FileNotFoundError as error:
            raise DatasetError(f"{folder}/{name} is missing: the same build restores it") from error
    entry = next((e for e in manifest["documents"] if e["name"] == name), None)
    if entry is None:
        raise DatasetError(f"{folder}/manifest.json lists no {name}: build again")
    try:
        return read_checked(store, entry)
    except DatasetError:
        stem, _, extension = name.rpartition(".")
        for path in store.list(folder):
            if path.startswith(f"{folder}/{stem}-") and path.endswith(f".{extension}"):
                data = store.read(path)
                if path == beside(f"{folder}/{name}", data):
                    return data
        raise


def beside(path: str, data: bytes) -> str:
    """Where other bytes go when a name is taken: the same name with their digest."""
    stem, dot, extension = path.rpartition(".")
    return f"{stem}-{sha256(data)[:8]}{dot}{extension}"


def file_entry(path: str, data: bytes) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"path": path, "bytes": len(data), "sha256": sha256(data)}


def read_checked(
    store: Store,
    entry: Mapping[str, Any],
    remedy: str = "the same build restores it",
    *,
    often: bool = False,
) -> bytes:
    """The bytes that an entry names.

    Args:
        store: The root.
        entry: Of :func:`file_entry`.
        remedy: What a user is told to do where the file is missing or damaged.
        often: It will be read again: keep a copy on this machine where the root is remote.

    Raises:
        DatasetError: The file is missing, cannot be read, or holds other bytes.
    """
    path = entry["path"]
    try:
        if often:
            with local_copy(store, path, entry["sha256"]) as file:
                data = file.read_bytes()
        else:
            data = store.read(path)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing: {remedy}") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if sha256(data) != entry["sha256"]:
        raise DatasetError(f"{path} is damaged: {remedy}")
    return data


def _check(manifest: Mapping[str, Any]) -> None:
    for field, kind in _FIELDS.items():
        _typed(manifest, field, kind, "")
    for table in (*TABLES, "pictures"):
        for index, entry in enumerate(_typed(manifest["tables"], table, list, "tables.")):
            check_entry(entry, f"tables.{table}[{index}]")
    for index, entry in enumerate(_typed({"documents": [], **manifest}, "documents", list, "")):
        check_entry(entry, f"documents[{index}]")
        _typed(entry, "name", str, f"documents[{index}].")
    if manifest.get("pose_space_file") is not None:
        check_entry(manifest["pose_space_file"], "pose_space_file")


def _typed(values: Mapping[str, Any], field: str, kind: type, where: str) -> Any:
    if field not in values:
        raise ValueError(f"no {where}{field}")
    if not isinstance(values[field], kind):
        raise ValueError(f"{where}{field} is not of type {kind.__name__}")
    return values[field]
