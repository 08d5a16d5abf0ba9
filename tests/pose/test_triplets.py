"""Triplets against a plain reading of the method, and what must hold for every sample."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.pose.balance import check_invariants, reuse_cap
from idpose_core.pose.neighbours import Neighbours
from idpose_core.pose.triplets import Crops, Triplets, sample_triplets


def random_crops(
    seed: int, videos: int, per_clip: int, clusters: int, top_k: int, hubs: float = 0.3
) -> tuple[Crops, Neighbours]:
    """Clips of uneven length in random order, with uneven clusters and some hub pictures."""
    rng = np.random.default_rng(seed)
    clip = np.concatenate(
        [np.full(rng.integers(1, per_clip + 1), c) for c in range(2 * videos)]
    )  # two clips a video
    count = len(clip)
    order = rng.permutation(count)
    clip = clip[order]
    ids = np.asarray([hashlib.blake2b(str(i).encode()).hexdigest()[:12] for i in range(count)])
    crops = Crops(
        crop_id=ids,
        clip_id=np.asarray([f"c{c}" for c in clip]),
        video_id=np.asarray([f"v{c // 2}" for c in clip]),
        timestamp_ms=rng.integers(0, 8, count).astype(np.int64) * 500,
        cluster=np.minimum(rng.geometric(0.4, count) - 1, clusters - 1).astype(np.int32),
    )
    popularity = rng.random(count) * (rng.random(count) > hubs)
    indices = np.full((count, top_k), -1, np.int32)
    similarity = np.full((count, top_k), np.nan, np.float32)
    for row in range(count):
        liking = popularity + 0.3 * rng.random(count)
        liking[crops.video_id == crops.video_id[row]] = -1
        best = np.argsort(-liking)[:top_k]
        best = best[liking[best] >= 0][: rng.integers(0, top_k + 1) if row % 7 == 0 else top_k]
        indices[row, : len(best)] = best
        similarity[row, : len(best)] = liking[best] / 2
    return crops, Neighbours(indices, similarity)


def names(triplets: Triplets, crops: Crops) -> list[tuple[str, str, str]]:
    columns = (triplets.id_index, triplets.pose_index, triplets.target_index)
    return list(zip(*(crops.crop_id[c].tolist() for c in columns), strict=True))


def reference(
    crops: Crops, neighbours: Neighbours, rows: int, seed: int, gap: int, exclude: bool
) -> set[tuple[str, str, str]]:
    """The method in plain Python: lists, dictionaries and the definition of the water level."""
    count = len(crops.crop_id)
    ids = crops.crop_id.tolist()

    def key(pair: tuple[int, int]) -> bytes:
        text = f"{seed}|{ids[pair[0]]}|{ids[pair[1]]}".encode()
        return hashlib.blake2b(text, digest_size=8).digest()

    pairs = sorted(
        (
            (i, t)
            for i in range(count)
            for t in range(count)
            if i != t
            and crops.clip_id[i] == crops.clip_id[t]
            and abs(int(crops.timestamp_ms[i] - crops.timestamp_ms[t])) >= gap
            and neighbours.indices[t, 0] >= 0
        ),
        key=key,
    )
    rows = min(rows, len(pairs))
    while True:
        cap = max(20, int(np.ceil(3 * rows / count)))
        used = [0] * count
        pose: dict[tuple[int, int], int] = {}
        waiting = list(pairs)
        for rank in range(neighbours.indices.shape[1]):
            refused = []
            for i, t in waiting:
                p = int(neighbours.indices[t, rank])
                if p < 0 or (exclude and crops.cluster[i] == crops.cluster[p]):
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
    for pair in pairs:
        if pair in pose:
            where = int(crops.cluster[pair[0]]), int(crops.cluster[pose[pair]])
            bins.setdefault(where, []).append(pair)
    level = next(q for q in range(10**6) if sum(min(len(b), q) for b in bins.values()) >= rows)
    taken, last = [], []
    for members in bins.values():
        by_clip: dict[str, list[tuple[int, int]]] = {}
        for pair in members:
            by_clip.setdefault(str(crops.clip_id[pair[0]]), []).append(pair)
        turns = []
        for turn in range(len(members)):
            turns += sorted((c[turn] for c in by_clip.values() if len(c) > turn), key=key)
        taken += turns[:level]
        if level and len(members) >= level:
            last.append(turns[level - 1])
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
)
def test_samples_equal_the_plain_reading(
    seed: int, videos: int, rows: int, gap: int, top_k: int, exclude: bool
) -> None:
    crops, neighbours = random_crops(seed, videos, per_clip=9, clusters=4, top_k=top_k)
    found = sample_triplets(
        crops, neighbours, clusters=4, rows=rows, seed=seed, min_gap_ms=gap,
        exclude_diagonal=exclude,
    )  # fmt: skip
    assert set(names(found, crops)) == reference(crops, neighbours, rows, seed, gap, exclude)
    assert len(set(names(found, crops))) == len(found)


def as_tables(
    crops: Crops, triplets: Triplets
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns as in the published tables."""
    table = {**vars(crops), "split": np.full(len(crops.crop_id), "train")}
    rows = {
        "triplet_id": triplets.triplet_id,
        "split": np.full(len(triplets), "train"),
        "id_cluster": triplets.bins[:, 0],
        "pose_cluster": triplets.bins[:, 1],
        "clip_id": crops.clip_id[triplets.target_index],
    }
    for role in ("id", "pose", "target"):
        rows[f"{role}_crop"] = crops.crop_id[getattr(triplets, f"{role}_index")]
    return rows, table


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    videos=st.integers(1, 12),
    rows=st.one_of(st.none(), st.integers(0, 1500)),
    gap=st.sampled_from([0, 1000]),
    top_k=st.integers(1, 4),
    exclude=st.booleans(),
    hubs=st.sampled_from([0.0, 0.5, 0.95]),
)
def test_invariants_of_every_sample(
    seed: int, videos: int, rows: int | None, gap: int, top_k: int, exclude: bool, hubs: float
) -> None:
    crops, neighbours = random_crops(seed, videos, 16, clusters=5, top_k=top_k, hubs=hubs)
    found = sample_triplets(
        crops, neighbours, clusters=5, rows=rows, seed=1, min_gap_ms=gap, exclude_diagonal=exclude
    )
    triplets, table = as_tables(crops, found)
    assert check_invariants(
        triplets, crops=table, min_gap_ms=gap, pools={"train": found.pool}, exclude_diagonal=exclude
    ) == []  # fmt: skip
    measured = found.balance(crops)
    assert measured.exactness <= 1
    assert measured.rows == len(found) <= measured.pool_pairs
    assert measured.max_reuse <= found.reuse_cap == reuse_cap(len(found), len(crops.crop_id))
    np.testing.assert_array_equal(found.bins[:, 0], crops.cluster[found.id_index])
    np.testing.assert_array_equal(found.bins[:, 1], crops.cluster[found.pose_index])
    candidates = neighbours.indices[found.target_index] == found.pose_index[:, None]
    assert np.all(candidates.any(axis=1))
    np.testing.assert_array_equal(
        found.similarity, neighbours.similarity[found.target_index][candidates]
    )
    if rows is None:
        assert len(found) == 0 or measured.entropy >= 0.9 - 1e-9 or measured.level == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.one_of(st.none(), st.integers(1, 600)))
def test_the_order_of_the_crops_does_not_matter(seed: int, rows: int | None) -> None:
    crops, neighbours = random_crops(seed, 8, 12, clusters=4, top_k=2)
    mixed = np.random.default_rng(seed).permutation(len(crops.crop_id))
    place = np.argsort(mixed)
    other = Crops(*(getattr(crops, f.name)[mixed] for f in dataclasses.fields(Crops)))
    indices = neighbours.indices[mixed]
    indices = np.where(indices >= 0, place[indices], -1).astype(np.int32)
    first = sample_triplets(crops, neighbours, clusters=4, rows=rows, seed=3)
    second = sample_triplets(
        other, Neighbours(indices, neighbours.similarity[mixed]), clusters=4, rows=rows, seed=3
    )
    assert names(first, crops) == names(second, other)
    np.testing.assert_array_equal(first.triplet_id, second.triplet_id)
    np.testing.assert_array_equal(first.similarity, second.similarity)


def test_triplet_ids_are_the_hash_of_the_three_crops_and_sorted() -> None:
    crops, neighbours = random_crops(0, 6, 10, clusters=3, top_k=1)
    found = sample_triplets(crops, neighbours, clusters=3, rows=50, seed=0)
    expected = [
        hashlib.blake2b("|".join(row).encode(), digest_size=16).hexdigest()
        for row in names(found, crops)
    ]
    assert found.triplet_id.tolist() == expected == sorted(expected)
    again = sample_triplets(crops, neighbours, clusters=3, rows=50, seed=1)
    assert set(again.triplet_id.tolist()) != set(expected)
    assert len(again) == 50


def test_the_clips_of_a_bin_take_turns() -> None:
    # One bin, three clips with 20, 6 and 2 pairs: ten rows are 4 + 4 + 2.
    lengths = (5, 3, 2, 1, 1)
    clip = np.repeat(["a", "b", "c", "p", "q"], lengths)
    crops = Crops(
        np.asarray([f"x{i:02d}" for i in range(12)]),
        clip,
        clip,
        np.concatenate([np.arange(n) * 1000 for n in lengths]).astype(np.int64),
        np.zeros(12, np.int32),
    )
    # Two pose pictures by turns, so that neither is spent.
    indices = np.asarray([[10 + i % 2] for i in range(10)] + [[-1], [-1]], np.int32)
    similarity = np.where(indices < 0, np.nan, 0.5).astype(np.float32)
    for seed in range(10):
        found = sample_triplets(
            crops, Neighbours(indices, similarity), clusters=1, rows=10, seed=seed
        )
        assert found.pool.tolist() == [[28]]
        assert np.unique(clip[found.id_index], return_counts=True)[1].tolist() == [4, 4, 2]


def test_a_spent_pose_picture_gives_way_to_the_next() -> None:
    # 6 targets with 5 ID pictures each want picture 6; 20 pairs get it, 10 go on to picture 7.
    crops = Crops(
        np.asarray(list("abcdefpq")),
        np.asarray(["c"] * 6 + ["p", "q"]),
        np.asarray(["c"] * 6 + ["p", "q"]),
        np.asarray([*range(0, 6000, 1000), 0, 0], np.int64),
        np.asarray([0] * 6 + [0, 1], np.int32),
    )
    indices = np.asarray([[6, 7]] * 6 + [[-1, -1]] * 2, np.int32)
    similarity = np.where(indices < 0, np.nan, np.asarray([0.9, 0.8])).astype(np.float32)
    found = sample_triplets(crops, Neighbours(indices, similarity), clusters=2, rows=30, seed=0)
    assert np.bincount(found.pose_index).tolist() == [0] * 6 + [20, 10]
    assert found.pool.tolist() == [[20, 10], [0, 0]]
    assert found.raw_pool.tolist() == [[30, 0], [0, 0]]
    only = sample_triplets(
        crops, Neighbours(indices[:, :1], similarity[:, :1]), clusters=2, rows=30, seed=0
    )
    assert len(only) == 20
    unlike = sample_triplets(
        crops, Neighbours(indices, similarity), clusters=2, rows=30, seed=0, exclude_diagonal=True
    )
    assert len(unlike) == 0


def test_very_long_clips_are_thinned_evenly() -> None:
    count = 400
    crops = Crops(
        np.asarray([f"{i:04d}" for i in range(2 * count)]),
        np.repeat(["a", "b"], count),
        np.repeat(["a", "b"], count),
        np.tile(np.arange(count) * 1000, 2).astype(np.int64),
        np.zeros(2 * count, np.int32),
    )
    indices = ((np.arange(2 * count) + count) % (2 * count)).astype(np.int32)[:, None]
    neighbours = Neighbours(indices, np.ones((2 * count, 1), np.float32))
    found = sample_triplets(
        crops, neighbours, clusters=1, rows=10**6, seed=0, max_pairs=2 * count * 8
    )
    assert found.raw_pool.sum() == len(found) == 2 * count * 8
    assert np.bincount(found.target_index).tolist() == [8] * (2 * count)
    assert len(set(names(found, crops))) == len(found)
    gaps = np.abs(found.id_index - found.target_index)
    assert gaps.min() >= 1
    # Evenly spaced over the whole clip: every ID picture serves, none much more than others.
    assert np.bincount(found.id_index, minlength=2 * count).min() >= 4
    assert np.bincount(found.id_index, minlength=2 * count).max() <= 12


def test_empty_pools_give_no_triplets() -> None:
    crops, neighbours = random_crops(0, 4, 8, clusters=3, top_k=1)
    nobody = Neighbours(np.full_like(neighbours.indices, -1), neighbours.similarity)
    none = Crops(*(getattr(crops, f.name)[:0] for f in dataclasses.fields(Crops)))
    nothing = Neighbours(neighbours.indices[:0], neighbours.similarity[:0])
    for c, n, gap in ((crops, nobody, 1000), (crops, neighbours, 10**9), (none, nothing, 0)):
        for rows in (None, 0, 100):
            found = sample_triplets(c, n, clusters=3, rows=rows, seed=0, min_gap_ms=gap)
            assert len(found) == 0
            assert found.bins.shape == (0, 2)
            assert found.balance(c).entropy == 0


def test_bad_input_is_refused() -> None:
    crops, neighbours = random_crops(0, 4, 8, clusters=3, top_k=2)

    def sample(
        crops: Crops = crops, neighbours: Neighbours = neighbours, rows: int = 5, gap: int = 0
    ) -> None:
        sample_triplets(crops, neighbours, clusters=3, rows=rows, seed=0, min_gap_ms=gap)

    replace = dataclasses.replace
    same_video = neighbours.indices.copy()
    same_video[0, 0] = 0
    outside = neighbours.indices.copy()
    outside[0, 0] = len(outside)
    wrong = [
        (replace(crops, cluster=crops.cluster + 1), neighbours, "0..2"),
        (replace(crops, crop_id=np.full_like(crops.crop_id, "x")), neighbours, "not unique"),
        (replace(crops, cluster=crops.cluster[:-1]), neighbours, "same"),
        (replace(crops, clip_id=np.full_like(crops.clip_id, "c")), neighbours, "two videos"),
        (crops, Neighbours(same_video, neighbours.similarity), "same video"),
        (crops, Neighbours(outside, neighbours.similarity), "out of range"),
        (crops, Neighbours(neighbours.indices[:, :0], neighbours.similarity[:, :0]), "same"),
    ]
    for bad_crops, bad_neighbours, message in wrong:
        with pytest.raises(ValueError, match=message):
            sample(bad_crops, bad_neighbours)
    for arguments in ({"rows": -1}, {"gap": -1}):
        with pytest.raises(ValueError, match="negative"):
            sample(**arguments)


def turning_clips(top_k: int) -> tuple[Crops, Neighbours]:
    """2233 clips of 18 frames, one a second, each turning slowly at its own speed."""
    clips, frames = 2233, 18
    rng = np.random.default_rng(0)
    count = clips * frames
    start, speed = rng.uniform(0, 360, (clips, 1)), rng.laplace(0, 0.4, (clips, 1))
    angle = (start + speed * np.arange(frames)).ravel() % 360
    clip = np.repeat(np.arange(clips), frames)
    by_angle = np.argsort(angle, kind="stable")
    place = np.argsort(by_angle)
    nearby = by_angle[(place[:, None] + np.asarray([*range(-30, 0), *range(1, 31)])) % count]
    apart = np.abs(angle[nearby] - angle[:, None])
    apart = np.minimum(apart, 360 - apart)
    apart[clip[nearby] == clip[:, None]] = np.inf
    best = np.argsort(apart, axis=1, kind="stable")[:, :top_k]
    indices = np.take_along_axis(nearby, best, axis=1).astype(np.int32)
    similarity = np.cos(np.radians(np.take_along_axis(apart, best, axis=1))).astype(np.float32)
    names = np.asarray([f"c{c:04d}" for c in clip])
    ids = [hashlib.blake2b(str(i).encode(), digest_size=16).hexdigest() for i in range(count)]
    seconds = np.tile(np.arange(frames) * 1000, clips).astype(np.int64)
    cluster = (angle * 32 / 360).astype(np.int32) % 32
    return Crops(np.asarray(ids), names, names, seconds, cluster), Neighbours(indices, similarity)


@pytest.mark.parametrize(
    ("rows", "entropy"),
    [
        pytest.param(20_000, 0.949, marks=pytest.mark.slow),
        pytest.param(50_000, 0.920, marks=pytest.mark.slow),
        (100_000, 0.893),
    ],
)
def test_slowly_turning_clips_reach_the_entropies_of_the_method(rows: int, entropy: float) -> None:
    crops, neighbours = turning_clips(top_k=1)
    began = time.process_time()
    found = sample_triplets(crops, neighbours, clusters=32, rows=rows, seed=0)
    assert time.process_time() - began < 60
    assert len(found) == rows
    measured = found.balance(crops)
    assert measured.exactness <= 1
    assert measured.entropy == pytest.approx(entropy, abs=0.03)
    assert measured.raw_entropy == pytest.approx(0.765, abs=0.03)
    assert np.trace(found.raw_pool) / found.raw_pool.sum() == pytest.approx(0.79, abs=0.03)
    assert measured.max_reuse <= 20


@pytest.mark.slow
def test_by_default_the_sample_is_as_large_as_the_wished_balance_allows() -> None:
    crops, neighbours = turning_clips(top_k=1)
    found = sample_triplets(crops, neighbours, clusters=32, rows=None, seed=0)
    assert found.balance(crops).entropy == pytest.approx(0.9, abs=0.001)
    assert 20_000 < len(found) < 100_000


_CHAIN = """
import hashlib
import numpy as np
from idpose_core.pose.neighbours import nearest_in_other_videos
from idpose_core.pose.space import assign, fit_pose_space, project
from idpose_core.pose.triplets import Crops, sample_triplets

rng = np.random.default_rng(0)
count = 600
features = rng.standard_normal((count, 8)) @ rng.standard_normal((8, 700))
features += rng.standard_normal((count, 700))
features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float16)
ids = np.asarray([f"{i:05d}" for i in range(count)])
clips = np.asarray([f"c{i // 12}" for i in range(count)])
space = fit_pose_space(features, ids, clusters=6, dimensions=64, seed=1)
projected = project(space, features)
cluster = assign(space, projected)
print(hashlib.sha256(space.to_bytes() + projected.tobytes() + cluster.tobytes()).hexdigest())
for below in (0, 10**6):
    found = nearest_in_other_videos(
        features, projected, clips, ids, top_k=3, shortlist=20, exhaustive_below=below
    )
    print(hashlib.sha256(found.indices.tobytes() + found.similarity.tobytes()).hexdigest())
times = (np.arange(count) % 12 * 1000).astype(np.int64)
triplets = sample_triplets(
    Crops(ids, clips, clips, times, cluster), found, clusters=6, rows=None, seed=2
)
print(len(triplets), hashlib.sha256(triplets.triplet_id.tobytes()).hexdigest())
"""


def test_two_processes_with_other_threads_and_hash_seeds_agree() -> None:
    answers = []
    for hash_seed, threads in (("1", "1"), ("2", "2")):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        done = subprocess.run(
            [sys.executable, "-c", _CHAIN],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        answers.append(done.stdout.split("\n"))
    assert answers[0] == answers[1]
    assert len(answers[0]) == 5
    assert int(answers[0][3].split()[0]) > 100
