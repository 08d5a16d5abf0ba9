"""Forget a video: a tombstone, then everything in the root that holds something of it.

Shards are rewritten without its rows, versions and evaluation sets that hold it are withdrawn, its
media is removed, and the models that were trained on it are listed. What was exported is out of
reach, and so are the copies that other machines have of a remote root. Killed in the middle, the
same call goes on: the tombstone comes first, and each step looks for what is left.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage import logs
from storage.copies import remove_copies, working_path
from storage.datasets import read_table
from storage.digests import sha256
from storage.errors import DatasetError
from storage.lineage import rename_in_lineages
from storage.manifests import load_manifest
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from storage.reasons import Status
from storage.shards import list_shards, stage_folder
from storage.tombstones import buried_media, bury, video_digest

_KEPT_OF_A_MANIFEST = (
    "config", "content_digest", "schema_version", "stages", "statistics", "lineage", "created_at",
)  # fmt: skip


@dataclass
class Forgotten:
    """What was done.

    Attributes:
        media: SHA-256 of the files that the video was.
        shards: Shards that were rewritten without it, or removed with it.
        results: Neighbour tables that were removed; they are computed again.
        withdrawn: Versions that held it.
        to_rebuild: Versions that did not hold it and shared a shard with it: the same build
            commits them again as they were.
        evaluation_sets: Sets that held it; freeze them anew.
        models: Models that were trained on a version that held it.
        runs: Trainings of such versions; their samples may show it.
        unknown: Files that could not be read, or do not say whose rows they hold.
    """

    media: list[str] = field(default_factory=list)
    shards: int = 0
    results: int = 0
    withdrawn: list[str] = field(default_factory=list)
    to_rebuild: list[str] = field(default_factory=list)
    evaluation_sets: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)


def forget_video(store: Store, video_id: str, reason: str = "") -> Forgotten:
    """Forget a video. A build that runs meanwhile may still write rows of it: call again then.

    Args:
        store: The root.
        video_id: As in the videos table.
        reason: Kept in the tombstone and in what is withdrawn.

    Returns:
        What was done; nothing where nothing of it was here, but for the tombstone.
    """
    found = Forgotten()
    versions = dict(_versions(store, found))
    media = _media_of(store, video_id, versions) | buried_media(store, video_id)
    found.media = sorted(media)
    bury(store, video_id, media, reason)

    affected, crops = _affected_shards(store, {video_id, *media}, media, found)
    crops |= _published_crops(store, video_id, versions, found)
    _remove_results(store, crops, found)
    entry = {"reason": reason, "video": video_digest(video_id)}
    _withdraw_versions(store, video_id, media, set(affected), versions, entry, found)
    _withdraw_sets(store, video_id, entry, found)
    renamed = {path: _without(store, path, keep) for path, keep in affected.items()}
    rename_in_lineages(store, renamed)
    for path in renamed:
        store.delete(path)
        found.shards += 1
    _remove_media(store, video_id, media)
    remove_copies({*media, *(PurePath(path).stem for path in renamed)})
    _clean_logs(store, {video_id, *media})
    _list_trainings(store, video_id, found)
    return found


def _versions(store: Store, found: Forgotten) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every committed version with its manifest."""
    for path in store.list("datasets"):
        parts = path.split("/")
        if len(parts) == 4 and parts[3] == "manifest.json":
            try:
                manifest = load_manifest(store, path)
            except DatasetError:
                found.unknown.append(path)
                continue
            if manifest is not None:
                yield f"{parts[1]}@{parts[2]}", manifest


def _media_of(store: Store, video_id: str, versions: Mapping[str, dict[str, Any]]) -> set[str]:
    """SHA-256 of the files that a video was, by the shards that fetched it and by the tables."""
    media: set[str] = set()
    for _, table in _shards_with(store, ("origin", "media_sha256")):
        named = _is_in(table["origin"], {video_id})
        same = _is_in(table["media_sha256"], {video_id})
        media |= set(table.filter(pc.or_(named, same))["media_sha256"].to_pylist())
    for manifest in versions.values():
        with contextlib.suppress(DatasetError):
            columns = ["video_id", "media_sha256"]
            table = read_table(store, manifest, "videos", columns=columns)
            media |= set(
                table.filter(_is_in(table["video_id"], {video_id}))["media_sha256"].to_pylist()
            )
    return media - {None}


def _affected_shards(
    store: Store, origins: set[str], media: set[str], found: Forgotten
) -> tuple[dict[str, pa.Array], set[str]]:
    """For each shard with rows of a video which rows stay; and the crops among those that go."""
    affected, crops = {}, set()
    for path, table in _shards_with(store, ()):
        if "origin" not in table.column_names:
            found.unknown.append(path)
            continue
        gone = _is_in(table["origin"], origins)
        if "media_sha256" in table.column_names:
            gone = pc.or_(gone, _is_in(table["media_sha256"], media))
        if pc.any(gone).as_py():
            affected[path] = pc.invert(gone)
            if "crop_id" in table.column_names:
                crops |= set(table.filter(gone)["crop_id"].to_pylist()) - {None}
    return affected, crops


def _shards_with(store: Store, needed: tuple[str, ...]) -> Iterator[tuple[str, pa.Table]]:
    """Every shard of a row stage that has these columns, with what tells whose rows it holds."""
    wanted = ("row_key", "origin", "media_sha256", "crop_id")
    folders = {path.split("/")[1] for path in store.list("shards")}
    for path in (p for folder in sorted(folders) for p in list_shards(store, folder)):
        try:
            with store.open(path) as file:
                names = set(pq.ParquetFile(file).schema_arrow.names)
            if "row_key" not in names or not names.issuperset(needed):
                continue  # the table of a global stage, or of no use here
            with store.open(path) as file:
                yield path, from_parquet(file, [name for name in wanted if name in names])
        except (pa.ArrowException, OSError):
            continue  # damaged: the next build that wants it removes it


def _published_crops(
    store: Store, video_id: str, versions: Mapping[str, dict[str, Any]], found: Forgotten
) -> set[str]:
    crops: set[str] = set()
    for name, manifest in versions.items():
        try:
            table = read_table(store, manifest, "crops", columns=["crop_id", "video_id"])
        except DatasetError as error:
            found.unknown.append(f"{name}: {error}")
            continue
        crops |= set(table.filter(_is_in(table["video_id"], {video_id}))["crop_id"].to_pylist())
    return crops


def _remove_results(store: Store, crops: set[str], found: Forgotten) -> None:
    """Remove neighbour tables that name a crop; the build that wants one computes it anew."""
    for path in store.list(stage_folder("retrieval")) if crops else []:
        try:
            table = from_parquet(store.read(path))
            named = {
                *table["crop_id"].to_pylist(),
                *pc.list_flatten(table["neighbours"]).to_pylist(),
            }
        except (pa.ArrowException, OSError, KeyError):
            continue
        if named & crops:
            store.delete(path)
            found.results += 1


def _withdraw_versions(
    store: Store,
    video_id: str,
    media: set[str],
    affected: set[str],
    versions: Mapping[str, dict[str, Any]],
    entry: Mapping[str, Any],
    found: Forgotten,
) -> None:
    for name, manifest in versions.items():
        used = _used_videos(store, manifest)
        holds = used is None or any(
            row["video_id"] == video_id or row["media_sha256"] in media for row in used
        )
        pictures = {picture["path"] for picture in manifest["tables"]["pictures"]}
        if not holds and not pictures & affected:
            continue
        (found.withdrawn if holds else found.to_rebuild).append(name)
        kept = {key: manifest[key] for key in _KEPT_OF_A_MANIFEST}
        videos = sorted(video_digest(row["video_id"]) for row in used or ())
        told = {**entry, "holds": holds, "videos": videos, "manifest": kept}
        _withdraw(store, f"datasets/{name.replace('@', '/')}", "manifest.json", told)
    notes = (path for path in store.list("datasets") if "/withdrawn/" in path)
    for folder in sorted({path.rsplit("/", 2)[0] for path in notes}):
        if not store.exists(f"{folder}/manifest.json"):
            _clear(store, folder)  # a call that was killed left something


def _used_videos(store: Store, manifest: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The videos whose bytes a version used; None where its table cannot be read."""
    columns = ["video_id", "media_sha256", "status"]
    try:
        table = read_table(store, manifest, "videos", columns=columns)
    except DatasetError:
        return None
    rows = table.to_pylist()
    return [row for row in rows if row["media_sha256"] and row["status"] != Status.FORGOTTEN]


def _withdraw_sets(store: Store, video_id: str, entry: Mapping[str, Any], found: Forgotten) -> None:
    """Withdraw the evaluation sets that have a picture of the video."""
    holding = set()
    for path in store.list("evaluation-sets"):
        if path.endswith(".parquet"):
            with contextlib.suppress(pa.ArrowException, OSError), store.open(path) as file:
                table = from_parquet(file)
                if "video_id" in table.column_names and video_id in set(
                    table["video_id"].to_pylist()
                ):
                    holding.add(path.split("/")[1])
    for name in sorted(holding):
        found.evaluation_sets.append(name)
        _withdraw(store, f"evaluation-sets/{name}", "set.json", entry)


def _withdraw(store: Store, folder: str, commit: str, entry: Mapping[str, Any]) -> None:
    """Note why, then take the commit away, then everything else."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    version = folder.rsplit("/", 1)[-1]
    logs.append_entry(store, f"{folder}/withdrawn", {"version": version, "at": at, **entry})
    store.delete(f"{folder}/{commit}")
    _clear(store, folder)


def _clear(store: Store, folder: str) -> None:
    for path in store.list(folder):
        if not path.startswith((f"{folder}/withdrawn/", f"{folder}/lineage/")):
            store.delete(path)


def _without(store: Store, path: str, keep: pa.Array) -> str | None:
    """Publish a shard again with the rows that stay. Returns its path; None where none stay."""
    with store.open(path) as file:
        left = from_parquet(file).filter(keep)
    if not left.num_rows:
        return None
    data = to_parquet(left, row_group_rows=256)
    rewritten = f"{path.rsplit('/', 1)[0]}/{sha256(data)}.parquet"
    store.publish(rewritten, data)
    return rewritten


def _remove_media(store: Store, video_id: str, media: Iterable[str]) -> None:
    starts = [f"media/{name}." for name in media]
    starts.append(f"media/partial/{video_digest(video_id)[:16]}-")
    for path in store.list("media"):
        if path.startswith(tuple(starts)):
            store.delete(path)
    # Of a remote root they lie on the machine that fetches.
    for file in working_path(store, "media/partial").glob(f"{video_digest(video_id)[:16]}-*"):
        file.unlink(missing_ok=True)


def _clean_logs(store: Store, names: set[str]) -> None:
    words = [json.dumps(name, ensure_ascii=False).encode() for name in names]
    for path in store.list("logs"):
        lines = store.read(path).splitlines(keepends=True)
        kept = [line for line in lines if not any(word in line for word in words)]
        if len(kept) < len(lines):
            store.replace(path, b"".join(kept))


def _list_trainings(store: Store, video_id: str, found: Forgotten) -> None:
    """The models and runs of every version that ever held the video, be it withdrawn before."""
    name, held = video_digest(video_id), set(found.withdrawn)
    for path in store.list("datasets"):
        parts = path.split("/")
        if len(parts) == 5 and parts[3] == "withdrawn":
            entry = json.loads(store.read(path))
            if name in entry.get("videos", ()) or (entry.get("video") == name and entry["holds"]):
                held.add(f"{parts[1]}@{parts[2]}")
    found.withdrawn = sorted(held)
    for path in store.list("models"):
        if path.endswith("/model.json"):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                info = json.loads(store.read(path))
                if f"{info['dataset']['name']}@{info['dataset']['version']}" in held:
                    found.models.append(f"{info['name']}@{info['version']}")
    for path in store.list("runs"):
        if path.endswith("/config.json") and path.count("/") == 2:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if json.loads(store.read(path))["dataset"] in held:
                    found.runs.append(path.split("/")[1])


def _is_in(column: pa.ChunkedArray, names: set[str]) -> pa.ChunkedArray:
    return pc.fill_null(pc.is_in(column, pa.array(sorted(names), pa.string())), False)
