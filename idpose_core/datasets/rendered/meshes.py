"""Triangle meshes in numpy: primitives, and putting them together.

Metres; x to the object's front, y to its left, z up. Each vertex has a place in the skin's texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        points: float64 [V, 3].
        normals: float64 [V, 3], unit length, outwards.
        places: float64 [V, 2], each vertex's place in a texture: (right, down) in 0..1.
        faces: int64 [F, 3], counter-clockwise seen from outside.
    """

    points: Floats
    normals: Floats
    places: Floats
    faces: Indices

    def at(self, place: tuple[float, float]) -> Mesh:
        """The same with all vertices at one place of the texture."""
        return Mesh(self.points, self.normals, np.tile(place, (len(self.points), 1)), self.faces)

    def moved(self, by: Sequence[float] | Floats) -> Mesh:
        """The same, shifted by (x, y, z)."""
        return Mesh(self.points + np.asarray(by), self.normals, self.places, self.faces)

    def scaled(self, by: Sequence[float]) -> Mesh:
        """The same, stretched along x, y and z; a negative factor mirrors."""
        factor = np.asarray(by, np.float64)
        normals = self.normals / factor
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        faces = self.faces if np.prod(factor) > 0 else self.faces[:, ::-1]
        return Mesh(self.points * factor, normals, self.places, faces)

    def turned(self, axis: int, degrees: float) -> Mesh:
        """The same, turned about the x (0), y (1) or z (2) axis, counter-clockwise."""
        matrix = rotation(axis, degrees)
        return Mesh(self.points @ matrix.T, self.normals @ matrix.T, self.places, self.faces)


def rotation(axis: int, degrees: float) -> Floats:
    """The 3 x 3 matrix that turns columns about an axis, counter-clockwise."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = cosine
    matrix[i, j], matrix[j, i] = -sine, sine
    return matrix


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """All in one."""
    starts = np.cumsum([0] + [len(m.points) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.points for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.places for m in meshes]),
        np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=True)]),
    )


def sheet(points: Floats, *, flip: bool = False) -> Mesh:
    """A smooth surface through a grid of points [R, C, 3].

    Places run over the whole texture, rows down and columns right. The outside is where (along a
    row) x (down a column) points to, or the other side with ``flip``.
    """
    rows, columns = points.shape[:2]
    along, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normals = np.cross(along, down) * (-1 if flip else 1)
    for end, inner in ((0, 1), (-1, -2)):  # a row that is one point, as the pole of a ball
        pole = np.linalg.norm(normals[end], axis=1) < 1e-12
        normals[end][pole] = normals[inner][pole]
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    normals = np.where(length > 1e-12, normals / np.maximum(length, 1e-12), (0, 0, 1))
    down_place, right_place = np.meshgrid(
        np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij"
    )
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return Mesh(
        points.reshape(-1, 3),
        normals.reshape(-1, 3),
        np.stack([right_place, down_place], -1).reshape(-1, 2),
        faces[:, ::-1] if flip else faces,
    )


def placed(mesh: Mesh, left: float, top: float, width: float, height: float) -> Mesh:
    """The same, its texture squeezed into a rectangle of a larger one."""
    places = mesh.places * (width, height) + (left, top)
    return Mesh(mesh.points, mesh.normals, places, mesh.faces)


def box(size: Sequence[float], centre: Sequence[float] = (0, 0, 0)) -> Mesh:
    """A box with sharp edges."""
    half = np.asarray(size, np.float64) / 2
    sides = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            i, j = (axis + 1) % 3, (axis + 2) % 3
            corners = np.zeros((2, 2, 3))
            corners[..., axis] = sign * half[axis]
            corners[:, 0, i], corners[:, 1, i] = -half[i], half[i]
            corners[0, :, j], corners[1, :, j] = half[j], -half[j]
            sides.append(sheet(corners, flip=sign > 0))
    return merged(sides).moved(centre)


def lathe(profile: Sequence[tuple[float, float]], *, sides: int = 24) -> Mesh:
    """A profile of (radius, height) turned about the z axis; outside to the right of its way up."""
    outline = np.asarray(profile, np.float64)
    angles = np.linspace(0, 2 * np.pi, sides + 1)
    points = np.empty((len(outline), sides + 1, 3))
    points[..., 0] = outline[:, :1] * np.cos(angles)
    points[..., 1] = outline[:, :1] * np.sin(angles)
    points[..., 2] = outline[:, 1:]
    return sheet(points)


def tube(path: Floats, radius: float, *, sides: int = 8) -> Mesh:
    """A bent round bar along points [N, 3], open at its ends."""
    way = np.gradient(path, axis=0)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    helper = np.where(np.abs(way[:, 2:]) < 0.9, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    across = np.cross(way, helper)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    up = np.cross(across, way)
    angles = np.linspace(0, 2 * np.pi, sides + 1)[:, None]
    ring = across[:, None] * np.cos(angles) + up[:, None] * np.sin(angles)
    return sheet(path[:, None] + radius * ring, flip=True)


def ball(radii: Sequence[float], *, power: float = 2.0, sides: int = 16) -> Mesh:
    """An ellipsoid, or with a higher power a box with round edges."""
    down, around = np.meshgrid(
        np.linspace(0, np.pi, sides // 2 + 1), np.linspace(0, 2 * np.pi, sides + 1), indexing="ij"
    )
    unit = np.stack([np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down)], 2)
    points = np.sign(unit) * np.abs(unit) ** (2 / power)
    mesh = sheet(points * np.asarray(radii, np.float64), flip=True)
    normals = (np.sign(unit) * np.abs(unit) ** (2 - 2 / power) / np.asarray(radii)).reshape(-1, 3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(mesh.points, normals, mesh.places, mesh.faces)
