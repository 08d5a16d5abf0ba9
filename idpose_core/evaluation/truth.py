"""Evaluation triplets by exact truth: the pose picture shows the target's pose, another object.

Nothing is retrieved: azimuth (and elevation, where it is known) are those of the renderer or of the
published set.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from idpose_core.evaluation.judges import azimuth_error
from idpose_core.evaluation.sets import SCHEMA
from idpose_core.evaluation.views import angles, elevation_order, known_objects, numbered
from storage.errors import DatasetError

TOLERANCE_DEG = 7.5
"""Half a step of a set of 24 azimuths: what is farther from the target's pose is not taken."""


def truth_triplets(
    crops: pa.Table, clips: pa.Table, *, count: int = 5000, min_gap_ms: int = 1000, seed: int = 0
) -> pa.Table:
    """Triplets in the schema of an evaluation set, from crops whose azimuth is known.

    Clips take turns; within a clip ordered pairs (ID, target) come in an order that the seed and
    their names decide. The pose picture is the nearest in azimuth, then in elevation, of all crops
    of other videos that do not show the target's own object; among equals a hash decides. Where
    elevations are ordered but have no angle (3D Cars), their order counts.

    Args:
        crops: Of one split.
        clips: Of the same; their ``identity`` tells an object across videos, null where unknown.
        count: As many triplets, or as many as there are.
        min_gap_ms: Between the ID picture and the target.
        seed: Of the order.

    Raises:
        DatasetError: No triplet is possible.
    """
    crops = crops.filter(pa.array(np.isfinite(angles(crops, "azimuth_deg")))).sort_by("crop_id")
    azimuth = angles(crops, "azimuth_deg")
    elevation = angles(crops, "elevation_deg")
    names = crops["crop_id"].to_pylist()
    clip, videos = crops["clip_id"].to_pylist(), crops["video_id"].to_pylist()
    video, shown = numbered(videos)[1], objects_shown(crops, clips)
    times = crops["timestamp_ms"].to_numpy()
    order = elevation_order(numbered(clip)[1], azimuth, times)
    rows = []
    for i, t in _in_turn(clip, times, names, min_gap_ms, seed):
        other = np.flatnonzero((video != video[t]) & (shown != shown[t]))
        if not len(other):
            continue
        p = _nearest(other, t, azimuth, elevation, order, names, seed)
        error = float(azimuth_error(azimuth[[p]], azimuth[[t]])[0])
        if error > TOLERANCE_DEG:
            continue
        rows.append({
            "triplet_id": _hash(seed, names[i], names[t], names[p])[:16], "id_crop": names[i],
            "pose_crop": names[p], "target_crop": names[t], "identity": clip[t],
            "pose_identity": clip[p], "id_ms": times[i], "target_ms": times[t],
            "target_azimuth_deg": azimuth[t], "pose_azimuth_deg": azimuth[p],
            "target_elevation_deg": _known(elevation[t]), "pose_error_deg": error,
            "chosen_by": "truth", "review": "auto",
        })  # fmt: skip
        if len(rows) == count:
            break
    if not rows:
        raise DatasetError(
            "no evaluation triplet is possible: crops with a known azimuth of two objects in "
            f"two videos are needed, and two of one clip at least {min_gap_ms} ms apart"
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def objects_shown(crops: pa.Table, clips: pa.Table) -> NDArray[np.int64]:
    """Number of the object that each crop shows [N]; of unknown ones each clip counts for another.

    Args:
        crops: With the clip of each.
        clips: Their ``identity`` tells an object across videos, null where unknown.
    """
    told = known_objects(clips)
    names = crops["clip_id"].to_pylist()
    words = [f"object {told[n]}" if n in told else f"clip {n}" for n in names]
    return numbered(words)[1]


def _in_turn(
    clips: list[str], times: NDArray[np.int64], names: list[str], gap: int, seed: int
) -> Iterator[tuple[int, int]]:
    """Pairs (ID, target) of rows, one of each clip in turn."""
    members: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        members.setdefault(clip, []).append(row)
    queues = [
        sorted(
            ((i, t) for i in rows for t in rows if i != t and abs(times[i] - times[t]) >= gap),
            key=lambda pair: _hash(seed, names[pair[0]], names[pair[1]]),
        )
        for _, rows in sorted(members.items())
    ]
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue):
                yield queue[turn]


def _nearest(
    rows: NDArray[np.int64],
    target: int,
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    order: NDArray[np.int64],
    names: list[str],
    seed: int,
) -> int:
    far = np.round(azimuth_error(azimuth[rows], azimuth[np.full(len(rows), target)]), 6)
    rows = rows[far == far.min()]
    high = np.abs(elevation[rows] - elevation[target])
    high = np.where(np.isnan(high), np.abs(order[rows] - order[target]), high)
    rows = rows[high <= high.min() + 1e-6]
    return int(min(rows, key=lambda row: _hash(seed, "pose", names[target], names[row])))


def _known(angle: float) -> float | None:
    return None if np.isnan(angle) else float(angle)


def _hash(*parts: object) -> str:
    return blake2b("|".join(map(str, parts)).encode(), digest_size=16).hexdigest()
