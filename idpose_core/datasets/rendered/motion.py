"""How an object and the camera move against each other in one clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from idpose_core.datasets.rendered.camera import Camera, pose_matrix, view_angles
from idpose_core.datasets.rendered.meshes import Floats

Path = Callable[[float], Floats]
"""From time in seconds to a 4 x 4 pose or to a place [3]."""

KINDS = {"car": ("orbit", "pass", "turn", "reverse"), "chair": ("orbit", "spin")}
TURN = (20.0, 180.0)
"""Degrees of azimuth that a clip covers."""
_TRIES = 400


@dataclass(frozen=True)
class Motion:
    """The course of a clip.

    Attributes:
        kind: One of ``KINDS``.
        pose: The object's 4 x 4 matrix at a time.
        eye: Where the camera is.
        aim: Where it points to.
        focal: In pixels.
        size: Of the picture, in pixels.
        roll: Amplitude of its roll in degrees, and the phase.
    """

    kind: str
    pose: Path
    eye: Path
    aim: Path
    focal: float
    size: tuple[int, int]
    roll: tuple[float, float]

    def camera(self, time: float) -> Camera:
        """The camera at a time."""
        roll = self.roll[0] * float(np.sin(2.1 * time + self.roll[1]))
        return Camera(self.eye(time), self.aim(time), self.focal, self.size, roll)


def corners(size: Floats) -> Floats:
    """The corners [8, 3] of a box of that length, width and height on the ground."""
    signs = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)])
    return signs * size


def screen_box(camera: Camera, pose: Floats, points: Floats) -> Floats:
    """Left, top, right and bottom in pixels of an object's points [N, 3]."""
    pixels = camera.project(points @ pose[:3, :3].T + pose[:3, 3])
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def draw_motion(
    random: np.random.Generator, family: str, size: Floats, seconds: float, frame: tuple[int, int]
) -> Motion:
    """Draw the course of a clip in which the object stays large and inside the picture.

    Args:
        random: What to draw from.
        family: car or chair.
        size: Length, width and height of the object in metres.
        seconds: Length of the clip.
        frame: Width and height of the picture in pixels.
    """
    kinds = KINDS[family]
    kind = kinds[int(random.choice(len(kinds), p=_shares(family)))]
    times = np.linspace(0, seconds, 13)
    box = corners(size)
    best, best_score = None, -np.inf
    for _ in range(_TRIES):
        motion = _COURSES[kind](random, size, seconds, frame)
        motion, score = _zoomed(motion, random, box, times)
        turned = azimuth_range(motion, times, size[2] / 2)
        if score > best_score and TURN[0] + 2 < turned < TURN[1] - 2:
            best, best_score = motion, score
        if best_score >= 1:
            break
    if best is None:
        raise ValueError(f"no course of kind {kind!r} fits a picture of {frame} pixels")
    return best


def azimuth_range(motion: Motion, times: Sequence[float] | Floats, middle: float) -> float:
    """Degrees of azimuth that are covered over the times."""
    azimuths = [view_angles(motion.eye(t), motion.pose(t), middle)[0] for t in times]
    return float(np.ptp(np.unwrap(azimuths, period=360)))


def _shares(family: str) -> tuple[float, ...]:
    return (0.4, 0.25, 0.2, 0.15) if family == "car" else (0.6, 0.4)


def _zoomed(
    motion: Motion, random: np.random.Generator, box: Floats, times: Floats
) -> tuple[Motion, float]:
    """Zoom so that the object just fits; the score is 1 where it is also never too small."""
    width, height = motion.size
    fill = random.uniform(0.72, 0.9)
    largest, smallest = 0.0, np.inf
    for time in times:
        camera = motion.camera(time)
        left, top, right, bottom = screen_box(camera, motion.pose(time), box).tolist()
        # The furthest edge from the middle of the picture decides
        reach = max(
            abs(left / width - 0.5), abs(right / width - 0.5),
            abs(top / height - 0.5), abs(bottom / height - 0.5),
        )  # fmt: skip
        largest = max(largest, 2 * reach)
        smallest = min(smallest, right - left, bottom - top)
    zoom = fill / largest
    enough = 0.29 * min(width, height)
    if motion.focal * zoom > 3.2 * width:
        return replace(motion, focal=motion.focal * zoom), -1.0
    return replace(motion, focal=motion.focal * zoom), min(1.0, smallest * zoom / enough)


class _Hand:
    """The unsteady hand of somebody who holds a camera: smooth, of about unit size."""

    def __init__(self, random: np.random.Generator) -> None:
        self._rate = random.uniform(0.3, 2.6, (3, 3))
        self._phase = random.uniform(0, 2 * np.pi, (3, 3))

    def __call__(self, time: float) -> Floats:
        return np.asarray(np.sin(self._rate * time + self._phase).mean(axis=1))


def _aims(random: np.random.Generator, pose: Path, size: Floats) -> Path:
    """Points at the object, a little beside it, with an unsteady hand."""
    hand, unsteady = _Hand(random), random.uniform(0.02, 0.07) * size[0]
    off = random.normal(0, 1, 3) * (0.05, 0.05, 0.02) * size[0]
    middle = np.array((0, 0, 0.48 * size[2]))
    return lambda time: pose(time)[:3, 3] + middle + off + unsteady * hand(time)


def _ease(random: np.random.Generator) -> Callable[[float], float]:
    """A way from 0 to 1: even, or slow at its ends."""
    soft = float(random.uniform(0, 0.8))
    return lambda s: (1 - soft) * s + soft * s * s * (3 - 2 * s)


def _made(
    random: np.random.Generator,
    kind: str,
    pose: Path,
    eye: Path,
    size: Floats,
    frame: tuple[int, int],
) -> Motion:
    roll = (float(random.uniform(0, 1.2)), float(random.uniform(0, 6)))
    return Motion(kind, pose, eye, _aims(random, pose, size), frame[0] * 1.1, frame, roll)


def _stature(random: np.random.Generator, size: Floats) -> float:
    """Height of the camera: mostly a person's, sometimes from above or from near the ground."""
    low, high = ((1.3, 1.9), (2.2, 4.2), (0.7, 1.2))[int(random.choice(3, p=(0.6, 0.28, 0.12)))]
    return float(random.uniform(low, high) * (1.0 if size[0] > 2 else 0.8))


def _orbit(
    random: np.random.Generator, size: Floats, seconds: float, frame: tuple[int, int]
) -> Motion:
    """The object stands; the camera goes round it."""
    heading = float(random.choice([0, 180]) + random.normal(0, 6))
    stands = pose_matrix(0, random.uniform(-2.2, 2.2), heading)
    start, turn = random.uniform(0, 360), random.choice([-1, 1]) * random.uniform(25, 176)
    distance = random.uniform(1.5, 2.4) * max(size[0], 2.2)
    nearer, ease, high = random.uniform(-0.12, 0.12), _ease(random), _stature(random, size)
    hand = _Hand(random)

    def eye(time: float) -> Floats:
        share = ease(time / seconds)
        angle = np.deg2rad(heading + start + turn * share)
        away = distance * (1 + nearer * share)
        middle: Floats = stands[:3, 3] + away * np.array((np.cos(angle), np.sin(angle), 0))
        return middle + (0, 0, high) + 0.05 * hand(time)

    return _made(random, "orbit", lambda _: stands, eye, size, frame)


def _still_eye(random: np.random.Generator, place: Sequence[float]) -> Path:
    hand, at = _Hand(random), np.asarray(place, np.float64)
    sway = random.uniform(0.01, 0.06)
    return lambda time: at + sway * hand(time)


def _pass(
    random: np.random.Generator, size: Floats, seconds: float, frame: tuple[int, int]
) -> Motion:
    """The object goes straight past the camera, along the road."""
    away = random.choice([-1, 1]) * random.uniform(6, 11)
    turn = np.deg2rad(random.uniform(25, 100))
    long = 2 * abs(away) * np.tan(turn / 2)
    heading, lane = float(random.choice([0, 180])), random.uniform(-1.8, 1.8)
    middle, ease = random.uniform(-2, 2), _ease(random)
    forth = np.cos(np.deg2rad(heading))

    def pose(time: float) -> Floats:
        return pose_matrix(middle + forth * long * (ease(time / seconds) - 0.5), lane, heading)

    eye = _still_eye(random, (random.uniform(-1.5, 1.5), lane + away, _stature(random, size)))
    return _made(random, "pass", pose, eye, size, frame)


def _arc(
    random: np.random.Generator, size: Floats, seconds: float, frame: tuple[int, int], *, back: bool
) -> Motion:
    radius = random.uniform(5, 9)
    bend = random.choice([-1, 1]) * np.deg2rad(random.uniform(25, 80 if back else 150))
    start, ease = np.deg2rad(random.choice([0, 180]) + random.normal(0, 8)), _ease(random)
    centre = radius * np.sign(bend) * np.array((-np.sin(start), np.cos(start)))

    def pose(time: float) -> Floats:
        share = ease(time / seconds)
        heading = start + bend * ((1 - share) if back else share) - bend / 2
        x, y = centre + radius * np.sign(bend) * np.array((np.sin(heading), -np.cos(heading)))
        return pose_matrix(x, y, float(np.rad2deg(heading)))

    angle, away = random.uniform(0, 2 * np.pi), random.uniform(7, 12)
    place = (away * np.cos(angle), away * np.sin(angle), _stature(random, size))
    eye = _still_eye(random, place)
    return _made(random, "reverse" if back else "turn", pose, eye, size, frame)


def _turn(
    random: np.random.Generator, size: Floats, seconds: float, frame: tuple[int, int]
) -> Motion:
    """The object drives round a bend."""
    return _arc(random, size, seconds, frame, back=False)


def _reverse(
    random: np.random.Generator, size: Floats, seconds: float, frame: tuple[int, int]
) -> Motion:
    """The object backs round a bend."""
    return _arc(random, size, seconds, frame, back=True)


def _spin(
    random: np.random.Generator, size: Floats, seconds: float, frame: tuple[int, int]
) -> Motion:
    """The object is turned on its spot."""
    start, turn = random.uniform(0, 360), random.choice([-1, 1]) * random.uniform(25, 176)
    ease, away, angle = _ease(random), random.uniform(2, 4), random.uniform(0, 2 * np.pi)

    def pose(time: float) -> Floats:
        return pose_matrix(0, 0, start + turn * ease(time / seconds))

    place = (away * np.cos(angle), away * np.sin(angle), _stature(random, size))
    return _made(random, "spin", pose, _still_eye(random, place), size, frame)


_COURSES = {"orbit": _orbit, "pass": _pass, "turn": _turn, "reverse": _reverse, "spin": _spin}
