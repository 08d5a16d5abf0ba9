"""What a build would do, before anything runs: clips, bytes and time for each stage."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from flows.progress import TerminalProgress
from flows.runners import LocalRunner
from flows.steps import downloads, features, instances, rendered, videos, views
from flows.steps.annotations import read_source_annotations
from flows.steps.context import BuildError, Context
from idpose_core.config import BuildConfig
from idpose_core.stages.fetch import FetchFolder
from idpose_core.video.decoding import probe
from storage.copies import working_path
from storage.objects import Store
from storage.parquet import from_parquet
from storage.reasons import Unusable
from storage.shards import ORIGIN, Item, Plan, RowStage, list_shards, plan_stage, read_rows


@dataclass(frozen=True)
class StageEstimate:
    """What one stage would do.

    Attributes:
        rows: Input rows, an upper bound where they depend on what is detected.
        known: Rows whose result exists already; None where that cannot be known yet.
        bytes: What its shards would take on disk.
        seconds: Time on the configured number of processes, by the rates below.
        parallel: Whether more processes make it faster; a source's pace they do not change.
    """

    stage: str
    rows: int
    known: int | None
    bytes: int
    seconds: float
    parallel: bool = True


# Seconds on one thread and bytes a unit of output: docs/results/stage-rates.json, rounded up.
# detectron2 and torchvision run the same network.
_SECONDS_PER_FRAME = {"torchvision": 4.5, "detectron2": 4.5, "yolox": 0.015, "annotations": 0.01}
_SECONDS_PER_CROP = {"crop": 0.015, "mask": 0.05, "embed": 0.04}
_BYTES_PER_CROP = {"crop": 40_000, "mask": 600, "embed": 7_000}
_BYTES_PER_FRAME = 400
_SECONDS_PER_FILE = 0.04
_SECONDS_PER_PIXEL, _BYTES_PER_PIXEL = 4e-6, 0.12  # of rendered video, by `make demo`, rounded up
# Of videos that nobody has seen yet: 4 minutes with 360 lines and no sound, over a home connection.
_BYTES_PER_VIDEO, _SECONDS_PER_VIDEO, _BYTES_PER_SECOND = 12_000_000, 240.0, 2_000_000
_SECONDS_PER_VIEWED_PIXEL, _BYTES_PER_VIEWED_PIXEL = 12e-6, 0.7  # of rendered views


@dataclass(frozen=True)
class _Survey:
    """What a look at the source tells.

    Attributes:
        first: The stage that brings the videos.
        files: Videos, the unreadable ones included.
        opened: Videos that open.
        clips: Annotated segments, or one for each video that opens.
        seconds: Of video that will be looked at; 0 for a set of views.
        frames: Frames that will be looked at, or views.
        source_bytes: Bytes of the files.
        bytes_there: What the first stage's results that exist take on disk.
        origins: The videos that are known, as later rows about them name their origin.
        requests: Videos that the network will be asked for.
        per_hour: How many of them an hour; None = no limit.
        pause_s: How long the source is to be left alone.
    """

    first: StageEstimate
    files: int
    opened: int
    clips: int
    seconds: float
    frames: int
    source_bytes: int
    bytes_there: int
    origins: frozenset[str]
    requests: int = 0
    per_hour: float | None = None
    pause_s: float = 0.0


def estimate(config: BuildConfig, root: str) -> dict[str, Any]:
    """Look at the source and at what exists; compute nothing and write nothing.

    Raises:
        ConfigError: The source, the annotations or the weights are not there.
    """
    with LocalRunner(config.run) as runner:
        build = Context(config, Store(root), runner, TerminalProgress())
        workers = runner.workers
    features.embed_stage(build)
    viewed = views.is_view_set(build)
    if viewed:
        survey = _survey_views(build)
        stages = [survey.first]
    else:
        instances.detect_stage(build)
        survey = _SURVEYS[config.source.kind](build)
        stages = [survey.first, _detecting(config, survey), _of_crops("crop", survey.frames)]
    frames = survey.frames
    if config.embedder.masks not in ("none", *(["source"] if viewed else [])):
        stages.append(_of_crops("mask", frames))
    stages.append(_of_crops("embed", frames))
    return {
        "dataset": config.name,
        "unit": "objects" if viewed else "files",
        "files": survey.files,
        "unreadable": survey.files - survey.opened,
        "source_bytes": survey.source_bytes,
        "hours": survey.seconds / 3600,
        "clips": survey.clips,
        "frames": frames,
        "requests": survey.requests,
        "per_hour": survey.per_hour,
        "request_hours": survey.requests / survey.per_hour if survey.per_hour else None,
        "pause_hours": survey.pause_s / 3600,
        "workers": workers,
        "stages": [
            asdict(stage) | {"seconds": stage.seconds / (workers if stage.parallel else 1)}
            for stage in stages
        ],
        "disk": _disk(build.store, survey, stages),
    }


def check_room(found: Mapping[str, Any]) -> None:
    """Refuse a build for which the disk is too small.

    Args:
        found: What ``estimate`` found.

    Raises:
        BuildError: It is, by this estimate.
    """
    needed, free = found["disk"]["needed_bytes"], found["disk"]["free_bytes"]
    if free is not None and needed > free:
        raise BuildError(
            f"the disk of the root has {_size(free)} free, and {found['dataset']} needs about "
            f"{_size(needed)} more: give a larger one with --root, or make room"
        )


def _disk(store: Store, survey: _Survey, stages: Sequence[StageEstimate]) -> dict[str, int | None]:
    """What the build still needs of the disk, and what is free there; of a remote root nothing."""
    root = store.local_path(".")
    if root is None:
        return {"needed_bytes": sum(stage.bytes for stage in stages), "free_bytes": None}
    needed = max(0, survey.first.bytes - survey.bytes_there)
    for stage in stages[1:]:
        needed += max(0, stage.bytes - _bytes_about(store, stage.stage, survey.origins))
    disk = next(folder for folder in (root, *root.parents) if folder.exists())
    return {"needed_bytes": needed, "free_bytes": shutil.disk_usage(disk).free}


def _bytes_about(store: Store, stage: str, videos: frozenset[str]) -> int:
    """What a stage's rows about these videos take; rows of other settings are not told apart."""
    found = 0.0
    for path in list_shards(store, stage) if videos else ():
        # What is damaged or gone will be made anew.
        with suppress(pa.ArrowException, OSError, KeyError), store.open(path) as file:
            origins = from_parquet(file, [ORIGIN.name])[ORIGIN.name].to_pylist()
            found += store.size(path) * sum(o in videos for o in origins) / max(1, len(origins))
    return round(found)


def _survey_folder(build: Context) -> _Survey:
    annotations = read_source_annotations(build)
    files = videos.list_source(build)
    seconds, opened, clips = 0.0, 0, 0
    for file in files:
        path = videos.source_path(build, file)
        try:
            duration = probe(str(path)).duration_ms / 1000
        except Unusable:
            continue
        opened += 1
        if annotations is None:
            clips, seconds = clips + 1, seconds + duration
        else:
            tracks = annotations.get(path.stem, [])
            clips += len(tracks)
            seconds += sum(track.end_ms - track.start_ms for track in tracks) / 1000
    items = videos.fetch_items(build, files)
    first, there, plan = _first(build, FetchFolder(), items, 300, _SECONDS_PER_FILE)
    size = sum(max(0, file.bytes) for file in files)
    frames, origins = _frames(build, seconds, opened), _origins(build, plan)
    return _Survey(first, len(files), opened, clips, seconds, frames, size, there, origins)


def _survey_network(build: Context) -> _Survey:
    annotations = read_source_annotations(build)
    stage, ids = downloads.download_stage(build), downloads.wanted_ids(build, annotations)
    plan = plan_stage(
        build.store,
        stage,
        downloads.download_items(build, ids),
        repair=False,
        again=downloads.try_again(build),
    )
    known = {o.row_key: rows[0] for o, rows in read_rows(build.store, plan.known.values(), _SEEN)}
    lost = downloads.lost_media(build, plan.known.values())
    asked = lost | {task.row_key for chunk in plan.todo for task in chunk}
    size, length = float(_BYTES_PER_VIDEO), _SECONDS_PER_VIDEO
    if known:
        size = sum(row["bytes"] for row in known.values()) / len(known)
        length = sum(row["duration_ms"] for row in known.values()) / len(known) / 1000
    requests, pace = len(asked), downloads.per_hour(build)
    took = 3600 / pace if pace else 1 + size / _BYTES_PER_SECOND
    usable = len(known.keys() | asked)  # who knows how many of these
    first = StageEstimate(
        stage.name, len(ids), len(ids) - requests, round(size * usable), took * requests, not pace
    )
    clips, seconds = len(ids), len(ids) * length
    if annotations is not None:
        lengths = [t.end_ms - t.start_ms for name in ids for t in annotations[name]]
        clips, seconds = len(lengths), sum(lengths) / 1000
    return _Survey(
        first,
        files=len(ids),
        opened=usable,
        clips=clips,
        seconds=seconds,
        frames=_frames(build, seconds, clips),
        source_bytes=sum(row["bytes"] for row in known.values()),
        bytes_there=sum(row["bytes"] for key, row in known.items() if key not in lost),
        origins=frozenset(row["media_sha256"] for row in known.values()),
        requests=requests,
        per_hour=pace,
        pause_s=_pause_s(build.store, stage.manner.budget),
    )


def _pause_s(store: Store, budget: str) -> float:
    """How long the source is left alone from now on; only looks at what ``Budget`` keeps."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads(working_path(store, f"budgets/{budget}.json").read_bytes())
        since = max(0.0, time.time() - float(state["paused_at"]))
        return max(0.0, float(state["pause_s"]) - since)
    return 0.0


def _survey_rendered(build: Context) -> _Survey:
    rendered.is_annotated(build)
    items, config = rendered.render_items(build), build.config.rendered
    pixels = round(config.seconds * config.fps) * config.width * config.height
    first, there, plan = _first(
        build,
        rendered.render_stage(build),
        items,
        round(pixels * _BYTES_PER_PIXEL),
        pixels * _SECONDS_PER_PIXEL,
    )
    count, seconds = len(items), len(items) * config.seconds
    frames, origins = _frames(build, seconds, count), _origins(build, plan)
    return _Survey(first, count, count, count, seconds, frames, 0, there, origins)


def _survey_views(build: Context) -> _Survey:
    stage = views.views_stage(build)
    objects = views.list_objects(stage)
    count, pictures = len(objects), sum(viewed.views for viewed in objects)
    pixels = build.config.image.size**2 * pictures / max(1, count)
    first, there, _ = _first(
        build,
        stage,
        views.view_items(objects),
        round(pixels * _BYTES_PER_VIEWED_PIXEL),
        pixels * _SECONDS_PER_VIEWED_PIXEL,
    )
    origins = frozenset(viewed.sha256 or viewed.name for viewed in objects)
    return _Survey(first, count, count, count, 0.0, pictures, 0, there, origins)


def _frames(build: Context, seconds: float, opened: int) -> int:
    return round(seconds * build.config.sampling.fps) + opened


def _detecting(config: BuildConfig, survey: _Survey) -> StageEstimate:
    seconds = survey.frames * _SECONDS_PER_FRAME[config.detector.kind]
    return StageEstimate("detect", survey.opened, None, survey.frames * _BYTES_PER_FRAME, seconds)


def _of_crops(stage: str, crops: int) -> StageEstimate:
    return StageEstimate(
        stage, crops, None, crops * _BYTES_PER_CROP[stage], crops * _SECONDS_PER_CROP[stage]
    )


def _first(
    build: Context, stage: RowStage, items: Sequence[Item], size: int, seconds: float
) -> tuple[StageEstimate, int, Plan]:
    """The stage, what its known results take on disk, and its plan."""
    plan = plan_stage(build.store, stage, items, repair=False)
    todo = sum(len(chunk) for chunk in plan.todo)
    known = len(items) - todo
    estimate = StageEstimate(stage.name, len(items), known, size * len(items), seconds * todo)
    return estimate, size * known, plan


def _origins(build: Context, plan: Plan) -> frozenset[str]:
    found = read_rows(build.store, plan.known.values(), ["media_sha256"])
    return frozenset(rows[0]["media_sha256"] for _, rows in found)


_SEEN = ("bytes", "duration_ms", "media_sha256")
_SURVEYS: dict[str, Callable[[Context], _Survey]] = {
    "folder": _survey_folder,
    "http": _survey_network,
    "youtube": _survey_network,
    "rendered": _survey_rendered,
}


def describe(found: dict[str, Any]) -> Iterator[str]:
    """The estimate as lines for a person."""
    if found["unit"] == "objects":
        yield f"{found['dataset']}: {found['clips']} objects, {found['frames']} views"
    else:
        yield (
            f"{found['dataset']}: {found['files']} files ({found['unreadable']} unreadable), "
            f"{_size(found['source_bytes'])}, {found['hours']:.2f} h of video, "
            f"{found['clips']} clips or more, {found['frames']} frames to look at"
        )
    if found["requests"]:
        hours = found["request_hours"]
        told = f"{found['per_hour']:.0f} an hour: {hours:.1f} h" if hours else "without a limit"
        yield f"  {found['requests']} videos to ask the network for, {told}"
        if found["pause_hours"]:
            yield f"  the source is left alone for {_time(3600 * found['pause_hours'])} more"
    yield f"  {'stage':8} {'rows':>9} {'exist':>7} {'on disk':>9} {'time':>9}   (at most)"
    for stage in found["stages"]:
        known = "" if stage["known"] is None else str(stage["known"])
        yield (
            f"  {stage['stage']:8} {stage['rows']:>9} {known:>7} {_size(stage['bytes']):>9} "
            f"{_time(stage['seconds']):>9}"
        )
    total = sum(stage["seconds"] for stage in found["stages"])
    yield f"  about {_time(total)} on {found['workers']} processes; nothing was run"
    disk = found["disk"]
    if disk["free_bytes"] is not None:
        yield (
            f"  about {_size(disk['needed_bytes'])} more on disk, {_size(disk['free_bytes'])} free"
        )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
