"""Garbage: what no manifest, model, evaluation set or live claim names, and is older than a day.

Only what has the form of something that this program writes is judged; whatever else lies in a
root stays. Weights, judges, logs, metrics, samples, tombstones and pointers always stay. What goes
can be computed again from the videos: a build that meets the loss of a shard computes it anew.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage import logs
from storage.claims import Claim, live_claims
from storage.datasets import read_table
from storage.errors import DamageError, ToldError
from storage.lineage import name_of, read_lineage
from storage.manifests import file_entries, load_manifest
from storage.objects import Store

_DAY = 86_400.0
_NAMING = ("datasets", "models", "evaluation-sets", "runs")
_SHA = "[0-9a-f]{64}"
_VERSION = "datasets/[^/]+/[^/]+"
# What is judged: its name, by which something may name it, is the first group; and why it goes.
_KINDS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"(.*/\.tmp-[0-9a-f]{32})", "left by a writer that was killed"),
        (rf"(shards/[^/]+/{_SHA})\.parquet", "no dataset was made of this shard"),
        (rf"(shards/[^/]+/[^/.]+)\.{_SHA}\.parquet", "no dataset was made of this result"),
        (rf"(media/{_SHA})\.[^/]+", "no dataset uses this video"),
        (r"(media/partial/.+)", "an unfinished download that no build goes on with"),
        (rf"(pose-spaces/[^/]+)/[^/.]+\.{_SHA}\.[^/.]+", "no dataset uses this pose space"),
        (rf"({_VERSION}/[a-z]+/.+\.parquet)", "no manifest names this table"),
        (rf"({_VERSION}/lineage/\d{{8}})\.json", "a later build has said it anew"),
        (rf"({_VERSION})/(?:README|report)[^/]*\.(?:md|html)", "its version was never committed"),
        (r"(models/[^/]+/[^/]+/model\.safetensors)", "no model.json names these weights"),
        (r"(evaluation-sets/[^/]+/[^/]+\.parquet)", "no set.json names this file"),
        (r"(runs/[^/]+/checkpoints/.+)", "the run is finished, and a later checkpoint is there"),
        (r"(claims/[^/]+)\.json", "its run has died"),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Orphan:
    """An object that nothing names.

    Attributes:
        path: Relative to the root.
        bytes: Its size.
        reason: Why it goes, in words.
    """

    path: str
    bytes: int
    reason: str


@dataclass(frozen=True)
class Survey:
    """What a look at a root gives.

    Attributes:
        orphans: What can go, documents before the files that they name.
        claims: Of the runs that were alive.
        unrecorded: Dataset versions that do not say which shards they were made of, so that all
            shards and videos stay.
    """

    orphans: list[Orphan]
    claims: list[Claim]
    unrecorded: list[str]


def find_orphans(store: Store, days: float = 1.0) -> Survey:
    """Everything that nothing names and is old enough. Nothing is changed.

    Args:
        store: The root.
        days: How old it must be, at least.

    Raises:
        DatasetError: Something that names objects cannot be read, so nothing is known of them.
        ToldError: Something that names objects lies behind a symbolic link.
    """
    while True:  # until nothing was committed meanwhile
        naming = _naming(store)
        _check_links(store, naming)
        found = _survey(store, naming, time.time() - days * _DAY)
        if _naming(store) == naming:
            return found


def collect(store: Store, survey: Survey) -> Iterator[Orphan]:
    """Delete the orphans, one by one; those that a run has claimed since stay. Yields what went.

    The claims are read before each deletion, and count to the end: what their run used meanwhile
    may be named by now. Stopped at any moment, the next survey finds the rest.
    """
    claims = set(survey.claims)
    for orphan in survey.orphans:
        claims |= set(live_claims(store))
        if not any(claim.covers(orphan.path) for claim in claims):
            store.delete(orphan.path)
            yield orphan


def _survey(store: Store, naming: Sequence[str], before: float) -> Survey:
    everything, claims = store.details(""), live_claims(store)
    unrecorded = list(_unrecorded(store, naming))
    names = {*_of_datasets(store, naming), *_of_models(store, naming), *_of_sets(store, naming)}
    names |= set(_of_runs(store, naming))
    shards = [found.path for found in everything if found.path.startswith("shards/")]
    names |= set(_media_of(store, (p for p in shards if unrecorded or name_of(p) in names)))
    orphans = []
    for found in everything:
        name, reason = _judged(found.path)
        if not reason or name in names or found.modified > before:
            continue
        if unrecorded and found.path.startswith(("shards/", "media/")):
            continue
        if not any(claim.covers(found.path) for claim in claims):
            orphans.append(Orphan(found.path, found.bytes, reason))
    orphans.sort(key=lambda orphan: (not orphan.path.endswith(".json"), orphan.path))
    return Survey(orphans, claims, unrecorded)


def _judged(path: str) -> tuple[str, str]:
    """The name of an object, and why it goes if nothing has that name; no reason: it stays."""
    for pattern, reason in _KINDS:
        if match := pattern.fullmatch(path):
            return match[1], reason
    return path, ""


def _naming(store: Store) -> list[str]:
    return [path for folder in _NAMING for path in store.list(folder)]


def _check_links(store: Store, naming: Iterable[str]) -> None:
    for path in naming:
        local = store.local_path(path)
        if local is not None and local.is_dir():
            raise ToldError(
                f"{local} is a symbolic link, and gc does not look behind it: move what it points "
                "to into the root"
            )


def _versions(naming: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """The folder of every version that was committed, and whether it was withdrawn since."""
    for path in naming:
        if match := re.fullmatch(rf"({_VERSION})/(manifest|withdrawn/0*1)\.json", path):
            yield match[1], match[2] != "manifest"


def _unrecorded(store: Store, naming: Iterable[str]) -> Iterator[str]:
    for folder, withdrawn in _versions(naming):
        if not withdrawn and read_lineage(store, folder) is None:
            yield "@".join(folder.split("/")[1:])


def _of_datasets(store: Store, naming: Sequence[str]) -> Iterator[str]:
    """What versions are made of and hold. Withdrawn ones are built again, from the same shards."""
    for folder, withdrawn in _versions(naming):
        yield from read_lineage(store, folder) or ()
        lineage = [path for path in naming if path.startswith(f"{folder}/lineage/")]
        yield from map(name_of, lineage[-1:])
        manifest = None if withdrawn else load_manifest(store, f"{folder}/manifest.json")
        if manifest is not None:
            yield folder
            yield f"pose-spaces/{manifest['pose_space']}"
            yield from (_judged(entry["path"])[0] for entry in file_entries(manifest))
            videos = read_table(store, manifest, "videos", columns=["media_sha256"])
            yield from _media(videos)
    for name in sorted({path.split("/")[1] for path in naming if path.startswith("datasets/")}):
        for entry in logs.entries(store, f"datasets/{name}/log"):
            yield from (told["path"] for told in (entry.get("observed") or {}).values())


def _media_of(store: Store, shards: Iterable[str]) -> Iterator[str]:
    """The videos that shards tell of: a build that found one gone would fetch it again."""
    without = set()
    for path in shards:
        stage = path.split("/")[1]
        if stage in without or not path.endswith(".parquet"):
            continue
        # A damaged one tells of none: the build that wants it fetches anew.
        with suppress(pa.ArrowException), store.open(path) as file:
            table = pq.ParquetFile(file)
            if "media_sha256" in table.schema_arrow.names:
                yield from _media(table.read(["media_sha256"]))
            else:
                without.add(stage)


def _media(table: pa.Table) -> Iterator[str]:
    return (f"media/{name}" for name in table["media_sha256"].to_pylist() if name)


def _of_models(store: Store, naming: Iterable[str]) -> Iterator[str]:
    for path in naming:
        if re.fullmatch(r"models/[^/]+/[^/]+/model\.json", path):
            yield _read(store, path, "weights", "path")


def _of_sets(store: Store, naming: Iterable[str]) -> Iterator[str]:
    for path in naming:
        if re.fullmatch(r"evaluation-sets/[^/]+/set\.json", path):
            yield from (entry["path"] for entry in _read(store, path, "files"))


def _of_runs(store: Store, naming: Iterable[str]) -> Iterator[str]:
    """All checkpoints of a training that is under way; of a finished one those of the last step.

    A run is finished when a published model has its weights after the last checkpoint. The same
    command goes on with that one.
    """
    steps: dict[str, int] = {}
    checkpoints: dict[str, dict[int, list[str]]] = {}
    for path in naming:
        if re.fullmatch(r"models/[^/]+/[^/]+/model\.json", path):
            config = _read(store, path, "config")
            run = str(config.get("run"))
            steps[run] = max(int(config.get("steps") or 0), steps.get(run, 0))
        elif match := re.fullmatch(r"runs/([^/]+)/checkpoints/(\d+)[-.].*", path):
            checkpoints.setdefault(match[1], {}).setdefault(int(match[2]), []).append(path)
    for run, by_step in checkpoints.items():
        last = max(by_step)
        finished = steps.get(run, -1) >= last and _is_whole(store, by_step[last])
        yield from (
            path for step in by_step if step == last or not finished for path in by_step[step]
        )


def _is_whole(store: Store, paths: Sequence[str]) -> bool:
    """Whether a checkpoint's document is there, and the file that it names in its size."""
    document = next((path for path in paths if path.endswith(".json")), None)
    try:
        tensors = _read(store, document, "tensors") if document else {}
        return bool(tensors) and store.size(tensors["path"]) == tensors["bytes"]
    except (FileNotFoundError, DamageError):
        return False


def _read(store: Store, path: str, *keys: str) -> Any:
    """What a document says under these keys.

    Raises:
        DamageError: It does not say it.
    """
    try:
        value: Any = json.loads(store.read(path))
        for key in keys:
            value = value[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{path} cannot be used ({error!r}): put back a copy of it") from error
    return value
