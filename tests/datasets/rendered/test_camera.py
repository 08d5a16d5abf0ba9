"""The camera, the convention for poses, and that the renderer keeps to both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.datasets.rendered.camera import Camera, camera_around, pose_matrix, view_angles
from idpose_core.datasets.rendered.meshes import box, merged
from idpose_core.datasets.rendered.motion import corners
from idpose_core.datasets.rendered.renderer import Stage
from idpose_core.datasets.rendered.skies import studio
from idpose_core.datasets.rendered.skins import Material, Palette, Skin, Solid

SIZE = (160, 120)
angles = st.floats(0, 359.9)


def test_the_convention() -> None:
    """0 sees the front, 90 the left side, 180 the rear; it does not depend on the heading."""
    for heading in (0.0, 77.0, 200.0):
        pose = pose_matrix(3, -2, heading)
        for azimuth, place in {0: (9, 0), 90: (0, 9), 180: (-9, 0), 270: (0, -9)}.items():
            at = pose @ (*place, 0.7, 1)
            assert view_angles(at[:3], pose, 0.7) == pytest.approx((azimuth, 0, 9))
    assert view_angles(np.array((0, 3.0, 3.7)), np.eye(4), 0.7)[1] == pytest.approx(45)


@given(angles, st.floats(-5, 60), st.floats(2, 30))
def test_the_camera_around_an_object_is_where_it_was_asked_to_be(
    azimuth: float, elevation: float, distance: float
) -> None:
    camera = camera_around(azimuth, elevation, distance, 0.7, 200, SIZE)
    found = view_angles(camera.place, np.eye(4), 0.7)
    assert abs((found[0] - azimuth + 180) % 360 - 180) < 1e-6
    assert found[1:] == pytest.approx((elevation, distance))
    assert camera.project(np.array([(0, 0, 0.7)]))[0] == pytest.approx((80, 60))


def test_the_camera_is_upright_and_not_mirrored() -> None:
    camera = Camera(np.array((8.0, 0, 1)), np.array((0.0, 0, 1)), 100, SIZE)
    points = np.array([(0, 0, 2), (0, 2, 1), (0, 0, 1)], np.float64)
    high, left_of_car, middle = camera.project(points)
    assert high == pytest.approx((80, 60 - 12.5))
    assert left_of_car == pytest.approx((80 + 25, 60))  # who faces a car sees its left on the right
    assert middle == pytest.approx((80, 60))
    rolled = Camera(camera.place, camera.target, 100, SIZE, roll_deg=10)
    assert rolled.project(points)[0][0] < 80  # turned to the right, what is above tips to the left


@given(
    angles, st.floats(2, 40), st.floats(5, 9), angles, st.floats(-4, 4),
    st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)  # fmt: skip
@settings(max_examples=25)
def test_the_renderer_sees_what_the_projection_says(
    azimuth: float, elevation: float, distance: float, heading: float, roll: float,
    off: tuple[float, float],
) -> None:  # fmt: skip
    size = np.array((2.0, 1.0, 0.7))
    palette = Palette()
    mesh = palette.dress(box(size, (0, 0, size[2] / 2)), Material((0.5, 0.5, 0.5)))
    stage = Stage({"box": Solid(mesh, Skin(palette.texels()))}, [], None, SIZE)
    pose = pose_matrix(*off, heading)
    around = camera_around(azimuth, elevation, distance, 0.3, 190, SIZE)
    camera = Camera(around.place, around.target, around.focal, SIZE, roll)
    depth = stage.depth(camera, {"box": pose})
    rows, columns = np.nonzero(depth)
    pixels = camera.project(corners(size) @ pose[:3, :3].T + pose[:3, 3])
    expected = np.clip(np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]), 0, [*SIZE, *SIZE])
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert seen == pytest.approx(expected, abs=1.2)  # a corner may pass between pixel centres
    # Distance along the ray of the pixel in the middle of the box
    assert distance - 2 < depth[depth > 0].min() < distance + 1


def test_pictures_follow_from_their_seed_and_lie_where_the_depth_lies() -> None:
    palette = Palette()
    red = palette.dress(box((1, 1, 1), (1, 0, 0.5)), Material((0.6, 0.02, 0.02)))
    blue = palette.dress(box((1, 1, 1), (-1, 0, 0.5)), Material((0.02, 0.02, 0.6)))
    shape = Solid(merged([red, blue]), Skin(palette.texels()))
    stage = Stage({"box": shape}, [], studio(), SIZE)
    camera, here = camera_around(90, 10, 8, 0.5, 200, SIZE), {"box": np.eye(4)}
    first, again, other = (stage.layers(camera, here, samples=2, seed=seed) for seed in (5, 5, 6))
    for name in ("sun", "sky", "flash", "depth"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.sky, other.sky)
    assert np.array_equal(first.depth, stage.depth(camera, here))
    # At 90 degrees we look at the left side: the front (+x, red) is on the left of the picture
    red_columns = np.nonzero(first.flash[..., 0] > 3 * first.flash[..., 2])[1]
    blue_columns = np.nonzero(first.flash[..., 2] > 3 * first.flash[..., 0])[1]
    assert red_columns.max() <= blue_columns.min() + 1
    # Moved 1 m to its front, it moves 1 m to the left in the picture
    moved = stage.depth(camera, {"box": pose_matrix(1, 0, 0)})
    shift = np.nonzero(moved)[1].min() - np.nonzero(first.depth)[1].min()
    assert shift == pytest.approx(-200 / 7.5, abs=1.5)
