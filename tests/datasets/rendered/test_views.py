"""The clean multi-view sets."""

from __future__ import annotations

import numpy as np
import pytest

from idpose_core.datasets.rendered.car_model import car_model
from idpose_core.datasets.rendered.overlay import view_sheet
from idpose_core.datasets.rendered.views import View, rendered_views, view_grid
from idpose_core.instances.boxes import box_of


@pytest.fixture(scope="module")
def around() -> list[View]:
    grid = [(azimuth, 10.0) for azimuth in range(0, 360, 45)]
    return list(rendered_views("car", [_grey_car()], grid=grid, samples=2))


def _grey_car() -> int:
    return next(
        i for i in range(183)
        if max(car_model(i).paint) - min(car_model(i).paint) < 0.03
        and car_model(i).tail_lamps in ("upright", "round")
        and (car_model(i).stripe, car_model(i).decal, car_model(i).rack) == ("none",) * 3
    )  # fmt: skip


def red(view: View) -> np.ndarray:
    """Columns of the pixels of tail lamps."""
    r, g, b = np.moveaxis(view.image.astype(int), 2, 0)
    return np.nonzero(view.mask & (r > 90) & (r > 2 * g) & (r > 2 * b))[1]


@pytest.mark.parametrize(("kind", "azimuths", "count"), [("car", 24, 96), ("chair", 31, 62)])
def test_the_grid_is_that_of_the_papers_sets(kind: str, azimuths: int, count: int) -> None:
    grid = view_grid(kind)
    assert len(grid) == len(set(grid)) == count
    assert {azimuth for azimuth, _ in grid} == {360 * i / azimuths for i in range(azimuths)}
    assert len({elevation for _, elevation in grid}) == count // azimuths


def test_one_model_gives_the_whole_grid_in_order() -> None:
    views = list(rendered_views("chair", [3], side=32, samples=2))
    assert [(v.azimuth_deg, v.elevation_deg) for v in views] == view_grid("chair")
    for view in views:
        assert (view.kind, view.model) == ("chair", 3)
        assert (view.image.shape, view.image.dtype) == ((32, 32, 3), np.uint8)
        assert (view.mask.shape, view.mask.dtype) == ((32, 32), np.bool_)
        assert 0.04 < view.mask.mean() < 0.7


def test_the_background_is_light_and_even_and_the_object_inside(around: list[View]) -> None:
    for view in around:
        xmin, xmax, ymin, ymax = box_of(view.mask) or (0, 1, 0, 1)
        assert min(xmin, ymin) > 0.01
        assert max(xmax, ymax) < 0.99
        edge = np.concatenate([view.image[:3].reshape(-1, 3), view.image[-3:].reshape(-1, 3)])
        assert edge.min() >= 225
        assert np.ptp(edge) <= 3


def test_tail_lamps_are_seen_from_behind_only_and_on_the_right_side(around: list[View]) -> None:
    front, _, _, left, rear, right, _, _ = (red(view) for view in around)
    assert len(rear) > 12
    assert len(front) <= 0.1 * len(rear)
    middle = around[0].image.shape[1] / 2
    assert abs(rear.mean() - middle) < 4  # one on each side
    # Seen from its left rear a car drives to the left, so its rear is on the right
    assert left.mean() > middle + 12
    assert right.mean() < middle - 12


def test_a_car_is_longer_than_wide(around: list[View]) -> None:
    wide = [np.ptp(np.nonzero(view.mask)[1]) for view in around]
    assert wide[2] > 1.7 * wide[0]
    assert wide[6] == pytest.approx(wide[2], abs=2)


def test_equal_calls_give_equal_pictures() -> None:
    first, again = (
        [v.image for v in rendered_views("car", [1], grid=[(30, 10)], side=48)] for _ in range(2)
    )
    assert np.array_equal(first, again)
    # A picture does not depend on which were drawn before it
    later = list(rendered_views("car", [0, 1], grid=[(200, 0), (30, 10)], side=48))[-1]
    assert np.array_equal(later.image, first[0])


def test_sheets_hold_all_views(around: list[View]) -> None:
    assert view_sheet(around, 3).shape == (3 * 128, 3 * 128, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "car", "models": [200]}, "no car 200"),
        ({"kind": "tank", "models": [0]}, "no kind 'tank'"),
        ({"kind": "car", "models": [0], "side": 8}, "side must be at least 16"),
        ({"kind": "car", "models": [0], "samples": 1}, "samples at least 2"),
    ],
)
def test_silly_input_is_refused_at_once(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rendered_views(**arguments)
