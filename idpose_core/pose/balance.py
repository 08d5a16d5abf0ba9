"""Balance of pose pairs: water-filling, the measures of it, and the invariants of triplets.

The paper (section 3.1) samples "a balanced number" of pose pairs. A bin (a, b) holds the pairs
whose ID picture shows pose a and whose second picture, target or pose picture, shows pose b. Bins
are of very unequal size, so the best that a sample of T rows can do is water-filling: every bin
gives min(size, q) rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from idpose_core.pose.directions import angle_between

Counts = npt.NDArray[np.int64]


def water_level(bin_sizes: Counts, rows: int) -> int:
    """Return the smallest q with sum(min(bin_sizes, q)) >= rows.

    Args:
        bin_sizes: int64, any shape, the pairs that each bin holds.
        rows: the rows wanted; more than there are pairs means all pairs.

    Returns:
        q, from 0 (no rows) to the size of the largest bin.
    """
    sizes = np.sort(np.asarray(bin_sizes, np.int64).ravel())
    rows = min(rows, int(sizes.sum()))
    if rows <= 0:
        return 0
    below = np.concatenate([[0], np.cumsum(sizes)])[:-1]  # pairs of all smaller bins
    higher = len(sizes) - np.arange(len(sizes))  # bins of this size or larger
    bin_at_level = int(np.argmax(below + sizes * higher >= rows))
    return int(-(-(rows - below[bin_at_level]) // higher[bin_at_level]))


def normalised_entropy(counts: Counts) -> float:
    """Return the entropy of the counts over that of equal counts in the same non-empty bins.

    Returns:
        0..1; 1 for a single non-empty bin, 0 for no rows at all.
    """
    filled = np.asarray(counts, np.float64).ravel()
    filled = filled[filled > 0]
    if len(filled) == 0:
        return 0.0
    if len(filled) == 1:
        return 1.0
    shares = filled / filled.sum()
    return float(-np.sum(shares * np.log(shares)) / np.log(len(filled)))


def default_rows(bin_sizes: Counts, *, min_entropy: float = 0.90, most: int = 100_000) -> int:
    """Return how many rows to sample when the user names no number.

    The rule: raise the water level as long as the normalised entropy of the sample stays at or
    above `min_entropy`; take all rows up to that level, at most `most`. A higher level never
    makes a sample more even, so the highest such level is found by bisection. The first level
    (one row of each non-empty bin) always qualifies.

    Args:
        bin_sizes: int64, any shape, the pairs that each bin holds.
        min_entropy: the balance wished for, 0..1.
        most: upper bound on the rows.

    Returns:
        The number of rows, 0 for an empty pool.
    """
    sizes = np.asarray(bin_sizes, np.int64).ravel()
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return 0
    low, high = 1, int(sizes.max())
    while low < high:
        middle = (low + high + 1) // 2
        if normalised_entropy(np.minimum(sizes, middle)) >= min_entropy - 1e-12:
            low = middle
        else:
            high = middle - 1
    return min(most, int(np.minimum(sizes, low).sum()))


@dataclass(frozen=True)
class Balance:
    """How even a sample of pose pairs is.

    Attributes:
        rows: triplets in the sample.
        pool_pairs: pairs in the bins that the capped assignment leaves.
        level: q of the water-filling optimum for that many rows.
        exactness: largest |n_b - min(size_b, q)| over the bins; at most 1 for a correct sample.
        entropy: normalised entropy of the sample over its non-empty bins, 0..1.
        raw_entropy: the same of the raw pool (nearest neighbour, no cap), for comparison.
        coverage: share of the M * M bins that hold a row.
        saturated_share: share of the pool's non-empty bins of which every pair is taken.
        max_clip_share: share of the rows that the most frequent clip gives.
        max_reuse: rows of the most used pose crop.
        reuse_skewness: skewness of the rows per crop as pose crop, over all crops of the split.
        diagonal_share: share of rows whose bin has the same cluster twice.
    """

    rows: int
    pool_pairs: int
    level: int
    exactness: int
    entropy: float
    raw_entropy: float
    coverage: float
    saturated_share: float
    max_clip_share: float
    max_reuse: int
    reuse_skewness: float
    diagonal_share: float

    def to_dict(self) -> dict[str, int | float]:
        """Return the measures as plain numbers for JSON; none of them is NaN."""
        return dataclasses.asdict(self)


def measure_balance(
    sample: Counts, pool: Counts, raw_pool: Counts, *, clip_rows: Counts, pose_reuse: Counts
) -> Balance:
    """Measure a sample of pose pairs. An empty sample or pool gives zeros.

    Args:
        sample: int64 [M, M], rows in bin (pose of the ID picture, second pose).
        pool: int64 [M, M], the pairs to choose from, after the cap on reuse.
        raw_pool: int64 [M, M], the pairs by nearest neighbour without a cap.
        clip_rows: int64 [C], rows that each clip gives.
        pose_reuse: int64 [N], rows that use each crop of the split as pose picture.

    Raises:
        ValueError: the three tables of bins differ in shape.
    """
    if not sample.shape == pool.shape == raw_pool.shape:
        raise ValueError(f"bins differ in shape: {sample.shape}, {pool.shape}, {raw_pool.shape}")
    rows = int(sample.sum())
    level = water_level(pool, rows)
    filled = pool > 0
    return Balance(
        rows=rows,
        pool_pairs=int(pool.sum()),
        level=level,
        exactness=int(np.max(np.abs(sample - np.minimum(pool, level)), initial=0)),
        entropy=normalised_entropy(sample),
        raw_entropy=normalised_entropy(raw_pool),
        coverage=_share(np.count_nonzero(sample), sample.size),
        saturated_share=_share(np.count_nonzero(filled & (sample == pool)), filled.sum()),
        max_clip_share=_share(int(np.max(clip_rows, initial=0)), rows),
        max_reuse=int(np.max(pose_reuse, initial=0)),
        reuse_skewness=_skewness(pose_reuse),
        diagonal_share=_share(int(np.trace(sample)), rows),
    )


def check_invariants(
    triplets: Mapping[str, npt.NDArray[Any]],
    *,
    crops: Mapping[str, npt.NDArray[Any]],
    min_gap_ms: int = 1000,
    pools: Mapping[str, Counts] | None = None,
    exclude_diagonal: bool = False,
    second: str = "pose_cluster",
    max_turn_deg: float | None = None,
) -> list[str]:
    """Check what must hold for every published set of triplets.

    Clips, videos, splits and time stamps are looked up in the crops table; the triplets table's
    own copies of them, where present, must agree with it.

    Args:
        triplets: columns of the triplets table, all of one length: id_crop, pose_crop,
            target_crop, split, id_cluster and the column `second`; optionally triplet_id, clip_id,
            pose_clip_id, video_id, pose_video_id, id_ms, target_ms, pose_ms.
        crops: columns of the crops table: crop_id, clip_id, video_id, split, timestamp_ms;
            optionally identity, which object is seen, None where unknown, and read_azimuth_deg,
            NaN where not read.
        min_gap_ms: least time between ID and target picture; 0 for multi-view sets, where they
            need only be different crops.
        pools: for each split the int64 [M, M] pairs that the capped assignment left; without it
            the balance is not checked.
        exclude_diagonal: whether rows of one cluster on both sides are forbidden.
        second: what is balanced beside id_cluster: `pose_cluster` or `target_cluster`.
        max_turn_deg: largest angle between the directions read of pose picture and target; None
            where any may be.

    Returns:
        One sentence per violated invariant with the number of rows and an example; empty when
        all hold.
    """
    found = _Violations(triplets)
    place = {crop: row for row, crop in enumerate(crops["crop_id"].tolist())}
    if len(place) != len(crops["crop_id"]):
        found.texts.append("crop ids are not unique in the crops table")
    roles = {}
    for role in ("id", "pose", "target"):
        rows = np.asarray([place.get(c, -1) for c in triplets[f"{role}_crop"].tolist()], np.intp)
        if found.rows(rows < 0, f"{role} crop is not in the crops table"):
            return found.texts
        roles[role] = {name: np.asarray(column)[rows] for name, column in crops.items()}
    own, pose, target = roles["id"], roles["pose"], roles["target"]

    found.rows(own["crop_id"] == target["crop_id"], "ID and target are the same crop")
    found.rows(own["clip_id"] != target["clip_id"], "ID and target come from different clips")
    gap = np.abs(own["timestamp_ms"].astype(np.int64) - target["timestamp_ms"].astype(np.int64))
    found.rows(gap < min_gap_ms, f"ID and target are less than {min_gap_ms} ms apart")
    found.rows(pose["video_id"] == target["video_id"], "pose comes from the target's own video")
    if "identity" in crops:
        pairs = zip(pose["identity"].tolist(), target["identity"].tolist(), strict=True)
        same = np.asarray([shown is not None and shown == wanted for shown, wanted in pairs], bool)
        found.rows(same, "pose shows the target's own object")
    for role, columns in roles.items():
        found.rows(columns["split"] != triplets["split"], f"{role} crop is of another split")
    _check_copies(found, triplets, roles)
    names = np.stack([triplets[f"{role}_crop"] for role in ("id", "pose", "target")], axis=1)
    found.rows(_repeated(names), "the same three crops occur before")
    if exclude_diagonal:
        same = triplets["id_cluster"] == triplets[second]
        found.rows(same, f"ID and {second.removesuffix('_cluster')} are of one cluster")
    if max_turn_deg is not None:
        apart = angle_between(pose["read_azimuth_deg"], target["read_azimuth_deg"])
        found.rows(apart > max_turn_deg, f"pose is read {max_turn_deg:g} degrees from the target")

    videos = np.stack([np.asarray(crops["video_id"]), np.asarray(crops["split"])], axis=1)
    per_video = np.unique(np.unique(videos.astype(np.str_), axis=0)[:, 0], return_counts=True)
    found.texts += [f"video {v} is in {n} splits" for v, n in zip(*per_video, strict=True) if n > 1]
    for split in np.unique(triplets["split"]).tolist():
        chosen = triplets["split"] == split
        crops_of_split = int(np.sum(crops["split"] == split))
        _check_reuse(found, split, triplets["pose_crop"][chosen], crops_of_split)
        if pools is not None:
            bins = [triplets[name][chosen] for name in ("id_cluster", second)]
            _check_balance(found, split, bins, pools)
    return found.texts


def reuse_cap(rows: int, crops: int) -> int:
    """Return how many rows may share one pose crop: max(20, ceil(3 * rows / crops)).

    Three times the mean use, because a few hub pictures are the nearest neighbour of thousands.
    """
    return max(20, -(-3 * rows // max(crops, 1)))


class _Violations:
    def __init__(self, triplets: Mapping[str, npt.NDArray[Any]]) -> None:
        self.texts: list[str] = []
        self._names = triplets.get("triplet_id", np.arange(len(triplets["id_crop"])))

    def rows(self, violated: npt.NDArray[np.bool_], text: str) -> bool:
        """Note a violation in these rows, if any; return whether there is one."""
        where = np.flatnonzero(violated)
        if len(where):
            self.texts.append(f"{text}: {len(where)} rows, the first is {self._names[where[0]]}")
        return len(where) > 0


def _check_copies(
    found: _Violations,
    triplets: Mapping[str, npt.NDArray[Any]],
    roles: Mapping[str, Mapping[str, npt.NDArray[Any]]],
) -> None:
    copies = {
        "clip_id": roles["id"]["clip_id"],
        "video_id": roles["id"]["video_id"],
        "id_ms": roles["id"]["timestamp_ms"],
        "target_ms": roles["target"]["timestamp_ms"],
        "pose_clip_id": roles["pose"]["clip_id"],
        "pose_video_id": roles["pose"]["video_id"],
        "pose_ms": roles["pose"]["timestamp_ms"],
    }
    for name, truth in copies.items():
        if name in triplets:
            found.rows(triplets[name] != truth, f"column {name} disagrees with the crops table")


def _repeated(rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    repeated = np.ones(len(rows), np.bool_)
    repeated[np.unique(rows.astype(np.str_), axis=0, return_index=True)[1]] = False
    return repeated


def _check_reuse(found: _Violations, split: str, poses: npt.NDArray[Any], crops: int) -> None:
    names, uses = np.unique(poses, return_counts=True)
    cap = reuse_cap(len(poses), crops)
    found.texts += [
        f"pose crop {name} is used {n} times in split {split}; the cap is {cap}"
        for name, n in zip(names, uses, strict=True)
        if n > cap
    ]


def _check_balance(
    found: _Violations, split: str, bins: list[npt.NDArray[Any]], pools: Mapping[str, Counts]
) -> None:
    if split not in pools:
        found.texts.append(f"split {split} has no table of bins")
        return
    pool = pools[split]
    if any(np.any((side < 0) | (side >= len(pool))) for side in bins):
        found.texts.append(f"split {split} has clusters outside 0..{len(pool) - 1}")
        return
    sample = np.zeros_like(pool)
    np.add.at(sample, (bins[0], bins[1]), 1)
    off = np.abs(sample - np.minimum(pool, water_level(pool, len(bins[0]))))
    if np.any(off > 1) or np.any(sample > pool):
        found.texts.append(
            f"split {split}: {int(np.sum((off > 1) | (sample > pool)))} bins are more than one row "
            "away from the water-filling optimum"
        )


def _share(part: int | np.integer[Any], whole: int | np.integer[Any]) -> float:
    return float(part) / float(whole) if whole else 0.0


def _skewness(counts: Counts) -> float:
    values = np.asarray(counts, np.float64)
    deviation = values - values.mean() if len(values) else values
    variance = float(np.mean(deviation**2)) if len(values) else 0.0
    return float(np.mean(deviation**3) / variance**1.5) if variance > 0 else 0.0
