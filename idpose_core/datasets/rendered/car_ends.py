"""What tells a car's front from its rear: lamps, grille, bumpers and licence plates."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.car_model import CarModel
from idpose_core.datasets.rendered.meshes import Floats
from idpose_core.datasets.rendered.seeds import generator
from idpose_core.datasets.rendered.skins import Material

Where = NDArray[np.bool_]

HEAD_LAMP = Material((0.86, 0.85, 0.78), 0.12, 0.0, 1.0)
TAIL_LAMP = Material((0.50, 0.008, 0.012), 0.15, 0.0, 1.0)
INDICATOR = Material((0.72, 0.24, 0.01), 0.2, 0.0, 1.0)
_DARK = Material((0.012, 0.012, 0.014), 0.5)
_CHROME = Material((0.6, 0.6, 0.62), 0.2, 1.0)
_PLATE = Material((0.74, 0.74, 0.70), 0.45)
_YELLOW_PLATE = Material((0.70, 0.52, 0.08), 0.45)


class Surface(Protocol):
    """What is painted on, see ``car_paint.Canvas``."""

    x: Floats
    y: Floats
    z: Floats
    part: Floats

    def fill(self, where: Where, material: Material) -> None:
        """Paint all texels of a mask."""


def paint_front(car: CarModel, canvas: Surface) -> None:
    """Lamps, grille, bumper and plate on whatever of the panel lies at the front."""
    y, z, end = canvas.y, canvas.z, canvas.x > car.length / 2 - 0.24
    side, at_end = np.abs(y), canvas.x > car.length / 2 - 0.03
    half = car.width / 2
    bumper = car.clearance + 0.24
    lamp = bumper + 0.62 * (car.nose - bumper)
    tall = 0.5 * (car.nose - bumper)
    if car.trim != car.paint:
        canvas.fill(end & (z < bumper) & (canvas.part < 3), Material(car.trim, 0.55))
    # Grille and intake
    grille = at_end & (side < half * 0.5) & (np.abs(z - lamp) < 0.4 * tall)
    bars = np.sin(z * 2 * np.pi / 0.055) > 0.1
    uprights = np.sin(y * 2 * np.pi / 0.09) > 0.2
    if car.grille != "none":
        if car.grille == "split":
            grille &= side > 0.05
        canvas.fill(grille, _DARK)
        if car.grille == "bars":
            canvas.fill(grille & bars, _CHROME)
        elif car.grille == "upright":
            canvas.fill(grille & uprights, _CHROME)
        else:
            rim = (side > half * 0.46) | (np.abs(z - lamp) > 0.33 * tall)
            canvas.fill(grille & rim, _CHROME)
    canvas.fill(at_end & (side < half * 0.62) & (np.abs(z - car.clearance - 0.1) < 0.045), _DARK)
    # Lamps, which reach round the corners
    shape = _lamp(car.head_lamps, side - half * 0.74, z - lamp, tall)
    canvas.fill(end & shape[1], _CHROME if car.grille == "bars" else _DARK)
    canvas.fill(end & shape[0], HEAD_LAMP)
    blinker = end & (np.abs(z - bumper - 0.04) < 0.022) & (np.abs(side - half * 0.76) < 0.09)
    canvas.fill(blinker, INDICATOR)
    if car.plate_front:
        _paint_plate(car, canvas, at_end, bumper - 0.08, _PLATE)


def paint_rear(car: CarModel, canvas: Surface) -> None:
    """Lamps, bumper, plate and what window lies on the rear."""
    y, z, end = canvas.y, canvas.z, canvas.x < -car.length / 2 + 0.2
    side, at_end = np.abs(y), canvas.x < -car.length / 2 + 0.03
    half = car.width / 2
    bumper = car.clearance + 0.26
    upper = car.stern - 0.04
    lamp, tall = (bumper + upper) / 2 + 0.04, upper - bumper
    if car.trim != car.paint:
        canvas.fill(end & (z < bumper) & (canvas.part < 3), Material(car.trim, 0.55))
    canvas.fill(at_end & (np.abs(z - bumper) < 0.012), _DARK)
    out = side - half * 0.8
    if car.tail_lamps == "upright":
        shape = (np.abs(out) < 0.085) & (np.abs(z - lamp) < 0.48 * tall)
    elif car.tail_lamps == "flat":
        shape = (np.abs(out) < 0.22) & (np.abs(z - lamp) < 0.17 * tall)
    elif car.tail_lamps == "round":
        near, far = np.hypot(out + 0.02, z - lamp), np.hypot(out + 0.22, z - lamp)
        shape = (near < 0.085) | (far < 0.07)
    elif car.tail_lamps == "corner":
        shape = (out > -0.16) & (z - lamp > 0.05 * tall - 1.2 * (out + 0.02)) & (z < upper)
        shape &= z > bumper + 0.1 * tall
    else:
        shape = (np.abs(z - lamp - 0.1 * tall) < 0.13 * tall) & (side > half * 0.15)
    canvas.fill(end & shape & (canvas.part < 3), TAIL_LAMP)
    pale = end & shape & (np.abs(z - lamp + 0.22 * tall) < 0.07 * tall) & (out < 0.1)
    canvas.fill(pale & (canvas.part < 3), INDICATOR)
    plate = bumper + 0.3 * tall if car.index % 2 else bumper - 0.1
    _paint_plate(car, canvas, at_end, plate, _YELLOW_PLATE if car.index % 3 == 0 else _PLATE)
    if car.body_type == "pickup":
        canvas.fill(at_end & (np.abs(z - upper + 0.1) < 0.025) & (side < 0.16), _DARK)


def _paint_plate(
    car: CarModel, canvas: Surface, where: Where, height: float, material: Material
) -> None:
    plate = where & (np.abs(canvas.y) < 0.26) & (np.abs(canvas.z - height) < 0.058)
    canvas.fill(plate, material)
    # Strokes in place of letters: they carry no more than these pictures can show
    strokes = generator("plate", car.index).random(22) < 0.55
    column = np.clip(((canvas.y + 0.24) / 0.48 * 22).astype(int), 0, 21)
    ink = plate & (np.abs(canvas.z - height) < 0.034) & (np.abs(canvas.y) < 0.24)
    canvas.fill(ink & strokes[column], _DARK)


def _lamp(name: str, out: Floats, up: Floats, tall: float) -> tuple[Where, Where]:
    """Where the lamp is and where its frame is; ``out`` grows to the car's sides."""
    if name == "round":
        away = np.hypot(out + 0.02, up)
        radius = min(0.125, 0.5 * tall)
        return away < radius, away < radius + 0.022
    if name == "double":
        radius = min(0.09, 0.45 * tall)
        away = np.minimum(np.hypot(out - 0.07, up), np.hypot(out + 0.13, up))
        return away < radius, away < radius + 0.018
    wide, high, slope = {
        "square": (0.15, 0.42, 0.0),
        "slanted": (0.22, 0.34, 0.35),
        "narrow": (0.26, 0.18, 0.12),
    }[name]
    lift = np.abs(up - slope * out)
    return (
        (np.abs(out) < wide) & (lift < high * tall),
        (np.abs(out) < wide + 0.02) & (lift < high * tall + 0.02),
    )
