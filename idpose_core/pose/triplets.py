"""Balanced sampling of ID/pose/target triplets.

The paper (section 3.1): ID picture and target come from one clip, the pose picture is the
target's nearest neighbour in another video, and pose pairs (ID, pose) are sampled in balanced
number over pairs of pose clusters. By that reading a pose picture that shows another pose than the
target counts as a change of pose that never was; so what a build balances by default are the pairs
of poses that the clip itself shows, (ID, target): docs/decisions/balance-of-true-changes.md.

Nothing here draws random numbers: all choices follow the order of blake2b(seed|id|target), so that
the sample depends on the crops alone and not on their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from idpose_core.pose.balance import (
    Balance,
    Counts,
    default_rows,
    measure_balance,
    reuse_cap,
    water_level,
)
from idpose_core.pose.directions import CHANGED_DEG, angle_between
from idpose_core.pose.neighbours import Neighbours
from idpose_core.pose.space import Float32, Float64, Int32

Strings = npt.NDArray[np.str_]
Integers = npt.NDArray[np.int64]

BalanceRule = Literal["target", "paper"]

MAX_DEFAULT_ROWS = 100_000

SAME_CLUSTER = "same_cluster"
TURNS_LITTLE = "turns_little"
POSE_SPENT = "pose_spent"
THINNED = "thinned"
NOT_DRAWN = "not_drawn"


@dataclass(frozen=True, eq=False)
class Crops:
    """The crops of one split, N rows in any order.

    Attributes:
        crop_id: N different ids.
        clip_id: the clip (one object, followed over time, or one multi-view set).
        video_id: the source video; a clip lies in one video.
        timestamp_ms: int64, presentation time.
        cluster: int32, 0..M-1, the pose cluster.
    """

    crop_id: Strings
    clip_id: Strings
    video_id: Strings
    timestamp_ms: Integers
    cluster: Int32


@dataclass(frozen=True, eq=False)
class Triplets:
    """A balanced sample of T triplets, sorted by triplet_id.

    Attributes:
        id_index: int64 [T], rows of the crops that were given.
        target_index: int64 [T]
        pose_index: int64 [T]
        similarity: float32 [T], cosine of pose and target picture.
        bins: int32 [T, 2], pose cluster of the ID picture and of the second picture that is
            balanced: the target, or the pose picture by the paper's reading.
        triplet_id: T strings of 32 hexadecimal digits, blake2b(id_crop|pose_crop|target_crop).
        pool: int64 [M, M], the pairs that the capped assignment left in each bin.
        raw_pool: int64 [M, M], the pairs by nearest neighbour, without a cap.
        reuse_cap: rows that one pose crop may serve.
        left_out: pairs (ID picture, target) that give no row, by reason: `same_cluster` (with
            `exclude_diagonal`), `turns_little` (more than their clip may give), `pose_spent` (the
            pose pictures that they could have serve others), `thinned` (beyond `max_pairs`),
            `not_drawn` (for the balance). Pairs of targets without a neighbour are not in it.
    """

    id_index: Integers
    target_index: Integers
    pose_index: Integers
    similarity: Float32
    bins: Int32
    triplet_id: Strings
    pool: Counts
    raw_pool: Counts
    reuse_cap: int
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        """Return T."""
        return len(self.id_index)

    def balance(self, crops: Crops) -> Balance:
        """Measure the balance of the sample; `crops` are those that it was drawn from."""
        clips = np.unique(crops.clip_id, return_inverse=True)[1]
        sample = np.zeros_like(self.pool)
        np.add.at(sample, (self.bins[:, 0], self.bins[:, 1]), 1)
        return measure_balance(
            sample,
            self.pool,
            self.raw_pool,
            clip_rows=np.bincount(clips[self.id_index]),
            pose_reuse=np.bincount(self.pose_index, minlength=len(crops.crop_id)),
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs (ID picture, target) in hash order; `pose` and `similarity` once assigned."""

    own: Integers
    target: Integers
    pose: Integers
    similarity: Float32

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> _Pairs:
        return _Pairs(
            self.own[chosen], self.target[chosen], self.pose[chosen], self.similarity[chosen]
        )


def sample_triplets(
    crops: Crops,
    neighbours: Neighbours,
    *,
    clusters: int,
    rows: int | None,
    seed: int,
    min_gap_ms: int = 1000,
    exclude_diagonal: bool = False,
    balance: BalanceRule = "paper",
    clip_rows: Integers | None = None,
    still_rows: int | None = None,
    faces_deg: Float64 | None = None,
    min_entropy: float = 0.90,
    max_pairs: int = 4_000_000,
) -> Triplets:
    """Sample triplets that are balanced over pairs of pose clusters.

    1. Pairs: all ordered (i, t) of one clip at least `min_gap_ms` apart, i != t.
    2. Reuse: each pair takes the nearest neighbour p of t. A pose crop serves at most
       max(20, ceil(3 T / crops)) pairs, the first ones in hash order; the others take t's next
       neighbour, and leave the pool where none is left.
    3. Bins: (cluster of i, cluster of p), or (cluster of i, cluster of t) with
       `balance="target"`. Water-filling gives every bin the same number of rows
       as far as it holds them; within a bin the clips take turns; the excess of the last level is
       trimmed, one row a bin.

    The cap counts rows, T is the number of rows that come out: where the pool is too small for
    the rows asked, the cap is tightened to the rows that it gives, and so on until both agree.

    Args:
        crops: the crops of one split.
        neighbours: of the same rows, see `nearest_in_other_videos`.
        clusters: M.
        rows: T, the triplets wanted. None: as many as keep the normalised entropy of the bins at
            `min_entropy` (see `balance.default_rows`), at most 100,000.
        seed: another seed gives another sample of the same balance.
        min_gap_ms: least time between ID picture and target, so that they are not the same view.
            0 for multi-view sets, where any two different crops of a clip are different views.
        exclude_diagonal: leave out pairs whose bin has the same cluster twice.
        balance: what is balanced beside the pose of the ID picture.
        clip_rows: int64 [N], how many rows the clip of each crop may give; such a clip offers its
            first pairs in hash order, its pairs of clusters taking turns. None = any number. Only
            with `balance="target"`, where a pair's bin is known before its pose picture.
        still_rows: of the rows of a clip, how many may show no change of pose. None = any number.
            Needs `clip_rows`.
        faces_deg: float64 [N], the directions by which a change is told, NaN where one is not
            known: there a pair shows a change if its two clusters differ.
        min_entropy: the balance wished for when `rows` is None.
        max_pairs: bound on the pairs that are looked at. Clips with so many crops that there
            would be more keep, for each target, an evenly spaced part of its ID pictures.

    Returns:
        The triplets; fewer than asked when the pool holds fewer, none when it is empty.

    Raises:
        ValueError: arrays that do not describe the same crops, repeated crop ids, clusters out of
            range, a clip in two videos, a neighbour of the same video, or `clip_rows` with the
            paper's reading.
    """
    _check_input(crops, neighbours, clusters)
    if (rows is not None and rows < 0) or min_gap_ms < 0:
        raise ValueError("triplets and min_gap_ms must not be negative")
    by_target = balance == "target"
    if clip_rows is not None and not by_target:
        raise ValueError("clip_rows needs balance='target'")
    has_neighbour = neighbours.indices[:, 0] >= 0 if len(crops.crop_id) else np.zeros(0, np.bool_)
    pairs = _pairs_in_hash_order(crops, has_neighbour, min_gap_ms, max_pairs, seed)
    cluster = crops.cluster.astype(np.int64)
    clip = np.unique(crops.clip_id, return_inverse=True)[1]

    possible_pairs = int(id_pictures(crops, min_gap_ms)[has_neighbour].sum())
    left_out = {THINNED: possible_pairs - len(pairs.own)}
    second = pairs.target if by_target else neighbours.indices[pairs.target, 0]
    raw_bins = cluster[pairs.own] * clusters + cluster[second]
    if exclude_diagonal:
        differ = cluster[pairs.own] != cluster[second]
        raw_bins = raw_bins[differ]
        if by_target:
            left_out[SAME_CLUSTER] = int(np.sum(~differ))
            pairs = pairs[differ]
    if clip_rows is not None:
        offered = np.ones(len(pairs.own), np.bool_)
        if still_rows is not None:
            still = np.flatnonzero(_stands_still(pairs, faces_deg, cluster))
            most = np.full(len(still), still_rows)
            offered[still] = _first_of_clips(clip[pairs.own[still]], raw_bins[still], most)
        left = np.flatnonzero(offered)
        most = clip_rows[pairs.own[left]]
        offered[left] = _first_of_clips(clip[pairs.own[left]], raw_bins[left], most)
        left_out[TURNS_LITTLE] = int(np.sum(~offered))
        pairs = pairs[offered]
    wanted = min(MAX_DEFAULT_ROWS if rows is None else rows, len(pairs.own))
    while True:
        cap = reuse_cap(wanted, len(crops.crop_id))
        pool, same_cluster = _assign_poses(
            pairs, neighbours, cluster, cap, exclude_diagonal=exclude_diagonal and not by_target
        )
        bins = cluster[pool.own] * clusters + cluster[pool.target if by_target else pool.pose]
        sizes = np.bincount(bins, minlength=clusters**2)
        possible = len(bins) if rows is not None else default_rows(sizes, min_entropy=min_entropy)
        wanted = min(wanted, possible)
        if reuse_cap(wanted, len(crops.crop_id)) == cap:
            break
    chosen = _water_fill(bins, sizes, clip[pool.own], wanted)
    left_out[SAME_CLUSTER] = left_out.get(SAME_CLUSTER, 0) + same_cluster
    left_out[POSE_SPENT] = len(pairs.own) - same_cluster - len(pool.own)
    left_out[NOT_DRAWN] = int(np.sum(~chosen))
    return _as_triplets(
        crops,
        pool[chosen],
        np.stack([bins // clusters, bins % clusters], axis=1)[chosen],
        cap,
        pool=sizes.reshape(clusters, clusters),
        raw_pool=np.bincount(raw_bins, minlength=clusters**2).reshape(clusters, clusters),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def id_pictures(crops: Crops, min_gap_ms: int) -> Integers:
    """How many ID pictures each crop has as a target, int64 [N]: others of its clip, far enough."""
    order = np.lexsort((crops.crop_id, crops.timestamp_ms, crops.clip_id))
    first, before, after, last = _id_ranges(crops, order, min_gap_ms)
    count = np.empty(len(order), np.int64)
    count[order] = before - first + last - after
    return count


def _pairs_in_hash_order(
    crops: Crops,
    has_neighbour: npt.NDArray[np.bool_],
    min_gap_ms: int,
    max_pairs: int,
    seed: int,
) -> _Pairs:
    """Return the ordered pairs (i, t) of all clips whose target has a neighbour."""
    # A "place" is a position in this order; a clip is a run of places, ascending in time.
    order = np.lexsort((crops.crop_id, crops.timestamp_ms, crops.clip_id))
    first, before, after, last = _id_ranges(crops, order, min_gap_ms)
    target = np.flatnonzero(has_neighbour[order])
    earlier = (before - first)[target]
    choices = earlier + (last - after)[target]
    kept = np.minimum(choices, max(1, max_pairs // max(1, len(target))))
    nth = np.arange(kept.sum()) - np.repeat(np.cumsum(kept) - kept, kept)
    target, earlier, choices, kept = (
        np.repeat(values, kept) for values in (target, earlier, choices, kept)
    )
    # Where not all are kept: evenly spaced ones, beginning elsewhere for each target.
    nth = np.where(kept < choices, (target - first[target] + nth * choices // kept) % choices, nth)
    own = np.where(nth < earlier, first[target] + nth, after[target] + nth - earlier)
    own, target = order[own], order[target]
    ids = crops.crop_id.tolist()
    hashes = _hashes(
        f"{seed}|{ids[i]}|{ids[t]}" for i, t in zip(own.tolist(), target.tolist(), strict=True)
    )
    # Should two hashes be equal, the stable sort keeps the order (clip, target, ID picture).
    by_hash = np.argsort(hashes, kind="stable")
    unassigned = np.full(len(own), -1, np.int64)
    return _Pairs(own[by_hash], target[by_hash], unassigned, np.zeros(len(own), np.float32))


def _id_ranges(
    crops: Crops, order: Integers, min_gap_ms: int
) -> tuple[Integers, Integers, Integers, Integers]:
    """Return for each place four places: its ID pictures are first..before and after..last.

    Upper ends are exclusive.
    """
    clip, time = crops.clip_id[order], crops.timestamp_ms[order].astype(np.int64)
    places = np.arange(len(order))
    first, before, after, last = places.copy(), places.copy(), places + 1, places + 1
    starts = np.flatnonzero(np.append(True, clip[1:] != clip[:-1])[: len(clip)])
    for start, end in zip(starts, np.append(starts, len(clip))[1:], strict=True):
        first[start:end], last[start:end] = start, end
        if min_gap_ms > 0:
            own = time[start:end]
            before[start:end] = start + np.searchsorted(own, own - min_gap_ms, side="right")
            after[start:end] = start + np.searchsorted(own, own + min_gap_ms, side="left")
    return first, before, after, last


def _assign_poses(
    pairs: _Pairs,
    neighbours: Neighbours,
    cluster: Integers,
    cap: int,
    *,
    exclude_diagonal: bool,
) -> tuple[_Pairs, int]:
    """Give each pair the nearest neighbour of its target that still has room, in hash order.

    Returns:
        The pairs that have one, and how many left for a pose picture of the ID picture's cluster.
    """
    same_cluster = 0
    pose = np.full(len(pairs.own), -1, np.int64)
    similarity = np.zeros(len(pairs.own), np.float32)
    room = np.full(len(cluster), cap, np.int64)
    waiting = np.arange(len(pairs.own))
    for indices, cosines in zip(neighbours.indices.T, neighbours.similarity.T, strict=True):
        waiting = waiting[indices[pairs.target[waiting]] >= 0]
        wish = indices[pairs.target[waiting]].astype(np.int64)
        if exclude_diagonal:  # such a pair leaves, it does not go on to a farther neighbour
            allowed = cluster[wish] != cluster[pairs.own[waiting]]
            same_cluster += int(np.sum(~allowed))
            waiting, wish = waiting[allowed], wish[allowed]
        served = _occurrences_before(wish) < room[wish]
        pose[waiting[served]] = wish[served]
        similarity[waiting[served]] = cosines[pairs.target[waiting[served]]]
        room -= np.bincount(wish[served], minlength=len(room))
        waiting = waiting[~served]
    return _Pairs(pairs.own, pairs.target, pose, similarity)[pose >= 0], same_cluster


def _stands_still(
    pairs: _Pairs, faces_deg: Float64 | None, cluster: Integers
) -> npt.NDArray[np.bool_]:
    """Say which pairs of ID picture and target show no change of pose, bool [P]."""
    same_cluster = np.asarray(cluster[pairs.own] == cluster[pairs.target])
    if faces_deg is None:
        return same_cluster
    apart = angle_between(faces_deg[pairs.own], faces_deg[pairs.target])
    return np.where(np.isnan(apart), same_cluster, apart <= CHANGED_DEG)


def _first_of_clips(clip: Integers, bins: Integers, most: Integers) -> npt.NDArray[np.bool_]:
    """Say which pairs, given in hash order, are among the first `most` [P] of their clip.

    Within a clip: the first pair of each bin, then the second of each, and so on.
    """
    turn = _occurrences_before(bins * (clip.max(initial=0) + 1) + clip)
    by_turn = np.argsort(turn, kind="stable")
    place = np.empty(len(clip), np.int64)
    place[by_turn] = _occurrences_before(clip[by_turn])
    return place < most


def _water_fill(
    bins: Integers, sizes: Counts, clip: Integers, wanted: int
) -> npt.NDArray[np.bool_]:
    """Choose `wanted` pairs, given in hash order, evenly from the bins; return which."""
    level = water_level(sizes, wanted)
    # Within a bin: the first pair of each clip, then the second of each, and so on.
    turn = _occurrences_before(bins * (clip.max(initial=0) + 1) + clip)
    by_turn = np.argsort(turn, kind="stable")
    place_in_bin = np.empty(len(bins), np.int64)
    place_in_bin[by_turn] = _occurrences_before(bins[by_turn])
    chosen = place_in_bin < level
    topmost = np.flatnonzero(place_in_bin == level - 1)  # one pair of each full bin
    chosen[topmost[: int(chosen.sum()) - wanted]] = False
    return chosen


def _occurrences_before(values: Integers) -> Integers:
    """Return for each entry how many entries before it are equal to it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(values)])
    lengths = np.diff(np.append(starts, len(values)))
    before = np.empty(len(values), np.int64)
    before[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return before


def _hashes(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _as_triplets(
    crops: Crops,
    sample: _Pairs,
    bins: Integers,
    cap: int,
    *,
    pool: Counts,
    raw_pool: Counts,
    left_out: Mapping[str, int],
) -> Triplets:
    roles = (sample.own, sample.pose, sample.target)
    names = zip(*(crops.crop_id[role].tolist() for role in roles), strict=True)
    triplet_id = np.asarray(
        [hashlib.blake2b("|".join(n).encode(), digest_size=16).hexdigest() for n in names],
        dtype="<U32",
    )
    order = np.argsort(triplet_id, kind="stable")
    return Triplets(
        id_index=sample.own[order],
        target_index=sample.target[order],
        pose_index=sample.pose[order],
        similarity=sample.similarity[order],
        bins=bins[order].astype(np.int32),
        triplet_id=triplet_id[order],
        pool=pool,
        raw_pool=raw_pool,
        reuse_cap=cap,
        left_out=left_out,
    )


def _check_input(crops: Crops, neighbours: Neighbours, clusters: int) -> None:
    count = len(crops.crop_id)
    columns = (crops.clip_id, crops.video_id, crops.timestamp_ms, crops.cluster)
    tables = (neighbours.indices, neighbours.similarity)
    if any(len(column) != count for column in (*columns, *tables)) or tables[0].shape[1:] == (0,):
        raise ValueError(f"crops and neighbours do not describe the same {count} rows")
    if len(np.unique(crops.crop_id)) != count:
        raise ValueError("crop ids are not unique")
    if count and not 0 <= crops.cluster.min() <= crops.cluster.max() < clusters:
        raise ValueError(f"clusters must lie in 0..{clusters - 1}")
    pairs = np.unique(np.stack([crops.clip_id, crops.video_id], axis=1), axis=0)
    if len(np.unique(pairs[:, 0])) != len(pairs):
        raise ValueError("a clip id occurs in two videos")
    if count and not neighbours.indices.max() < count:
        raise ValueError("a neighbour's index is out of range")
    same = crops.video_id[neighbours.indices] == crops.video_id[:, None]
    if bool(np.any(same & (neighbours.indices >= 0))):
        raise ValueError("a neighbour lies in the same video as its crop")
