"""The rendered world as a source: videos that are made when they are wanted, with known truth."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from flows.steps.annotations import Annotations
from flows.steps.context import Context, usable
from idpose_core.assembly.records import Clip, Video
from idpose_core.config import ConfigError
from idpose_core.datasets.rendered.clips import ClipSettings
from idpose_core.datasets.rendered.families import model_name
from idpose_core.datasets.rendered.splits import training_and_test
from idpose_core.datasets.rendered.truth import SCHEMA, annotations_csv, sighting_in
from idpose_core.datasets.rendered.videos import video_name
from idpose_core.stages.mask import TrueMasks
from idpose_core.stages.render import RenderVideos, media_path, restore_media
from idpose_core.video.annotations import read_annotations
from storage.reasons import Status
from storage.shards import Item, Outcome, locate, read_rows

OWN = "own"


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
        Item(
            {name: scene[name] for name in ("model", "scene")},
            place,
            {"video_id": _name(build, scene)},
        )
        for scene in wanted_scenes(build)
    ]


def fetch_rendered(build: Context) -> list[Video]:
    """Render what is missing. Returns one record a video, with its truth."""
    stage, scenes, items = render_stage(build), wanted_scenes(build), render_items(build)
    outcomes = build.run(stage, items)
    columns = [name for name in stage.columns.names if name not in ("video", "mask_png")]
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


def add_truth(videos: Sequence[Video], clips: Sequence[Clip]) -> None:
    """Give each clip what the truth of its video tells: which object it shows, and its pose."""
    of_video = {video.video_id: video for video in videos if video.truth}
    for clip in clips:
        if clip.crops and clip.video_id in of_video:
            truth = of_video[clip.video_id].truth
            seen = [sighting_in(crop, truth) for crop in clip.crops]
            clip.identity = _most_seen(seen)
            clip.crops = [
                {**crop, **{name: told[name] for name in ("azimuth_deg", "elevation_deg")}}
                if told
                else crop
                for crop, told in zip(clip.crops, seen, strict=True)
            ]


def _most_seen(seen: Sequence[Mapping[str, Any] | None]) -> str | None:
    """The object of most crops: a clip whose object changed on the way is named by the longer part.

    None where the truth knows of no object in any of them.
    """
    names = Counter(model_name(told["class_name"], told["model"]) for told in seen if told)
    return min(names, key=lambda name: (-names[name], name), default=None)


def true_masks(
    build: Context, videos: Sequence[Video], clips: Sequence[Clip], crops: Mapping[str, Outcome]
) -> dict[str, Outcome]:
    """The world's own masks of the crops of each clip."""
    truth = {video.video_id: video.truth_outcome for video in videos if video.truth_outcome}
    wanted = [clip for clip in clips if clip.crops]
    items = [
        Item(
            {"crops": crops[clip.clip_id].row_key, "truth": truth[clip.video_id].row_key},
            {
                "crops": locate(build.store, crops[clip.clip_id]),
                "truth": locate(build.store, truth[clip.video_id]),
            },
            clip.about,
        )
        for clip in wanted
    ]
    outcomes = build.run(TrueMasks(), items)
    return {clip.clip_id: outcome for clip, outcome in usable(wanted, outcomes)}


def _video(
    build: Context, scene: Mapping[str, Any], outcome: Outcome, truth: Sequence[Mapping[str, Any]]
) -> Video:
    rendered = build.config.rendered
    name = _name(build, scene)
    video = Video(f"{name}.mp4", {}, name, attempts=outcome.attempt, split=scene["split"])
    if outcome.status is not Status.OK:
        video.reject(outcome.status, outcome.detail)
        return video
    video.media_sha256 = truth[0]["media_sha256"]
    video.location = {"root": build.store.location, "media": media_path(video.media_sha256)}
    video.duration_ms = round(1000 * rendered.seconds)
    video.width, video.height = rendered.width, rendered.height
    video.truth, video.truth_outcome = truth, outcome
    return video


def _name(build: Context, scene: Mapping[str, Any]) -> str:
    return video_name(build.config.rendered.kind, scene["model"], scene["scene"])


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
