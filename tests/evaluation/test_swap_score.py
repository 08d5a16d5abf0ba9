from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.evaluation.swap_score import (
    measure_swap_score,
    pose_grid,
    swap_score,
    uneven_directions,
    variance_shares,
)
from tests.evaluation.test_swaps import perfect
from tests.evaluation.worlds import pointers


def test_by_hand() -> None:
    """Means 1 and 5, so 8 between; variances 2 and 8 within, so 5, of which half is left."""
    outputs = np.array([[0.0, 2.0], [3.0, 7.0]])
    assert variance_shares(outputs) == (8 - 5 / 2, 5)
    assert swap_score(outputs) == 5.5 / 10.5


def test_the_extremes() -> None:
    draws = np.random.default_rng(0)
    pose, identity = draws.normal(size=(5, 1, 9)), draws.normal(size=(1, 4, 9))
    assert swap_score(np.broadcast_to(pose, (5, 4, 9))) == 1
    assert swap_score(np.broadcast_to(identity, (5, 4, 9))) == 0
    assert swap_score(np.ones((5, 4, 9))) == 0


def test_known_components_are_found_on_average() -> None:
    draws = np.random.default_rng(1)
    shares = [
        variance_shares(2 * draws.normal(size=(6, 1, 40)) + draws.normal(size=(6, 5, 40)))
        for _ in range(100)
    ]
    pose, identity = np.mean(shares, axis=0)
    assert pose == pytest.approx(4, rel=0.05) and identity == pytest.approx(1, rel=0.05)


def test_outputs_that_ignore_both_have_no_pose_in_them() -> None:
    """Noise alone: the naive share of variance would be 1 / objects."""
    draws = np.random.default_rng(2)
    scores = [swap_score(draws.normal(size=(8, 4, 300))) for _ in range(50)]
    assert np.mean(scores) < 0.02


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 9), st.floats(-50, 50), st.integers(0, 99))
def test_scale_shift_and_order_change_nothing(scale: float, shift: float, seed: int) -> None:
    draws = np.random.default_rng(seed)
    outputs = draws.normal(size=(4, 3, 6)) + 2 * draws.normal(size=(4, 1, 6))
    moved = (scale * outputs + shift)[draws.permutation(4)][:, draws.permutation(3)]
    assert swap_score(moved) == pytest.approx(swap_score(outputs), abs=1e-6)


def test_generators_of_known_behaviour() -> None:
    views = pointers(5)

    def found(generator: object) -> float:
        return measure_swap_score(generator, views, 40, poses=6, objects=3).value  # type: ignore[arg-type]

    assert found(perfect) > 0.95
    assert found(lambda i, p: i) == 0
    copied = found(lambda i, p: p)
    assert copied < found(perfect) - 0.05
    assert copied < found(lambda i, p: perfect(i, p) * 0.7 + p * 0.3) < found(perfect)


def test_the_grid_has_every_pose_of_every_object() -> None:
    views = pointers(5)
    grid, ids = pose_grid(views, poses=6, objects=3, seed=2)
    assert grid.shape == (6, 2) and len(ids) == 3
    assert all(len(set(views.azimuth_deg[row])) == 1 for row in grid)
    assert len({views.azimuth_deg[row[0]] for row in grid}) == 6
    assert all(len(set(views.identity[column])) == 1 for column in grid.T)
    assert not set(views.identity[ids]) & set(views.identity[grid.ravel()])


def test_an_interval_by_objects() -> None:
    found = measure_swap_score(perfect, pointers(10), 40, poses=4, objects=5)
    assert found.n == found.identities == 5 and found.low is not None


def test_objects_seen_from_other_directions_are_a_warning() -> None:
    views = pointers(8)
    level = replace(views, elevation_deg=np.zeros(len(views)))
    assert uneven_directions(level, poses=6) is None
    turned = (views.azimuth_deg + 4 * (views.identity % 2)) % 360
    told = uneven_directions(replace(level, azimuth_deg=turned), poses=6)
    assert told is not None and "up to 4 degrees of azimuth and 0 of elevation" in told


def test_objects_that_are_seen_from_one_height_come_first() -> None:
    views = pointers(8)
    height = np.where(views.identity < 4, 20.0, 0.0)
    tilted = replace(views, elevation_deg=height)
    grid, _ = pose_grid(tilted, poses=6, objects=4)
    assert set(views.identity[grid[0]]) == {4, 5, 6, 7}
    assert uneven_directions(tilted, poses=6) is None
    # Where there is no choice, the warning stands.
    mixed = replace(views, elevation_deg=np.where(views.identity < 6, 20.0, 0.0))
    told = uneven_directions(mixed, poses=6)
    assert told is not None and "0 degrees of azimuth and 20 of elevation" in told


def test_what_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="two poses and two objects"):
        swap_score(np.zeros((1, 4, 2)))
    with pytest.raises(ValueError, match="four objects"):
        pose_grid(pointers(3))
    with pytest.raises(ValueError, match="finite"):
        measure_swap_score(lambda i, p: i * torch.nan, pointers(4), 40, poses=6)


def test_objects_that_are_not_seen_all_around_give_no_poses() -> None:
    views = pointers(5)
    front = views.select((views.identity != 1) | (views.azimuth_deg < 100))
    for seed in range(5):
        grid, ids = pose_grid(front, poses=6, seed=seed)
        assert 1 not in front.identity[grid.ravel()]
        assert 1 in front.identity[ids]
