"""What a build would do, before anything runs: clips, bytes and time for each stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flows.progress import TerminalProgress
from flows.runners import LocalRunner
from flows.steps import instances, pose, rendered, videos, views
from flows.steps.annotations import read_source_annotations
from flows.steps.context import Context
from idpose_core.config import BuildConfig
from idpose_core.stages.fetch import FetchFolder
from idpose_core.video.decoding import probe
from storage.objects import Store
from storage.reasons import Unusable
from storage.shards import Item, RowStage, plan_stage


@dataclass(frozen=True)
class StageEstimate:
    """What one stage would do.

    Attributes:
        rows: Input rows, an upper bound where they depend on what is detected.
        known: Rows whose result exists already; None where that cannot be known yet.
        bytes: What its shards would take on disk.
        seconds: Time on the configured number of processes, by the rates below.
    """

    stage: str
    rows: int
    known: int | None
    bytes: int
    seconds: float


# Seconds on one thread and bytes a unit of output: docs/results/stage-rates.json, rounded up.
# detectron2 and torchvision run the same network.
_SECONDS_PER_FRAME = {"torchvision": 4.5, "detectron2": 4.5, "yolox": 0.015, "annotations": 0.01}
_SECONDS_PER_CROP = {"crop": 0.015, "mask": 0.05, "embed": 0.04}
_BYTES_PER_CROP = {"crop": 40_000, "mask": 600, "embed": 7_000}
_BYTES_PER_FRAME = 400
_SECONDS_PER_FILE = 0.04
_SECONDS_PER_PIXEL, _BYTES_PER_PIXEL = 4e-6, 0.12  # of rendered video, by `make demo`, rounded up
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
    """

    first: StageEstimate
    files: int
    opened: int
    clips: int
    seconds: float
    frames: int
    source_bytes: int


def estimate(config: BuildConfig, root: str) -> dict[str, Any]:
    """Look at the source and at what exists; compute nothing and write nothing.

    Raises:
        ConfigError: The source, the annotations or the weights are not there.
    """
    with LocalRunner(config.run) as runner:
        build = Context(config, Store(root), runner, TerminalProgress())
        workers = runner.workers
    pose.embed_stage(build)
    if views.is_view_set(build):
        survey = _survey_views(build)
        stages = [survey.first]
    else:
        instances.detect_stage(build)
        survey = {"folder": _survey_folder, "rendered": _survey_rendered}[config.source.kind](build)
        stages = [survey.first, _detecting(config, survey), _of_crops("crop", survey.frames)]
    frames = survey.frames
    if config.embedder.masks == "grabcut":
        stages.append(_of_crops("mask", frames))
    stages.append(_of_crops("embed", frames))
    return {
        "dataset": config.name,
        "unit": "objects" if views.is_view_set(build) else "files",
        "files": survey.files,
        "unreadable": survey.files - survey.opened,
        "source_bytes": survey.source_bytes,
        "hours": survey.seconds / 3600,
        "clips": survey.clips,
        "frames": frames,
        "workers": workers,
        "stages": [asdict(stage) | {"seconds": stage.seconds / workers} for stage in stages],
    }


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
    first = _first(build, FetchFolder(), videos.fetch_items(build, files), 300, _SECONDS_PER_FILE)
    size = sum(max(0, file.bytes) for file in files)
    frames = _frames(build, seconds, opened)
    return _Survey(first, len(files), opened, clips, seconds, frames, size)


def _survey_rendered(build: Context) -> _Survey:
    rendered.is_annotated(build)
    items, config = rendered.render_items(build), build.config.rendered
    pixels = round(config.seconds * config.fps) * config.width * config.height
    first = _first(
        build,
        rendered.render_stage(build),
        items,
        round(pixels * _BYTES_PER_PIXEL),
        pixels * _SECONDS_PER_PIXEL,
    )
    count, seconds = len(items), len(items) * config.seconds
    return _Survey(first, count, count, count, seconds, _frames(build, seconds, count), 0)


def _survey_views(build: Context) -> _Survey:
    stage = views.views_stage(build)
    objects = views.list_objects(stage)
    count, pictures = len(objects), sum(viewed.views for viewed in objects)
    pixels = build.config.image.size**2 * pictures / max(1, count)
    first = _first(
        build,
        stage,
        views.view_items(objects),
        round(pixels * _BYTES_PER_VIEWED_PIXEL),
        pixels * _SECONDS_PER_VIEWED_PIXEL,
    )
    return _Survey(first, count, count, count, 0.0, pictures, 0)


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
) -> StageEstimate:
    plan = plan_stage(build.store, stage, items, repair=False)
    todo = sum(len(chunk) for chunk in plan.todo)
    return StageEstimate(
        stage.name, len(items), len(items) - todo, size * len(items), seconds * todo
    )


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
    yield f"  {'stage':8} {'rows':>9} {'exist':>7} {'on disk':>9} {'time':>9}   (at most)"
    for stage in found["stages"]:
        known = "" if stage["known"] is None else str(stage["known"])
        yield (
            f"  {stage['stage']:8} {stage['rows']:>9} {known:>7} {_size(stage['bytes']):>9} "
            f"{_time(stage['seconds']):>9}"
        )
    total = sum(stage["seconds"] for stage in found["stages"])
    yield f"  about {_time(total)} on {found['workers']} processes; nothing was run"


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
