"""Link: from detections to clips, one object followed over time (method of paper section 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any, ClassVar

import pyarrow as pa

from idpose_core.instances.boxes import Area, Box, Detection, FrameDetections
from idpose_core.instances.filters import (
    ClipFilters,
    clip_status,
    is_part,
    observation_status,
)
from idpose_core.instances.linking import (
    follow_annotation,
    link_over_time,
    tracks_from_annotation,
)
from idpose_core.instances.tracks import Track
from idpose_core.video.annotations import AnnotationTrack
from storage.digests import digest
from storage.reasons import Status, Unusable
from storage.shards import RowStage, read_located

BOX_NAMES = ("xmin", "xmax", "ymin", "ymax")
BOX = [pa.field(name, pa.float64()) for name in BOX_NAMES]
OBSERVATION = pa.struct(
    [
        pa.field("timestamp_ms", pa.int64()),
        pa.field("class_name", pa.string()),
        pa.field("score", pa.float64()),
        *BOX,
        pa.field("picture", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class LinkClips(RowStage):
    """Follow objects through one video.

    Row: ``video_id``, ``detections`` (key of the detect result), ``tracks`` (annotation tracks,
    or null where the source has no annotations). Location: where the detections lie.
    """

    classes: tuple[str, ...]
    threshold: float
    boxes_from_annotation: bool
    min_iou: float
    scale: float
    filters: ClipFilters

    name: ClassVar[str] = "link"
    version: ClassVar[int] = 3
    shard_rows: ClassVar[int] = 32
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("clip_id", pa.string()),
            pa.field("class_name", pa.string()),
            pa.field("object_id", pa.string()),
            pa.field("start_ms", pa.int64()),
            pa.field("end_ms", pa.int64()),
            pa.field("frames", pa.int32()),
            pa.field("clip_status", pa.string()),
            pa.field("clip_detail", pa.string()),
            pa.field("observations", pa.list_(OBSERVATION)),
        ]
    )

    def settings(self) -> Mapping[str, Any]:
        """Everything: linking is cheap."""
        return asdict(self)

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row a clip; clips that fail a filter carry their reason in ``clip_status``."""
        frames = read_frames(location)
        if row["tracks"] is not None:
            return [self._annotated(row["video_id"], frames, plain) for plain in row["tracks"]]
        tracks = link_over_time(frames, classes=frozenset(self.classes), threshold=self.threshold)
        if not tracks:
            raise self._nothing(frames)
        return [self._clip(row["video_id"], frames, track) for track in tracks]

    def _annotated(
        self, video_id: str, frames: Sequence[FrameDetections], plain: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The clip of one annotated object; every one has a row, be it without a single frame."""
        annotation = track_from_plain(plain)
        if self.boxes_from_annotation:
            track = tracks_from_annotation(frames, annotation)
        else:
            track = follow_annotation(
                frames,
                annotation,
                classes=frozenset(self.classes),
                threshold=self.threshold,
                min_iou=self.min_iou,
            )
        if track is not None:
            return self._clip(video_id, frames, track)
        inside = [f for f in frames if annotation.box_at(f.timestamp_ms) is not None]
        if not inside:
            status, detail = Status.NO_TRACK, "no sampled frame lies where the object is annotated"
        else:
            status = Status.NO_DETECTION
            detail = (
                f"in none of {len(inside)} frames a detection of {self.threshold} and more "
                "overlaps the annotated box"
            )
        what = [video_id, annotation.object_id, annotation.class_name]
        return {
            "clip_id": digest([*what, annotation.start_ms, annotation.end_ms])[:16],
            "class_name": annotation.class_name,
            "object_id": annotation.object_id,
            "start_ms": annotation.start_ms,
            "end_ms": annotation.end_ms,
            "frames": 0,
            "clip_status": status.value,
            "clip_detail": detail,
            "observations": [],
        }

    def _nothing(self, frames: Sequence[FrameDetections]) -> Unusable:
        scores = [
            detection.score
            for frame in frames
            for detection in frame.detections
            if detection.class_name in self.classes
        ]
        best = max(scores, default=0.0)
        wanted = "/".join(self.classes)
        if best < self.threshold:
            detail = f"best {wanted} score {best:.2f} in {len(frames)} frames"
            return Unusable(Status.NO_DETECTION, f"{detail}, threshold {self.threshold}")
        return Unusable(Status.NO_TRACK, f"{wanted} seen at up to {best:.2f}, but not linked")

    def _clip(
        self, video_id: str, frames: Sequence[FrameDetections], track: Track
    ) -> dict[str, Any]:
        times = [seen.timestamp_ms for seen in track.observations]
        by_time = {frame.timestamp_ms: frame for frame in frames}
        seen_in = [by_time[time] for time in times]
        statuses = self._judge(track, seen_in)
        verdict = clip_status(times, statuses, self.filters)
        lost = None if verdict is Status.OK else count_statuses(statuses)
        said = [text for text in (describe_bars(seen_in), lost) if text]
        what = [video_id, track.object_id, track.class_name, track.start_ms, track.end_ms]
        return {
            "clip_id": digest(what)[:16],
            "class_name": track.class_name,
            "object_id": track.object_id,
            "start_ms": track.start_ms,
            "end_ms": track.end_ms,
            "frames": len(track.observations),
            "clip_status": verdict.value,
            "clip_detail": "; ".join(said) or None,
            "observations": [
                {
                    "timestamp_ms": seen.timestamp_ms,
                    "class_name": seen.detection.class_name,
                    "score": seen.detection.score,
                    **asdict(seen.detection.box),
                    "picture": None if frame.picture is None else list(astuple(frame.picture)),
                }
                for seen, frame, status in zip(track.observations, seen_in, statuses, strict=True)
                if status is Status.OK
            ],
        }

    def _judge(self, track: Track, seen_in: Sequence[FrameDetections]) -> list[Status]:
        statuses = []
        for place, (seen, frame) in enumerate(zip(track.observations, seen_in, strict=True)):
            status = observation_status(seen, self.filters, picture=frame.picture, scale=self.scale)
            if status is Status.OK and is_part(
                track.observations, place, frame.detections, self.filters
            ):
                status = Status.DETAIL
            statuses.append(status)
        return statuses


def count_statuses(statuses: Sequence[Status]) -> str:
    """In words what became of a clip's frames: ``3 of 9 frames good, 6 touches_border``."""
    counts = Counter(status.value for status in statuses)
    good = counts.pop(Status.OK.value, 0)
    lost = [f"{count} {status}" for status, count in sorted(counts.items())]
    return ", ".join([f"{good} of {len(statuses)} frames good", *lost])


def describe_bars(frames: Sequence[FrameDetections]) -> str | None:
    """In words how wide the black bars are that were cut off; None where there are none."""
    frame = frames[0]
    area = frame.picture
    if area is None or area == Area(0, 0, frame.width, frame.height):
        return None
    right, bottom = frame.width - area.right, frame.height - area.bottom
    return (
        f"black bars cut off: {area.left} pixels left, {right} right, {area.top} above, "
        f"{bottom} below"
    )


def read_frames(location: Mapping[str, Any]) -> list[FrameDetections]:
    """The detect stage's rows as values."""
    columns = ["timestamp_ms", "width", "height", "cut", "picture", "detections"]
    return [
        FrameDetections(
            timestamp_ms=row["timestamp_ms"],
            width=row["width"],
            height=row["height"],
            cut=row["cut"],
            detections=tuple(_detection(plain) for plain in row["detections"]),
            picture=Area(*row["picture"]),
        )
        for row in read_located(location, columns)
    ]


def _detection(plain: Mapping[str, Any]) -> Detection:
    box = Box(*(plain[name] for name in BOX_NAMES))
    return Detection(plain["class_name"], plain["score"], box)


def track_to_plain(track: AnnotationTrack) -> dict[str, Any]:
    """An annotation track as plain values, for an input row."""
    return asdict(track)


def track_from_plain(plain: Mapping[str, Any]) -> AnnotationTrack:
    """The inverse of ``track_to_plain``."""
    boxes = tuple(None if box is None else Box(**box) for box in plain["boxes"])
    return AnnotationTrack(
        **{**plain, "boxes": boxes, "timestamps_ms": tuple(plain["timestamps_ms"])}
    )
