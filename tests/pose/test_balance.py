"""Water-filling against its definition, the measures on known answers, and the invariants."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.pose.balance import (
    check_invariants,
    default_rows,
    measure_balance,
    normalised_entropy,
    reuse_cap,
    water_level,
)

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=12).map(
    lambda sizes: np.asarray(sizes, np.int64)
)


@given(SIZES, st.integers(0, 600))
def test_water_level_is_the_smallest_that_gives_enough(sizes: np.ndarray, rows: int) -> None:
    wanted = min(rows, int(sizes.sum()))
    expected = next(q for q in range(50) if np.minimum(sizes, q).sum() >= wanted)
    assert water_level(sizes, rows) == expected


@given(SIZES)
def test_a_higher_level_is_never_more_even(sizes: np.ndarray) -> None:
    entropies = [normalised_entropy(np.minimum(sizes, q)) for q in range(1, 41)]
    assert np.all(np.diff(entropies) <= 1e-12)


@given(SIZES, st.floats(0, 1), st.integers(1, 300))
def test_default_rows_is_the_highest_level_that_is_even_enough(
    sizes: np.ndarray, min_entropy: float, most: int
) -> None:
    levels = [
        int(np.minimum(sizes, q).sum())
        for q in range(1, 41)
        if q == 1 or normalised_entropy(np.minimum(sizes, q)) >= min_entropy - 1e-12
    ]
    assert default_rows(sizes, min_entropy=min_entropy, most=most) == min(most, max(levels))


def test_normalised_entropy_of_known_counts() -> None:
    assert normalised_entropy(np.asarray([7, 0, 7, 7])) == pytest.approx(1)
    assert normalised_entropy(np.asarray([1, 3])) == pytest.approx(0.8112781244591328)
    assert normalised_entropy(np.asarray([0, 5])) == 1
    assert normalised_entropy(np.zeros((3, 3), np.int64)) == 0


@pytest.mark.parametrize(
    ("rows", "crops", "cap"),
    [(0, 0, 20), (100, 50, 20), (100_000, 40_000, 20), (1000, 100, 30), (1001, 100, 31)],
)
def test_reuse_cap(rows: int, crops: int, cap: int) -> None:
    assert reuse_cap(rows, crops) == cap


def test_measures_of_a_known_sample() -> None:
    pool = np.asarray([[10, 2, 0], [1, 5, 0], [0, 0, 4]])
    sample = np.asarray([[3, 2, 0], [1, 2, 0], [0, 0, 3]])  # q = 3, one row trimmed of bin (1, 1)
    measured = measure_balance(
        sample,
        pool,
        raw_pool=np.asarray([[30, 0, 0], [0, 30, 0], [0, 0, 30]]),
        clip_rows=np.asarray([7, 4]),
        pose_reuse=np.asarray([0, 0, 0, 4, 7]),
    )
    assert (measured.rows, measured.pool_pairs, measured.level) == (11, 22, 3)
    assert measured.exactness == 1
    assert measured.entropy == pytest.approx(
        -sum(n / 11 * np.log(n / 11) for n in (3, 2, 1, 2, 3)) / np.log(5)
    )
    assert measured.raw_entropy == pytest.approx(1)
    assert measured.coverage == pytest.approx(5 / 9)
    assert measured.saturated_share == pytest.approx(2 / 5)
    assert measured.max_clip_share == pytest.approx(7 / 11)
    assert measured.max_reuse == 7
    assert measured.reuse_skewness == pytest.approx(scipy.stats.skew([0, 0, 0, 4, 7]))
    assert measured.diagonal_share == pytest.approx(8 / 11)
    assert json.loads(json.dumps(measured.to_dict(), allow_nan=False))["max_reuse"] == 7


def test_an_unbalanced_sample_is_measured_as_such() -> None:
    pool = np.asarray([[10, 10]] * 2)
    sample = np.asarray([[8, 0], [4, 4]])
    measured = measure_balance(
        sample, pool, pool, clip_rows=np.asarray([16]), pose_reuse=np.asarray([16])
    )
    assert measured.level == 4
    assert measured.exactness == 4


def test_an_empty_sample_is_all_zeros() -> None:
    nothing = np.zeros((4, 4), np.int64)
    empty = np.zeros(0, np.int64)
    measured = measure_balance(nothing, nothing, nothing, clip_rows=empty, pose_reuse=empty)
    assert set(measured.to_dict().values()) == {0}


def test_bins_must_be_of_one_shape() -> None:
    two, three = np.zeros((2, 2), np.int64), np.zeros((3, 3), np.int64)
    with pytest.raises(ValueError, match="differ in shape"):
        measure_balance(two, three, two, clip_rows=two[0], pose_reuse=two[0])


CROPS = {
    "crop_id": np.asarray(["a0", "a1", "b0", "b1", "c0", "d0"]),
    "clip_id": np.asarray(["a", "a", "b", "b", "c", "d"]),
    "video_id": np.asarray(["va", "va", "vb", "vb", "vc", "vd"]),
    "split": np.asarray(["train"] * 4 + ["test", "train"]),
    "timestamp_ms": np.asarray([0, 1000, 0, 1000, 0, 500]),
}
TRIPLETS = {
    "triplet_id": np.asarray(["t0", "t1"]),
    "id_crop": np.asarray(["a0", "b1"]),
    "target_crop": np.asarray(["a1", "b0"]),
    "pose_crop": np.asarray(["b1", "d0"]),
    "split": np.asarray(["train", "train"]),
    "id_cluster": np.asarray([0, 1]),
    "pose_cluster": np.asarray([1, 1]),
    "clip_id": np.asarray(["a", "b"]),
    "pose_clip_id": np.asarray(["b", "d"]),
    "video_id": np.asarray(["va", "vb"]),
    "pose_video_id": np.asarray(["vb", "vd"]),
    "id_ms": np.asarray([0, 1000]),
    "target_ms": np.asarray([1000, 0]),
    "pose_ms": np.asarray([1000, 500]),
}
POOLS = {"train": np.asarray([[0, 1], [0, 1]])}


def test_correct_triplets_violate_nothing() -> None:
    assert check_invariants(TRIPLETS, crops=CROPS, pools=POOLS) == []
    assert check_invariants({k: v[:0] for k, v in TRIPLETS.items()}, crops=CROPS) == []


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("id_crop", 0, "a1", "ID and target are the same crop: 1 rows, the first is t0"),
        ("id_crop", 0, "b0", "ID and target come from different clips"),
        ("pose_crop", 1, "b1", "pose comes from the target's own video: 1 rows, the first is t1"),
        ("pose_crop", 0, "c0", "pose crop is of another split"),
        ("pose_crop", 0, "x9", "pose crop is not in the crops table"),
        ("split", 0, "test", "target crop is of another split"),
        ("clip_id", 0, "b", "column clip_id disagrees"),
        ("pose_video_id", 0, "va", "column pose_video_id disagrees"),
        ("target_ms", 0, 999, "column target_ms disagrees"),
        ("pose_cluster", 1, 0, "bins are more than one row away"),
        ("pose_cluster", 1, 2, r"clusters outside 0\.\.1"),
    ],
)
def test_each_violation_is_found(column: str, row: int, value: object, message: str) -> None:
    broken = {name: values.copy() for name, values in TRIPLETS.items()}
    broken[column][row] = value
    found = check_invariants(broken, crops=CROPS, pools=POOLS)
    assert any(re.search(message, text) for text in found), found


def test_a_pose_picture_of_the_targets_own_object_is_found() -> None:
    seen = {"a": "x", "b": "x", "c": None, "d": None}
    objects = np.asarray([seen[clip] for clip in CROPS["clip_id"].tolist()], dtype=object)
    found = check_invariants(TRIPLETS, crops={**CROPS, "identity": objects}, pools=POOLS)
    assert found == ["pose shows the target's own object: 1 rows, the first is t0"]
    unknown = np.full(len(objects), None, dtype=object)
    assert check_invariants(TRIPLETS, crops={**CROPS, "identity": unknown}, pools=POOLS) == []


def test_violations_of_the_crops_and_of_the_whole_are_found() -> None:
    assert any(
        "less than 1001 ms" in v for v in check_invariants(TRIPLETS, crops=CROPS, min_gap_ms=1001)
    )
    found = check_invariants(TRIPLETS, crops=CROPS, exclude_diagonal=True)
    assert found == ["ID and pose are of one cluster: 1 rows, the first is t1"]
    twice = {name: values[[0, 1, 0]] for name, values in TRIPLETS.items()}
    assert any("the same three crops" in text for text in check_invariants(twice, crops=CROPS))
    leaking = {**CROPS, "video_id": np.asarray(["va", "va", "vb", "vb", "vd", "vd"])}
    assert "video vd is in 2 splits" in check_invariants(TRIPLETS, crops=leaking)
    doubled = {**CROPS, "crop_id": np.asarray(["a0", "a1", "b0", "b1", "d0", "d0"])}
    assert any("not unique" in text for text in check_invariants(TRIPLETS, crops=doubled))
    assert check_invariants(TRIPLETS, crops=CROPS, pools={}) == ["split train has no table of bins"]


def test_reuse_above_the_cap_is_found() -> None:
    count = 21
    crops = {
        "crop_id": np.asarray([f"a{i:02d}" for i in range(count + 1)] + ["p"]),
        "clip_id": np.asarray(["a"] * (count + 1) + ["p"]),
        "video_id": np.asarray(["a"] * (count + 1) + ["p"]),
        "split": np.asarray(["train"] * (count + 2)),
        "timestamp_ms": np.arange(count + 2) * 1000,
    }
    rows = {
        "id_crop": crops["crop_id"][:count],
        "target_crop": crops["crop_id"][1 : count + 1],
        "pose_crop": np.full(count, "p"),
        "split": np.full(count, "train"),
        "id_cluster": np.zeros(count, int),
        "pose_cluster": np.zeros(count, int),
    }
    found = check_invariants(rows, crops=crops)
    assert found == ["pose crop p is used 21 times in split train; the cap is 20"]
    assert check_invariants({k: v[:20] for k, v in rows.items()}, crops=crops) == []
