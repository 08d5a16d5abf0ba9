"""The place of a clip: ground, houses, trees and lamps, everything that never moves."""

from __future__ import annotations

import numpy as np

from idpose_core.datasets.rendered.meshes import Floats, Mesh, merged, sheet
from idpose_core.datasets.rendered.props import bush, house, lamp_post, tree
from idpose_core.datasets.rendered.renderer import Matte
from idpose_core.datasets.rendered.skins import Palette
from idpose_core.datasets.rendered.textures import TILE, ground, leaves, road_over, wall

_SIDE = 1024  # texels of a ground's picture: 4.7 cm each
_FAR = 5 * TILE


class Place:
    """Collects what stands around; ``parts`` makes it ready to be drawn.

    Args:
        random: What to draw from.
        free: Metres around the origin that houses and trees keep clear.
    """

    def __init__(self, random: np.random.Generator, free: float) -> None:
        self.palette = Palette()
        self._random = random
        self._painted: list[Mesh] = []
        self._leafy: list[Mesh] = []
        self._walls: tuple[list[Mesh], list[Mesh]] = ([], [])
        kind = ("street", "lane", "park", "none")[int(random.choice(4, p=(0.4, 0.25, 0.2, 0.15)))]
        names = {
            "street": ("grass", "paving", "asphalt"),
            "lane": ("grass", "gravel", "earth"),
            "park": ("asphalt", "paving"),
            "none": ("gravel", "paving", "earth", "grass", "asphalt"),
        }[kind]
        verge = ground(random, names[int(random.integers(len(names)))], _SIDE)
        strip = road_over(random, verge, kind)
        near = _floor((2 * _FAR, TILE), 0.0)
        self._grounds = [Matte(near, strip), Matte(_floor((2 * _FAR, 2 * _FAR), -0.02), verge)]
        for _ in range(int(random.integers(0, 9))):
            self._add_house(free)
        for _ in range(int(random.integers(0, 16))):
            crown, trunk = tree(random, self.palette)
            at = self._spot(free, free + 34, 2.5)
            self._leafy.append(crown.moved(at))
            self._painted += [mesh.moved(at) for mesh in trunk]
        for _ in range(int(random.integers(0, 6))):
            at = self._spot(free, free + 16, 1.0)
            lamp = lamp_post(random, self.palette).turned(2, random.uniform(0, 360))
            self._painted.append(lamp.moved(at))
        for _ in range(int(random.integers(0, 7))):
            self.add_bush(self._spot(free, free + 20, 1.0), random.uniform(0.6, 1.8))

    def add_painted(self, mesh: Mesh, at: Floats) -> None:
        """Put up a mesh in materials of the palette."""
        self._painted.append(mesh.moved(at))

    def add_bush(self, at: Floats, high: float) -> None:
        """Plant a bush."""
        self._leafy.append(bush(self._random, high).moved(at))

    def parts(self) -> list[Matte]:
        """All that stands here."""
        parts = list(self._grounds)
        if self._painted:
            parts.append(Matte(merged(self._painted), self.palette.texels()[..., :3]))
        if self._leafy:
            parts.append(Matte(merged(self._leafy), leaves(self._random)))
        parts += [Matte(merged(walls), wall(self._random)) for walls in self._walls if walls]
        return parts

    def _add_house(self, free: float) -> None:
        walls, roof = house(self._random, self.palette)
        turn = float(self._random.choice([0, 90, 180, 270]) + self._random.normal(0, 8))
        reach = float(np.linalg.norm(walls.points[:, :2], axis=1).max())
        at = self._spot(free + reach, free + reach + 26, reach)
        self._walls[int(self._random.integers(2))].append(walls.turned(2, turn).moved(at))
        self._painted += [mesh.turned(2, turn).moved(at) for mesh in roof]

    def _spot(self, near: float, far: float, beside_road: float) -> Floats:
        """A spot on the ground at that distance from the origin, off the road."""
        while True:
            angle, away = self._random.uniform(0, 2 * np.pi), self._random.uniform(near, far)
            spot = np.array((away * np.cos(angle), away * np.sin(angle), 0.0))
            if abs(spot[1]) > 4.8 + beside_road:
                return spot


def _floor(size: tuple[float, float], height: float) -> Mesh:
    """A level rectangle; its places count ground pictures, whose rows run along -y."""
    x, y = size[0] / 2, size[1] / 2
    corners = np.array([[(-x, y, height), (x, y, height)], [(-x, -y, height), (x, -y, height)]])
    mesh = sheet(corners, flip=True)
    places = np.stack([mesh.points[:, 0], TILE / 2 - mesh.points[:, 1]], axis=1) / TILE
    return Mesh(mesh.points, mesh.normals, places, mesh.faces)
