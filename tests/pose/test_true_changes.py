"""Triplets balanced by (ID, target), as a build does: a plain reading, and what must hold."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.pose.agreement import keep_agreeing
from idpose_core.pose.balance import check_invariants
from idpose_core.pose.directions import angle_between
from idpose_core.pose.neighbours import Neighbours
from idpose_core.pose.triplets import Crops, id_pictures, sample_triplets
from tests.pose.test_triplets import as_tables, names, random_crops

CLUSTERS = 4


def clip_caps(crops: Crops, seed: int) -> np.ndarray:
    """How many rows each crop's clip may give: a few, by the clip's name."""
    return np.asarray([1 + (int(clip[1:]) * 7 + seed) % 12 for clip in crops.clip_id.tolist()])


def reference(
    crops: Crops, neighbours: Neighbours, rows: int, seed: int, gap: int, exclude: bool,
    caps: np.ndarray | None,
) -> set[tuple[str, str, str]]:  # fmt: skip
    """The rule in plain Python: bins are known before pose pictures, so clips are capped first."""
    count, ids = len(crops.crop_id), crops.crop_id.tolist()
    cluster, clip = crops.cluster.tolist(), crops.clip_id.tolist()

    def key(pair: tuple[int, int]) -> bytes:
        text = f"{seed}|{ids[pair[0]]}|{ids[pair[1]]}".encode()
        return hashlib.blake2b(text, digest_size=8).digest()

    def turns(pairs: list[tuple[int, int]], of: list) -> list[tuple[int, int]]:
        """In turns: the first pair of each group in the order of their hashes, then the second."""
        seen: dict[object, int] = {}
        placed = []
        for pair, group in zip(pairs, of, strict=True):
            seen[group] = seen.get(group, 0) + 1
            placed.append((seen[group], key(pair), pair))
        return [pair for _, _, pair in sorted(placed)]

    pairs = sorted(
        (
            (i, t)
            for i in range(count)
            for t in range(count)
            if i != t and clip[i] == clip[t]
            and abs(int(crops.timestamp_ms[i] - crops.timestamp_ms[t])) >= gap
            and neighbours.indices[t, 0] >= 0
            and not (exclude and cluster[i] == cluster[t])
        ),
        key=key,
    )  # fmt: skip
    if caps is not None:
        offered: set[tuple[int, int]] = set()
        for name in set(clip):
            mine = [pair for pair in pairs if clip[pair[0]] == name]
            by_bin = turns(mine, [(cluster[i], cluster[t]) for i, t in mine])
            offered |= set(by_bin[: caps[clip.index(name)]])
        pairs = [pair for pair in pairs if pair in offered]
    rows = min(rows, len(pairs))
    while True:
        cap = max(20, int(np.ceil(3 * rows / count)))
        used, pose, waiting = [0] * count, {}, list(pairs)
        for rank in range(neighbours.indices.shape[1]):
            refused = []
            for i, t in waiting:
                p = int(neighbours.indices[t, rank])
                if p < 0:
                    continue
                if used[p] < cap:
                    used[p] += 1
                    pose[i, t] = p
                else:
                    refused.append((i, t))
            waiting = refused
        rows = min(rows, len(pose))
        if max(20, int(np.ceil(3 * rows / count))) == cap:
            break
    bins: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, t in pairs:
        if (i, t) in pose:
            bins.setdefault((cluster[i], cluster[t]), []).append((i, t))
    level = next(q for q in range(10**6) if sum(min(len(b), q) for b in bins.values()) >= rows)
    taken, last = [], []
    for members in bins.values():
        in_turn = turns(members, [clip[i] for i, _ in members])
        taken += in_turn[:level]
        last += in_turn[level - 1 : level] if level else []
    trimmed = sorted(last, key=key)[: len(taken) - rows]
    return {(ids[i], ids[pose[i, t]], ids[t]) for i, t in taken if (i, t) not in trimmed}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    videos=st.integers(1, 6),
    rows=st.integers(0, 400),
    gap=st.sampled_from([0, 500, 1000]),
    top_k=st.integers(1, 3),
    exclude=st.booleans(),
    capped=st.booleans(),
)
def test_samples_equal_the_plain_reading(
    seed: int, videos: int, rows: int, gap: int, top_k: int, exclude: bool, capped: bool
) -> None:
    crops, neighbours = random_crops(seed, videos, per_clip=9, clusters=CLUSTERS, top_k=top_k)
    caps = clip_caps(crops, seed) if capped else None
    found = sample_triplets(
        crops, neighbours, clusters=CLUSTERS, rows=rows, seed=seed, min_gap_ms=gap,
        exclude_diagonal=exclude, balance="target", clip_rows=caps,
    )  # fmt: skip
    expected = reference(crops, neighbours, rows, seed, gap, exclude, caps)
    assert set(names(found, crops)) == expected
    assert len(found) == len(expected)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    videos=st.integers(1, 12),
    rows=st.one_of(st.none(), st.integers(0, 1500)),
    gap=st.sampled_from([0, 1000]),
    top_k=st.integers(1, 4),
    exclude=st.booleans(),
    unread=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_every_sample_agrees_keeps_its_caps_and_accounts_for_all_pairs(
    seed: int, videos: int, rows: int | None, gap: int, top_k: int, exclude: bool, unread: float
) -> None:
    crops, nearest = random_crops(seed, videos, 16, clusters=CLUSTERS, top_k=top_k)
    rng = np.random.default_rng(seed)
    read = np.where(rng.random(len(crops.crop_id)) < unread, np.nan, rng.random(len(crops.crop_id)))
    read = read * 360
    neighbours, reasons = keep_agreeing(nearest, read_deg=read)
    caps = clip_caps(crops, seed)
    found = sample_triplets(
        crops, neighbours, clusters=CLUSTERS, rows=rows, seed=1, min_gap_ms=gap,
        exclude_diagonal=exclude, balance="target", clip_rows=caps,
    )  # fmt: skip
    assert not np.any(angle_between(read[found.target_index], read[found.pose_index]) > 45)
    for clip in np.unique(crops.clip_id):
        of_clip = crops.clip_id[found.id_index] == clip
        assert of_clip.sum() <= caps[crops.clip_id == clip][0]
    pairs = id_pictures(crops, gap)
    without_pose = sum(int(pairs[of].sum()) for of in reasons.values())
    assert len(found) + sum(found.left_out.values()) + without_pose == pairs.sum()
    assert found.pool.sum() == len(found) + found.left_out.get("not_drawn", 0)

    triplets, table = as_tables(crops, found)
    triplets["target_cluster"] = crops.cluster[found.target_index]
    triplets["pose_cluster"] = crops.cluster[found.pose_index]
    np.testing.assert_array_equal(found.bins[:, 1], triplets["target_cluster"])
    assert check_invariants(
        triplets, crops={**table, "read_azimuth_deg": read}, min_gap_ms=gap,
        pools={"train": found.pool}, exclude_diagonal=exclude, second="target_cluster",
        max_turn_deg=45,
    ) == []  # fmt: skip
    assert found.balance(crops).exactness <= 1
    assert found.balance(crops).max_reuse <= found.reuse_cap


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.one_of(st.none(), st.integers(1, 600)))
def test_the_order_of_the_crops_does_not_matter(seed: int, rows: int | None) -> None:
    crops, neighbours = random_crops(seed, 8, 12, clusters=CLUSTERS, top_k=2)
    mixed = np.random.default_rng(seed).permutation(len(crops.crop_id))
    place = np.argsort(mixed)
    other = Crops(*(getattr(crops, f.name)[mixed] for f in dataclasses.fields(Crops)))
    indices = neighbours.indices[mixed]
    indices = np.where(indices >= 0, place[indices], -1).astype(np.int32)
    caps = clip_caps(crops, seed)
    first = sample_triplets(
        crops, neighbours, clusters=CLUSTERS, rows=rows, seed=3, balance="target", clip_rows=caps
    )
    second = sample_triplets(
        other, Neighbours(indices, neighbours.similarity[mixed]), clusters=CLUSTERS, rows=rows,
        seed=3, balance="target", clip_rows=caps[mixed],
    )  # fmt: skip
    assert names(first, crops) == names(second, other)
    assert first.left_out == second.left_out


def still_and_turning() -> tuple[Crops, Neighbours]:
    """A clip that stays in cluster 0 and one that shows 0 to 3, ten crops each, and two poses."""
    crops = Crops(
        np.asarray([f"s{i}" for i in range(10)] + [f"t{i}" for i in range(10)] + ["p", "q"]),
        np.asarray(["s"] * 10 + ["t"] * 10 + ["p", "q"]),
        np.asarray(["s"] * 10 + ["t"] * 10 + ["p", "q"]),
        np.asarray([*range(0, 10_000, 1000)] * 2 + [0, 0], np.int64),
        np.asarray([0] * 10 + [0, 0, 0, 1, 1, 1, 2, 2, 3, 3] + [0, 1], np.int32),
    )
    indices = np.asarray([[20 + i % 2] for i in range(20)] + [[-1], [-1]], np.int32)
    return crops, Neighbours(indices, np.where(indices < 0, np.nan, 0.5).astype(np.float32))


def test_a_still_clip_gives_few_rows_and_its_pairs_of_clusters_take_turns() -> None:
    crops, neighbours = still_and_turning()
    caps = np.where(crops.clip_id == "s", 5, 16)
    found = sample_triplets(
        crops, neighbours, clusters=4, rows=90, seed=0, balance="target", clip_rows=caps
    )
    assert crops.clip_id[found.id_index].tolist().count("s") == 5
    turning = crops.clip_id[found.id_index] == "t"
    assert turning.sum() == 16
    bins = {tuple(pair) for pair in found.bins[turning].tolist()}
    assert len(bins) == 16  # every pair of its four clusters, once
    assert found.left_out == {"turns_little": 180 - 21}


def test_by_target_a_wrong_pose_picture_is_no_change_of_pose() -> None:
    """The still clip's pairs are of one pose, whatever pose picture they are given."""
    crops, neighbours = still_and_turning()
    still = Crops(
        *(getattr(crops, f.name)[[*range(10), 20, 21]] for f in dataclasses.fields(Crops))
    )
    indices = np.where(neighbours.indices >= 0, neighbours.indices - 10, -1)[[*range(10), 20, 21]]
    few = Neighbours(indices.astype(np.int32), neighbours.similarity[[*range(10), 20, 21]])
    by_pose = sample_triplets(still, few, clusters=4, rows=40, seed=0)
    by_target = sample_triplets(still, few, clusters=4, rows=40, seed=0, balance="target")
    assert np.count_nonzero(by_pose.pool) == 2
    assert by_target.pool[0, 0] == by_target.pool.sum()
    assert by_target.balance(still).diagonal_share == 1


def test_the_papers_reading_has_no_limit_of_clips() -> None:
    crops, neighbours = still_and_turning()
    with pytest.raises(ValueError, match="clip_rows needs"):
        sample_triplets(
            crops, neighbours, clusters=4, rows=5, seed=0, clip_rows=np.ones(22, np.int64)
        )


def test_pairs_of_one_cluster_can_be_left_out() -> None:
    crops, neighbours = still_and_turning()
    found = sample_triplets(
        crops, neighbours, clusters=4, rows=90, seed=0, balance="target", exclude_diagonal=True
    )
    assert np.trace(found.pool) == 0
    # 90 of the still clip; of the other 3 * 2 + 3 * 2 + 2 + 2.
    assert found.left_out["same_cluster"] == 90 + 16
    assert (crops.clip_id[found.id_index] == "t").all()
