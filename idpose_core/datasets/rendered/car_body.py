"""The sheet metal of a car: cross sections lofted from rear to front, closed by two ends.

Every point also has a place on the car as if its ends were flat (``flat``): there lines are
straight, so that lamps, windows and stripes are painted there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from idpose_core.datasets.rendered.car_model import CarModel
from idpose_core.datasets.rendered.meshes import Floats

BOTTOM, SIDE, GLASS, TOP = range(4)
"""The parts of half a cross section, from below the sill to the middle of the roof."""
_ENDS = np.array([0, 1, 14, 22, 30])  # rows of a half section where the parts begin and end
_STATIONS, _ACROSS = 150, 25


@dataclass(frozen=True)
class Panel:
    """A part of the body as a grid.

    Attributes:
        name: side (both sides with the roof), front or rear.
        points: float64 [R, C, 3]. A column of ``side`` runs from below the left sill over the roof
            to below the right sill, and its rows from rear to front. Rows of ``front`` and
            ``rear`` run from below to above, seen from outside from left to right.
        flat: float64 [R, C, 3], before the ends were bent.
    """

    name: str
    points: Floats
    flat: Floats

    def part(self, rows: Floats) -> tuple[Floats, Floats]:
        """Which part of the section lies at fractional rows, and where in it (0 low, 1 high)."""
        half = np.minimum(rows, 2 * _ENDS[-1] - rows)
        part = np.clip(np.searchsorted(_ENDS, half, side="right") - 1, 0, 3)
        inside = (half - _ENDS[part]) / (_ENDS[part + 1] - _ENDS[part])
        return part.astype(np.float64), inside


@dataclass(frozen=True)
class Outline:
    """Heights along the car, float64 [N] each, at rising x: sill, belt and roof line."""

    x: Floats
    sill: Floats
    belt: Floats
    roof: Floats


def outline(car: CarModel) -> Outline:
    """The car's lengthwise outline, with wheel arches, at stations denser where it is steep."""
    half = car.length / 2
    rear_top, rear_foot = car.rear_window
    foot, top = car.windscreen
    drop = 0.03 + 0.02 * car.roundness
    fine = np.linspace(-half, half, 600)
    corners = [
        (-half, car.stern), (rear_foot, car.deck), (rear_top, car.height - drop),
        ((rear_top + top) / 2, car.height), (top, car.height - drop / 2), (foot, car.cowl),
        (half, car.nose),
    ]  # fmt: skip
    roof = np.interp(fine, *np.array(sorted(corners)).T)
    roof = gaussian_filter1d(roof, 4 + 9 * car.roundness, mode="nearest")
    round_off = 0.05 + 0.07 * car.roundness  # of the upper edges of both ends
    roof -= 0.7 * _rounding(half - np.abs(fine), round_off)
    way = np.concatenate([[0], np.cumsum(np.hypot(np.diff(fine), 0.6 * np.diff(roof)))])
    x = np.interp(np.linspace(0, way[-1], _STATIONS), way, fine)
    # The ends need stations for their rounding
    ends = half - round_off * (1 - np.cos(np.linspace(0.1, np.pi / 2, 5)))
    x = np.unique(np.concatenate([x, ends, -ends]).round(6))
    height = np.interp(x, fine, roof)
    belt = np.minimum(car.belt, height - 0.035)
    sill = np.full_like(x, car.clearance)
    reach = car.wheel * 1.14
    for axle in car.axles:
        arch = car.wheel + np.sqrt(np.maximum(reach**2 - (x - axle) ** 2, 0))
        sill = np.where(np.abs(x - axle) < reach, np.maximum(sill, arch), sill)
    return Outline(x, np.minimum(sill, belt - 0.08), belt, height)


def body_panels(car: CarModel) -> tuple[Panel, Panel, Panel]:
    """The panels side, front and rear."""
    line = outline(car)
    half = _half_sections(car, line)  # [rows, stations, 3]
    other = half[-2::-1] * (1, -1, 1)
    side = np.concatenate([half, other])
    across = np.linspace(-1, 1, _ACROSS)[None, :, None]
    spread = np.concatenate([np.ones_like(across), across, np.ones_like(across)], axis=2)
    front, rear = half[:, -1:] * spread, half[:, :1] * spread * (1, -1, 1)
    return (
        Panel("side", _bent(car, side), side),
        Panel("front", _bent(car, front), front),
        Panel("rear", _bent(car, rear), rear),
    )


def side_of_body(car: CarModel, x: float, height: float) -> float:
    """Half the body's width at a place, before the ends were bent."""
    line = outline(car)
    section = _half_sections(car, line)[:, int(np.abs(line.x - x).argmin())]
    rows = slice(_ENDS[1], _ENDS[3] + 1)
    return float(np.interp(height, section[rows, 2], section[rows, 1]))


def _half_sections(car: CarModel, line: Outline) -> Floats:
    x, half = line.x, car.length / 2
    full = car.width / 2 * (1 - 0.05 * (np.abs(x) / half) ** 4)
    full = full - _rounding(half - np.abs(x), 0.06 + 0.08 * car.roundness)
    points = np.zeros((_ENDS[-1] + 1, len(x), 3))
    points[..., 0] = x
    points[0, :, 2] = line.sill
    # Side: leans in at sill and shoulder
    share = np.linspace(0, 1, _ENDS[2] - _ENDS[1] + 1)[:, None]
    height = line.sill + share * (line.belt - line.sill)
    level = np.clip((height - car.clearance) / (car.belt - car.clearance), 0, 1)
    tuck, shoulder = 0.05 + 0.05 * car.roundness, 0.03 + 0.04 * car.roundness
    wide = full * (1 - tuck * (1 - level) ** 3 - shoulder * level**5)
    reach = car.wheel * 1.14
    for axle in car.axles:
        off = np.hypot(x - axle, height - car.wheel) - reach
        wide = wide + car.flare * np.exp(-((off / 0.07) ** 2))
    rows = slice(_ENDS[1], _ENDS[2] + 1)
    points[rows, :, 1], points[rows, :, 2] = wide, height
    # Glass: leans in by the tumblehome, in full where the roof is highest
    crown = 0.02 + np.clip(line.roof - line.belt - 0.035, 0, 0.5) * (0.05 + 0.08 * car.roundness)
    edge = line.roof - crown
    share = np.linspace(0, 1, _ENDS[3] - _ENDS[2] + 1)[:, None]
    lean = car.tumblehome * (edge - line.belt) / (car.height - car.belt)
    belt_wide = wide[-1]
    rows = slice(_ENDS[2], _ENDS[3] + 1)
    points[rows, :, 1] = belt_wide - lean * share**1.25
    points[rows, :, 2] = line.belt + share * (edge - line.belt)
    # Top: crowned
    edge_wide = belt_wide - lean
    share = np.linspace(1, 0, _ENDS[4] - _ENDS[3] + 1)[:, None]
    rows = slice(_ENDS[3], _ENDS[4] + 1)
    power = 3.6 - 1.2 * car.roundness
    points[rows, :, 1] = edge_wide * np.sin(share * np.pi / 2) ** 0.9
    points[rows, :, 2] = line.roof - crown * (np.sin(share * np.pi / 2) ** 0.9) ** power
    points[_ENDS[1], :, 1] = np.minimum(points[_ENDS[1], :, 1], full)
    return points


def _bent(car: CarModel, flat: Floats) -> Floats:
    """Round the ends in plan and let them lean back above the bumper."""
    x, y, z = flat[..., 0], flat[..., 1], flat[..., 2]
    share = x / (car.length / 2)
    bow = np.where(x > 0, 0.12 + 0.16 * car.roundness, 0.06 + 0.1 * car.roundness)
    if car.body_type == "mini":
        bow = np.full_like(x, 0.12)
    shift = bow * np.abs(y / (car.width / 2)) ** 2.4 * np.abs(share) ** 3
    bumper = 0.46 + 0.3 * (car.clearance - 0.16)
    above, below = np.maximum(z - bumper, 0), np.maximum(bumper - z, 0)
    lean = (0.35 if car.body_type in ("van", "pickup") else 0.7) * above**2
    end = np.clip((np.abs(share) - 0.55) / 0.45, 0, 1) ** 2
    shift = shift + (np.minimum(lean, 0.12) + 0.9 * below**2) * end
    bent = flat.copy()
    bent[..., 0] = x - np.sign(x) * shift
    return bent


def _rounding(distance: Floats, radius: float) -> Floats:
    """How far a rounded edge falls back at a distance from the end."""
    share = np.clip(1 - distance / radius, 0, 1)
    return np.asarray(radius * (1 - np.sqrt(1 - 0.96 * share**2)))
