"""What a clip's pictures tell of its directions together: against all paths, and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.pose.car_view import witness_of
from idpose_core.pose.directions import angle_between
from idpose_core.pose.turning import (
    AZIMUTHS,
    DIRECTIONS,
    Floats,
    clip_directions,
    mean_readings,
    readings_of,
)

clips = st.lists(st.integers(0, 8000), min_size=1, max_size=6)
seeds = st.integers(0, 999)


def some_witnesses(count: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(0, 2, (count, DIRECTIONS))


def facing(*azimuths_deg: float) -> Floats:
    """Witnesses of a reader that reads these azimuths."""
    return witness_of(readings_of(np.radians(azimuths_deg)))


def at(*times: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(times, np.int64)


def softmax(witnesses: Floats) -> Floats:
    likely = np.exp(witnesses)
    return np.asarray(likely / likely.sum(axis=-1, keepdims=True))


def turn_chances(gap_ms: float) -> Floats:
    """45 degrees a second, growing like a random walk; 2 degrees at least."""
    deviation = max(45 * math.sqrt(gap_ms / 1000), 2)
    chances = np.empty((DIRECTIONS, DIRECTIONS))
    for one in range(DIRECTIONS):
        for other in range(DIRECTIONS):
            steps = abs(one - other)
            away = 15 * min(steps, DIRECTIONS - steps)
            chances[one, other] = math.exp(-((away / deviation) ** 2) / 2)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("times", [(0, 400, 2600), (0, 1000, 2000), (700, 700, 900)])
def test_against_all_paths_of_three_pictures(times: tuple[int, int, int]) -> None:
    witnesses = some_witnesses(3, seed=0)
    weights = [1 / sum(max(0, 1 - abs(t - other) / 1000) for other in times) for t in times]
    first, second, third = np.exp(witnesses * np.array(weights)[:, None])
    paths = first[:, None, None] * second[None, :, None] * third[None, None]
    paths = paths * turn_chances(times[1] - times[0])[:, :, None]
    paths = paths * turn_chances(times[2] - times[1])[None]
    expected = np.stack([paths.sum(axis=others) for others in ((1, 2), (0, 2), (0, 1))])
    found = clip_directions(witnesses, at(*times))
    np.testing.assert_allclose(found, expected / paths.sum(), rtol=0, atol=1e-9)


def test_one_picture_alone_is_its_own_witness() -> None:
    witnesses = some_witnesses(1, seed=1)
    np.testing.assert_allclose(clip_directions(witnesses, at(7)), softmax(witnesses), atol=1e-12)


def test_no_pictures_have_no_directions() -> None:
    assert clip_directions(some_witnesses(0, 0), at()).shape == (0, DIRECTIONS)


def test_a_picture_seen_twice_at_once_is_one_witness() -> None:
    once = some_witnesses(1, seed=2)
    twice = clip_directions(np.repeat(once, 2, axis=0), at(5, 5))
    np.testing.assert_allclose(twice, np.repeat(softmax(once), 2, axis=0), atol=1e-9)


def test_two_pictures_at_once_are_the_mean_of_two_witnesses() -> None:
    witnesses = some_witnesses(2, seed=3)
    found = clip_directions(witnesses, at(5, 5))
    np.testing.assert_allclose(found[0], softmax(witnesses.mean(axis=0)), atol=1e-9)


def test_pictures_that_follow_at_once_make_no_clip_surer() -> None:
    alone = softmax(facing(90))[0]
    burst = clip_directions(facing(*[90] * 10), np.arange(10))
    np.testing.assert_allclose(burst, np.tile(alone, (10, 1)), atol=0.01)


def test_pictures_that_are_far_apart_tell_nothing_of_each_other() -> None:
    witnesses = facing(0, 120)
    found = clip_directions(witnesses, at(0, 10**9))
    np.testing.assert_allclose(found, softmax(witnesses), atol=1e-4)


def test_a_picture_that_is_read_backwards_is_outvoted() -> None:
    witnesses = facing(30, 30, 210, 30, 30)
    found = clip_directions(witnesses, at(0, 250, 500, 750, 1000))
    assert np.abs(found.argmax(axis=1) - 2).max() <= 1
    assert softmax(witnesses)[2].argmax() == 14


def test_a_car_that_turns_is_followed() -> None:
    azimuths = list(range(0, 360, 30))
    found = clip_directions(facing(*azimuths), 1000 * np.arange(12))
    assert angle_between(15.0 * found.argmax(axis=1), np.array(azimuths)).max() <= 15


@given(clips)
def test_where_nothing_is_told_nothing_is_known(times: list[int]) -> None:
    found = clip_directions(np.zeros((len(times), DIRECTIONS)), at(*times))
    np.testing.assert_allclose(found, 1 / DIRECTIONS, atol=1e-9)


@given(clips, seeds)
def test_the_order_of_the_rows_changes_nothing(times: list[int], seed: int) -> None:
    witnesses, order = some_witnesses(len(times), seed), np.random.default_rng(seed)
    mixed = order.permutation(len(times))
    found = clip_directions(witnesses, at(*times))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    again = clip_directions(witnesses[mixed], at(*times)[mixed])
    np.testing.assert_allclose(again, found[mixed], atol=1e-9)


@given(clips, seeds, st.integers(1, DIRECTIONS - 1))
def test_a_scene_turned_or_mirrored_is_read_turned_or_mirrored(
    times: list[int], seed: int, bins: int
) -> None:
    witnesses = some_witnesses(len(times), seed)
    found = clip_directions(witnesses, at(*times))
    turned = clip_directions(np.roll(witnesses, bins, axis=1), at(*times))
    np.testing.assert_allclose(turned, np.roll(found, bins, axis=1), atol=1e-9)
    opposite = -np.arange(DIRECTIONS) % DIRECTIONS
    mirrored = clip_directions(witnesses[:, opposite], at(*times))
    np.testing.assert_allclose(mirrored, found[:, opposite], atol=1e-9)


@given(clips, seeds, st.integers(-(10**6), 10**6), st.floats(-500, 500))
def test_neither_a_clips_start_nor_a_witness_s_constant_matters(
    times: list[int], seed: int, later: int, louder: float
) -> None:
    witnesses = some_witnesses(len(times), seed)
    found = clip_directions(witnesses, at(*times))
    shifted = clip_directions(witnesses + louder, at(*times) + later)
    np.testing.assert_allclose(shifted, found, atol=1e-9)


def test_readings_of_a_compass() -> None:
    found = readings_of(np.radians([0, 90, 180, 270, 80, 45]))
    expected = [
        [1, 1, 0], [0, 0, 1], [-1, -1, 0], [0, 0, -1],
        [0.17365 / 0.35, 0.17365, 0.98481], [1, 0.70711, 0.70711],
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_mean_reading_of_a_sure_picture_is_its_reading_and_of_an_unsure_one_is_short() -> None:
    sure = mean_readings(np.eye(DIRECTIONS))
    assert sure.dtype == np.float32
    np.testing.assert_allclose(sure, readings_of(AZIMUTHS), atol=1e-6)
    np.testing.assert_allclose(mean_readings(np.full((1, 24), 1 / 24)), 0, atol=1e-6)
    either = (np.eye(DIRECTIONS)[6] + np.eye(DIRECTIONS)[0]) / 2
    np.testing.assert_allclose(mean_readings(either[None]), [[0.5, 0.5, 0.5]], atol=1e-6)
