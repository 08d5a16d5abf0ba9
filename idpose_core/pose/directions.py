"""Which way the object of each crop faces, and how much it turns along its clip.

A direction is an azimuth in degrees: 0 shows the front, 90 the object's left side (its nose points
to the picture's left). It is true where the source knows it, and read from the picture where an
embedder reads it (``embedding.Embedder.embed_clip``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from idpose_core.pose.space import Float32, Float64, Texts

Integers = npt.NDArray[np.int64]

VIEW_NAMES = (
    "front", "front-left", "left", "rear-left", "rear", "rear-right", "right", "front-right",
)  # fmt: skip
"""The eight views, 45 degrees apart, by what is seen of the object."""

CHANGED_DEG = 30.0
"""A turn from ID picture to target beyond this is a change of pose."""
_VIEW_DEG = 360 / len(VIEW_NAMES)
_SHARE_OF_CLIP = 0.8  # of a clip's crops: the others may be read wrongly
_REACH = 2  # crops before, and after, that a crop is compared with


@dataclass(frozen=True, eq=False)
class Directions:
    """The directions of N crops.

    Attributes:
        read_deg: float64 [N], as read, 0..360; NaN where nothing is read.
        certainty: float32 [N], length of the reading's cosine and sine, about 0..1; NaN as above.
        true_deg: float64 [N], as the source knows it; NaN where it does not.
    """

    read_deg: Float64
    certainty: Float32
    true_deg: Float64

    def best(self) -> Float64:
        """The true directions float64 [N], and those read where the truth is not known."""
        return np.where(np.isnan(self.true_deg), self.read_deg, self.true_deg)


def azimuth_of(vectors: npt.NDArray[np.floating[Any]]) -> Float64:
    """Azimuths float64 [N] in 0..360 of (cosine, sine) [N, 2]; NaN where they are NaN or both 0."""
    cosine, sine = vectors[:, 0].astype(np.float64), vectors[:, 1].astype(np.float64)
    azimuth = np.degrees(np.arctan2(sine, cosine)) % 360.0
    return np.where((cosine == 0) & (sine == 0), np.nan, azimuth)


def angle_between(one: Float64, other: Float64) -> Float64:
    """Angles 0..180 degrees between azimuths; NaN where one of the two is not known."""
    apart: Float64 = np.abs((one - other + 180.0) % 360.0 - 180.0)
    return apart


def view_of(azimuth: Float64) -> Integers:
    """Index into ``VIEW_NAMES`` of azimuths that are all known: the nearest multiple of 45."""
    view: Integers = np.floor(azimuth / _VIEW_DEG + 0.5).astype(np.int64) % len(VIEW_NAMES)
    return view


def vectors_of(azimuth: Float64, length: Float32) -> Float64:
    """(cosine, sine) times length, float64 [N, 2]; zeros where the azimuth is not known."""
    radians = np.radians(azimuth)
    both = np.stack([np.cos(radians), np.sin(radians)], axis=1) * length[:, None]
    known: Float64 = np.nan_to_num(both, nan=0.0)
    return known


def beside_in_clip(
    vectors: Float64, crop_ids: Texts, clip_ids: Texts, timestamps: Integers
) -> Float64:
    """For each crop the sum of the vectors of the two crops before and after it in its clip.

    A vector is as long as its reading is sure, so the sure ones decide.

    Args:
        vectors: float64 [N, 2], zeros where there is none.
        crop_ids: the N crop ids, which order what is of one time.
        clip_ids: the N clip ids.
        timestamps: int64 [N], in milliseconds.

    Returns:
        float64 [N, 2], without the crop itself; zeros where nothing lies beside it.
    """
    clip = np.unique(np.asarray(clip_ids, dtype=np.str_), return_inverse=True)[1]
    order = np.lexsort((np.asarray(crop_ids, dtype=np.str_), timestamps, clip))
    ordered, of = vectors[order], clip[order]
    total = np.zeros_like(ordered)
    for step in range(1, _REACH + 1):
        same = (of[step:] == of[:-step])[:, None]
        total[step:] += same * ordered[:-step]
        total[:-step] += same * ordered[step:]
    found = np.empty_like(total)
    found[order] = total
    return found


def turn_of(azimuths: Float64) -> float:
    """How far a clip turns, in degrees 0..360, by the azimuths of its crops.

    The smallest arc that holds four fifths of the crops, as if the others went on at that pace: so
    a picture that is read the wrong way round does not turn the clip. 0 for less than two.
    """
    if len(azimuths) < 2:
        return 0.0
    ascending = np.sort(azimuths % 360.0)
    held = int(np.ceil(_SHARE_OF_CLIP * len(ascending)))
    twice = np.concatenate([ascending, ascending + 360.0])
    arcs = twice[held - 1 : held - 1 + len(ascending)] - ascending
    return min(360.0, float(arcs.min()) * (len(ascending) - 1) / (held - 1))


def views_shown(
    directions: Directions,
    clusters: npt.NDArray[np.int32],
    crop_ids: Texts,
    clip_ids: Texts,
    timestamps: Integers,
) -> Integers:
    """How many of the eight views the clip of each crop shows: 1 where it does not turn, up to 8.

    By the true azimuths where all of a clip's are known, else by those read (each together with
    those beside it, which evens out errors), else by the number of its pose clusters.

    Args:
        directions: of the N crops.
        clusters: int32 [N], their pose clusters.
        crop_ids: the N crop ids.
        clip_ids: the N clip ids.
        timestamps: int64 [N], in milliseconds.

    Returns:
        int64 [N], the same for all crops of a clip.
    """
    vectors = vectors_of(directions.read_deg, directions.certainty)
    vectors = vectors + beside_in_clip(vectors, crop_ids, clip_ids, timestamps)
    smooth = azimuth_of(vectors)
    clip = np.unique(np.asarray(clip_ids, dtype=np.str_), return_inverse=True)[1]
    views = np.ones(clip.max(initial=-1) + 1, np.int64)
    by_clip = np.argsort(clip, kind="stable")
    starts = np.flatnonzero(np.diff(clip[by_clip], prepend=-1))
    for number, rows in enumerate(np.split(by_clip, starts[1:]) if len(by_clip) else []):
        true, read = directions.true_deg[rows], smooth[rows]
        if not np.isnan(true).any():
            views[number] = 1 + turn_of(true) // _VIEW_DEG
        elif not np.isnan(read).all():
            views[number] = 1 + turn_of(read[~np.isnan(read)]) // _VIEW_DEG
        else:
            views[number] = len(np.unique(clusters[rows]))
    return np.minimum(views, len(VIEW_NAMES))[clip]
