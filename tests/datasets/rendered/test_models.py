"""Models are pure functions of their number, and their meshes are sound."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from idpose_core.datasets.rendered.car_body import body_panels
from idpose_core.datasets.rendered.car_mesh import car_solid
from idpose_core.datasets.rendered.car_model import BODY_TYPES, PAINTS, car_model
from idpose_core.datasets.rendered.chair_model import chair_model
from idpose_core.datasets.rendered.families import family, solid
from idpose_core.datasets.rendered.meshes import ball, box, lathe, rotation, tube
from idpose_core.datasets.rendered.skins import Material, Palette


def volume(mesh) -> float:
    """Signed: positive where faces are counter-clockwise seen from outside of a closed mesh."""
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (box((1, 2, 3)), 6.0),
        (ball((1, 1, 1), sides=64), 4 / 3 * np.pi),
        (lathe([(0, 0), (1, 0), (1, 2), (0, 2)], sides=64), 2 * np.pi),
        (box((1, 2, 3)).scaled((1, -1, 2)), 12.0),
        (box((1, 2, 3), (4, 5, 6)).turned(2, 30), 6.0),
    ],
)
def test_primitives_enclose_their_volume_and_look_outwards(mesh, expected: float) -> None:
    assert volume(mesh) == pytest.approx(expected, rel=0.02)
    assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1)
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    flat = np.cross(b - a, c - a)
    agrees = (flat * mesh.normals[mesh.faces].mean(axis=1)).sum(axis=1)
    assert (agrees > -1e-9).all()


def test_a_tube_looks_outwards() -> None:
    path = np.array([(0.0, 0, 0), (0, 0, 1), (0, 0, 2)])
    mesh = tube(path, 0.1)
    assert (mesh.normals[:, :2] * mesh.points[:, :2]).sum(axis=1) == pytest.approx(0.1, abs=0.01)


def test_turning_is_counter_clockwise() -> None:
    assert rotation(2, 90) @ (1, 0, 0) == pytest.approx([0, 1, 0])
    assert rotation(0, 90) @ (0, 1, 0) == pytest.approx([0, 0, 1])


def test_equal_numbers_give_equal_models_and_others_others() -> None:
    assert car_model(7) == car_model(7)
    assert chair_model(7) == chair_model(7)
    assert len({replace(car_model(i), index=0) for i in range(183)}) == 183
    assert len({replace(chair_model(i), index=0) for i in range(1393)}) == 1393


def test_many_cars_share_one_paint_and_all_body_types_occur() -> None:
    cars = [car_model(i) for i in range(183)]
    near = Counter(int(np.abs(np.array(PAINTS) - car.paint).sum(axis=1).argmin()) for car in cars)
    assert len(near) == len(PAINTS)
    assert min(near.values()) >= 5
    assert {car.body_type for car in cars} == set(BODY_TYPES)


@pytest.mark.parametrize("index", range(0, 183, 13))
def test_cars_are_sound(index: int) -> None:
    car, shape = car_model(index), solid("car", index)
    mesh = shape.mesh
    assert np.isfinite(mesh.points).all()
    assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1)
    assert mesh.places.min() >= 0
    assert mesh.places.max() <= 1
    assert mesh.points[:, 2].min() == pytest.approx(0, abs=0.003)  # the wheels stand on the ground
    assert shape.size[0] == pytest.approx(car.length, abs=0.3)  # a spare wheel stands out
    assert car.width <= shape.size[1] <= car.width + 0.6  # mirrors, too
    assert car.height - 0.05 <= shape.size[2] <= car.height + 0.5
    # The axles lie under the car, the windscreen ahead of the rear window
    assert car.length / 2 > car.axles[0] > 0 > car.axles[1] > -car.length / 2
    assert car.windscreen[0] > car.windscreen[1] > car.rear_window[0] > car.rear_window[1]


def test_bodies_are_the_same_on_both_sides() -> None:
    side, front, rear = body_panels(car_model(4))
    assert side.points[::-1] == pytest.approx(side.points * (1, -1, 1))
    for end in (front, rear):
        assert end.points[:, ::-1] == pytest.approx(end.points * (1, -1, 1))


def test_some_cars_are_nearly_symmetric_from_front_to_rear() -> None:
    minis = [car_model(i) for i in range(183) if car_model(i).body_type == "mini"]
    assert minis
    for car in minis:
        assert car.rear_window == pytest.approx((-car.windscreen[1], -car.windscreen[0]), abs=0.6)
        assert car.axles[0] == pytest.approx(-car.axles[1])


@pytest.mark.parametrize("index", range(0, 1393, 71))
def test_chairs_are_sound(index: int) -> None:
    shape = solid("chair", index)
    assert np.isfinite(shape.mesh.points).all()
    assert np.linalg.norm(shape.mesh.normals, axis=1) == pytest.approx(1)
    assert shape.mesh.points[:, 2].min() == pytest.approx(0)
    assert 0.3 < shape.size[0] < 1.1
    assert 0.3 < shape.size[1] < 0.9
    assert 0.6 < shape.size[2] < 1.5
    # The back is behind: what is high lies at negative x
    high = shape.mesh.points[:, 2] > 0.85 * shape.size[2]
    assert shape.mesh.points[high, 0].mean() < 0


def test_decals_read_rightly_from_both_sides() -> None:
    """A number on the doors is no mirror image: its picture is the same seen from each side."""
    found = next(c for c in map(car_model, range(183)) if c.decal == "disc" and c.stripe == "none")
    plain = car_solid(replace(found, decal="none")).skin.texels
    marked = car_solid(found).skin.texels
    changed = np.abs(plain - marked).max(axis=2)[:352] > 0
    left, right = changed[:176], changed[176:]
    # The two sides of the picture mirror each other but for the digits
    assert left.sum() == pytest.approx(right.sum(), rel=0.02)
    ink = np.abs(marked[:352, :, :3] - np.array(found.second)).max(axis=2) > 0.1
    assert not np.array_equal((ink & changed)[:176], (ink & changed)[176:][::-1])


def test_palettes_are_finite() -> None:
    palette = Palette()
    for i in range(64):
        assert palette.cell(Material((i / 64, 0, 0))) == i
    assert palette.cell(Material((0.5, 0, 0))) == 32
    with pytest.raises(ValueError, match="64 materials"):
        palette.cell(Material((1, 1, 1)))


def test_models_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="no kind 'bus'; there are car, chair"):
        family("bus")
    with pytest.raises(ValueError, match="no car 183: the models are 0 to 182"):
        solid("car", 183)
    with pytest.raises(ValueError, match="no chair -1"):
        solid("chair", -1)
