"""Things that stand around: houses, trees, lamp posts, bushes, people."""

from __future__ import annotations

import numpy as np

from idpose_core.datasets.rendered.meshes import Floats, Mesh, ball, box, lathe, merged, sheet, tube
from idpose_core.datasets.rendered.skins import Material, Palette

_BARK = Material((0.10, 0.07, 0.05))
_STEEL = Material((0.24, 0.25, 0.26))
_CLOTHES = (
    (0.05, 0.06, 0.1), (0.3, 0.04, 0.04), (0.45, 0.43, 0.4), (0.06, 0.12, 0.25), (0.35, 0.3, 0.1),
    (0.02, 0.02, 0.02), (0.1, 0.2, 0.1),
)  # fmt: skip


def house(random: np.random.Generator, palette: Palette) -> tuple[Mesh, list[Mesh]]:
    """Walls, their places in units of 6 m, and the roof, in the palette's materials."""
    long, deep = random.uniform(8, 22), random.uniform(7, 12)
    storeys = int(random.integers(1, 6))
    high = 3.0 * storeys + random.uniform(0.3, 0.9)
    walls = box((long, deep, high), (0, 0, high / 2))
    edge = np.where(np.abs(walls.normals[:, :1]) > 0.5, walls.points[:, 1:2], walls.points[:, :1])
    places = np.concatenate([edge / 6, -walls.points[:, 2:] / 6], axis=1)
    walls = Mesh(walls.points, walls.normals, places, walls.faces)
    tiles = Material(
        ((0.25, 0.09, 0.06), (0.09, 0.09, 0.10), (0.2, 0.14, 0.1))[int(random.integers(3))]
    )
    if storeys > 3:
        return walls, [palette.dress(box((long + 0.3, deep + 0.3, 0.35), (0, 0, high)), tiles)]
    ridge, eave = high + random.uniform(1.8, 3.4), deep / 2 + 0.4
    half = long / 2 + 0.3
    slope = np.array([[(-half, -eave, high - 0.2), (half, -eave, high - 0.2)],
                      [(-half, 0, ridge), (half, 0, ridge)],
                      [(-half, eave, high - 0.2), (half, eave, high - 0.2)]])  # fmt: skip
    roof = _sharp(slope)
    triangle = np.array(
        [[(0.0, -deep / 2, high), (0.0, deep / 2, high)], [(0, 0, ridge - 0.3)] * 2]
    )
    ends = [sheet(triangle).moved((side * (long / 2), 0, 0)) for side in (1, -1)]
    return walls, [palette.dress(m, tiles) for m in (*roof, *ends)]


def _sharp(points: Floats) -> list[Mesh]:
    return [sheet(points[i : i + 2]) for i in range(len(points) - 1)]


def tree(random: np.random.Generator, palette: Palette) -> tuple[Mesh, list[Mesh]]:
    """Foliage, its places over the whole picture of leaves, and the trunk."""
    high = random.uniform(4, 10)
    trunk_high = high * random.uniform(0.25, 0.45)
    radius = 0.028 * high
    trunk = lathe(
        [(1.3 * radius, 0), (radius, 0.3), (0.7 * radius, trunk_high + 0.2 * high)], sides=8
    )
    crowns = []
    if random.random() < 0.25:  # a conifer
        for level in range(4):
            low = trunk_high * 0.5 + level * high * 0.2
            wide = high * 0.24 * (1 - 0.2 * level)
            crowns.append(lathe([(wide, low), (0.02, low + high * 0.34)], sides=12))
    else:
        broad = high * random.uniform(0.22, 0.34)
        for _ in range(int(random.integers(6, 11))):
            away = random.normal(0, 0.42, 3) * broad + np.array((0, 0, trunk_high + 0.9 * broad))
            size = broad * random.uniform(0.4, 0.7)
            crowns.append(clump(random, size).moved(away))
    return merged(crowns), [palette.dress(trunk, _BARK)]


def clump(random: np.random.Generator, size: float) -> Mesh:
    """A ragged ball of foliage."""
    mesh = ball((size, size, 0.85 * size), sides=14)
    ragged = 1 + 0.13 * random.standard_normal(len(mesh.points))
    return Mesh(mesh.points * ragged[:, None], mesh.normals, mesh.places * (3, 2), mesh.faces)


def bush(random: np.random.Generator, high: float) -> Mesh:
    """A bush that stands on the ground."""
    clumps = [
        clump(random, high * random.uniform(0.35, 0.5)).moved(
            (
                random.normal(0, 0.3) * high,
                random.normal(0, 0.3) * high,
                high * random.uniform(0.3, 0.6),
            )
        )
        for _ in range(6)
    ]
    return merged(clumps)


def lamp_post(random: np.random.Generator, palette: Palette) -> Mesh:
    """A street lamp."""
    high = random.uniform(4.5, 8)
    path = np.array(
        [(0, 0, 0), (0, 0, 0.7 * high), (0, 0, high), (0.5, 0, high + 0.25), (1.3, 0, high + 0.3)]
    )
    lamp = box((0.6, 0.22, 0.12), (1.4, 0, high + 0.26))
    return merged([palette.dress(m, _STEEL) for m in (tube(path, 0.07, sides=8), lamp)])


def post(random: np.random.Generator, palette: Palette) -> Mesh:
    """A thin thing by the road: a sign on its pole, a bare pole or a tree's trunk."""
    kind = int(random.integers(3))
    if kind == 0:
        high = random.uniform(2.1, 2.7)
        pole = palette.dress(lathe([(0.04, 0), (0.04, high)], sides=8), _STEEL)
        colour = ((0.5, 0.03, 0.03), (0.03, 0.1, 0.45), (0.7, 0.55, 0.05))[int(random.integers(3))]
        plate = lathe([(0.33, 0.0), (0.33, 0.02), (0.0, 0.02)], sides=20).turned(1, 90)
        back = plate.scaled((-1, 1, 1))
        face = palette.dress(merged([plate, back]).moved((0, 0, high)), Material(colour))
        return merged([pole, face.turned(2, random.uniform(0, 360))])
    thick = random.uniform(0.06, 0.11) if kind == 1 else random.uniform(0.13, 0.24)
    pole = lathe([(1.25 * thick, 0), (thick, 0.4), (0.8 * thick, 6.0)], sides=10)
    return palette.dress(pole, _STEEL if kind == 1 else _BARK)


def pedestrian(random: np.random.Generator, palette: Palette) -> Mesh:
    """A person in mid-stride, walking along +x."""
    high = random.uniform(1.6, 1.9)
    scale = high / 1.75
    coat, trousers = (Material(_CLOTHES[int(random.integers(len(_CLOTHES)))]) for _ in range(2))
    skin = Material((0.45, 0.28, 0.2) if random.random() < 0.6 else (0.16, 0.09, 0.06))
    torso = lathe([(0.13, 0.8), (0.19, 0.95), (0.2, 1.3), (0.1, 1.48), (0.0, 1.5)], sides=12)
    parts = [palette.dress(torso.scaled((0.75, 1.15, 1)), coat)]
    for side in (1, -1):
        leg = np.array(
            [
                (0.28 * side, 0.09 * side, 0.05),
                (0.1 * side, 0.09 * side, 0.45),
                (0, 0.09 * side, 0.88),
            ]
        )
        arm = np.array(
            [(-0.2 * side, 0.25 * side, 0.8), (-0.1 * side, 0.26 * side, 1.1), (0, 0.2 * side, 1.4)]
        )
        parts.append(palette.dress(tube(leg, 0.08), trousers))
        parts.append(palette.dress(tube(arm, 0.055), coat))
    parts.append(palette.dress(ball((0.1, 0.085, 0.13), sides=12).moved((0, 0, 1.62)), skin))
    return merged(parts).scaled((scale, scale, scale))
