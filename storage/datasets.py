"""Dataset versions: immutable, committed by a manifest that is written last.

A reader never sees a dataset without its manifest, and a manifest is never rewritten. The version
is derived from what the tables say, so the same content is the same version wherever and however
it was built.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage import logs
from storage.digests import content_digest, digest, sha256
from storage.errors import DatasetError as DatasetError
from storage.lineage import record_lineage
from storage.manifests import (
    beside,
    check_entry,
    damaged_documents,
    damaged_files,
    file_entries,
    file_entry,
    load_manifest,
    read_checked,
)
from storage.manifests import verify as verify
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from storage.reasons import Status
from storage.results import find_result
from storage.schemas import ADDED_CONTENT, CONTENT_COLUMNS, SCHEMA_VERSION, TABLES
from storage.tombstones import read_tombstones
from storage.versions import latest_version, versions

_ROWS_PER_FILE = 100_000
_UNASSIGNED = "unassigned"  # rows of videos that could not be read have no split


def _no_documents(tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
    return {}


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
        made_of: Paths of the shards and results that the build used, see storage.lineage.
        documents: Makes the further files of the version (README.md, report.html) from its
            tables. A later build makes them anew from the committed tables.
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
    made_of: Collection[str] = ()
    documents: Callable[[Mapping[str, pa.Table]], Mapping[str, bytes]] = _no_documents

    @cached_property
    def content_digest(self) -> str:
        """Digest of the rows that carry the dataset; failures stay out."""
        good = {name: _good_rows(name, table) for name, table in self.tables.items()}
        return content_digest(good, {n: content_columns(n, table) for n, table in good.items()})

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

    Of a version that exists, what is missing or damaged is put back as it was.

    Raises:
        DatasetError: An object that the manifest names is not there or is damaged, or the
            manifest or the log is; or a video of it was forgotten.
    """
    folder = f"datasets/{draft.name}/{draft.version}"
    _check_tombstones(store, draft)
    record_lineage(store, folder, draft.made_of)
    manifest, created = load_manifest(store, f"{folder}/manifest.json"), False
    if manifest is None:
        manifest, created = _publish(store, draft, folder)
        problems = damaged_files(store, manifest)
    else:
        problems = damaged_files(store, manifest)
        if problems:
            _restore_tables(store, draft, folder, manifest, {path for path, _ in problems})
            problems = damaged_files(store, manifest)
    if problems:
        raise DatasetError("; ".join(problem for _, problem in problems))
    if not created:
        _restore_documents(store, draft, folder, manifest)
    _point_to(store, draft, folder, manifest, created)
    return Committed(draft.version, folder, manifest, created)


def read_manifest(store: Store, dataset: str) -> dict[str, Any]:
    """The manifest of ``name`` (its latest version) or ``name@version``.

    Raises:
        DatasetError: There is no such dataset, or its manifest or the log is damaged.
    """
    name, _, version = dataset.partition("@")
    if not version:
        version = latest_version(store, name) or ""
        if not version:
            raise DatasetError(f"no dataset {name!r} in {store.root}: build it with `idpose build`")
    manifest = load_manifest(store, f"datasets/{name}/{version}/manifest.json")
    if manifest is None:
        withdrawn = logs.entries(store, f"datasets/{name}/{version}/withdrawn")
        if withdrawn:
            raise DatasetError(
                f"{name}@{version} was withdrawn at {withdrawn[-1].get('at')} for a video that was "
                "forgotten: run the same build again, which goes on without that video"
            )
        committed = ", ".join(f"{name}@{known}" for known in versions(store, name)) or "none"
        raise DatasetError(
            f"no committed version {version!r} of dataset {name!r} in {store.root}; committed are "
            f"{committed}"
        )
    return manifest


def withdrawn_at(store: Store, name: str, version: str) -> str | None:
    """When a version was withdrawn because it held a video that was forgotten; None if it was not.

    A version that only shared a shard with the video does not count: it comes back as it was.
    """
    notes = logs.entries(store, f"datasets/{name}/{version}/withdrawn")
    return next((str(note.get("at")) for note in notes if note.get("holds")), None)


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
        parts.append(from_parquet(read_checked(store, entry), columns))
    if parts:
        return pa.concat_tables(parts)
    empty = TABLES[table].empty_table()
    return empty.select(list(columns)) if columns is not None else empty


def latest_observation(store: Store, manifest: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Videos and clips with their statuses as the most recent build of this version saw them.

    A build that meets further broken files, and nothing else new, gives the version that exists;
    what it saw is kept beside the version, and its log entry names it.

    Raises:
        DatasetError: A file or an entry of the log is missing or damaged.
    """
    history = logs.entries(store, f"datasets/{manifest['name']}/log")
    mine = [entry for entry in history if entry["version"] == manifest["version"]]
    observed = mine[-1].get("observed") if mine else None
    if observed is None:
        return {name: read_table(store, manifest, name) for name in ("videos", "clips")}
    try:
        for name in ("videos", "clips"):
            check_entry(observed[name], f"observed.{name}")
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"datasets/{manifest['name']}/log: an entry of {manifest['version']} has a damaged "
            f"`observed` ({error}): take it out of the entry"
        ) from error
    return {name: from_parquet(read_checked(store, entry)) for name, entry in observed.items()}


def attrition(table: pa.Table) -> dict[str, int]:
    """How many rows have each status, most frequent first."""
    counts = pc.value_counts(table["status"]).to_pylist()
    counts.sort(key=lambda c: (-c["counts"], c["values"]))
    return {c["values"]: c["counts"] for c in counts}


def source_licences(videos: pa.Table) -> dict[str, int]:
    """How many usable videos of a dataset have each licence; ``unknown`` where none is given.

    Args:
        videos: The table ``videos`` of the dataset (columns ``status`` and ``licence``).
    """
    good = videos.filter(pc.equal(videos["status"], "ok"))
    counts = pc.value_counts(pc.fill_null(good["licence"], "unknown")).to_pylist()
    return {entry["values"]: entry["counts"] for entry in sorted(counts, key=lambda e: e["values"])}


def content_columns(name: str, table: pa.Table) -> tuple[str, ...]:
    """The columns of a table that make its content: later additions only where they say something.

    Args:
        name: ``videos``, ``clips``, ``crops`` or ``triplets``.
        table: Its rows; one of an older version may lack the additions.
    """
    added = (c for c in ADDED_CONTENT.get(name, ()) if c in table.column_names)
    return (*CONTENT_COLUMNS[name], *(c for c in added if table[c].null_count < len(table)))


def _good_rows(name: str, table: pa.Table) -> pa.Table:
    if "status" not in TABLES[name].names:
        return table
    good = table.filter(pc.equal(table["status"], Status.OK.value))
    return good.filter(pc.greater(good["clips"], 0)) if name == "videos" else good


def _publish(store: Store, draft: Draft, folder: str) -> tuple[dict[str, Any], bool]:
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for name, path, rows, data in _table_files(draft, folder):
        tables[name].append({**_publish_file(store, path, data), "rows": rows})
    tables["pictures"] = [_shard_entry(store, path) for path in sorted(set(draft.pictures))]
    space = find_result(store, f"pose-spaces/{draft.pose_space}", "space")
    if space is None:
        raise DatasetError(f"pose space {draft.pose_space} vanished before the commit: build again")
    documents = [
        {**_publish_file(store, f"{folder}/{name}", data), "name": name}
        for name, data in draft.documents(draft.tables).items()
    ]
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
        "documents": documents,
        "observed": _observation_digest(draft),
        "pose_space": draft.pose_space,
        "pose_space_file": file_entry(*space),
        "statistics": draft.statistics,
        "lineage": draft.lineage,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for entry in (*file_entries(manifest), *documents):
        if not store.exists(entry["path"]):
            raise DatasetError(f"{entry['path']} vanished before the commit: build again")
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    _check_tombstones(store, draft)
    created = store.publish(f"{folder}/manifest.json", text)
    committed = load_manifest(store, f"{folder}/manifest.json")
    if committed is None:
        raise DatasetError(f"{folder}/manifest.json cannot be read back")
    return committed, created


def _check_tombstones(store: Store, draft: Draft) -> None:
    tombstones = read_tombstones(store)
    videos = draft.tables["videos"].select(["video_id", "media_sha256", "status"]).to_pylist()
    used = (video for video in videos if video["status"] == Status.OK)
    lost = next((video for video in used if tombstones.cover(video)), None)
    if lost is not None:
        raise DatasetError(
            f"video {lost['video_id']} was forgotten while this build ran: run the same build again"
        )


def _table_files(draft: Draft, folder: str) -> Iterator[tuple[str, str, int, bytes]]:
    """The files of all tables: name of the table, path, rows, bytes."""
    for name, schema in TABLES.items():
        table = draft.tables[name].cast(schema)
        splits = pc.fill_null(table["split"], _UNASSIGNED)
        for split in sorted(set(splits.to_pylist())):
            part = table.filter(pc.equal(splits, split))
            files = -(-part.num_rows // _ROWS_PER_FILE)
            for index in range(files):
                rows = part.slice(index * _ROWS_PER_FILE, _ROWS_PER_FILE)
                path = f"{folder}/{name}/{split}-{index:05d}-of-{files:05d}.parquet"
                yield name, path, rows.num_rows, to_parquet(rows)


def _publish_file(store: Store, path: str, data: bytes) -> dict[str, Any]:
    if not store.publish(path, data) and store.read(path) != data:
        # Left by a build that was stopped before its manifest and saw other failures: the
        # manifest names the files, so this one goes beside it.
        path = beside(path, data)
        store.publish(path, data)
    return file_entry(path, data)


def _restore_tables(
    store: Store, draft: Draft, folder: str, manifest: Mapping[str, Any], damaged: set[str]
) -> None:
    """Put damaged files of a committed version back as they were; they are never changed."""
    wanted = {e["sha256"]: e["path"] for e in file_entries(manifest) if e["path"] in damaged}
    for _, _, _, data in _table_files(draft, folder):
        path = wanted.get(sha256(data))
        if path is not None:
            store.replace(path, data)


def _restore_documents(
    store: Store, draft: Draft, folder: str, manifest: Mapping[str, Any]
) -> None:
    """Put card and page of a committed version back, made anew from its own tables.

    Another version of idpose may make other bytes of the same tables: these go beside.
    """
    damaged = {name for name, _ in damaged_documents(store, manifest)}
    listed = manifest.get("documents")
    if not damaged and (listed is not None or store.exists(f"{folder}/README.md")):
        return
    made = draft.documents({name: read_table(store, manifest, name) for name in TABLES})
    if listed is None:  # one of the first manifests
        for name, data in made.items():
            store.publish(f"{folder}/{name}", data)
        return
    for entry in listed:
        name, path = entry["name"], entry["path"]
        if name not in damaged or name not in made:
            continue
        data = made[name]
        if sha256(data) != entry["sha256"]:
            store.publish(beside(f"{folder}/{name}", data), data)
            continue
        if store.exists(path) and (found := store.read(path)):
            # Somebody may have written in it.
            store.publish(f"{path}.{sha256(found)[:8]}.kept", found)
        store.replace(path, data)


def _shard_entry(store: Store, path: str) -> dict[str, Any]:
    with store.open(path) as file:
        rows = from_parquet(file, ["row_key"]).num_rows
    name = path.rsplit("/", 1)[-1].removesuffix(".parquet")
    return {"path": path, "rows": rows, "bytes": store.size(path), "sha256": name}


def _point_to(
    store: Store, draft: Draft, folder: str, manifest: Mapping[str, Any], created: bool
) -> None:
    log = f"datasets/{draft.name}/log"
    last = logs.last_entry(store, log)
    observation = _observation_digest(draft)
    # A rollback is an entry with a version and nothing else.
    pointed = (last["version"], last.get("observation")) if last is not None else None
    if created or pointed != (draft.version, observation):
        entry: dict[str, Any] = {
            "version": draft.version,
            "observation": observation,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if observation != manifest.get("observed"):
            entry["observed"] = {
                name: _publish_file(
                    store,
                    f"{folder}/observed/{observation}-{name}.parquet",
                    to_parquet(draft.tables[name].cast(TABLES[name])),
                )
                for name in ("videos", "clips")
            }
        logs.append_entry(store, log, entry)
    logs.point(store, log, f"datasets/{draft.name}/latest")


def _observation_digest(draft: Draft) -> str:
    """What was seen of every video and clip, failures included, without attempts and free text."""
    columns = {
        "videos": ("video_id", "source_uri", "media_sha256", "status"),
        "clips": ("clip_id", "status"),
    }
    return content_digest({name: draft.tables[name] for name in columns}, columns)[:16]
