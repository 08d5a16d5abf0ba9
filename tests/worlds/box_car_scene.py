"""Where a box car stands: a camera, a textured ground, a horizon with sky, light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.worlds.box_car_model import BoxCar, Face, Floats, ground_shape

Picture = NDArray[np.uint8]

_FOCAL = 1.25  # in units of the picture's height
_GROUND_PIXELS, _GROUND_METRES = 640, 44.0
_GROUNDS = (
    (104, 104, 106), (128, 124, 118), (96, 112, 70), (150, 134, 104), (84, 88, 94), (122, 108, 92),
)  # fmt: skip
_SKIES = ((176, 200, 226), (206, 212, 218), (226, 206, 184), (156, 184, 220))
_WALLS = (
    (168, 154, 138), (142, 92, 74), (186, 184, 176), (112, 118, 126), (150, 132, 104), (96, 84, 78),
)  # fmt: skip
_LEAVES = ((70, 96, 52), (52, 80, 48), (98, 106, 60), (86, 74, 46))


@dataclass(frozen=True)
class Scene:
    """Surroundings of a car.

    Attributes:
        ground: uint8 [G, G, 3], seen from above, 44 m wide.
        panorama: uint8 [H, W, 3], a full turn above the horizon, its lowest row on the horizon.
        haze: RGB of the sky near the horizon, which glass mirrors.
        far: RGB of the far ground.
        sun: Unit vector to the light.
        shade: Brightness of what the sun does not reach, 0..1.
    """

    ground: Picture
    panorama: Picture
    haze: Floats
    far: Floats
    sun: Floats
    shade: float


class Camera:
    """A pinhole camera that looks at a car.

    Args:
        azimuth_deg: 0 sees the front, 90 the car's left side, 180 the rear.
        elevation_deg: Above the ground.
        distance: Metres to the middle of the car.
        aside: Where in the picture that middle lies, from the centre, in picture heights.
        size: Width and height in pixels.
    """

    def __init__(
        self,
        azimuth_deg: float,
        elevation_deg: float,
        distance: float,
        aside: tuple[float, float],
        size: tuple[int, int],
    ) -> None:
        azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
        level = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        away = np.cos(elevation) * level + np.array([0.0, 0.0, np.sin(elevation)])
        right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        self.place = np.array([0.0, 0.0, 0.6]) + distance * away
        self.azimuth, self.size = float(azimuth), size
        self.focal = _FOCAL * size[1]
        centre = (size[0] / 2 + aside[0] * size[1], size[1] / 2 + aside[1] * size[1])
        self.horizon = centre[1] - self.focal * float(np.tan(elevation))
        inner = np.array([[self.focal, 0, centre[0]], [0, self.focal, centre[1]], [0, 0, 1]])
        turn = np.stack([right, np.cross(-away, right), -away])
        self.matrix: Floats = inner @ np.hstack([turn, -turn @ self.place[:, None]])

    def project(self, points: Floats) -> Floats:
        """Pixels float64 [N, 2] of points [N, 3]; the middle of the first pixel is (0.5, 0.5)."""
        seen = points @ self.matrix[:, :3].T + self.matrix[:, 3]
        return np.asarray(seen[:, :2] / seen[:, 2:])


def random_scene(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw surroundings for pictures of this width and height."""
    sky = np.array(_SKIES[int(random.integers(len(_SKIES)))]) + random.uniform(-12, 12, 3)
    angle, height = random.uniform(0, 2 * np.pi), random.uniform(0.7, 1.3)
    sun = np.array([np.cos(angle), np.sin(angle), height])
    ground, haze = _ground(random), sky * 0.8 + 20
    return Scene(
        ground=ground,
        panorama=_panorama(random, sky, size[1]),
        haze=haze,
        far=0.4 * haze + 0.6 * ground.mean((0, 1)),
        sun=sun / np.linalg.norm(sun),
        shade=float(random.uniform(0.5, 0.65)),
    )


def draw_view(
    scene: Scene, car: BoxCar, layers: Sequence[Sequence[Face]], camera: Camera
) -> tuple[Picture, tuple[float, float, float, float]]:
    """Draw a car, given with its ``car_faces``, in its surroundings.

    Returns:
        uint8 [H, W, 3] RGB, and the car's box (xmin, xmax, ymin, ymax) relative to the frame and
        clipped to it. The shadow is not part of the box.
    """
    picture = _surroundings(scene, camera)
    _cast_shadow(picture, scene, car, camera)
    corners = []
    for layer in layers:
        for face in layer:
            if face.normal @ (camera.place - face.points[0]) <= 0:
                continue
            pixels = camera.project(face.points)
            corners.append(pixels)
            _fill(picture, pixels, _lit(face, scene, camera))
    points = np.concatenate(corners) / np.array(camera.size)
    (left, top), (right, bottom) = np.clip([points.min(axis=0), points.max(axis=0)], 0, 1).tolist()
    return picture, (left, right, top, bottom)


def _surroundings(scene: Scene, camera: Camera) -> Picture:
    width, height = camera.size
    # Columns 0, 1 and 3 of the camera's matrix take ground metres to pixels
    scale = _GROUND_METRES / _GROUND_PIXELS
    to_metres = np.array(
        [[scale, 0, -_GROUND_METRES / 2], [0, scale, -_GROUND_METRES / 2], [0, 0, 1]]
    )
    picture = cv2.warpPerspective(
        scene.ground,
        camera.matrix[:, [0, 1, 3]] @ to_metres,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    ).astype(np.float32)
    below = np.arange(height) - camera.horizon
    clear = np.clip(below / (0.22 * height), 0, 1)[:, None, None]
    picture = scene.far + clear * (picture - scene.far)
    rows = int(np.clip(np.ceil(camera.horizon), 0, height))
    if rows > 0:
        tall, around = scene.panorama.shape[:2]
        columns = np.arange(width) - round(camera.azimuth / (2 * np.pi) * around)
        lines = np.clip(np.arange(rows) + tall - rows, 0, tall - 1)
        picture[:rows] = scene.panorama[lines[:, None], columns % around]
    return _as_picture(picture)


def _cast_shadow(picture: Picture, scene: Scene, car: BoxCar, camera: Camera) -> None:
    shape = ground_shape(car)
    roof = shape * np.array([0.55, 0.8, 1.0]) + np.array([0, 0, car.body + car.cabin])
    cast = roof - scene.sun * (roof[:, 2:] / scene.sun[2])
    points = camera.project(np.concatenate([shape, cast])).astype(np.float32)
    for part, strength in ((points, 0.42), (points[:4], 0.6)):
        mask = np.zeros(picture.shape[:2], np.uint8)
        hull = cv2.convexHull(part)[:, 0]
        _fill(mask, hull, (255,))
        soft = cv2.GaussianBlur(mask, (0, 0), picture.shape[0] / 140)[..., None] / 255
        picture[:] = picture * (1 - strength * soft)


def _lit(face: Face, scene: Scene, camera: Camera) -> tuple[float, ...]:
    colour = np.array(face.colour, np.float64)
    if face.finish == "paint":
        facing = max(0.0, float(face.normal @ scene.sun))
        upwards = 0.12 * float(face.normal[2])
        colour = colour * (scene.shade + upwards + (1.08 - scene.shade) * facing)
    elif face.finish == "glass":
        sight = camera.place - face.points.mean(axis=0)
        sight /= np.linalg.norm(sight)
        mirrored = (
            0.1 + 0.5 * (1 - abs(float(face.normal @ sight))) ** 2 + 0.15 * float(face.normal[2])
        )
        colour = colour + (scene.haze - colour) * np.clip(mirrored, 0, 1)
    return tuple(float(c) for c in np.clip(colour, 0, 255).round())


def _fill(
    picture: Picture, pixels: Floats | NDArray[np.float32], colour: tuple[float, ...]
) -> None:
    # OpenCV takes 4 fractional bits and sets the middle of the first pixel at (0, 0)
    cv2.fillConvexPoly(
        picture, np.round((pixels - 0.5) * 16).astype(np.int32), colour, cv2.LINE_AA, 4
    )


def _ground(random: np.random.Generator) -> Picture:
    side = _GROUND_PIXELS
    colour = np.array(_GROUNDS[int(random.integers(len(_GROUNDS)))]) + random.uniform(-6, 6, 3)
    ground = np.broadcast_to(colour, (side, side, 3)).astype(np.float32)
    other = np.array(_GROUNDS[int(random.integers(len(_GROUNDS)))])
    patches = _noise(random, 9, side) > random.uniform(0.6, 1.2)
    soft = cv2.GaussianBlur(patches.astype(np.float32), (0, 0), 3)[..., None]
    ground = ground + 0.6 * soft * (other - ground)
    for cells, strength in ((16, 7.0), (60, 6.0), (200, 7.0), (side, 6.0)):
        ground += strength * _noise(random, cells, side)[..., None]
    if random.random() < 0.6:  # painted lines
        apart, first = int(random.integers(40, 110)), int(random.integers(0, 40))
        for line in range(first, side, apart):
            ground[:, line : line + 2] += 60
    turned = cv2.getRotationMatrix2D((side / 2, side / 2), float(random.uniform(0, 360)), 1.0)
    ground = cv2.warpAffine(ground, turned, (side, side), borderMode=cv2.BORDER_REFLECT)
    return _as_picture(ground)


def _as_picture(values: NDArray[np.float32]) -> Picture:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def _noise(random: np.random.Generator, cells: int, side: int) -> NDArray[np.float32]:
    coarse = random.standard_normal((cells, cells), np.float32)
    smooth: NDArray[np.float32] = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return smooth


def _panorama(random: np.random.Generator, sky: Floats, height: int) -> Picture:
    around = round(2 * np.pi * _FOCAL * height)
    tall = height // 2
    view = np.empty((tall, around, 3), np.float32)
    view[:] = sky * np.linspace(0.92, 1.08, tall)[:, None, None]
    hills = _outline(random, around, 0.16 * tall, 6)
    for column, hill in enumerate(hills):
        view[tall - hill :, column] = sky * 0.62
    for _ in range(int(random.integers(8, 26))):
        left, broad = int(random.integers(around)), int(random.integers(24, 130) * height / 240)
        _building(view, random, left, broad, int(random.uniform(0.15, 0.6) * tall))
    for _ in range(int(random.integers(10, 60))):
        leaves = np.array(_LEAVES[int(random.integers(len(_LEAVES)))]) + random.uniform(-10, 10)
        size = random.uniform(0.06, 0.22) * tall
        x = float(random.uniform(0, around))
        for _ in range(6):
            at = (int(x + random.normal(0, size)), int(tall - size * random.uniform(0.2, 1.4)))
            tone = tuple((leaves * random.uniform(0.8, 1.15)).tolist())
            cv2.circle(view, at, int(size * random.uniform(0.4, 0.8)) + 1, tone, -1, cv2.LINE_AA)
    view = cv2.GaussianBlur(view, (0, 0), height / 150)
    view += 3 * cv2.resize(random.standard_normal((40, 300), np.float32), (around, tall))[..., None]
    return _as_picture(view)


def _building(
    view: NDArray[np.float32], random: np.random.Generator, left: int, broad: int, high: int
) -> None:
    wall = np.array(_WALLS[int(random.integers(len(_WALLS)))]) + random.uniform(-14, 14, 3)
    columns = np.arange(left, left + broad) % view.shape[1]
    rows = np.arange(view.shape[0] - high, view.shape[0])
    view[rows[:, None], columns] = wall
    cell = int(random.integers(7, 13))
    panes = ((np.arange(high) % cell) > cell // 2)[:, None] & (
        (np.arange(broad) % cell) > cell // 2
    )
    view[rows[:, None], columns] += np.where(panes[..., None], -46.0, 0.0)


def _outline(
    random: np.random.Generator, around: int, height: float, waves: int
) -> NDArray[np.int64]:
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)
    total = np.zeros(around)
    for wave in range(1, waves + 1):
        total += random.normal(0, 1 / wave) * np.sin(wave * 2 * turn + random.uniform(0, 2 * np.pi))
    return np.asarray(np.clip(height * (1 + 0.6 * total), 1, 2.5 * height).astype(np.int64))
