"""Pictures of grounds and walls, by seeded noise. They continue over their edges."""

from __future__ import annotations

import cv2
import numpy as np

from idpose_core.datasets.rendered.skins import Texels

GROUNDS = ("asphalt", "grass", "gravel", "paving", "earth")
_COLOURS = {
    "asphalt": (0.13, 0.13, 0.135),
    "grass": (0.10, 0.15, 0.035),
    "gravel": (0.32, 0.29, 0.25),
    "paving": (0.34, 0.32, 0.29),
    "earth": (0.20, 0.14, 0.09),
}
_GRAIN = {"asphalt": 0.16, "grass": 0.4, "gravel": 0.4, "paving": 0.14, "earth": 0.25}
_WALLS = (
    (0.45, 0.40, 0.32), (0.36, 0.15, 0.10), (0.6, 0.58, 0.54), (0.22, 0.23, 0.25),
    (0.5, 0.36, 0.2), (0.3, 0.25, 0.22), (0.62, 0.55, 0.42),
)  # fmt: skip
TILE = 48.0
"""Metres that a ground's picture covers."""


def noise(random: np.random.Generator, cells: tuple[int, int], shape: tuple[int, int]) -> Texels:
    """Smooth noise of unit variance in its cells, float32 of a shape, without seams."""
    coarse = np.pad(random.standard_normal(cells, np.float32), 2, mode="wrap")
    high, wide = shape[0] / cells[0], shape[1] / cells[1]
    turned = np.array([[1 / wide, 0, 2], [0, 1 / high, 2]], np.float32)
    return np.asarray(
        cv2.warpAffine(coarse, turned, shape[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP),
        np.float32,
    )


def ground(random: np.random.Generator, name: str, side: int) -> Texels:
    """Linear RGB of 48 m x 48 m, float32 [side, side, 3]."""
    colour = np.array(_COLOURS[name]) * random.uniform(0.75, 1.3) * random.uniform(0.93, 1.07, 3)
    light = np.ones((side, side), np.float32)
    for cells, strength in ((6, 0.10), (25, 0.09), (110, 0.10), (side // 3, 0.5 * _GRAIN[name])):
        light += strength * noise(random, (cells, cells), (side, side))
    light += 0.6 * _GRAIN[name] * random.standard_normal((side, side), np.float32)
    picture = np.clip(light, 0.25, 2.2)[..., None] * colour.astype(np.float32)
    if name == "paving":
        _pave(random, picture)
    elif name == "grass":
        dry = np.clip(noise(random, (14, 14), (side, side)) - 0.4, 0, 1)[..., None]
        picture += 0.6 * dry * (np.array((0.26, 0.21, 0.09), np.float32) - picture)
    elif name == "asphalt":
        worn = np.clip(noise(random, (9, 9), (side, side)) - 0.6, 0, 0.6)[..., None]
        picture *= 1 + 0.5 * worn
    return np.clip(picture, 0.005, 0.85)


def _pave(random: np.random.Generator, picture: Texels) -> None:
    side = len(picture)
    stones = int(random.choice([48, 64, 96]))
    rows = np.arange(side) * stones // side
    shift = np.where(rows % 2, side // stones // 2, 0)
    columns = ((np.arange(side)[None, :] + shift[:, None]) * stones // side) % stones
    shade = random.normal(1, 0.09, (stones, stones)).astype(np.float32)
    picture *= shade[rows[:, None], columns][..., None]
    joint = np.zeros((side, side), bool)
    joint[1:] |= (np.diff(rows) != 0)[:, None]
    joint[:, 1:] |= np.diff(columns, axis=1) != 0
    picture[joint] *= 0.55


def road_over(random: np.random.Generator, verge: Texels, kind: str) -> Texels:
    """A ground with a road along its columns' middle, or with a car park's lines.

    Args:
        random: Draws widths and wear.
        verge: float32 [S, S, 3], what lies beside the road; S covers 48 m.
        kind: street (with pavements), lane (country road), park (lines everywhere) or none.
    """
    side = len(verge)
    metre = side / TILE
    picture = verge.copy()
    across = (np.arange(side) + 0.5) / metre - TILE / 2  # of the road, by row
    along = (np.arange(side) + 0.5) / metre
    worn = np.clip(0.75 + 0.3 * noise(random, (90, 90), (side, side)), 0.3, 1)[..., None]
    white = np.array((0.62, 0.62, 0.6), np.float32)

    def line(rows: np.ndarray, columns: np.ndarray) -> None:
        where = rows[:, None] & columns[None, :]
        picture[where] += (0.85 * worn * (white - picture))[where]

    everywhere = np.ones(side, bool)
    if kind in ("street", "lane"):
        half = float(random.uniform(3.4, 4.6) if kind == "street" else random.uniform(2.6, 3.4))
        asphalt = ground(random, "asphalt", side)
        if kind == "street":
            kerb = (np.abs(across) > half) & (np.abs(across) < half + 0.25)
            walk = (np.abs(across) >= half + 0.25) & (np.abs(across) < half + 2.6)
            picture[walk] = ground(random, "paving", side)[walk]
            picture[kerb] = np.array((0.42, 0.41, 0.39)) * worn[kerb] ** 0.3
        road = np.abs(across) < half
        picture[road] = asphalt[road]
        tracks = np.exp(-(((np.abs(np.abs(across) - half / 2) - 0.75) / 0.3) ** 2))
        picture[road] *= (1 - 0.16 * tracks[road])[:, None, None]
        if random.random() < 0.8:
            line(np.abs(across) < 0.07, along % 6.0 < 3.0)
        if random.random() < 0.6:
            line(np.abs(np.abs(across) - half + 0.25) < 0.06, everywhere)
    elif kind == "park":
        bay = float(random.choice([2.4, 2.6666667, 3.0]))
        line(np.abs(across) < 0.06, everywhere)
        line(np.abs(across) < 5.0, along % bay < 0.1)
        line(np.abs(np.abs(across) - 16.0) < 5.0, along % bay < 0.1)
    return picture


def wall(random: np.random.Generator, side: int = 192) -> Texels:
    """A piece of a front with four windows, float32 [side, side, 3], for 6 m x 6 m."""
    colour = np.array(_WALLS[int(random.integers(len(_WALLS)))]) * random.uniform(0.8, 1.15)
    light = 1 + 0.05 * noise(random, (5, 5), (side, side))
    light += 0.05 * random.standard_normal((side, side), np.float32)
    if random.random() < 0.4:  # bricks
        rows = np.arange(side) // 4
        light *= random.normal(1, 0.08, (rows.max() + 1, 24))[rows][:, np.arange(side) // 8]
    picture = light[..., None] * colour.astype(np.float32)
    wide, high = random.uniform(0.18, 0.4), random.uniform(0.22, 0.36)
    for row in (0.25, 0.75):
        for column in (0.25, 0.75):
            box = [int(side * e) for e in (row - high / 2, row + high / 2,
                                           column - wide / 2, column + wide / 2)]  # fmt: skip
            frame = picture[box[0] - 3 : box[1] + 3, box[2] - 3 : box[3] + 3]
            frame[:] = 0.55
            pane = picture[box[0] : box[1], box[2] : box[3]]
            pane[:] = np.array((0.05, 0.06, 0.075)) * random.uniform(0.6, 2.2)
            pane[: len(pane) // 3] *= random.uniform(1, 2.5)
            pane[:, pane.shape[1] // 2] = 0.45
    return np.asarray(np.clip(picture, 0.01, 0.85), np.float32)


def leaves(random: np.random.Generator, side: int = 128) -> Texels:
    """Foliage, float32 [side, side, 3]."""
    greens = ((0.05, 0.10, 0.02), (0.09, 0.13, 0.03), (0.035, 0.07, 0.025), (0.16, 0.11, 0.03))
    colour = np.array(greens[int(random.integers(len(greens)))]) * random.uniform(0.8, 1.3)
    light = 1 + 0.35 * noise(random, (32, 32), (side, side))
    light += 0.4 * noise(random, (64, 64), (side, side))
    return np.asarray(np.clip(light, 0.2, 2.5)[..., None] * colour, np.float32)
