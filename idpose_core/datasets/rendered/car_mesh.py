"""A car as a solid: body, wheels and what is mounted on it, in one mesh with one skin."""

from __future__ import annotations

import numpy as np

from idpose_core.datasets.rendered.car_body import body_panels, outline, side_of_body
from idpose_core.datasets.rendered.car_model import CarModel
from idpose_core.datasets.rendered.car_paint import CHROME, GAP, RUBBER, paint_of, paint_panel
from idpose_core.datasets.rendered.meshes import (
    Mesh,
    ball,
    box,
    lathe,
    merged,
    placed,
    sheet,
    tube,
)
from idpose_core.datasets.rendered.skins import Material, Palette, Skin, Solid, Texels

_WIDTH, _HEIGHT = 768, 608
# left, top, width, height of each picture in the skin
_FIELDS = {
    "side": (0, 0, 768, 352),
    "front": (0, 352, 256, 256),
    "rear": (256, 352, 256, 256),
    "wheel": (512, 352, 128, 128),
    "palette": (640, 352, 64, 64),
}
_ALLOY = Material((0.52, 0.53, 0.55), 0.25, 0.8)
_STEEL = Material((0.30, 0.30, 0.31), 0.45, 0.5)


def car_solid(car: CarModel) -> Solid:
    """The car, its middle on the ground below the origin, its front at +x."""
    texels = np.zeros((_HEIGHT, _WIDTH, 6), np.float32)
    palette = Palette()
    meshes = []
    for panel in body_panels(car):
        left, top, width, height = _FIELDS[panel.name]
        texels[top : top + height, left : left + width] = paint_panel(car, panel, height, width)
        meshes.append(_in_field(sheet(panel.points, flip=panel.name == "side"), panel.name))
    _, _, side, _ = _FIELDS["wheel"]
    _write(texels, "wheel", _rim(car, side))
    meshes += [_in_field(disc, "wheel") for disc in _discs(car)]
    fittings = [*_tyres(car, palette), *_underbody(car, palette), *_mirrors(car, palette)]
    fittings += _mounted(car, palette)
    meshes += [_in_field(mesh, "palette") for mesh in fittings]
    _write(texels, "palette", palette.texels())
    return Solid(merged(meshes), Skin(texels))


def _in_field(mesh: Mesh, name: str) -> Mesh:
    left, top, width, height = _FIELDS[name]
    return placed(
        mesh,
        (left + 0.5) / _WIDTH,
        (top + 0.5) / _HEIGHT,
        (width - 1) / _WIDTH,
        (height - 1) / _HEIGHT,
    )


def _write(texels: Texels, name: str, picture: Texels) -> None:
    left, top, width, height = _FIELDS[name]
    texels[top : top + height, left : left + width] = picture


def _wheel_places(car: CarModel) -> list[tuple[float, float, int]]:
    """x, y of the outer face, and side (1 left, -1 right) of each wheel."""
    out = car.width / 2 * 0.965 + 0.6 * car.flare
    return [(x, side * out, side) for x in car.axles for side in (1, -1)]


def _tyres(car: CarModel, palette: Palette) -> list[Mesh]:
    radius, wide = car.wheel, 0.2
    profile = [
        (0.45 * radius, -wide), (0.9 * radius, -wide), (radius, -0.85 * wide),
        (radius, -0.2 * wide), (0.95 * radius, -0.04 * wide), (0.8 * radius, 0.0),
        (0.68 * radius, -0.02 * wide), (0.66 * radius, -0.2 * wide),
    ]  # fmt: skip
    tyre = palette.dress(lathe(profile, sides=28).turned(0, -90), RUBBER)  # its axis along +y
    return [tyre.scaled((1, side, 1)).moved((x, y, radius)) for x, y, side in _wheel_places(car)]


def _discs(car: CarModel) -> list[Mesh]:
    """The wheels' faces, textured; each bulges a little."""
    down, right = np.meshgrid(np.linspace(-1, 1, 13), np.linspace(-1, 1, 13), indexing="ij")
    # A square bent to a disc
    x = right * np.sqrt(1 - down**2 / 2) * 0.68 * car.wheel
    z = -down * np.sqrt(1 - right**2 / 2) * 0.68 * car.wheel
    bulge = -0.025 - 0.02 * ((x**2 + z**2) / (0.68 * car.wheel) ** 2 - 0.5) ** 2
    disc = sheet(np.stack([x, bulge, z], axis=2), flip=True)
    return [disc.scaled((1, side, 1)).moved((x, y, car.wheel)) for x, y, side in _wheel_places(car)]


def _rim(car: CarModel, side: int) -> Texels:
    """The picture of a wheel's face, by design."""
    v, u = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    # The inverse of the square's bending in ``_discs``
    x, y = u * np.sqrt(1 - v**2 / 2), v * np.sqrt(1 - u**2 / 2)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    design = car.wheel_design
    spokes = (5, 6, 8, 10, 14, 5, 0, 0)[design]
    if design < 5:
        thick = (0.3, 0.24, 0.2, 0.16, 0.1)[design] * (0.75 + 0.4 * radius)
        across = np.abs(np.sin(spokes * angle / 2)) / (spokes / 2) * radius
        metal = (across < thick * 0.75) | (radius > 0.88) | (radius < 0.24)
        materials = (GAP, _ALLOY)
    elif design == 5:  # pairs of spokes
        near = np.abs(np.abs(np.sin(spokes * angle / 2)) / (spokes / 2) * radius - 0.1)
        metal = (near < 0.055) | (radius > 0.86) | (radius < 0.22)
        materials = (GAP, _ALLOY)
    elif design == 6:  # a steel disc with round holes
        turn = np.mod(angle, 2 * np.pi / 8) - np.pi / 8
        holes = np.hypot(radius * np.cos(turn) - 0.68, radius * np.sin(turn)) < 0.13
        metal = ~holes
        materials = (GAP, _STEEL)
    else:  # a full cap with a coloured middle
        metal = (radius > 0.5) | (radius < 0.18)
        materials = (paint_of(car, car.paint), CHROME)
    picture = np.empty((side, side, 6), np.float32)
    picture[:] = materials[0].texel()
    picture[metal] = materials[1].texel()
    picture[radius > 0.97] = RUBBER.texel()
    return picture


def _underbody(car: CarModel, palette: Palette) -> list[Mesh]:
    """A dark block, so that nobody sees through below the car and between its wheels."""
    low, high = 0.75 * car.clearance, 0.62 * car.belt
    block = box((0.93 * car.length, car.width - 0.5, high - low), (0, 0, (low + high) / 2))
    return [palette.dress(block, GAP)]


def _mirrors(car: CarModel, palette: Palette) -> list[Mesh]:
    x, z = car.windscreen[0] - 0.38, car.belt + 0.06
    y = side_of_body(car, x, z) + 0.08
    paint = paint_of(car, car.paint if car.trim == car.paint else car.trim)
    shell = palette.dress(ball((0.07, 0.1, 0.07), power=3, sides=12), paint)
    return [shell.moved((x, side * y, z)) for side in (1, -1)]


def _mounted(car: CarModel, palette: Palette) -> list[Mesh]:
    front, rear, height = car.windscreen[1] - 0.1, car.rear_window[0] + 0.1, car.height
    middle, long = (front + rear) / 2, front - rear
    across = car.width / 2 - car.tumblehome - 0.2
    meshes: list[Mesh] = []
    if car.rack in ("rails", "box"):
        low, high = height - 0.05, height + 0.04
        bends = [(front, low), (front - 0.1, high), (rear + 0.1, high), (rear, low)]
        ways = [np.array([(x, side * across, z) for x, z in bends]) for side in (1, -1)]
        meshes += [palette.dress(tube(way, 0.022), CHROME) for way in ways]
    if car.rack == "box":
        case = ball((0.42 * long, 0.36, 0.17), power=5, sides=24).moved((middle, 0, height + 0.2))
        meshes.append(palette.dress(case, Material((0.03, 0.03, 0.032), 0.35)))
    elif car.rack == "sign":
        sign = box((0.16, 0.6, 0.15), (middle + 0.2 * long, 0, height + 0.06))
        meshes.append(palette.dress(sign, Material((0.8, 0.62, 0.1), 0.4)))
    if car.spoiler:
        meshes += _spoiler(car, palette)
    if car.spare_wheel:
        cover = [(0.0, 0.16), (0.9 * car.wheel, 0.16), (car.wheel, 0.1), (car.wheel, 0.0)]
        wheel = lathe(cover[::-1], sides=28).turned(1, -90)  # its axis along -x
        at = (-car.length / 2 + 0.06, 0, car.stern - 0.3)
        meshes.append(palette.dress(wheel.moved(at), Material((0.02, 0.02, 0.022), 0.5)))
    return meshes


def _spoiler(car: CarModel, palette: Palette) -> list[Mesh]:
    lacquer = paint_of(car, car.paint)
    wide = car.width - 0.3
    if car.body_type == "hatchback":
        lip = box((0.2, wide - 0.15, 0.04), (car.rear_window[0] - 0.1, 0, car.height - 0.03))
        return [palette.dress(lip, lacquer)]
    line = outline(car)
    x = -car.length / 2 + 0.16
    deck = float(np.interp(x, line.x, line.roof))
    wing = box((0.22, wide, 0.035), (x, 0, deck + 0.2))
    posts = [box((0.08, 0.03, 0.22), (x, side * 0.36 * wide, deck + 0.1)) for side in (1, -1)]
    return [palette.dress(mesh, lacquer) for mesh in (wing, *posts)]
