"""Dataset versions: immutable, committed by a manifest that is written last.

A reader never sees a dataset without its manifest, and a manifest is never rewritten. The version
is derived from what the tables say, so the same content is the same version wherever and however
it was built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage import logs
from storage.digests import canonical, content_digest, digest, sha256
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from storage.reasons import Status
from storage.schemas import CONTENT_COLUMNS, SCHEMA_VERSION, TABLES

_ROWS_PER_FILE = 100_000
_UNASSIGNED = "unassigned"  # rows of videos that could not be read have no split


class DatasetError(Exception):
    """A dataset is missing, incomplete or damaged; the message names what and the remedy."""


@dataclass(frozen=True)
class Draft:
    """Everything a build has to say, before it is committed.

    Attributes:
        name: Name of the dataset.
        config: The configuration that the content depends on, without paths and secrets.
        tables: ``videos``, ``clips``, ``crops`` and ``triplets`` in the schemas of
            storage.schemas, failures included.
        pictures: Paths of the shards that hold the pictures of the crops.
        pose_space: Id of the pose space.
        statistics: Attrition, crops per clip, cluster sizes, pair balance.
        stages: Version of every stage.
        environment: Versions of the libraries that the content depends on.
        lineage: What this version was made from.
        documents: Further files of the version (README.md, report.html).
    """

    name: str
    config: Mapping[str, Any]
    tables: Mapping[str, pa.Table]
    pictures: Sequence[str]
    pose_space: str
    statistics: Mapping[str, Any]
    stages: Mapping[str, int]
    environment: Mapping[str, str]
    lineage: Mapping[str, Any]
    documents: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def content_digest(self) -> str:
        """Digest of the rows that carry the dataset; failures stay out."""
        good = {name: _good_rows(name, table) for name, table in self.tables.items()}
        return content_digest(good, CONTENT_COLUMNS)

    @property
    def config_digest(self) -> str:
        """Digest of the configuration."""
        return digest(self.config)

    @property
    def version(self) -> str:
        """The first 12 characters of H(schema version, configuration, content)."""
        return digest([SCHEMA_VERSION, self.config_digest, self.content_digest])[:12]


@dataclass(frozen=True)
class Committed:
    """A committed version. ``created`` is False where it existed already."""

    version: str
    path: str
    manifest: Mapping[str, Any]
    created: bool


def commit(store: Store, draft: Draft) -> Committed:
    """Write the tables, then the manifest, then the log entry.

    Raises:
        DatasetError: An object that the manifest names is not there or is damaged.
    """
    folder = f"datasets/{draft.name}/{draft.version}"
    existing = _try_read(store, f"{folder}/manifest.json")
    if existing is not None and not verify(store, existing):
        manifest, created = existing, False
    else:
        manifest, created = _publish(store, draft, folder, existing)
        if problems := verify(store, manifest):
            raise DatasetError("; ".join(problems))
    _point_to(store, draft, folder, manifest)
    return Committed(draft.version, folder, manifest, created)


def read_manifest(store: Store, dataset: str) -> dict[str, Any]:
    """The manifest of ``name`` (its latest version) or ``name@version``.

    Raises:
        DatasetError: There is no such dataset, or the manifest is damaged.
    """
    name, _, version = dataset.partition("@")
    if not version:
        entry = logs.last_entry(store, f"datasets/{name}/log")
        if entry is None:
            raise DatasetError(f"no dataset {name!r} in {store.root}: build it with `idpose build`")
        version = entry["version"]
    manifest = _try_read(store, f"datasets/{name}/{version}/manifest.json")
    if manifest is None:
        raise DatasetError(f"no committed version {version!r} of dataset {name!r} in {store.root}")
    return manifest


def read_table(
    store: Store,
    manifest: Mapping[str, Any],
    table: str,
    *,
    split: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """One table of a version, or one split of it, in the order of its files.

    Raises:
        DatasetError: A file is missing or is not the one that was committed.
    """
    parts = []
    for entry in manifest["tables"][table]:
        name = entry["path"].rsplit("/", 1)[-1]
        if split is not None and not name.startswith(f"{split}-"):
            continue
        parts.append(from_parquet(_read_checked(store, entry), columns))
    if parts:
        return pa.concat_tables(parts)
    empty = TABLES[table].empty_table()
    return empty.select(list(columns)) if columns is not None else empty


def latest_observation(store: Store, manifest: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Videos and clips with their statuses as the most recent build of this version saw them.

    A build that meets further broken files, and nothing else new, gives the version that exists;
    what it saw is kept beside the version, and its log entry names it.
    """
    history = logs.entries(store, f"datasets/{manifest['name']}/log")
    mine = [entry for entry in history if entry["version"] == manifest["version"]]
    observed = mine[-1].get("observed") if mine else None
    if observed is None:
        return {name: read_table(store, manifest, name) for name in ("videos", "clips")}
    return {name: from_parquet(_read_checked(store, entry)) for name, entry in observed.items()}


def verify(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Check every object that the manifest names. Returns one line for each that is not right."""
    problems = []
    for entries in manifest["tables"].values():
        for entry in entries:
            try:
                _read_checked(store, entry)
            except DatasetError as error:
                problems.append(str(error))
    return problems


def attrition(table: pa.Table) -> dict[str, int]:
    """How many rows have each status, most frequent first."""
    counts = pc.value_counts(table["status"]).to_pylist()
    counts.sort(key=lambda c: (-c["counts"], c["values"]))
    return {c["values"]: c["counts"] for c in counts}


def _good_rows(name: str, table: pa.Table) -> pa.Table:
    if "status" not in TABLES[name].names:
        return table
    good = table.filter(pc.equal(table["status"], Status.OK.value))
    return good.filter(pc.greater(good["clips"], 0)) if name == "videos" else good


def _publish(
    store: Store, draft: Draft, folder: str, damaged: Mapping[str, Any] | None
) -> tuple[dict[str, Any], bool]:
    tables = {
        name: _publish_table(store, folder, name, draft.tables[name], damaged) for name in TABLES
    }
    tables["pictures"] = [_shard_entry(store, path) for path in sorted(set(draft.pictures))]
    for name, data in draft.documents.items():
        store.publish(f"{folder}/{name}", data)
    manifest = {
        "name": draft.name,
        "version": draft.version,
        "schema_version": SCHEMA_VERSION,
        "content_digest": draft.content_digest,
        "config": draft.config,
        "config_digest": draft.config_digest,
        "stages": draft.stages,
        "environment": draft.environment,
        "tables": tables,
        "observed": _observation_digest(draft),
        "pose_space": draft.pose_space,
        "statistics": draft.statistics,
        "lineage": draft.lineage,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for entries in tables.values():
        for entry in entries:
            if not store.exists(entry["path"]):
                raise DatasetError(f"{entry['path']} vanished before the commit: build again")
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    created = store.publish(f"{folder}/manifest.json", text)
    committed = _try_read(store, f"{folder}/manifest.json")
    if committed is None:
        raise DatasetError(f"{folder}/manifest.json cannot be read back")
    return committed, created


def _publish_table(
    store: Store, folder: str, name: str, table: pa.Table, damaged: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    table = table.cast(TABLES[name])
    splits = pc.fill_null(table["split"], _UNASSIGNED)
    entries = []
    for split in sorted(set(splits.to_pylist())):
        part = table.filter(pc.equal(splits, split))
        files = -(-part.num_rows // _ROWS_PER_FILE)
        for index in range(files):
            rows = part.slice(index * _ROWS_PER_FILE, _ROWS_PER_FILE)
            path = f"{folder}/{name}/{split}-{index:05d}-of-{files:05d}.parquet"
            entries.append(_publish_part(store, path, rows, damaged))
    return entries


def _publish_part(
    store: Store, path: str, rows: pa.Table, damaged: Mapping[str, Any] | None
) -> dict[str, Any]:
    data = to_parquet(rows)
    entry = {"path": path, "rows": rows.num_rows, "bytes": len(data), "sha256": sha256(data)}
    if damaged is not None:
        # The version is committed: its files may be put back as they were, never changed.
        named = {e["path"]: e for entries in damaged["tables"].values() for e in entries}
        if named.get(path, {}).get("sha256") == entry["sha256"]:
            store.replace(path, data)
        return entry
    if not store.publish(path, data) and sha256(store.read(path)) != entry["sha256"]:
        # Left by a build that was stopped before its manifest and saw other failures: the
        # manifest names the files, so this one goes beside it.
        entry["path"] = path.replace(".parquet", f"-{entry['sha256'][:8]}.parquet")
        store.publish(entry["path"], data)
    return entry


def _shard_entry(store: Store, path: str) -> dict[str, Any]:
    with store.open(path) as file:
        rows = from_parquet(file, ["row_key"]).num_rows
    name = path.rsplit("/", 1)[-1].removesuffix(".parquet")
    return {"path": path, "rows": rows, "bytes": store.size(path), "sha256": name}


def _point_to(store: Store, draft: Draft, folder: str, manifest: Mapping[str, Any]) -> None:
    log = f"datasets/{draft.name}/log"
    last = logs.last_entry(store, log)
    observation = _observation_digest(draft)
    if last is None or (last["version"], last["observation"]) != (draft.version, observation):
        entry: dict[str, Any] = {
            "version": draft.version,
            "observation": observation,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if observation != manifest["observed"]:
            entry["observed"] = {
                name: _publish_part(
                    store,
                    f"{folder}/observed/{observation}-{name}.parquet",
                    draft.tables[name].cast(TABLES[name]),
                    None,
                )
                for name in ("videos", "clips")
            }
        logs.append_entry(store, log, entry)
    newest = logs.last_entry(store, log)
    if newest is not None:
        store.replace(f"datasets/{draft.name}/latest", newest["version"].encode() + b"\n")


def _observation_digest(draft: Draft) -> str:
    """What was seen of every video and clip, failures included, without attempts and free text."""
    columns = {
        "videos": ("video_id", "source_uri", "media_sha256", "status"),
        "clips": ("clip_id", "status"),
    }
    return content_digest({name: draft.tables[name] for name in columns}, columns)[:16]


def _try_read(store: Store, path: str) -> dict[str, Any] | None:
    try:
        text = store.read(path)
    except FileNotFoundError:
        return None
    try:
        manifest: dict[str, Any] = json.loads(text)
        canonical(manifest["tables"])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is damaged ({error}): delete it and build again") from error
    return manifest


def _read_checked(store: Store, entry: Mapping[str, Any]) -> bytes:
    try:
        data = store.read(entry["path"])
    except OSError as error:
        raise DatasetError(f"{entry['path']} is missing: the same build restores it") from error
    if sha256(data) != entry["sha256"]:
        raise DatasetError(f"{entry['path']} is damaged: the same build restores it")
    return data
