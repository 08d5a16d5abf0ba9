"""Neighbours against a full search in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.pose.neighbours import (
    Neighbours,
    full_search_agreement,
    nearest_in_other_videos,
    window_rows,
)
from idpose_core.pose.space import fit_pose_space, project

BOTH_PATHS = pytest.mark.parametrize("exhaustive_below", [0, 10**9], ids=["shortlist", "full"])


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float16)


def crops(
    count: int, videos: int, columns: int = 200, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of 12 latent factors (pose and object) with noise, video ids, crop ids."""
    rng = np.random.default_rng(seed)
    video = rng.integers(0, videos, count)
    latent = rng.standard_normal((count, 12)) + rng.standard_normal((videos, 12))[video]
    features = latent @ rng.standard_normal((12, columns)) + rng.standard_normal((count, columns))
    names = np.asarray([f"{i:05d}" for i in rng.permutation(count)])
    return unit(features), np.asarray([f"v{v}" for v in video]), names


def projection(features: np.ndarray) -> np.ndarray:
    names = [f"{i:06d}" for i in range(len(features))]
    return project(fit_pose_space(features, names, clusters=1, dimensions=16, seed=0), features)


def reference(
    features: np.ndarray,
    videos: np.ndarray,
    names: np.ndarray,
    top_k: int,
    objects: Sequence[str | None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One query at a time, one candidate at a time, in float64."""
    objects = objects or [None] * len(features)
    wide = features.astype(np.float64)
    indices = np.full((len(wide), top_k), -1)
    cosine = np.full((len(wide), top_k), np.nan)
    for query in range(len(wide)):
        found = sorted(
            (-round(float(wide[query] @ wide[other]), 7), names[other], other)
            for other in range(len(wide))
            if videos[other] != videos[query]
            and (objects[query] is None or objects[other] != objects[query])
        )
        for rank, (negative, _, other) in enumerate(found[:top_k]):
            indices[query, rank], cosine[query, rank] = other, -negative
    return indices, cosine


@BOTH_PATHS
def test_neighbours_equal_a_full_search(exhaustive_below: int) -> None:
    features, videos, names = crops(350, 40)
    found = nearest_in_other_videos(
        features, projection(features), videos, names, top_k=5, exhaustive_below=exhaustive_below
    )
    indices, cosine = reference(features, videos, names, 5)
    assert found.indices.dtype == np.int32
    assert found.similarity.dtype == np.float32
    agree = np.all(np.abs(found.similarity - cosine) < 1e-5, axis=1)
    assert agree.mean() >= 0.99
    assert np.mean(found.indices == indices) >= 0.99
    assert full_search_agreement(found, features, videos, names, rows=200) >= 0.99


def objects_of(videos: np.ndarray) -> list[str | None]:
    """Three videos of an object, as v0, v10, v20; of some nothing is known."""
    return [None if video[-1] in "37" else f"object {video[-1]}" for video in videos.tolist()]


@BOTH_PATHS
def test_videos_of_a_known_object_are_left_out_too(exhaustive_below: int) -> None:
    features, videos, names = crops(350, 30)
    objects = objects_of(videos)
    # The hard case: crops of one object are nearer to each other than to anything else.
    look = {
        name: np.random.default_rng(i).standard_normal(200) for i, name in enumerate(set(objects))
    }
    features = unit(features + 0.2 * np.stack([look[name] for name in objects]))
    found = nearest_in_other_videos(
        features,
        projection(features),
        videos,
        names,
        top_k=5,
        identities=objects,
        exhaustive_below=exhaustive_below,
    )
    indices, cosine = reference(features, videos, names, 5, objects)
    assert np.mean(found.indices == indices) >= 0.99
    assert np.mean(np.all(np.abs(found.similarity - cosine) < 1e-5, axis=1)) >= 0.99
    agreement = full_search_agreement(found, features, videos, names, identities=objects, rows=200)
    assert agreement >= 0.99
    assert full_search_agreement(found, features, videos, names, rows=200) < 0.5
    for query, row in enumerate(found.indices.tolist()):
        assert objects[query] is None or objects[query] not in {objects[other] for other in row}


def test_objects_of_which_nothing_is_known_change_nothing() -> None:
    features, videos, names = crops(200, 12)
    arguments = (features, projection(features), videos, names)
    plain = nearest_in_other_videos(*arguments, top_k=3)
    unknown = nearest_in_other_videos(*arguments, top_k=3, identities=[None] * 200)
    alone = nearest_in_other_videos(*arguments, top_k=3, identities=videos.tolist())
    for other in (unknown, alone):
        np.testing.assert_array_equal(other.indices, plain.indices)
        np.testing.assert_array_equal(other.similarity, plain.similarity)
    everywhere = nearest_in_other_videos(*arguments, top_k=3, identities=["one"] * 200)
    assert np.all(everywhere.indices == -1)


def test_agreement_notices_wrong_neighbours() -> None:
    features, videos, names = crops(120, 10)
    found = nearest_in_other_videos(features, projection(features), videos, names, top_k=2)
    wrong = found.similarity.copy()
    wrong[::2, 1] -= 0.01
    share = full_search_agreement(Neighbours(found.indices, wrong), features, videos, names)
    assert share == pytest.approx(0.5)
    nothing = Neighbours(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32))
    assert full_search_agreement(nothing, features[:0], videos[:0], names[:0]) == 1.0


def test_a_long_video_does_not_empty_the_shortlist() -> None:
    # 2000 nearly equal crops of one video are nearer to each other than anything else.
    rng = np.random.default_rng(0)
    long = rng.standard_normal(64) + 0.02 * rng.standard_normal((2000, 64))
    other = rng.standard_normal((60, 64))
    features = unit(np.concatenate([long, other]))
    videos = np.asarray(["long"] * 2000 + [f"v{i % 6}" for i in range(60)])
    names = np.asarray([f"{i:05d}" for i in range(2060)])
    found = nearest_in_other_videos(
        features, projection(features), videos, names, top_k=3, shortlist=60, exhaustive_below=0
    )
    assert np.all(found.indices >= 0)
    assert np.all(videos[found.indices] != videos[:, None])
    assert full_search_agreement(found, features, videos, names, rows=2060) >= 0.99


@BOTH_PATHS
def test_equal_similarities_are_ordered_by_crop_id(exhaustive_below: int) -> None:
    # 500 copies of one feature over 70 videos, at every place of a block, beside other rows.
    features, videos, _ = crops(900, 70, columns=333)
    copies = np.random.default_rng(1).permutation(900)[:500]
    features[copies] = features[copies[0]]
    names = np.asarray([f"{i:05d}" for i in np.random.default_rng(2).permutation(900)])
    found = nearest_in_other_videos(
        features,
        projection(features),
        videos,
        names,
        top_k=4,
        shortlist=900,
        exhaustive_below=exhaustive_below,
    )
    for query in copies.tolist():
        twins = [i for i in copies.tolist() if videos[i] != videos[query]]
        expected = sorted(twins, key=lambda i: names[i])[:4]
        assert found.indices[query].tolist() == expected


@BOTH_PATHS
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 60), videos=st.integers(1, 8))
def test_the_order_of_rows_does_not_matter(
    exhaustive_below: int, seed: int, count: int, videos: int
) -> None:
    features, video, names = crops(count, videos, columns=20, seed=seed)
    features[count // 2 :] = features[: count - count // 2]  # ties
    projected = projection(features)
    first = nearest_in_other_videos(
        features, projected, video, names, top_k=3, exhaustive_below=exhaustive_below
    )
    mixed = np.random.default_rng(seed).permutation(count)
    second = nearest_in_other_videos(
        features[mixed],
        projected[mixed],
        video[mixed],
        names[mixed],
        top_k=3,
        exhaustive_below=exhaustive_below,
    )
    np.testing.assert_array_equal(second.similarity, first.similarity[mixed])
    back = np.where(second.indices >= 0, mixed[second.indices], -1)
    np.testing.assert_array_equal(back, first.indices[mixed])
    none = first.indices < 0
    assert np.array_equal(none, np.isnan(first.similarity))
    # As many as other videos hold, the missing ones at the end.
    available = np.asarray([np.sum(video != own) for own in video])
    np.testing.assert_array_equal((~none).sum(axis=1), np.minimum(available, 3))
    assert not np.any(none[:, :-1] & ~none[:, 1:])


@BOTH_PATHS
def test_floor_and_mutual(exhaustive_below: int) -> None:
    features, videos, names = crops(300, 25)
    arguments = (features, projection(features), videos, names)
    plain = nearest_in_other_videos(*arguments, top_k=3, exhaustive_below=exhaustive_below)
    floor = float(np.median(plain.similarity))
    floored = nearest_in_other_videos(
        *arguments, top_k=3, min_similarity=floor, exhaustive_below=exhaustive_below
    )
    kept = plain.similarity >= floor
    np.testing.assert_array_equal(floored.indices, np.where(kept, plain.indices, -1))
    agreement = full_search_agreement(floored, features, videos, names, min_similarity=floor)
    assert agreement >= 0.99
    mutual = nearest_in_other_videos(
        *arguments, top_k=3, mutual=True, exhaustive_below=exhaustive_below
    )
    pairs = {(t, p) for t, row in enumerate(plain.indices.tolist()) for p in row}
    for query, row in enumerate(plain.indices.tolist()):
        expected = [p for p in row if (p, query) in pairs]
        assert mutual.indices[query].tolist() == expected + [-1] * (3 - len(expected))


def test_a_row_of_zeros_has_no_neighbour_and_is_none() -> None:
    features, videos, names = crops(50, 5)
    features[7] = 0
    found = nearest_in_other_videos(features, np.zeros((50, 2), np.float32), videos, names, top_k=2)
    assert found.indices[7].tolist() == [-1, -1]
    assert 7 not in found.indices
    assert full_search_agreement(found, features, videos, names) == 1.0


def test_one_video_alone_has_no_neighbours() -> None:
    features, _, names = crops(30, 3)
    for exhaustive_below in (0, 100):
        found = nearest_in_other_videos(
            features,
            projection(features),
            np.full(30, "v"),
            names,
            top_k=2,
            exhaustive_below=exhaustive_below,
        )
        assert np.all(found.indices == -1)
        assert np.isnan(found.similarity).all()


def test_no_crops_at_all() -> None:
    none = np.zeros(0, "<U1")
    found = nearest_in_other_videos(
        np.zeros((0, 4), np.float16), np.zeros((0, 2), np.float32), none, none, top_k=1
    )
    assert found.indices.shape == (0, 1)


def test_bad_input_is_refused() -> None:
    features, videos, names = crops(10, 3)
    projected = projection(features)
    with pytest.raises(ValueError, match="same rows"):
        nearest_in_other_videos(features, projected[:-1], videos, names, top_k=1)
    with pytest.raises(ValueError, match="9 identities for 10 crops"):
        nearest_in_other_videos(features, projected, videos, names, top_k=1, identities=[None] * 9)
    with pytest.raises(ValueError, match="not unique"):
        nearest_in_other_videos(features, projected, videos, np.full(10, "x"), top_k=1)
    with pytest.raises(ValueError, match="top_k"):
        nearest_in_other_videos(features, projected, videos, names, top_k=5, shortlist=4)
    with pytest.raises(ValueError, match="top_k"):
        nearest_in_other_videos(features, projected, videos, names, top_k=0)
    for value in (np.nan, 2.0):
        broken = features.copy()
        broken[4, 0] = value
        with pytest.raises(ValueError, match="row 4"):
            nearest_in_other_videos(broken, projected, videos, names, top_k=1)
    with pytest.raises(ValueError, match="NaN"):
        nearest_in_other_videos(features, projected * np.float32(np.nan), videos, names, top_k=1)


def test_windows_are_of_the_clip_and_by_time() -> None:
    clips = ["b", "a", "a", "b", "a", "c"]
    times = np.array([0, 3000, 0, 1000, 1200, 500])
    before, own, after = window_rows(clips, times, 1000)
    assert own.tolist() == [0, 1, 2, 3, 4, 5]
    # 3000 - 1000 is nearest to 1200; a clip's ends stand for what lies beyond them
    assert before.tolist() == [0, 4, 2, 0, 2, 5]
    assert after.tolist() == [3, 1, 4, 3, 1, 5]
    assert window_rows([], np.array([], np.int64), 1000).shape == (3, 0)


@BOTH_PATHS
def test_windows_compare_what_lies_beside(exhaustive_below: int) -> None:
    features, videos, names = crops(350, 40)
    times = np.random.default_rng(1).integers(0, 6000, len(names))
    windows = window_rows(videos, times, 800)
    side_by_side = unit(np.concatenate([features[rows].astype(np.float64) for rows in windows], 1))
    found = nearest_in_other_videos(
        features, projection(features), videos, names, top_k=3, windows=windows,
        shortlist=350, exhaustive_below=exhaustive_below,
    )  # fmt: skip
    _, cosine = reference(side_by_side, videos, names, 3)
    np.testing.assert_allclose(found.similarity, cosine, atol=1e-3)  # both in float16
    alone = nearest_in_other_videos(
        features, projection(features), videos, names, top_k=3, shortlist=350,
        exhaustive_below=exhaustive_below, windows=np.arange(len(names))[None],
    )  # fmt: skip
    plain = nearest_in_other_videos(
        features, projection(features), videos, names, top_k=3, shortlist=350,
        exhaustive_below=exhaustive_below,
    )  # fmt: skip
    assert np.array_equal(alone.indices, plain.indices)
    assert np.array_equal(alone.similarity, plain.similarity)


def test_the_moments_beside_tell_front_from_rear() -> None:
    """The first crops of all three clips look alike; what follows tells "front" from "rear"."""
    side, front, rear = np.eye(3)
    features = unit(np.stack([side, front, side, rear, side + 0.1 * rear, front]))
    videos = np.array(["q", "q", "rear", "rear", "front", "front"])
    names = np.array(list("abcdef"))
    times = np.array([0, 1000] * 3)
    windows = window_rows(videos, times, 1000)
    for chosen, expected in ((None, 2), (windows, 4)):
        found = nearest_in_other_videos(
            features, projection(features), videos, names, top_k=1, windows=chosen
        )
        assert found.indices[0, 0] == expected
