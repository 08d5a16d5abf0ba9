"""Instances: look at the frames, follow objects over time, cut them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.steps.annotations import Annotations, tracks_of
from flows.steps.context import Context, usable
from flows.steps.weights import resolve_weights
from idpose_core.assembly.records import Clip, Video
from idpose_core.instances.filters import ClipFilters
from idpose_core.stages.crop import CropInstances
from idpose_core.stages.detect import DetectObjects
from idpose_core.stages.link import LinkClips, track_to_plain
from storage.reasons import Status
from storage.shards import Item, Outcome, locate, read_rows

DETECTION_FLOOR = 0.1  # boxes below are noise; from here on they may bridge gaps of a track


def detect_stage(build: Context) -> DetectObjects:
    """The detect stage of this configuration.

    Raises:
        ConfigError: The detector's weights are not there.
    """
    config, detector = build.config, build.config.detector
    weights, weights_sha256 = resolve_weights(detector.kind, detector.weights, build.store)
    return DetectObjects(
        kind=detector.kind,
        weights_path=weights,
        weights_sha256=weights_sha256,
        floor=min(DETECTION_FLOOR, detector.threshold),
        fps=config.sampling.fps,
        cut_contrast=config.sampling.cut_contrast,
        dissolve_error=config.sampling.dissolve_error,
        max_bar=config.sampling.max_bar,
        decoder=config.decoder,
        device=detector.device,
        deadline_s=config.sampling.deadline_seconds,
    )


def detect(
    build: Context, videos: Sequence[Video], annotations: Annotations | None
) -> dict[str, Outcome]:
    """Sample and look at the frames of every video; annotated videos only where annotated."""
    wanted = [video for video in videos if video.status is Status.OK]
    items = []
    for video in wanted:
        tracks = tracks_of(video, annotations)
        windows = None
        if tracks is not None:
            windows = sorted({(track.start_ms, track.end_ms) for track in tracks})
        row = {"media_sha256": video.media_sha256, "windows_ms": windows}
        items.append(Item(row, video.location, video.about))
    outcomes = build.run(detect_stage(build), items)
    return {video.video_id: outcome for video, outcome in usable(wanted, outcomes)}


def link(
    build: Context,
    videos: Sequence[Video],
    frames: Mapping[str, Outcome],
    annotations: Annotations | None,
) -> list[Clip]:
    """Follow the objects of each video; each one followed is a clip."""
    config = build.config
    stage = LinkClips(
        classes=tuple(sorted(config.classes)),
        threshold=config.detector.threshold,
        boxes_from_annotation=config.detector.kind == "annotations",
        min_iou=config.clips.min_iou,
        scale=config.image.scale,
        filters=clip_filters(build),
    )
    wanted = sorted(
        (video for video in videos if video.status is Status.OK), key=lambda v: v.video_id
    )
    items = []
    for video in wanted:
        seen, tracks = frames[video.video_id], tracks_of(video, annotations)
        row = {
            "video_id": video.video_id,
            "detections": seen.row_key,
            "tracks": None if tracks is None else [track_to_plain(track) for track in tracks],
        }
        items.append(Item(row, locate(build.store, seen), video.about))
    outcomes = build.run(stage, items)
    linked = rows_by_key(build, outcomes, stage.columns.names)
    return [
        _clip(row, video)
        for video, outcome in usable(wanted, outcomes)
        for row in linked[outcome.row_key]
    ]


def crop(build: Context, videos: Sequence[Video], clips: Sequence[Clip]) -> dict[str, Outcome]:
    """Cut the pictures of each clip; clips with too few of them are rejected."""
    config = build.config
    stage = CropInstances(
        size=config.image.size,
        scale=config.image.scale,
        filters=clip_filters(build),
        decoder=config.decoder,
        deadline_s=config.sampling.deadline_seconds,
    )
    media = {video.video_id: video for video in videos if video.status is Status.OK}
    wanted = [clip for clip in clips if clip.status is Status.OK]
    items = [
        Item(
            {
                "media_sha256": media[clip.video_id].media_sha256,
                "clip_id": clip.clip_id,
                "observations": clip.observations,
            },
            media[clip.video_id].location,
            clip.about,
        )
        for clip in wanted
    ]
    outcomes = build.run(stage, items)
    columns = [name for name in stage.columns.names if name != "image"]
    rows = rows_by_key(build, outcomes, columns)
    kept = usable(wanted, outcomes)
    for clip, outcome in kept:
        clip.crops = crops_with_places(rows[outcome.row_key], outcome)
    return {clip.clip_id: outcome for clip, outcome in kept}


def crops_with_places(rows: Sequence[Mapping[str, Any]], outcome: Outcome) -> list[dict[str, Any]]:
    """The crop rows of an outcome, each with the place of its picture."""
    return [
        {**row, "picture_path": outcome.shard, "picture_row": outcome.first_row + index}
        for index, row in enumerate(rows)
    ]


def clip_filters(build: Context) -> ClipFilters:
    """The filters of this configuration."""
    return ClipFilters(**build.config.clips.model_dump(exclude={"min_iou"}))


def rows_by_key(
    build: Context, outcomes: Sequence[Outcome], columns: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The output rows of each outcome with a result."""
    found = read_rows(build.store, outcomes, columns)
    return {outcome.row_key: rows for outcome, rows in found}


def _clip(row: Mapping[str, Any], video: Video) -> Clip:
    return Clip(
        clip_id=row["clip_id"],
        video_id=video.video_id,
        class_name=row["class_name"],
        object_id=row["object_id"],
        start_ms=row["start_ms"],
        end_ms=row["end_ms"],
        frames=row["frames"],
        split=video.split or "",
        observations=row["observations"],
        status=Status(row["clip_status"]),
        detail=row["clip_detail"],
        media_sha256=video.media_sha256,
    )
