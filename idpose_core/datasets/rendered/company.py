"""What else happens in a clip: a second car, and things that pass in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from idpose_core.datasets.rendered.camera import pose_matrix
from idpose_core.datasets.rendered.meshes import Floats
from idpose_core.datasets.rendered.motion import Motion, Path, corners, screen_box

_TRIES = 300
_WALK = 1.4  # metres a second


@dataclass(frozen=True)
class Obstacle:
    """Something between camera and object.

    Attributes:
        kind: post, bush or pedestrian.
        pose: Its 4 x 4 matrix at a time; only a pedestrian moves.
    """

    kind: str
    pose: Path


def draw_second(
    random: np.random.Generator, motion: Motion, size: Floats, other: Floats, times: Floats
) -> Path | None:
    """The course of a second car beside the first, parked or passing; None where none fits.

    Args:
        random: What to draw from.
        motion: The clip's, with the first car.
        size: Length, width and height of the first car.
        other: Those of the second.
        times: When they are looked at, seconds.
    """
    for _ in range(_TRIES):
        heading = float(random.choice([0, 180]) + random.normal(0, 3))
        first = motion.pose(float(times[len(times) // 2]))[:2, 3]
        x = first[0] + random.uniform(-7, 7)
        y = first[1] + random.choice([-1, 1]) * random.uniform(2.6, 7)
        speed = random.uniform(2, 6) if random.random() < 0.5 else 0.0
        course = _straight(x, y, heading, speed, float(times.mean()))
        if _fits(motion, size, course, other, times):
            return course
    return None


def _straight(x: float, y: float, heading: float, speed: float, middle: float) -> Path:
    ahead = np.deg2rad(heading)

    def pose(time: float) -> Floats:
        way = speed * (time - middle)
        return pose_matrix(x + way * np.cos(ahead), y + way * np.sin(ahead), heading)

    return pose


def _fits(motion: Motion, size: Floats, course: Path, other: Floats, times: Floats) -> bool:
    """Whether it hits nothing, is often in the picture and seldom hides the first car."""
    width, height = motion.size
    seen, hiding = 0, 0
    for time in times:
        camera, first, second = motion.camera(time), motion.pose(time), course(time)
        mine, its = _discs(first, size), _discs(second, other)
        if np.linalg.norm(mine[:, None] - its[None], axis=2).min() < 2.1:
            return False
        if np.linalg.norm(its - camera.place[:2], axis=1).min() < 3.2:
            return False
        if (second[:3, 3] - camera.place) @ camera.axes()[2] < 3.0:
            continue
        a = screen_box(camera, first, corners(size))
        b = screen_box(camera, second, corners(other))
        inside = (np.minimum(b[2:], (width, height)) - np.maximum(b[:2], 0)).clip(0)
        if inside.prod() > 0.55 * (b[2:] - b[:2]).prod() and inside.min() > 0.2 * height:
            seen += 1
        shared = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
        nearer = np.linalg.norm(second[:3, 3] - camera.place) < np.linalg.norm(
            first[:3, 3] - camera.place
        )
        hiding += bool(nearer and shared > 0.3 * (a[2:] - a[:2]).prod())
    return seen >= 0.5 * len(times) and hiding <= 0.25 * len(times)


def _discs(pose: Floats, size: Floats) -> Floats:
    """Middles [3, 2] of three discs that make up what an object covers on the ground."""
    along = np.array([-0.36, 0.0, 0.36])[:, None] * size[0]
    return np.asarray(pose[:2, 3] + along * pose[:2, 0])


def draw_obstacle(
    random: np.random.Generator, motion: Motion, size: Floats, others: Sequence[Path], times: Floats
) -> Obstacle | None:
    """Something that hides a part of the object for a part of the clip; None where none fits."""
    for _ in range(_TRIES):
        kind = ("post", "bush", "pedestrian")[int(random.choice(3, p=(0.45, 0.25, 0.3)))]
        when = float(random.uniform(0.2, 0.8) * times[-1])
        eye, pose = motion.eye(when), motion.pose(when)
        to_eye = eye[:2] - pose[:2, 3]
        across = np.array((-to_eye[1], to_eye[0])) / np.linalg.norm(to_eye)
        beside = random.uniform(-0.4, 0.4) * size[0]
        at = pose[:2, 3] + random.uniform(0.3, 0.65) * to_eye + beside * across
        heading = float(np.rad2deg(np.arctan2(across[1], across[0])))
        if random.random() < 0.5:
            heading += 180
        speed = _WALK if kind == "pedestrian" else 0.0
        course = _straight(at[0], at[1], heading, speed, when)
        if all(_clear(motion, size, course, others, time) for time in times):
            return Obstacle(kind, course)
    return None


def _clear(motion: Motion, size: Floats, course: Path, others: Sequence[Path], time: float) -> bool:
    at = course(time)[:2, 3]
    if np.linalg.norm(at - motion.eye(time)[:2]) < 0.33 * size[0] + 0.3:
        return False
    apart = 0.5 * size[1] + 0.55
    cars = [motion.pose(time), *(other(time) for other in others)]
    return all(np.linalg.norm(_discs(car, size) - at, axis=1).min() > apart for car in cars)
