"""Nearest neighbours by pose feature among the crops of other videos.

The pose picture of a triplet is the nearest neighbour of its target among *other videos* (paper,
section 3.1); excluding only the target's own clip would find the same object again. Where it is
known which object a clip shows, its other videos are excluded as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from idpose_core.pose.space import Features, Float32, Float64, Int32, Texts, widen

Rows = npt.NDArray[np.intp]
Identities = Sequence[str | None]

_QUERIES_PER_BLOCK = 256
_CANDIDATES_PER_BLOCK = 512
_SHORTLIST_CELLS = 8_000_000  # float64 scores held at once while shortlisting: 64 MB


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The neighbours of each crop, nearest first.

    Attributes:
        indices: int32 [N, top_k], rows of the input; -1 where there is no (further) neighbour,
            always at the end of a row.
        similarity: float32 [N, top_k], cosine of the full features, -1..1; NaN where the index
            is -1.
        trust: float32 [N, top_k], probability that the neighbour faces as the crop does
            (`trust.TrustModel`); NaN where it is not known. None where nothing is.
    """

    indices: Int32
    similarity: Float32
    trust: Float32 | None = None


def nearest_in_other_videos(
    features: Features,
    projected: Float32,
    video_ids: Texts,
    crop_ids: Texts,
    *,
    top_k: int,
    identities: Identities | None = None,
    shortlist: int = 100,
    min_similarity: float | None = None,
    mutual: bool = False,
    exhaustive_below: int = 4096,
    windows: Rows | None = None,
) -> Neighbours:
    """Find each crop's nearest neighbours by cosine among the crops of other videos and objects.

    Up to `exhaustive_below` crops every pair is compared by the full features. Above, the
    `shortlist` nearest by the projection (an exhaustive inner-product search too, from which the
    crop's own video and object are masked out, so that they take no place in it) are re-ranked by
    the full features. Equal similarities are ordered by crop id. Sums are exact (`space.widen`), so
    neither the order of rows nor the number of threads enters. Call it once per split.

    Args:
        features: float16 or float32 [N, D], rows of unit length. A row of zeros has no pose: it
            gets no neighbour and is nobody's neighbour.
        projected: float32 [N, k], the same rows in the pose space.
        video_ids: the N video ids.
        crop_ids: the N crop ids, all different; their order does not matter.
        top_k: neighbours wanted: 1 as in the paper, 5 for more diverse pairs.
        identities: which object each crop shows, None where unknown; crops of one known object
            are no neighbours, whatever their videos.
        shortlist: candidates that are re-ranked, at least top_k.
        min_similarity: neighbours below this cosine are left out.
        mutual: keep p for t only if t is also among the top_k of p.
        exhaustive_below: number of crops up to which no shortlist is used.
        windows: [W, N], W rows for each crop (`window_rows`): two crops' similarity is then the
            mean over the W pairs of these rows. None = each crop alone.

    Returns:
        The neighbours, for the rows in their input order.

    Raises:
        ValueError: shapes that do not agree, repeated crop ids, shortlist < top_k, or features
            that are not finite or not of unit length.
    """
    _check_input(features, projected, video_ids, crop_ids, identities)
    if not 1 <= top_k <= shortlist:
        raise ValueError(f"need 1 <= top_k <= shortlist, got top_k={top_k}, shortlist={shortlist}")
    by_id = np.argsort(np.asarray(crop_ids, dtype=np.str_), kind="stable")
    groups = _groups(video_ids, identities)
    # From here on "rows" are positions in `usable`: ordered by crop id, so ties resolve by index.
    usable = by_id[_has_length(features)[by_id]]
    found = np.full((len(usable), top_k), -1, np.int64)
    cosine = np.full((len(usable), top_k), np.nan, np.float32)
    windows = np.arange(len(features))[None] if windows is None else windows
    search = _Search(features, usable, groups[:, usable], windows[:, usable])
    blocks = (
        search.exhaustive(top_k)
        if len(usable) <= exhaustive_below
        else search.shortlisted(widen(projected), shortlist, top_k)
    )
    for queries, rows, similarity in blocks:
        found[queries], cosine[queries] = rows, similarity
    if mutual:
        _drop(found, cosine, ~_is_mutual(found))
    if min_similarity is not None:
        _drop(found, cosine, ~(cosine >= min_similarity))
    indices = np.full((len(features), top_k), -1, np.int32)
    similarities = np.full((len(features), top_k), np.nan, np.float32)
    indices[usable] = np.where(found >= 0, usable[found], -1) if len(usable) else found
    similarities[usable] = cosine
    return Neighbours(indices, similarities)


def without(neighbours: Neighbours, dropped: npt.NDArray[np.bool_]) -> Neighbours:
    """The neighbours without some, bool [N, top_k]; farther ones move up."""
    order = np.argsort(dropped | (neighbours.indices < 0), axis=1, kind="stable")

    def moved(values: npt.NDArray[Any], none: float) -> npt.NDArray[Any]:
        return np.take_along_axis(np.where(dropped, none, values).astype(values.dtype), order, 1)

    trust = None if neighbours.trust is None else moved(neighbours.trust, np.nan)
    return Neighbours(moved(neighbours.indices, -1), moved(neighbours.similarity, np.nan), trust)


def narrow(
    neighbours: Neighbours, top_k: int, *, mutual: bool, min_similarity: float | None
) -> Neighbours:
    """What `nearest_in_other_videos` finds with these options, of a wider search without them."""
    indices, similarity = neighbours.indices[:, :top_k], neighbours.similarity[:, :top_k]
    dropped = np.zeros(indices.shape, np.bool_)
    if mutual:
        dropped |= ~_is_mutual(indices)
    if min_similarity is not None:
        dropped |= ~(similarity >= min_similarity)
    trust = None if neighbours.trust is None else neighbours.trust[:, :top_k]
    return without(Neighbours(indices, similarity, trust), dropped)


def window_rows(clip_ids: Texts, timestamps: npt.NDArray[np.int64], window_ms: int) -> Rows:
    """Say which crops of a clip stand for the moments before and after each of its crops.

    One picture may not tell front from rear where those beside it do, and a window also tells which
    way a thing turns. Times count, not places in the clip: crops are left out of clips.

    Args:
        clip_ids: the N clip ids.
        timestamps: the N times, in milliseconds.
        window_ms: how far before and after.

    Returns:
        [3, N], rows of the input: the crop of the clip that is nearest in time to `window_ms`
        before each crop (its first one where the clip begins later; of two as near the earlier),
        the crop itself, and the same after it.
    """
    clips = np.unique(np.asarray(clip_ids, dtype=np.str_), return_inverse=True)[1]
    rows = np.tile(np.arange(len(clips)), (3, 1))
    for clip in range(clips.max() + 1 if len(clips) else 0):
        own = np.flatnonzero(clips == clip)
        own = own[np.argsort(timestamps[own], kind="stable")]
        times = timestamps[own]
        for place, shift in ((0, -window_ms), (2, window_ms)):
            away = np.abs(times[None, :] - (times + shift)[:, None])
            rows[place, own] = own[away.argmin(axis=1)]
    return rows


def full_search_agreement(
    neighbours: Neighbours,
    features: Features,
    video_ids: Texts,
    crop_ids: Texts,
    *,
    identities: Identities | None = None,
    rows: int = 200,
    min_similarity: float | None = None,
    tolerance: float = 1e-5,
) -> float:
    """Return the share of sampled rows whose neighbours equal those of a full search.

    The full search compares the full features in float64 with nothing left out. A row agrees when
    every similarity is the same within `tolerance`, so that ties may be resolved either way. Not
    meant for neighbours found with `mutual=True`.

    Args:
        neighbours: what `nearest_in_other_videos` returned for the same input.
        features: float16 or float32 [N, D], as given there.
        video_ids: the N video ids.
        crop_ids: the N crop ids; the sample is the first `rows` by their hash.
        identities: as given there.
        rows: size of the sample.
        min_similarity: as given there.
        tolerance: largest difference of cosine that counts as equal.

    Returns:
        A share, 0..1; 1 for an empty input.
    """
    digests = [hashlib.blake2b(str(crop).encode(), digest_size=16).digest() for crop in crop_ids]
    sample = np.asarray(sorted(range(len(digests)), key=digests.__getitem__)[:rows], dtype=np.intp)
    if not len(sample):
        return 1.0
    groups = _groups(video_ids, identities)
    cosine = np.empty((len(sample), len(features)), np.float64)
    queries = features[sample].astype(np.float64)
    for start in range(0, len(features), _CANDIDATES_PER_BLOCK):
        block = features[start : start + _CANDIDATES_PER_BLOCK].astype(np.float64)
        cosine[:, start : start + len(block)] = queries @ block.T
    has_length = _has_length(features)
    cosine[_shared(groups[:, sample], groups)] = -np.inf
    cosine[:, ~has_length] = -np.inf
    cosine[~has_length[sample]] = -np.inf
    if min_similarity is not None:
        cosine[cosine < min_similarity] = -np.inf
    top_k = neighbours.indices.shape[1]
    padded = np.pad(cosine, ((0, 0), (0, top_k)), constant_values=-np.inf)
    best = -np.sort(-padded, axis=1)[:, :top_k]
    given = np.nan_to_num(neighbours.similarity[sample].astype(np.float64), nan=-np.inf)
    none = np.isneginf(best) & np.isneginf(given)
    close = np.abs(np.where(none, 0, best) - np.where(none, 0, given)) <= tolerance
    return float(np.mean(np.all(close, axis=1)))


@dataclass(frozen=True, eq=False)
class _Search:
    """The usable rows.

    `usable[i]` is row i's place in `features`, `groups[:, i]` its groups, `windows[:, i]` the
    places of the rows that are compared for it.
    """

    features: Features
    usable: Rows
    groups: Rows
    windows: Rows

    def exhaustive(self, top_k: int) -> Iterator[tuple[Rows, Rows, Float32]]:
        """Yield (queries, neighbours, similarities) by comparing all pairs."""
        everything = np.arange(len(self.usable))
        for queries in self._query_blocks():
            cosine = self._cosine(queries, everything)
            cosine[_shared(self.groups[:, queries], self.groups)] = -np.inf
            candidates = np.broadcast_to(everything, cosine.shape)
            yield queries, *_best(candidates, cosine, top_k)

    def shortlisted(
        self, projected: Float64, shortlist: int, top_k: int
    ) -> Iterator[tuple[Rows, Rows, Float32]]:
        """Yield the same from the `shortlist` nearest by projection, re-ranked."""
        for queries in self._query_blocks():
            candidates, possible = self._shortlist(projected, queries, shortlist)
            # Queries of one clip share most candidates: each is read and widened once a block.
            union, place = np.unique(candidates, return_inverse=True)
            cosine = np.take_along_axis(
                self._cosine(queries, union), place.reshape(candidates.shape), axis=1
            )
            cosine[~possible] = -np.inf
            yield queries, *_best(candidates, cosine, top_k)

    def _query_blocks(self) -> Iterator[Rows]:
        by_video = np.argsort(self.groups[0], kind="stable")
        for start in range(0, len(by_video), _QUERIES_PER_BLOCK):
            yield by_video[start : start + _QUERIES_PER_BLOCK]

    def _shortlist(
        self, projected: Float64, queries: Rows, shortlist: int
    ) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Return the candidates of each query, ascending, and whether each may be taken."""
        count = len(self.usable)
        candidates = np.empty((len(queries), min(shortlist, count)), np.intp)
        possible = np.empty(candidates.shape, np.bool_)
        step = max(1, _SHORTLIST_CELLS // count)
        for start in range(0, len(queries), step):
            part = queries[start : start + step]
            scores = np.zeros((len(part), count), np.float64)
            for rows in self.windows:
                scores += projected[rows[part]] @ projected[rows].T
            scores[_shared(self.groups[:, part], self.groups)] = -np.inf
            best = torch.topk(torch.from_numpy(scores), candidates.shape[1], dim=1).indices.numpy()
            best.sort(axis=1)
            candidates[start : start + step] = best
            possible[start : start + step] = ~np.isneginf(np.take_along_axis(scores, best, axis=1))
        return candidates, possible

    def _cosine(self, queries: Rows, candidates: Rows) -> Float32:
        """Return float32 [queries, candidates], the exact mean cosines of the windows."""
        cosine = np.zeros((len(queries), len(candidates)), np.float64)
        for rows in self.windows:
            left = widen(self.features[rows[queries]])
            for start in range(0, len(candidates), _CANDIDATES_PER_BLOCK):
                part = candidates[start : start + _CANDIDATES_PER_BLOCK]
                cosine[:, start : start + len(part)] += left @ widen(self.features[rows[part]]).T
        return (cosine / len(self.windows)).astype(np.float32)


def _groups(video_ids: Texts, identities: Identities | None) -> Rows:
    """Return numbers [2, N] of each row's video and object; an unknown object is one of its own."""
    video = np.unique(np.asarray(video_ids, dtype=np.str_), return_inverse=True)[1]
    object_ = -1 - np.arange(len(video))
    if identities is not None:
        known = np.asarray([identity is not None for identity in identities], np.bool_)
        names = np.asarray([name for name in identities if name is not None], dtype=np.str_)
        object_[known] = np.unique(names, return_inverse=True)[1]
    return np.stack([video.astype(np.intp), object_.astype(np.intp)])


def _shared(queries: Rows, candidates: Rows) -> npt.NDArray[np.bool_]:
    """Return bool [queries, candidates], whether two rows have a group in common."""
    video, object_ = (a[:, None] == b[None, :] for a, b in zip(queries, candidates, strict=True))
    return np.asarray(video | object_, dtype=np.bool_)


def _best(candidates: Rows, cosine: Float32, top_k: int) -> tuple[Rows, Float32]:
    """Return the top_k candidates of each row; equal ones in their given (ascending) order."""
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :top_k]
    rows = np.full((len(cosine), top_k), -1, np.intp)
    similarity = np.full((len(cosine), top_k), np.nan, np.float32)
    rows[:, : order.shape[1]] = np.take_along_axis(candidates, order, axis=1)
    similarity[:, : order.shape[1]] = np.take_along_axis(cosine, order, axis=1)
    excluded = np.isneginf(similarity)
    rows[excluded], similarity[excluded] = -1, np.nan
    return rows, similarity


def _is_mutual(found: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    own = np.arange(len(found))[:, None, None]
    returned: npt.NDArray[np.bool_] = (found >= 0) & np.any(found[found] == own, axis=2)
    return returned


def _drop(found: npt.NDArray[np.int64], cosine: Float32, dropped: npt.NDArray[np.bool_]) -> None:
    """Take entries out, in place, and close the gaps."""
    found[dropped], cosine[dropped] = -1, np.nan
    order = np.argsort(dropped, axis=1, kind="stable")
    found[:] = np.take_along_axis(found, order, axis=1)
    cosine[:] = np.take_along_axis(cosine, order, axis=1)


def _check_input(
    features: Features,
    projected: Float32,
    video_ids: Texts,
    crop_ids: Texts,
    identities: Identities | None,
) -> None:
    if identities is not None and len(identities) != len(crop_ids):
        raise ValueError(f"{len(identities)} identities for {len(crop_ids)} crops")
    lengths = {len(features), len(projected), len(video_ids), len(crop_ids)}
    if features.ndim != 2 or projected.ndim != 2 or len(lengths) != 1:
        raise ValueError(
            f"features {features.shape}, projected {projected.shape}, {len(video_ids)} video ids "
            f"and {len(crop_ids)} crop ids do not describe the same rows"
        )
    if len(np.unique(np.asarray(crop_ids, dtype=np.str_))) != len(crop_ids):
        raise ValueError("crop ids are not unique")
    if not bool(np.isfinite(projected).all()):
        raise ValueError("projected features hold NaN or infinite values")


def _has_length(features: Features) -> npt.NDArray[np.bool_]:
    """Return which rows are not zero; raise when a row is neither zero nor of unit length."""
    lengths = np.empty(len(features), np.float64)
    for start in range(0, len(features), _CANDIDATES_PER_BLOCK):
        block = features[start : start + _CANDIDATES_PER_BLOCK].astype(np.float32)
        lengths[start : start + len(block)] = np.linalg.norm(block, axis=1)
    unit = np.abs(lengths - 1) <= 0.01  # float16 rounding stays far below this
    if not bool(np.all(unit | (lengths == 0))):
        bad = int(np.flatnonzero(~(unit | (lengths == 0)))[0])
        raise ValueError(f"features must be finite rows of unit length: row {bad} is not")
    return unit
