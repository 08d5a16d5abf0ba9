"""The fixed ID x pose matrix that a run is looked at by (as the paper's figures 6 to 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idpose_core.training.augmentation import centre_crop
from idpose_core.training.data import TripletData
from idpose_core.training.sampling import random_words

Picture = NDArray[np.uint8]
Generate = Callable[[Tensor, Tensor], Tensor]
_GAP = 4
_WHITE = 255


@dataclass(frozen=True)
class Matrix:
    """ID and pose pictures, every one to be combined with every other.

    Attributes:
        identities: float32 [I, 3, S, S] in [-1, 1], rows.
        poses: float32 [P, 3, S, S], columns.
    """

    identities: Tensor
    poses: Tensor

    def generate(self, generate: Generate) -> Tensor:
        """G(identity i, pose p), float [I, P, 3, S, S] on the CPU; one row at a time."""
        rows = [
            generate(one.expand(len(self.poses), -1, -1, -1), self.poses).float().cpu()
            for one in self.identities
        ]
        return torch.stack(rows)

    def draw(self, made: Tensor) -> Picture:
        """The matrix uint8 [H, W, 3]: poses on top, identities at the left."""
        cells = torch.cat([self.identities[:, None], made], dim=1)
        head = torch.cat([torch.ones_like(self.poses[:1]), self.poses])[None]
        return tiled(torch.cat([head, cells]))


def choose_matrix(data: TripletData, size: int, *, count: int = 6, seed: int = 0) -> Matrix:
    """As many ID clips and pose clusters as there are, up to ``count``, chosen by the seed alone.

    Args:
        data: Triplets of one split.
        size: Side of the generator's pictures.
        count: Rows, and columns.
        seed: Of the choice.
    """
    order = np.argsort(random_words(seed, "order", 0, 1, count=len(data)), kind="stable")
    identities = _first_of_each(data, order, "clip_id", count)
    poses = _first_of_each(data, order, "pose_cluster", count)
    return Matrix(
        centre_crop(torch.from_numpy(data.pictures(identities)[0]), size),
        centre_crop(torch.from_numpy(data.pictures(poses)[1]), size),
    )


def tiled(cells: Tensor) -> Picture:
    """Pictures [rows, columns, 3, S, S] in [-1, 1] as one uint8 [H, W, 3] with gaps."""
    rows, columns, _, height, width = cells.shape
    values = ((cells.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 1, 3, 4, 2)
    sheet = np.full(
        (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), _WHITE, np.uint8
    )
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + _GAP), column * (width + _GAP)
            sheet[top : top + height, left : left + width] = values[row, column].numpy()
    return sheet


def _first_of_each(
    data: TripletData, order: NDArray[np.int64], column: str, count: int
) -> list[int]:
    """For the first so many values of a column, in this order of rows, the first row of each."""
    values = data.triplets[column].to_pylist()
    first: dict[object, int] = {}
    for row in order:
        first.setdefault(values[row], int(row))
    return list(first.values())[:count]
