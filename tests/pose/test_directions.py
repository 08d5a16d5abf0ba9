"""Directions, how far clips turn, and which neighbours agree: known answers and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.pose.agreement import keep_agreeing
from idpose_core.pose.changes import measure_changes, missing_poses
from idpose_core.pose.directions import (
    VIEW_NAMES,
    Directions,
    angle_between,
    azimuth_of,
    beside_in_clip,
    turn_of,
    vectors_of,
    view_of,
    views_shown,
)
from idpose_core.pose.neighbours import Neighbours

NONE = np.nan


def directions(read: list[float], true: list[float] | None = None) -> Directions:
    return Directions(
        np.asarray(read, np.float64),
        np.where(np.isnan(read), NONE, 1.0).astype(np.float32),
        np.full(len(read), NONE) if true is None else np.asarray(true, np.float64),
    )


def test_azimuths_and_angles_of_a_compass() -> None:
    vectors = np.asarray([[1, 0], [0, 0.5], [-1, 0], [0, -2], [0, 0], [NONE, 1]])
    np.testing.assert_allclose(azimuth_of(vectors), [0, 90, 180, 270, NONE, NONE], atol=1e-12)
    one, other = np.asarray([350.0, 10, 0, 90, NONE]), np.asarray([10.0, 350, 180, 45, 0])
    np.testing.assert_allclose(angle_between(one, other), [20, 20, 180, 45, NONE])
    names = [VIEW_NAMES[v] for v in view_of(np.asarray([0.0, 22.4, 22.6, 90, 180, 270, 350]))]
    assert names == ["front", "front", "front-left", "left", "rear", "right", "front"]


@given(st.lists(st.floats(0, 359.9), min_size=1, max_size=20), st.floats(0, 360))
def test_vectors_and_turns_do_not_depend_on_where_zero_is(found: list[float], by: float) -> None:
    azimuth = np.asarray(found)
    turned = (azimuth + by) % 360
    assert turn_of(turned) == pytest.approx(turn_of(azimuth), abs=1e-6)
    assert turn_of(azimuth[::-1]) == turn_of(azimuth)
    assert 0 <= turn_of(azimuth) <= 360
    back = azimuth_of(vectors_of(azimuth, np.ones(len(found), np.float32)))
    assert angle_between(back, azimuth).max() < 1e-6


@pytest.mark.parametrize(
    ("azimuths", "turn"),
    [
        ([], 0), ([90], 0), ([350, 10], 20), ([0] * 9 + [180], 0), ([0, 10, 20, 30, 40], 40),
        (list(range(0, 360, 15)), 345),
    ],
)  # fmt: skip
def test_how_far_a_clip_turns(azimuths: list[float], turn: float) -> None:
    assert turn_of(np.asarray(azimuths, np.float64)) == pytest.approx(turn)


def test_what_lies_beside_a_crop_is_of_its_clip_and_in_time() -> None:
    # Clip a at 0, 1, 2, 3 s, out of order; clip b has one crop.
    clip, time = list("abaaa"), np.asarray([3000, 0, 0, 1000, 2000])
    vectors = np.asarray([[8.0, 0], [100, 0], [1, 0], [2, 0], [4, 0]])
    found = beside_in_clip(vectors, list("vwxyz"), clip, time)
    assert found[:, 0].tolist() == [2 + 4, 0, 2 + 4, 1 + 4 + 8, 1 + 2 + 8]
    assert not found[:, 1].any()
    assert beside_in_clip(vectors[:0], [], [], time[:0]).shape == (0, 2)


def test_views_shown_by_truth_by_reading_and_by_cluster() -> None:
    # Five crops a clip: turns by truth though read as still; read as turning, one read wrongly;
    # nothing known but three clusters; read as still with an error in the middle.
    clip = np.repeat(list("abcd"), 5)
    true = [0, 45, 90, 135, 180] + [NONE] * 15
    read = [0] * 5 + [0, 30, 60, 90, 120] + [NONE] * 5 + [10, 10, 190, 10, 10]
    cluster = np.asarray([0] * 10 + [0, 1, 2, 2, 1] + [0, 1, 2, 3, 4], np.int32)
    time = np.tile(np.arange(5) * 1000, 4)
    ids = [f"{i:02d}" for i in range(20)]
    found = views_shown(directions(read, true), cluster, ids, clip, time)
    assert found[::5].tolist() == [1 + 180 // 45, 2, 3, 1]
    mixed = np.random.default_rng(0).permutation(20)
    again = views_shown(
        directions(np.asarray(read)[mixed].tolist(), np.asarray(true)[mixed].tolist()),
        cluster[mixed], np.asarray(ids)[mixed], clip[mixed], time[mixed],
    )  # fmt: skip
    np.testing.assert_array_equal(again, found[mixed])
    many = views_shown(directions([NONE] * 9), np.arange(9), ids[:9], ["a"] * 9, np.arange(9))
    assert many.tolist() == [8] * 9


def some_neighbours() -> Neighbours:
    indices = np.asarray([[1, 2], [2, -1], [0, 1], [-1, -1]], np.int32)
    similarity = np.asarray([[0.9, 0.8], [0.7, NONE], [0.6, 0.5], [NONE, NONE]], np.float32)
    trust = np.asarray([[0.4, 0.6], [0.3, NONE], [NONE, 0.9], [NONE, NONE]], np.float32)
    return Neighbours(indices, similarity, trust)


def test_neighbours_that_face_elsewhere_give_way_to_the_next() -> None:
    found, reasons = keep_agreeing(some_neighbours(), read_deg=np.asarray([0.0, 180, 45, 0]))
    assert found.indices.tolist() == [[2, -1], [-1, -1], [0, -1], [-1, -1]]
    np.testing.assert_array_equal(
        found.similarity, np.asarray([[0.8, NONE], [NONE] * 2, [0.6, NONE], [NONE] * 2], np.float32)
    )
    assert found.trust is not None
    np.testing.assert_array_equal(found.trust[:, 0], np.asarray([0.6, *[NONE] * 3], np.float32))
    assert {reason: np.flatnonzero(of).tolist() for reason, of in reasons.items()} == {
        "no_neighbour": [3], "other_direction": [1], "low_trust": []
    }  # fmt: skip


def test_where_nothing_is_read_agreement_is_not_judged() -> None:
    before = some_neighbours()
    for read in (np.asarray([0.0, NONE, 45, NONE]), np.full(4, NONE), None):
        found, reasons = keep_agreeing(before, read_deg=read)
        np.testing.assert_array_equal(found.indices, before.indices)
        assert not reasons["other_direction"].any()


def test_neighbours_below_the_least_trust_are_left_out() -> None:
    found, reasons = keep_agreeing(some_neighbours(), min_trust=0.5)
    # Of one pair the trust is not known.
    assert found.indices.tolist() == [[2, -1], [-1, -1], [0, 1], [-1, -1]]
    assert np.flatnonzero(reasons["low_trust"]).tolist() == [1]
    both, reasons = keep_agreeing(
        some_neighbours(), read_deg=np.asarray([0.0, 0, 180, 0]), min_trust=0.5
    )
    assert both.indices[:, 0].tolist() == [-1, -1, -1, -1]
    # Crop 0: its nearest agrees and is not trusted. 1 and 2: their nearest faces elsewhere.
    assert np.flatnonzero(reasons["low_trust"]).tolist() == [0]
    assert np.flatnonzero(reasons["other_direction"]).tolist() == [1, 2]


def test_where_no_trust_is_known_none_is_asked_for() -> None:
    before = some_neighbours()
    unknown = np.full(before.indices.shape, NONE, np.float32)
    for trust in (None, unknown):
        given_ = Neighbours(before.indices, before.similarity, trust)
        found, reasons = keep_agreeing(given_, min_trust=0.5)
        np.testing.assert_array_equal(found.indices, before.indices)
        assert not reasons["low_trust"].any()


@given(
    st.lists(st.floats(0, 359) | st.just(NONE), min_size=2, max_size=12),
    st.integers(1, 5),
    st.integers(0, 99),
    st.floats(0, 1) | st.none(),
)
def test_what_is_kept_agrees_is_trusted_and_keeps_its_order(
    read: list[float], top_k: int, seed: int, least: float | None
) -> None:
    rng = np.random.default_rng(seed)
    count = len(read)
    indices = rng.integers(0, count, (count, top_k)).astype(np.int32)
    given_ = Neighbours(
        indices, rng.random((count, top_k)).astype(np.float32),
        rng.random((count, top_k)).astype(np.float32),
    )  # fmt: skip
    azimuth = np.asarray(read)
    found, reasons = keep_agreeing(given_, read_deg=azimuth, min_trust=least)
    for row in range(count):
        assert given_.trust is not None and found.trust is not None
        expected = [
            rank
            for rank in range(top_k)
            if not angle_between(azimuth[row], azimuth[indices[row, rank]]) > 45
            and (least is None or given_.trust[row, rank] >= least)
        ]
        kept = len(expected)
        assert found.indices[row].tolist() == indices[row, expected].tolist() + [-1] * (
            top_k - kept
        )
        np.testing.assert_array_equal(found.trust[row, :kept], given_.trust[row, expected])
        assert sum(of[row] for of in reasons.values()) == (kept == 0)


def test_changes_are_counted_by_truth_and_elsewhere_as_read() -> None:
    of = directions([0, 90, 0, 10, NONE, 200], [0, 20, 180, NONE, NONE, NONE])
    own, target, pose = (np.asarray(rows) for rows in ([0, 0, 3, 3, 4], [1, 2, 5, 2, 5],
                                                       [2, 2, 0, 0, 0]))  # fmt: skip
    found = measure_changes(of, own, target, pose).to_dict()
    assert found == {
        "rows": 5,
        "by_truth": 2, "changed_by_truth": 1,  # 0 to 20 degrees is none, though read as 90
        "as_read": 2, "changed_as_read": 1,  # 10 to 200, and 10 to 0
        "pose_by_truth": 3, "pose_right": 1, "pose_opposite": 2,  # 160, 0 and 180 degrees
    }  # fmt: skip


def test_missing_poses_are_named_by_the_reader_the_truth_or_the_cluster() -> None:
    cluster, target = np.asarray([0, 1, 2, 3], np.int32), np.asarray([0, 1, 1])
    shown = [0.0, 90, 180, NONE]
    missing = [name for name in VIEW_NAMES if name not in ("front", "left")]
    nothing = [NONE] * 4
    assert missing_poses(directions(shown), cluster, 5, target) == ("as read", missing)
    assert missing_poses(directions(nothing, shown), cluster, 5, target) == ("by truth", missing)
    assert missing_poses(directions(nothing), cluster, 5, target) == ("by cluster", list("234"))
    nobody = np.zeros(0, np.int64)
    assert len(missing_poses(directions(shown), cluster, 5, nobody)[1]) == 8
