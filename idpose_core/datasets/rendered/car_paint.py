"""Paints the panels of a car's body: paint, stripes, decals, windows and gaps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.car_body import BOTTOM, GLASS, SIDE, TOP, Outline, Panel, outline
from idpose_core.datasets.rendered.car_ends import paint_front, paint_rear
from idpose_core.datasets.rendered.car_model import CarModel
from idpose_core.datasets.rendered.meshes import Floats
from idpose_core.datasets.rendered.skins import Material, Texels

Where = NDArray[np.bool_]

RUBBER = Material((0.018, 0.018, 0.02), 0.75)
GAP = Material((0.01, 0.01, 0.01), 0.9)
CHROME = Material((0.62, 0.62, 0.64), 0.16, 1.0)


class Canvas:
    """Texels of one panel with their places on the car.

    Attributes:
        x: Float64 [H, W] as y and z: place on the car before its ends were bent.
        part: Part of the cross section (BOTTOM, SIDE, GLASS, TOP).
        inside: Where in that part, 0 low to 1 high.
        left: Whether on the car's left side, where the panel is ``side``.
        on_side: Whether the panel is ``side``.
        texels: The picture, float32 [H, W, 6].
    """

    def __init__(self, panel: Panel, height: int, width: int) -> None:
        rows = len(panel.flat)
        flat = _stretched(panel.flat, height, width)
        self.x, self.y, self.z = flat[..., 0], flat[..., 1], flat[..., 2]
        part, inside = panel.part(np.linspace(0, rows - 1, height))
        self.part = np.broadcast_to(part[:, None], (height, width))
        self.inside = np.broadcast_to(inside[:, None], (height, width))
        self.left = np.broadcast_to((np.arange(height) < height / 2)[:, None], (height, width))
        self.on_side = panel.name == "side"
        self.texels: Texels = np.zeros((height, width, 6), np.float32)

    def fill(self, where: Where, material: Material) -> None:
        """Paint all texels of a mask."""
        self.texels[where] = material.texel()


def paint_of(car: CarModel, colour: tuple[float, float, float]) -> Material:
    """The car's lacquer in a colour; bare plastic where the colour is that of dark trim."""
    if max(colour) < 0.04 and colour == car.trim:
        return Material(colour, 0.55)
    return Material(colour, car.gloss + 0.12, 0.0, 1.0)


def glass_of(car: CarModel) -> Material:
    """The car's windows: a dark glossy surface."""
    light = 0.035 - 0.025 * car.dark_glass
    return Material((light, 1.1 * light, 1.12 * light), 0.06, 0.0, 1.0)


def paint_panel(car: CarModel, panel: Panel, height: int, width: int) -> Texels:
    """The picture of a panel, float32 [height, width, 6]."""
    canvas = Canvas(panel, height, width)
    canvas.fill(np.ones((height, width), bool), paint_of(car, car.paint))
    line = outline(car)
    _paint_colours(car, canvas)
    if panel.name == "side":
        _paint_decals(car, canvas)
        _paint_gaps(car, canvas, line)
        _paint_windows(car, canvas, line)
    elif panel.name == "front":
        paint_front(car, canvas)
    if panel.name != "front":
        paint_rear(car, canvas)
    if panel.name == "side":
        paint_front(car, canvas)
    canvas.fill(canvas.part == BOTTOM, GAP)
    return canvas.texels


def _paint_colours(car: CarModel, canvas: Canvas) -> None:
    x, y, z = canvas.x, canvas.y, canvas.z
    second = paint_of(car, car.second)
    foot, rear_foot = car.windscreen[0], car.rear_window[1]
    cabin = (x < foot) & (x > rear_foot)
    upper = (canvas.part == TOP) & (z > car.belt + 0.6 * (car.height - car.belt))
    canvas.fill(upper | ((canvas.part == GLASS) & cabin), paint_of(car, car.roof_paint))
    level = (z - car.clearance) / (car.belt - car.clearance)
    body = canvas.part <= SIDE
    if car.stripe == "bonnet":
        outside = canvas.part == TOP if canvas.on_side else z > 0.3
        canvas.fill((np.abs(np.abs(y) - 0.2) < 0.11) & outside, second)
    elif car.stripe == "side":
        canvas.fill(body & (np.abs(level - 0.45) < 0.1), second)
    elif car.stripe == "belt":
        canvas.fill(body & (np.abs(level - 0.9) < 0.06), second)
    elif car.stripe == "lower":
        canvas.fill(body & (level < 0.5), second)
    elif car.stripe == "hoop":
        middle = car.rear_window[0] * 0.6
        canvas.fill(np.abs(x - middle) < 0.16, second)
    canvas.fill(body & (z < car.clearance + 0.14), paint_of(car, car.trim))
    if car.trim != car.paint:
        canvas.fill(body & (np.abs(level - 0.42) < 0.035), paint_of(car, car.trim))
        reach = np.min([np.hypot(x - a, z - car.wheel) for a in car.axles], axis=0)
        if car.body_type in ("suv", "pickup"):
            canvas.fill(body & (reach < 1.3 * car.wheel), paint_of(car, car.trim))


def _paint_decals(car: CarModel, canvas: Canvas) -> None:
    if car.decal == "none":
        return
    second, body = paint_of(car, car.second), canvas.part == SIDE
    middle = (car.axles[0] + car.axles[1]) / 2 + 0.1
    height = (car.clearance + car.belt) / 2 + 0.03
    # Along the sides "right" runs to the rear on the left side and to the front on the right side
    right = np.where(canvas.left, middle - canvas.x, canvas.x - middle)
    _stamp(car, canvas, body, right / 0.26, (canvas.z - height) / 0.26, second)
    bonnet = (canvas.part == TOP) & (canvas.x > car.windscreen[0])
    ahead = (car.windscreen[0] + car.length / 2) / 2
    if car.body_type != "van":
        # To be read by who stands before the car
        _stamp(car, canvas, bonnet, canvas.y / 0.3, (ahead - canvas.x) / 0.3, second)


def _stamp(
    car: CarModel, canvas: Canvas, where: Where, right: Floats, up: Floats, second: Material
) -> None:
    """Print the car's decal where right and up lie in -1..1."""
    radius = np.hypot(right, up)
    if car.decal == "disc":
        disc = where & (radius < 1)
        light = sum(car.second) > 0.5
        canvas.fill(disc, second)
        ink = Material((0.02, 0.02, 0.02) if light else (0.75, 0.75, 0.73), 0.4, 0.0, 1.0)
        canvas.fill(disc & _digits(car.decal_number, right, up), ink)
    elif car.decal == "star":
        angle = np.arctan2(up, right)
        points = 0.62 + 0.38 * np.cos(5 * (angle - np.pi / 2))
        canvas.fill(where & (radius < points), second)
    elif car.decal == "flash":
        slanted = right - 0.35 * up
        middle = 0.28 * np.sign(np.sin(3.2 * slanted)) * (1 - np.abs(slanted) / 3.2)
        canvas.fill(where & (np.abs(slanted) < 2.8) & (np.abs(up - middle) < 0.22), second)
    elif car.decal == "band":
        slanted = right + 0.6 * up
        wide = (np.abs(slanted) < 0.35) | (np.abs(slanted - 0.8) < 0.15)
        canvas.fill(where & wide, second)


def _digits(number: int, right: Floats, up: Floats) -> Where:
    picture = np.zeros((128, 128), np.uint8)
    text = str(number)
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 2.4, 12)
    at = (64 - wide // 2, 64 + high // 2)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 2.4, 255, 12)
    columns = np.clip((right * 64 + 64).astype(int), 0, 127)
    rows = np.clip((64 - up * 64).astype(int), 0, 127)
    return np.asarray(picture[rows, columns] > 127)


def _paint_gaps(car: CarModel, canvas: Canvas, line: Outline) -> None:
    """Door gaps and handles."""
    x, z, side = canvas.x, canvas.z, canvas.part == SIDE
    low, handle = car.clearance + 0.1, car.belt - 0.12
    doors = door_edges(car)
    for edge in doors:
        canvas.fill(side & (np.abs(x - edge) < 0.009) & (z > low), GAP)
    ends = (x < doors[0]) & (x > doors[-1])
    canvas.fill(side & ends & (np.abs(z - low) < 0.009), GAP)
    for rear_edge in doors[1:]:
        grip = (np.abs(x - rear_edge - 0.16) < 0.085) & (np.abs(z - handle) < 0.018)
        canvas.fill(side & grip, CHROME if car.trim == car.paint else GAP)
    # Bonnet and boot
    lid = car.length / 2 - car.windscreen[0]
    top = canvas.part == TOP
    if car.body_type != "van" and lid > 0.5:
        wide = np.abs(canvas.y) < car.width / 2 - 0.12
        canvas.fill(top & wide & (np.abs(x - car.windscreen[0] - 0.07) < 0.012), GAP)
        seam = np.abs(np.abs(canvas.y) - car.width / 2 + 0.14) < 0.012
        canvas.fill(top & seam & (x > car.windscreen[0] + 0.07), GAP)
    if car.body_type == "pickup":
        bed = (x < car.rear_window[1] - 0.08) & (x > -car.length / 2 + 0.12)
        canvas.fill(top & bed & (np.abs(canvas.y) < car.width / 2 - 0.17), GAP)


def door_edges(car: CarModel) -> tuple[float, ...]:
    """Where along x the doors' edges are, from front to rear."""
    front = min(car.windscreen[0] - 0.12, car.axles[0] - 1.12 * car.wheel)
    rear = max(
        car.rear_window[0] - 0.25, car.axles[1] + (0.5 if car.doors == 2 else 0.9) * car.wheel
    )
    if car.doors == 2:
        return front, (front + rear) / 2 + 0.06, rear
    return front, max(front - 1.3, rear)


def _paint_windows(car: CarModel, canvas: Canvas, line: Outline) -> None:
    x, z = canvas.x, canvas.z
    glass = glass_of(car)
    tall = np.interp(x, line.x, line.roof - line.belt)
    foot, top = car.windscreen
    rear_top, rear_foot = car.rear_window
    # Sides: below the roof's edge by a frame, which makes the slanted pillars
    inside, high = canvas.inside, canvas.part == GLASS
    frame = 0.055
    pane = high & (inside * tall > 0.03) & ((1 - inside) * tall > frame) & (tall > 0.2)
    ahead, behind = foot - 0.28, rear_foot + (0.34 if rear_top - rear_foot < 0.6 else 0.22)
    if car.body_type == "pickup":
        behind = rear_top + 0.06
    pane &= (x < ahead) & (x > behind)
    doors = door_edges(car)
    if car.panel_van:
        pane &= x > doors[1] - 0.02
    for pillar in doors[1:]:
        pane &= np.abs(x - pillar) > 0.035
    rim = high & (tall > 0.2) & (x < ahead + 0.03) & (x > behind - 0.03) & (inside * tall > 0.01)
    if not car.panel_van:
        canvas.fill(rim & ((1 - inside) * tall > frame - 0.02), GAP)
    canvas.fill(pane, glass)
    # Windscreen and rear window
    across = np.abs(canvas.y) / np.maximum(car.width / 2 - 0.13 - car.tumblehome * (
        (z - car.belt) / (car.height - car.belt)), 0.1)  # fmt: skip
    on_top = (canvas.part == TOP) & (across < 1)
    level = (z - car.cowl) / (car.height - car.cowl)
    canvas.fill(
        on_top & (x < foot + 0.05) & (x > top - 0.02) & (level > 0.03) & (level < 0.9), glass
    )
    if not car.panel_van:
        level = (z - car.deck) / (car.height - car.deck)
        ends = (x > rear_foot - 0.03) & (x < rear_top + 0.02)
        canvas.fill(on_top & ends & (level > 0.1) & (level < 0.88), glass)


def _stretched(grid: Floats, height: int, width: int) -> Floats:
    """A grid [R, C, 3] interpolated to [height, width, 3]."""
    rows = np.linspace(0, grid.shape[0] - 1, height)
    columns = np.linspace(0, grid.shape[1] - 1, width)
    row = np.minimum(rows.astype(int), grid.shape[0] - 2)
    column = np.minimum(columns.astype(int), grid.shape[1] - 2)
    down = (rows - row)[:, None, None]
    right = (columns - column)[None, :, None]
    tall = grid[row] * (1 - down) + grid[row + 1] * down
    return np.asarray(tall[:, column] * (1 - right) + tall[:, column + 1] * right)
