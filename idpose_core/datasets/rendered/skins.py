"""Skins: what a surface looks like, as pictures that a mesh's places point into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.meshes import Floats, Mesh

Texels = NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """One look: colour linear RGB in 0..1, roughness 0..1, metallic 0..1, clear coat 0..1."""

    colour: tuple[float, float, float]
    roughness: float = 0.6
    metallic: float = 0.0
    coat: float = 0.0

    def texel(self) -> tuple[float, ...]:
        """The six numbers of a texel."""
        return (*self.colour, self.roughness, self.metallic, self.coat)


@dataclass(frozen=True)
class Skin:
    """Texels float32 [H, W, 6]: RGB (linear), roughness, metallic, clear coat."""

    texels: Texels


@dataclass(frozen=True)
class Solid:
    """A mesh with its skin."""

    mesh: Mesh
    skin: Skin

    @property
    def size(self) -> Floats:
        """Length, width and height of the mesh, float64 [3]."""
        return np.asarray(np.ptp(self.mesh.points, axis=0))


class Palette:
    """Single materials in a square field of cells, which meshes of one material point to."""

    _CELLS, _PIXELS = 8, 8

    def __init__(self) -> None:
        self._materials: list[Material] = []

    def cell(self, material: Material) -> int:
        """Number of the material's cell."""
        if material not in self._materials:
            if len(self._materials) == self._CELLS**2:
                raise ValueError(f"a palette holds {self._CELLS**2} materials")
            self._materials.append(material)
        return self._materials.index(material)

    def place(self, cell: int) -> tuple[float, float]:
        """Middle of a cell, (right, down) in 0..1 of the palette's picture."""
        row, column = divmod(cell, self._CELLS)
        return (column + 0.5) / self._CELLS, (row + 0.5) / self._CELLS

    def dress(self, mesh: Mesh, material: Material) -> Mesh:
        """The mesh in one material, its places within the palette's picture."""
        return mesh.at(self.place(self.cell(material)))

    def texels(self) -> Texels:
        """The picture, float32 [64, 64, 6]."""
        cells = np.zeros((self._CELLS, self._CELLS, 6), np.float32)
        for number, material in enumerate(self._materials):
            cells[divmod(number, self._CELLS)] = material.texel()
        return cells.repeat(self._PIXELS, axis=0).repeat(self._PIXELS, axis=1)
