"""What reels make of pictures: shapes, repeatability, where the vehicle is, what is grey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from idpose_core.pose.reel_looks import GREY, SIDE, as_filmed, framed, placed, surroundings
from tests.pose.car_view_files import fields

seeds = st.integers(0, 10_000)


def extent(shown: NDArray[np.bool_]) -> tuple[float, float, int, int]:
    """Middle (x, y), width and height of what is shown."""
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    return (
        (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2,
        int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1,
    )  # fmt: skip


def vehicle() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A light block, 100 x 40, left of and above the middle of a black picture."""
    mask = np.zeros((192, 192), bool)
    mask[30:70, 10:110] = True
    return np.repeat(220 * mask[..., None], 3, axis=2).astype(np.uint8), mask


@example_settings(max_examples=40)
@given(seeds)
def test_a_framed_box_lies_in_the_middle_and_fills_four_fifths(seed: int) -> None:
    picture = np.zeros((300, 500, 3), np.uint8)
    picture[100:140, 300:400] = 255
    seen = framed(picture, (300, 400, 100, 140), np.random.default_rng(seed))
    assert (seen.dtype, seen.shape) == (np.uint8, (SIDE, SIDE, 3))
    across, down, width, height = extent(seen[..., 0] > 200)
    assert abs(across - SIDE / 2) < 45 and abs(down - SIDE / 2) < 30
    assert width > 1.5 * height and 100 < width <= SIDE


def test_the_framings_of_a_box_lie_around_its_middle() -> None:
    picture = np.zeros((300, 500, 3), np.uint8)
    picture[100:140, 300:400] = 255
    found = [
        extent(framed(picture, (300, 400, 100, 140), np.random.default_rng(seed))[..., 0] > 128)
        for seed in range(60)
    ]
    across, down, width, _ = np.array(found).T
    assert abs(across.mean() - SIDE / 2) < 5 and abs(down.mean() - SIDE / 2) < 5
    assert across.std() > 2 and width.std() > 2  # no two detectors agree
    assert width.mean() == pytest.approx(SIDE / 1.25, abs=10)


def test_beyond_the_picture_is_grey() -> None:
    """The box lies in the upper left corner, so there is nothing above it and to its left."""
    white = np.full((200, 200, 3), 255, np.uint8)
    seen = framed(white, (0, 100, 0, 30), np.random.default_rng(0))
    assert (seen[:40] == GREY).all() and (seen[150:, 60:] == 255).all()


@example_settings(max_examples=30)
@given(seeds)
def test_a_vehicle_is_placed_where_its_mask_is(seed: int) -> None:
    picture, mask = vehicle()
    black = np.zeros((80, 120, 3), np.uint8)
    seen = placed(picture, mask, black, np.random.default_rng(seed))
    assert (seen.dtype, seen.shape) == (np.uint8, (SIDE, SIDE, 3))
    across, down, width, height = extent(seen.max(2) > 12)
    assert abs(across - SIDE / 2) < 45 and abs(down - SIDE / 2) < 30
    assert width > 1.5 * height and width > 90


def test_what_lies_behind_is_seen_around_the_vehicle_alone() -> None:
    picture, mask = vehicle()
    for seed in range(10):
        behind = [
            placed(picture, mask, np.full((80, 120, 3), level, np.uint8), draws)
            for level, draws in (
                (40, np.random.default_rng(seed)),
                (240, np.random.default_rng(seed)),
            )
        ]
        changed = (behind[0] != behind[1]).any(2)
        assert changed[:30].all() and changed[-30:].all()
        assert not changed[SIDE // 2 - 8 : SIDE // 2 + 8, SIDE // 2 - 20 : SIDE // 2 + 20].any()


@example_settings(max_examples=60)
@given(seeds)
def test_a_filmed_picture_keeps_its_size_and_is_drawn_anew_alike(seed: int) -> None:
    picture = fields(1, SIDE, seed)[0]
    before = picture.copy()
    seen = as_filmed(picture, np.random.default_rng(seed))
    assert (seen.dtype, seen.shape) == (np.uint8, (SIDE, SIDE, 3))
    assert np.array_equal(as_filmed(picture, np.random.default_rng(seed)), seen)
    assert np.array_equal(picture, before)  # what is given stays


def test_other_draws_give_other_pictures() -> None:
    picture, mask = vehicle()
    box, behind = (10.0, 110.0, 30.0, 70.0), fields(1, 100)[0]

    def seen(seed: int) -> list[bytes]:
        draws = np.random.default_rng(seed)
        shown = framed(picture, box, draws), placed(picture, mask, behind, draws)
        return [part.tobytes() for part in (*shown, as_filmed(shown[0], draws))]

    assert seen(1) == seen(1)
    assert all(one != other for one, other in zip(seen(1), seen(2), strict=True))


def test_surroundings_are_the_parts_beside_the_vehicle_that_are_wide_enough() -> None:
    columns = np.repeat(np.arange(200, dtype=np.uint8)[None], 120, axis=0)
    picture = np.repeat(columns[..., None], 3, axis=2)
    [left, below] = surroundings([picture], [(80.0, 180.0, 10.0, 60.0)])
    assert left.shape == (120, 80, 3) and left.max() == 79
    assert below.shape == (60, 200, 3)
    assert surroundings([picture], [(30.0, 170.0, 30.0, 90.0)]) == []
