"""The shape of a box car: a few dozen flat faces that follow from an identity.

Metres; x to the front, y to the car's left, z up, the origin on the ground below its middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Colour = tuple[int, int, int]

_PAINTS: tuple[Colour, ...] = (
    (232, 232, 226), (172, 177, 182), (96, 101, 108), (44, 46, 52), (176, 30, 34), (38, 74, 150),
    (86, 148, 196), (30, 92, 62), (226, 178, 40), (222, 104, 30), (196, 176, 138), (104, 64, 44),
    (30, 128, 128), (110, 44, 96), (140, 168, 70), (240, 206, 196),
)  # fmt: skip
_GLASS, _RUBBER, _GAP = (58, 70, 84), (26, 26, 28), (22, 23, 26)
_WHEEL_CORNERS = 18


@dataclass(frozen=True)
class BoxCar:
    """One identity: lengths in metres, colours RGB in 0..255.

    Attributes:
        length: Front to rear, 3.4 to 5.1.
        width: 1.6 to 2.
        body: Height of the body without the cabin.
        cabin: Height of the cabin above the body.
        bonnet: Length in front of the cabin.
        boot: Length behind the cabin; 0 gives a hatchback or an estate.
        rake: How much the windscreen leans, in cabin heights.
        wheel: Radius.
        round_lamps: Whether the head lamps are round.
        paint: Of the body.
        roof: Of the cabin.
        trim: Of the lower part of the body.
    """

    length: float
    width: float
    body: float
    cabin: float
    bonnet: float
    boot: float
    rake: float
    wheel: float
    round_lamps: bool
    paint: Colour
    roof: Colour
    trim: Colour


@dataclass(frozen=True)
class Face:
    """A flat convex polygon.

    Attributes:
        points: float64 [N, 3].
        normal: Unit length, outwards.
        colour: RGB, before light and shadow.
        finish: ``paint``, ``glass`` (mirrors the sky) or ``glow`` (a lamp: not shaded).
    """

    points: Floats
    normal: Floats
    colour: Colour
    finish: str = "paint"


def random_car(random: np.random.Generator) -> BoxCar:
    """Draw an identity."""
    length = float(random.uniform(3.4, 5.1))
    boot = float(random.choice([0.0, random.uniform(0.08, 0.2), random.uniform(0.2, 0.36)]))
    bonnet = float(random.uniform(0.16, 0.3)) if boot < 0.25 else float(random.uniform(0.2, 0.28))
    paint = _paint(random)
    roof = paint if random.random() < 0.55 else _paint(random)
    dark: Colour = (52, 54, 58)
    trims = (paint, paint, dark, _paint(random))
    return BoxCar(
        length=length,
        width=float(random.uniform(1.6, 2.0)),
        body=float(random.uniform(0.58, 0.8)),
        cabin=float(random.uniform(0.46, 0.8)),
        bonnet=length * bonnet,
        boot=length * boot,
        rake=float(random.uniform(0.45, 0.95)),
        wheel=float(random.uniform(0.3, 0.38)),
        round_lamps=bool(random.random() < 0.4),
        paint=paint,
        roof=roof,
        trim=trims[int(random.integers(len(trims)))],
    )


def car_faces(car: BoxCar) -> list[list[Face]]:
    """The faces in layers, to be drawn one after the other without those that look away.

    Each layer lies in front of those before it from every camera above the bonnet: the body is
    convex, all that sticks to it lies on its surface, and the cabin stands on it.
    """
    body, cabin = _body(car), _cabin(car)
    return [_tyres(car), body, _fittings(car), _discs(car), cabin, _windows(cabin)]


def ground_shape(car: BoxCar) -> Floats:
    """What the car covers on the ground, float64 [4, 3]."""
    x, y = car.length * 0.49, car.width * 0.5
    return np.array([(x, y, 0), (x, -y, 0), (-x, -y, 0), (-x, y, 0)], np.float64)


def _heights(car: BoxCar) -> tuple[float, float, float]:
    """Lower edge, belt and upper edge of the body."""
    low = car.wheel * 0.62
    return low, low + car.body * 0.55, low + car.body


def _body(car: BoxCar) -> list[Face]:
    front, half = car.length / 2, car.width / 2
    low, belt, top = _heights(car)
    dip = 0.22 * car.body * (1.0 if car.bonnet > 0.9 else 0.6)
    sections = [  # x, share of the width, lift of the lower edge, drop of the upper edge
        (-front, 0.84, 0.1, 0.1),
        (-front + 0.22, 1.0, 0.0, 0.0),
        (front - car.bonnet, 1.0, 0.0, 0.0),
        (front - 0.3, 0.98, 0.0, dip * 0.7),
        (front, 0.8, 0.12, dip),
    ]
    rings = []
    for x, wide, lift, drop in sections:
        y = half * wide
        rings.append(
            np.array(
                [(x, 0.94 * y, low + lift), (x, y, belt), (x, 0.9 * y, top - drop),
                 (x, -0.9 * y, top - drop), (x, -y, belt), (x, -0.94 * y, low + lift)]
            )
        )  # fmt: skip
    colours = [car.trim, car.paint, car.paint, car.paint, car.trim, _GAP]
    return _loft(rings, colours, (car.paint, car.paint))


def _cabin(car: BoxCar) -> list[Face]:
    """Front, left, rear and right side, then the roof."""
    front, half = car.length / 2, car.width / 2
    top = _heights(car)[2]
    foot_front, foot_rear = front - car.bonnet, -front + 0.12 + car.boot
    lean = car.cabin * (0.55 if car.boot > 0.1 else 0.28)
    rake = min(car.cabin * car.rake, foot_front - foot_rear - lean - 0.24 * car.length)
    base = [(foot_front, 0.86), (foot_rear, 0.86)]
    roof = [(foot_front - rake, 0.74), (foot_rear + lean, 0.74)]
    rings = []
    for ((x0, y0), (x1, y1)), z in ((base, top - 0.02), (roof, top + car.cabin)):
        corners = [(x0, -half * y0, z), (x0, half * y0, z), (x1, half * y1, z), (x1, -half * y1, z)]
        rings.append(np.array(corners))
    return _loft(rings, [car.roof] * 4, (car.roof, car.roof))


def _windows(cabin: Sequence[Face]) -> list[Face]:
    windscreen, left, rear, right = cabin[2:]
    panes = [_inset(windscreen, 0.07, 0.93, 0.08, 0.92), _inset(rear, 0.09, 0.91, 0.16, 0.9)]
    for side in (left, right):
        panes += [_inset(side, 0.06, 0.49, 0.1, 0.9), _inset(side, 0.53, 0.94, 0.1, 0.9)]
    return panes


def _fittings(car: BoxCar) -> list[Face]:
    """Lamps, grille, bumpers, number plates and door gaps: they tell front from rear."""
    front, half = car.length / 2, car.width / 2
    low, belt, _ = _heights(car)
    faces = []
    for end, x in ((1, front + 0.004), (-1, -front - 0.004)):
        lamp_z = belt + 0.02 if end > 0 else belt + 0.05
        white, bumper = (236, 234, 224), (62, 64, 68)
        faces.append(_end(x, 0.0, low + 0.22, half * 0.74, 0.055, bumper))
        faces.append(_end(x + end * 0.004, 0.0, low + 0.24, 0.24, 0.06, white))
        if end > 0:
            faces.append(_end(x, 0.0, belt, half * 0.36, 0.085, _GAP))
        for side in (-1, 1):
            y = side * half * 0.59
            if end < 0:
                faces.append(_end(x, y, lamp_z, half * 0.16, 0.1, (214, 18, 24), "glow"))
            elif car.round_lamps:
                faces.append(_end(x, y, lamp_z, 0.13, 0.13, (255, 246, 196), "glow", corners=12))
            else:
                faces.append(_end(x, y, lamp_z, half * 0.19, 0.085, (255, 246, 196), "glow"))
    gap = 0.02 - car.bonnet / 2 + car.boot / 2  # between the doors
    for side in (-1, 1):
        y = side * half * 1.003
        seam = [(gap - 0.01, 0.96 * y, low + 0.08), (gap + 0.01, 0.96 * y, low + 0.08),
                (gap + 0.01, y, belt), (gap - 0.01, y, belt)]  # fmt: skip
        faces.append(_facing(np.array(seam), (0, side, 0), _GAP))
        handle = [(gap + dx, 0.985 * y, belt + dz)
                  for dx, dz in ((0.1, 0.06), (0.3, 0.06), (0.3, 0.1), (0.1, 0.1))]  # fmt: skip
        faces.append(_facing(np.array(handle), (0, side, 0.3), (206, 208, 210)))
    return faces


def _tyres(car: BoxCar) -> list[Face]:
    """The treads, which are seen below the body."""
    faces = []
    for side, x in _wheel_places(car):
        outer = _ring(car, x, side * car.width / 2, 1.0)
        inner = outer - np.array([0, side * 0.24, 0])
        faces += _loft([inner, outer], [_RUBBER] * _WHEEL_CORNERS, (_RUBBER, _RUBBER))
    return faces


def _discs(car: BoxCar) -> list[Face]:
    low = _heights(car)[0]
    faces = []
    for side, x in _wheel_places(car):
        layers = ((1.17, _GAP), (1.0, _RUBBER), (0.66, (168, 170, 176)), (0.5, (96, 98, 104)),
                  (0.18, (190, 192, 196)))  # fmt: skip
        for share, colour in layers:
            ring = _ring(car, x, side * car.width * 0.503, share)
            if share > 1:  # the arch, cut into the body only
                ring[:, 2] = np.maximum(ring[:, 2], low)
            faces.append(_facing(ring, (0, side, 0), colour))
    return faces


def _wheel_places(car: BoxCar) -> list[tuple[int, float]]:
    front, rear = car.length * 0.5 - 0.2 - car.wheel * 1.25, -car.length * 0.31
    return [(side, x) for side in (-1, 1) for x in (front, rear)]


def _ring(car: BoxCar, x: float, y: float, share: float) -> Floats:
    angles = np.linspace(0, 2 * np.pi, _WHEEL_CORNERS, endpoint=False)
    radius = car.wheel * share
    ring = [
        x + radius * np.cos(angles),
        np.full_like(angles, y),
        car.wheel + radius * np.sin(angles),
    ]
    return np.stack(ring, axis=1)


def _end(
    x: float, y: float, z: float, wide: float, high: float, colour: Colour, finish: str = "paint",
    *, corners: int = 4,
) -> Face:  # fmt: skip
    """A rectangle or an ellipse, of half size (wide, high), on the front or on the rear."""
    if corners == 4:
        across, up = np.array([-1.0, 1, 1, -1]), np.array([-1.0, -1, 1, 1])
    else:
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        across, up = np.cos(angles), np.sin(angles)
    points = np.stack([np.full(corners, x), y + wide * across, z + high * up], axis=1)
    return _facing(points, (x, 0, 0), colour, finish)


def _inset(face: Face, u0: float, u1: float, v0: float, v1: float) -> Face:
    """A pane in a four-sided face: u along its foot, v from foot to roof."""
    a, b, c, d = face.points  # the foot is a-b, the roof d-c

    def at(u: float, v: float) -> Floats:
        inside: Floats = (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * d + u * c)
        return inside + 0.004 * face.normal

    points = np.array([at(u0, v0), at(u1, v0), at(u1, v1), at(u0, v1)])
    return Face(points, face.normal, _GLASS, "glass")


def _loft(
    rings: Sequence[Floats], colours: Sequence[Colour], caps: tuple[Colour, Colour]
) -> list[Face]:
    """The convex solid between rings of equally many corners: two caps, then the sides."""
    middle = np.concatenate(rings).mean(axis=0)
    faces = [
        _facing(ring, ring.mean(axis=0) - middle, c)
        for ring, c in zip((rings[0], rings[-1]), caps, strict=True)
    ]
    for low, high in pairwise(rings):
        for corner, colour in enumerate(colours):
            after = (corner + 1) % len(low)
            quad = np.array([low[corner], low[after], high[after], high[corner]])
            faces.append(_facing(quad, quad.mean(axis=0) - middle, colour))
    return faces


def _facing(
    points: Floats, outwards: Sequence[float] | Floats, colour: Colour, finish: str = "paint"
) -> Face:
    # Newell's sum holds for faces with repeated corners and for those that are not quite flat
    normal = np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0)
    normal = normal / np.linalg.norm(normal)
    return Face(points, normal if normal @ np.asarray(outwards) > 0 else -normal, colour, finish)


def _paint(random: np.random.Generator) -> Colour:
    base = np.array(_PAINTS[int(random.integers(len(_PAINTS)))]) + random.uniform(-14, 14, 3)
    red, green, blue = (int(np.clip(value, 0, 255)) for value in base)
    return red, green, blue
