from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.evaluation.pictures import at_size, generated
from idpose_core.evaluation.swap_score import (
    measure_swap_score,
    pose_grid,
    swap_score,
    uneven_directions,
    variance_shares,
)
from idpose_core.evaluation.views import LabelledViews
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
    found = measure_swap_score(perfect, pointers(10), 40, poses=4, objects=5).estimate()
    assert found.n == found.identities == 5 and found.low is not None
    few = measure_swap_score(perfect, pointers(8), 40, poses=4, objects=4).estimate()
    assert few.n == few.identities == 4 and few.low is None
    assert measure_swap_score(perfect, pointers(12), 40, poses=4, objects=5, ids=3).n == 3


def test_the_jackknife_leaves_out_objects_of_either_role() -> None:
    views = pointers(9)
    found = measure_swap_score(leaky, views, 40, poses=4, objects=4, seed=3)
    by_line, by_object = found.without
    assert (len(by_line), len(by_object)) == (5, 4)
    grid, lines = pose_grid(views, poses=4, objects=4, seed=3)
    first = views.identity[grid[0, 0]]
    scores = [_score_of(views, grid[:, 1:], line) for line in lines]
    assert first not in views.identity[grid[:, 1:]]
    assert by_object[0] == pytest.approx(np.mean(scores))
    whole = np.array([_score_of(views, grid, line) for line in lines])
    assert found.value == pytest.approx(whole.mean())
    assert by_line[1] == pytest.approx(np.delete(whole, 1).mean())


def test_the_interval_covers_what_other_objects_would_give() -> None:
    """A copy of the pose picture varies with its objects alone, whatever the ID picture is."""
    found = [
        measure_swap_score(
            lambda i, p: p, pointers(12, first=draw / 7), 40, poses=6, objects=6, seed=draw
        ).estimate()
        for draw in range(30)
    ]
    truth = np.mean([one.value for one in found])
    spread = np.std([one.value for one in found])
    assert spread > 0
    covered = [one.low <= truth <= one.high for one in found]  # type: ignore[operator]
    assert np.mean(covered) >= 0.85


def leaky(ids: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
    """Something of the pose picture's colour stays."""
    return perfect(ids, poses) * 0.7 + poses * 0.3


def _score_of(views: LabelledViews, grid: np.ndarray, line: int) -> float:
    own = at_size(views.pictures[[line]], 40)
    seen = at_size(views.pictures[grid.ravel()], 40)
    made = generated(leaky, np.broadcast_to(own, seen.shape), seen)
    return swap_score(made.reshape(*grid.shape, -1))


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


def test_elevations_without_angles_are_told_apart_by_their_order() -> None:
    """As in 3D Cars: each azimuth is seen from two heights, one after the other."""
    level = pointers(6)
    raised = replace(
        level, pictures=255 - level.pictures, elevation_order=np.ones(len(level), np.int64)
    )
    shuffled = np.random.default_rng(0).permutation(2 * len(level))
    both = _joined(level, raised).select(shuffled)
    grid, _ = pose_grid(both, poses=6, objects=3)
    assert not both.elevation_order[grid].any()
    assert uneven_directions(both, poses=6) is None
    # Of a small set nobody knows whether the first view of an object is the lowest one.
    gaps = both.select((both.identity > 2) | (both.elevation_order == 0))
    told = uneven_directions(gaps, poses=6)
    assert told is not None and "unknown number of elevation" in told


def _joined(one: LabelledViews, two: LabelledViews) -> LabelledViews:
    columns = ("pictures", "identity", "video", "azimuth_deg", "elevation_deg", "elevation_order")
    both = {c: np.concatenate([getattr(one, c), getattr(two, c)]) for c in columns}
    return replace(one, **both)


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
