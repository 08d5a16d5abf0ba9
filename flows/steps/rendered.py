"""The rendered world as a source: videos that are made when they are wanted, with known truth."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from flows.steps.annotations import Annotations
from flows.steps.context import Context
from idpose_core.assembly.records import Video
from idpose_core.config import ConfigError
from idpose_core.datasets.rendered.clips import ClipSettings
from idpose_core.datasets.rendered.splits import training_and_test
from idpose_core.datasets.rendered.truth import SCHEMA, annotations_csv
from idpose_core.datasets.rendered.videos import video_name
from idpose_core.instances.boxes import Box, iou
from idpose_core.stages.link import BOX_NAMES
from idpose_core.stages.render import RenderVideos, media_path, restore_media
from idpose_core.video.annotations import read_annotations
from storage.reasons import Status
from storage.shards import Item, Outcome, read_rows

OWN = "own"
_MIN_IOU = 0.5


def render_stage(build: Context) -> RenderVideos:
    """The render stage of this configuration."""
    rendered, seed = build.config.rendered, build.config.seed
    size = (rendered.width, rendered.height)
    return RenderVideos(
        ClipSettings(rendered.kind, rendered.seconds, rendered.fps, size, seed, rendered.samples)
    )


def is_annotated(build: Context) -> bool:
    """Whether the build uses the world's own annotations.

    Raises:
        ConfigError: It is told to use others, or the detector needs them and has none.
    """
    asked = build.config.source.annotations
    if asked not in (None, OWN):
        raise ConfigError(f"source.annotations of the rendered world is {OWN!r} or null")
    if asked is None and build.config.detector.kind == "annotations":
        raise ConfigError(f"detector.kind=annotations needs source.annotations={OWN}")
    return asked == OWN


def wanted_scenes(build: Context) -> list[dict[str, Any]]:
    """Model, scene and split of every video, by model.

    The models of the world's validation split are left out: they are for choosing settings.

    Raises:
        ConfigError: There are not so many models.
    """
    rendered = build.config.rendered
    try:
        splits = training_and_test(rendered.kind, rendered.models)
    except ValueError as error:
        raise ConfigError(f"rendered.models: {error}") from error
    return [
        {"model": model, "scene": scene, "split": splits[model]}
        for model in sorted(splits)
        for scene in range(rendered.scenes)
    ]


def render_items(build: Context) -> list[Item]:
    """The render stage's input."""
    place = {"root": build.store.location}
    return [
        Item({name: scene[name] for name in ("model", "scene")}, place)
        for scene in wanted_scenes(build)
    ]


def fetch_rendered(build: Context) -> list[Video]:
    """Render what is missing. Returns one record a video, with its truth."""
    if build.store.local_path(".") is None:
        raise ConfigError("source.kind=rendered needs a local root: its videos are read as files")
    stage, scenes, items = render_stage(build), wanted_scenes(build), render_items(build)
    outcomes = build.run(stage, items)
    columns = [name for name in stage.columns.names if name != "video"]
    found = {outcome.row_key: truth for outcome, truth in read_rows(build.store, outcomes, columns)}
    _restore(build, stage, items, [found.get(outcome.row_key) for outcome in outcomes])
    return [
        _video(build, scene, outcome, found.get(outcome.row_key, []))
        for scene, outcome in zip(scenes, outcomes, strict=True)
    ]


def own_annotations(build: Context, videos: Sequence[Video]) -> Annotations:
    """The annotation tracks by the name of the video, in the form and at the rate of YTBB."""
    rows = [
        {**seen, "video": video.video_id, "mask_png": b""}
        for video in videos
        for seen in video.truth
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    text = annotations_csv(table, build.config.rendered.fps)
    found = read_annotations(io.BytesIO(text.encode()), classes=build.config.classes)
    return Annotations(found.tracks)


def azimuth_of(video: Video, crop: Mapping[str, Any]) -> float | None:
    """The true azimuth in degrees of the object in a crop; None where the truth knows none."""
    box = Box(*(crop[edge] for edge in BOX_NAMES))
    overlaps = [
        (iou(box, Box(*(seen[edge] for edge in BOX_NAMES))), seen["azimuth_deg"])
        for seen in video.truth
        if seen["timestamp_ms"] == crop["timestamp_ms"] and seen["xmin"] is not None
    ]
    overlap, azimuth = max(overlaps, default=(0.0, None))
    return azimuth if overlap >= _MIN_IOU else None


def _video(
    build: Context, scene: Mapping[str, Any], outcome: Outcome, truth: Sequence[Mapping[str, Any]]
) -> Video:
    rendered = build.config.rendered
    name = video_name(rendered.kind, scene["model"], scene["scene"])
    video = Video(f"{name}.mp4", "", name, attempts=outcome.attempt, split=scene["split"])
    if outcome.status is not Status.OK:
        video.reject(outcome.status, outcome.detail)
        return video
    video.media_sha256 = truth[0]["media_sha256"]
    video.path = str(build.store.local_path(media_path(video.media_sha256)))
    video.duration_ms = round(1000 * rendered.seconds)
    video.width, video.height = rendered.width, rendered.height
    video.truth = truth
    return video


def _restore(
    build: Context,
    stage: RenderVideos,
    items: Sequence[Item],
    truths: Sequence[Sequence[Mapping[str, Any]] | None],
) -> None:
    """Render again the files that are gone, though their truth is known."""
    known = [
        (item.row, truth[0]["media_sha256"])
        for item, truth in zip(items, truths, strict=True)
        if truth
    ]
    gone = [
        (build.store, stage, row, sha256)
        for row, sha256 in known
        if not build.store.exists(media_path(sha256))
    ]
    for _ in build.runner.map(restore_media, gone, "restore"):
        pass
