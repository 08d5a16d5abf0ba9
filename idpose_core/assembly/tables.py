"""The published tables of a build (columns: storage/schemas.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from idpose_core.assembly.records import Clip, Video
from idpose_core.assembly.sampling import Sample
from storage.schemas import CLIPS, CROPS, TRIPLETS, VIDEOS


def videos_table(videos: Sequence[Video], clips: Sequence[Clip], licence: str | None) -> pa.Table:
    """One row for each file of the source, the unusable ones included.

    Args:
        videos: The records.
        clips: Their clips.
        licence: Of the videos that have none of their own.
    """
    made: dict[str, int] = {}
    for clip in clips:
        made[clip.video_id] = made.get(clip.video_id, 0) + bool(clip.crops)
    rows = [
        {
            "video_id": video.video_id,
            "source_uri": video.source_uri,
            "media_sha256": video.media_sha256,
            "split": video.split,
            "status": video.status.value,
            "reason_detail": video.detail,
            "retryable": video.status.retryable_after(video.attempts),
            "attempts": video.attempts,
            "licence": video.licence or licence,
            "duration_ms": video.duration_ms,
            "width": video.width,
            "height": video.height,
            "clips": made.get(video.video_id, 0) if video.status.value == "ok" else 0,
        }
        for video in sorted(videos, key=lambda v: (v.video_id, v.source_uri))
    ]
    return pa.Table.from_pylist(rows, schema=VIDEOS)


def clips_table(clips: Sequence[Clip]) -> pa.Table:
    """One row for each object that was followed, the rejected ones included."""
    rows = [
        {
            "clip_id": clip.clip_id,
            "video_id": clip.video_id,
            "class_name": clip.class_name,
            "object_id": clip.object_id,
            "start_ms": clip.start_ms,
            "end_ms": clip.end_ms,
            "split": clip.split,
            "status": clip.status.value,
            "reason_detail": clip.detail,
            "retryable": clip.status.retryable,
            "frames": clip.frames,
            "crops": len(clip.crops),
            "identity": clip.identity,
        }
        for clip in sorted(clips, key=lambda c: c.clip_id)
    ]
    return pa.Table.from_pylist(rows, schema=CLIPS)


def crops_table(
    clips: Sequence[Clip], poses: Mapping[str, Mapping[str, Any]], detector: str
) -> pa.Table:
    """One row for each crop, by crop id.

    Args:
        clips: The records.
        poses: By crop id the pose cluster and what was read of its direction.
        detector: Where the crop does not say its own.
    """
    rows = []
    for clip in clips:
        for crop in clip.crops:
            known = {name: crop[name] for name in CROPS.names if name in crop}
            of_clip = {"clip_id": clip.clip_id, "video_id": clip.video_id, "split": clip.split}
            pose = poses.get(crop["crop_id"], {})
            rows.append({"detector": detector, **known, **of_clip, **pose})
    rows.sort(key=lambda row: str(row["crop_id"]))
    return pa.Table.from_pylist(rows, schema=CROPS)


def triplets_table(sampled: Mapping[str, Sample], crops: pa.Table) -> pa.Table:
    """One row for each triplet of each split."""
    told = ["crop_id", "clip_id", "video_id", "timestamp_ms", "pose_cluster"]
    by_id = {row["crop_id"]: row for row in crops.select(told).to_pylist()}
    rows = []
    for split, sample in sorted(sampled.items()):
        triplets, ids = sample.triplets, sample.crops.crop_id
        for row in range(len(triplets)):
            identity, pose, target = (
                by_id[str(ids[index[row]])]
                for index in (triplets.id_index, triplets.pose_index, triplets.target_index)
            )
            rows.append(
                {
                    "triplet_id": str(triplets.triplet_id[row]),
                    "split": split,
                    "id_crop": identity["crop_id"],
                    "pose_crop": pose["crop_id"],
                    "target_crop": target["crop_id"],
                    "clip_id": identity["clip_id"],
                    "pose_clip_id": pose["clip_id"],
                    "video_id": identity["video_id"],
                    "pose_video_id": pose["video_id"],
                    "id_ms": identity["timestamp_ms"],
                    "target_ms": target["timestamp_ms"],
                    "pose_ms": pose["timestamp_ms"],
                    "id_cluster": identity["pose_cluster"],
                    "pose_cluster": pose["pose_cluster"],
                    "similarity": float(triplets.similarity[row]),
                    "target_cluster": target["pose_cluster"],
                    "trust": None if np.isnan(sample.trust[row]) else float(sample.trust[row]),
                }
            )
    return pa.Table.from_pylist(rows, schema=TRIPLETS)
