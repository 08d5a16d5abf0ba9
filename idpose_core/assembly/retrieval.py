"""Clusters, neighbours and directions of all crops as one small table.

The table is kept apart from the pictures, so that another number of clusters rewrites none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from idpose_core.config import TripletsConfig
from idpose_core.pose.directions import azimuth_of
from idpose_core.pose.neighbours import (
    Neighbours,
    narrow,
    nearest_in_other_videos,
    window_rows,
)
from idpose_core.pose.space import Features, Float32, PoseSpace, assign, project
from idpose_core.pose.trust import CONTEXT, TrustModel, pair_features, steadiness

RETRIEVAL = pa.schema(
    [
        pa.field("crop_id", pa.string(), nullable=False),
        pa.field("pose_cluster", pa.int32(), nullable=False),
        pa.field("neighbours", pa.list_(pa.string()), nullable=False),  # crop ids, nearest first
        pa.field("similarities", pa.list_(pa.float32()), nullable=False),
        # Null where no direction is read. What is sampled by is rounded, since the last bits differ
        # between processors, and published as it was sampled by.
        pa.field("trusts", pa.list_(pa.float32())),  # of each neighbour: P(it faces as the crop)
        pa.field("read_azimuth_deg", pa.float64()),
        pa.field("certainty", pa.float32()),
    ]
)
_AZIMUTH_DECIMALS, _TRUST_DECIMALS = 1, 4


@dataclass(frozen=True, eq=False)
class Embedded:
    """The crops of one split, sorted by crop id, with their features float16 [N, D].

    Attributes:
        identities: Which object each crop shows, None where unknown.
        timestamps: In milliseconds.
        readings: Float32 [N, 3], see ``embedding.Embedder.embed_clip``; NaN where nothing is
            read. None where the embedder reads nothing.
    """

    crop_ids: Sequence[str]
    clip_ids: Sequence[str]
    video_ids: Sequence[str]
    identities: Sequence[str | None]
    timestamps: Sequence[int]
    features: Features
    readings: Float32 | None = None


def retrieve(
    space: PoseSpace, split: Embedded, triplets: TripletsConfig, trust: TrustModel | None = None
) -> pa.Table:
    """Cluster and neighbours of every crop of a split, searched within that split only.

    Args:
        space: Projection and clusters.
        split: The crops.
        triplets: The options of the search.
        trust: Gives each neighbour a probability of facing as the crop does, where directions are
            read.
    """
    projected = project(space, split.features)
    found = _search(split, projected, triplets, trust)
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
            "trusts": _trusts(found, some),
            **_directions(split),
        },
        schema=RETRIEVAL,
    )


def cluster_sizes(retrieval: pa.Table, clusters: int) -> list[int]:
    """How many crops each pose cluster holds."""
    counted = {
        c["values"]: c["counts"] for c in pc.value_counts(retrieval["pose_cluster"]).to_pylist()
    }
    return [counted.get(cluster, 0) for cluster in range(clusters)]


def _search(
    split: Embedded, projected: Float32, triplets: TripletsConfig, trust: TrustModel | None
) -> Neighbours:
    """The neighbours, with the trust in each where there is a model and something is read."""
    times = np.asarray(split.timestamps, np.int64)
    windows = None
    if triplets.window_ms:
        windows = window_rows(split.clip_ids, times, triplets.window_ms)
    top_k = triplets.top_k
    judged = split.readings is not None and trust is not None
    found = nearest_in_other_videos(
        split.features,
        projected,
        split.video_ids,
        split.crop_ids,
        top_k=max(top_k, CONTEXT) if judged else top_k,
        identities=split.identities,
        windows=windows,
    )
    if split.readings is not None and trust is not None:
        steady = steadiness(split.readings, split.crop_ids, split.clip_ids, times)
        chances = trust.probability(pair_features(split.readings, steady, found, top_k))
        found = Neighbours(
            found.indices[:, :top_k], found.similarity[:, :top_k], chances.round(_TRUST_DECIMALS)
        )
    return narrow(found, top_k, mutual=triplets.mutual, min_similarity=triplets.min_similarity)


def _trusts(found: Neighbours, some: npt.NDArray[np.bool_]) -> list[list[float | None] | None]:
    """For each crop the trust in each of its neighbours, None where it is not known."""
    if found.trust is None:
        return [None] * len(some)
    return [
        [None if np.isnan(value) else value for value in row[keep].tolist()]
        for row, keep in zip(found.trust, some, strict=True)
    ]


def _directions(split: Embedded) -> dict[str, pa.Array]:
    count = len(split.crop_ids)
    readings = np.full((count, 3), np.nan) if split.readings is None else split.readings
    # 360.0 is 0.0, and rounding may bring it about.
    azimuth = azimuth_of(readings[:, 1:]).round(_AZIMUTH_DECIMALS) % 360.0
    length = np.hypot(readings[:, 1], readings[:, 2]).round(_TRUST_DECIMALS)
    none = np.isnan(azimuth)
    return {
        "read_azimuth_deg": pa.array(azimuth, pa.float64(), mask=none),
        "certainty": pa.array(length.astype(np.float32), pa.float32(), mask=none),
    }
