"""Clusters and neighbours of all crops as one small table, and the triplets drawn from it.

The table is kept apart from the pictures, so that another number of clusters rewrites none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from idpose_core.config import TripletsConfig
from idpose_core.pose.neighbours import Neighbours, nearest_in_other_videos, window_rows
from idpose_core.pose.space import Features, PoseSpace, assign, project
from idpose_core.pose.triplets import Crops, Triplets, sample_triplets

RETRIEVAL = pa.schema(
    [
        pa.field("crop_id", pa.string(), nullable=False),
        pa.field("pose_cluster", pa.int32(), nullable=False),
        pa.field("neighbours", pa.list_(pa.string()), nullable=False),  # crop ids, nearest first
        pa.field("similarities", pa.list_(pa.float32()), nullable=False),
    ]
)


@dataclass(frozen=True, eq=False)
class Embedded:
    """The crops of one split, sorted by crop id, with their features float16 [N, D].

    Attributes:
        identities: Which object each crop shows, None where unknown.
        timestamps: In milliseconds.
    """

    crop_ids: Sequence[str]
    clip_ids: Sequence[str]
    video_ids: Sequence[str]
    identities: Sequence[str | None]
    timestamps: Sequence[int]
    features: Features


def retrieve(space: PoseSpace, split: Embedded, triplets: TripletsConfig) -> pa.Table:
    """Cluster and neighbours of every crop of a split, searched within that split only."""
    projected = project(space, split.features)
    windows = None
    if triplets.window_ms:
        times = np.asarray(split.timestamps, np.int64)
        windows = window_rows(split.clip_ids, times, triplets.window_ms)
    found = nearest_in_other_videos(
        split.features,
        projected,
        split.video_ids,
        split.crop_ids,
        top_k=triplets.top_k,
        identities=split.identities,
        min_similarity=triplets.min_similarity,
        mutual=triplets.mutual,
        windows=windows,
    )
    ids = np.asarray(split.crop_ids, dtype=object)
    some = found.indices >= 0
    return pa.table(
        {
            "crop_id": list(split.crop_ids),
            "pose_cluster": assign(space, projected),
            "neighbours": [
                ids[row[keep]].tolist() for row, keep in zip(found.indices, some, strict=True)
            ],
            "similarities": [
                row[keep].tolist() for row, keep in zip(found.similarity, some, strict=True)
            ],
        },
        schema=RETRIEVAL,
    )


def draw_triplets(
    crops: Sequence[Mapping[str, Any]],
    retrieval: pa.Table,
    triplets: TripletsConfig,
    *,
    clusters: int,
    rows: int | None,
    seed: int,
) -> tuple[Crops, Triplets]:
    """Sample the triplets of one split (method: idpose_core/pose/triplets.py).

    Args:
        crops: Rows with crop_id, clip_id, video_id, timestamp_ms, sorted by crop_id.
        retrieval: ``retrieve`` of the same crops, in the same order.
        triplets: The sampling options.
        clusters: M.
        rows: Triplets wanted; None = what the pool gives at a good balance.
        seed: Another seed gives another sample of the same balance.
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
    sampled = sample_triplets(
        table,
        _neighbours(retrieval, triplets.top_k),
        clusters=clusters,
        rows=rows,
        seed=seed,
        min_gap_ms=triplets.min_gap_ms,
        exclude_diagonal=triplets.exclude_diagonal,
    )
    return table, sampled


def cluster_sizes(retrieval: pa.Table, clusters: int) -> list[int]:
    """How many crops each pose cluster holds."""
    counted = {
        c["values"]: c["counts"] for c in pc.value_counts(retrieval["pose_cluster"]).to_pylist()
    }
    return [counted.get(cluster, 0) for cluster in range(clusters)]


def _neighbours(retrieval: pa.Table, top_k: int) -> Neighbours:
    place = {crop: row for row, crop in enumerate(retrieval["crop_id"].to_pylist())}
    indices = np.full((len(place), top_k), -1, np.int32)
    similarity = np.full((len(place), top_k), np.nan, np.float32)
    rows = zip(
        retrieval["neighbours"].to_pylist(), retrieval["similarities"].to_pylist(), strict=True
    )
    for row, (ids, cosines) in enumerate(rows):
        indices[row, : len(ids)] = [place[crop] for crop in ids]
        similarity[row, : len(ids)] = cosines
    return Neighbours(indices, similarity)
