"""The triplets of one split, drawn from its table of neighbours, and what there is to say of them.

Method: idpose_core/pose/triplets.py; which neighbours may serve: idpose_core/pose/agreement.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from idpose_core.config import TripletsConfig
from idpose_core.pose.agreement import keep_agreeing
from idpose_core.pose.changes import measure_changes, missing_poses
from idpose_core.pose.directions import VIEW_NAMES, Directions, views_shown
from idpose_core.pose.neighbours import Neighbours
from idpose_core.pose.space import Float32
from idpose_core.pose.triplets import (
    BalanceRule,
    Crops,
    Triplets,
    id_pictures,
    sample_triplets,
)

FEW = 1000
"""Fewer rows than this, or than were asked for, are told of with the reasons."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The triplets of one split.

    Attributes:
        crops: What they were drawn from.
        directions: Of the same crops.
        triplets: The sample of T rows.
        trust: Float32 [T], probability that the pose picture is right; NaN where not known.
        left_out: Pairs of ID picture and target that give no row, by reason: those of
            ``agreement.keep_agreeing`` and of ``Triplets.left_out``. Rows and these are all pairs.
    """

    crops: Crops
    directions: Directions
    triplets: Triplets
    trust: Float32
    left_out: Mapping[str, int]


def draw_triplets(
    crops: Sequence[Mapping[str, Any]],
    retrieval: pa.Table,
    triplets: TripletsConfig,
    *,
    clusters: int,
    rows: int | None,
    seed: int,
) -> Sample:
    """Sample the triplets of one split.

    Args:
        crops: Rows with crop_id, clip_id, video_id, timestamp_ms, and azimuth_deg where it is
            known; sorted by crop_id.
        retrieval: ``retrieve`` of the same crops, in the same order.
        triplets: The sampling options.
        clusters: M.
        rows: Triplets wanted; None = what the pool gives at a good balance.
        seed: Another seed gives another sample of the same balance.

    Raises:
        ValueError: The table is of other crops.
    """
    ids = [crop["crop_id"] for crop in crops]
    if ids != retrieval["crop_id"].to_pylist():
        raise ValueError("the retrieval table is of other crops")
    table = Crops(
        crop_id=np.asarray(ids, dtype=np.str_),
        clip_id=np.asarray([crop["clip_id"] for crop in crops], dtype=np.str_),
        video_id=np.asarray([crop["video_id"] for crop in crops], dtype=np.str_),
        timestamp_ms=np.asarray([crop["timestamp_ms"] for crop in crops], dtype=np.int64),
        cluster=retrieval["pose_cluster"].to_numpy(),
    )
    directions = Directions(
        read_deg=_floats(retrieval["read_azimuth_deg"].to_pylist()),
        certainty=_floats(retrieval["certainty"].to_pylist()).astype(np.float32),
        true_deg=_floats([crop.get("azimuth_deg") for crop in crops]),
    )
    by_target = triplets.balance == "target"
    found, reasons = keep_agreeing(
        _neighbours(retrieval, triplets.top_k),
        read_deg=directions.read_deg if by_target else None,
        max_turn_deg=triplets.max_turn_deg,
        min_trust=triplets.min_trust,
    )
    sampled = sample_triplets(
        table,
        found,
        clusters=clusters,
        rows=rows,
        seed=seed,
        min_gap_ms=triplets.min_gap_ms,
        exclude_diagonal=triplets.exclude_diagonal,
        balance=triplets.balance,
        clip_rows=_clip_rows(table, directions, triplets.clip_rows) if by_target else None,
        still_rows=_still_rows(triplets.clip_rows) if by_target else None,
        faces_deg=directions.best(),
    )
    pairs = id_pictures(table, triplets.min_gap_ms)
    without_pose = {reason: int(pairs[of].sum()) for reason, of in reasons.items()}
    left_out = {reason: n for reason, n in without_pose.items() if n} | dict(sampled.left_out)
    return Sample(table, directions, sampled, _trust_of(sampled, found), left_out)


def report(
    samples: Mapping[BalanceRule, Sample], rule: BalanceRule, clusters: int, asked: int | None
) -> dict[str, Any]:
    """What there is to say of the triplets of one split, for the manifest.

    Args:
        samples: Of the same crops by both rules of balance.
        rule: The one whose triplets are published.
        clusters: M.
        asked: Rows that were asked for.
    """
    chosen = samples[rule]
    by, missing = missing_poses(
        chosen.directions, chosen.crops.cluster, clusters, chosen.triplets.target_index
    )
    return {
        "balance": rule,
        "rows": len(chosen.triplets),
        "few": len(chosen.triplets) < (FEW if asked is None else asked),
        "left_out": dict(chosen.left_out),
        "missing_poses": {"by": by, "poses": list(missing)},
        "changes": {
            name: measure_changes(
                sample.directions,
                sample.triplets.id_index,
                sample.triplets.target_index,
                sample.triplets.pose_index,
            ).to_dict()
            for name, sample in samples.items()
        },
    }


def _still_rows(rows: int | None) -> int | None:
    """How many rows of a clip may show no change of pose: half of what a clip that stands gives."""
    return None if rows is None else max(1, rows // 2)


def _clip_rows(
    crops: Crops, directions: Directions, rows: int | None
) -> npt.NDArray[np.int64] | None:
    """How many rows the clip of each crop may give, int64 [N]; None = any number.

    A clip that shows v views has v * v pairs of them to teach, and each is worth so many rows. One
    that shows all eight turns as far as there is to turn, and is not limited.
    """
    if rows is None:
        return None
    views = views_shown(directions, crops.cluster, crops.crop_id, crops.clip_id, crops.timestamp_ms)
    return np.where(views == len(VIEW_NAMES), np.iinfo(np.int64).max, rows * views**2)


def _neighbours(retrieval: pa.Table, top_k: int) -> Neighbours:
    place = {crop: row for row, crop in enumerate(retrieval["crop_id"].to_pylist())}
    indices = np.full((len(place), top_k), -1, np.int32)
    similarity = np.full((len(place), top_k), np.nan, np.float32)
    trust = np.full((len(place), top_k), np.nan, np.float32)
    columns = (retrieval[name].to_pylist() for name in ("neighbours", "similarities", "trusts"))
    for row, (ids, cosines, chances) in enumerate(zip(*columns, strict=True)):
        indices[row, : len(ids)] = [place[crop] for crop in ids]
        similarity[row, : len(ids)] = cosines
        trust[row, : len(ids)] = np.nan if chances is None else _floats(chances)
    nowhere = len(place) > 0 and retrieval["trusts"].null_count == len(place)
    return Neighbours(indices, similarity, None if nowhere else trust)


def _trust_of(triplets: Triplets, found: Neighbours) -> Float32:
    if found.trust is None:
        return np.full(len(triplets), np.nan, np.float32)
    rank = np.argmax(found.indices[triplets.target_index] == triplets.pose_index[:, None], axis=1)
    trust: Float32 = found.trust[triplets.target_index, rank]
    return trust


def _floats(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Numbers with NaN for None."""
    return np.asarray([np.nan if value is None else value for value in values], np.float64)
