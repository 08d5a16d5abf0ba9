"""Daylight: a panorama of sky, hills and far trees and houses, and the sun that goes with it."""

from __future__ import annotations

import numpy as np

from idpose_core.datasets.rendered.renderer import Light
from idpose_core.datasets.rendered.skins import Texels
from idpose_core.datasets.rendered.textures import noise

_ROWS, _COLUMNS = 320, 960
_HORIZON = _ROWS // 2
# Zenith and horizon (linear radiance), the sun's irradiance, the clouds' share
_WEATHER = {
    "clear": ((0.16, 0.32, 0.75), (0.62, 0.74, 0.9), (3.2, 2.95, 2.6), 0.25),
    "fair": ((0.22, 0.38, 0.75), (0.72, 0.8, 0.9), (2.6, 2.45, 2.2), 0.6),
    "overcast": ((0.62, 0.66, 0.72), (0.75, 0.78, 0.8), (0.35, 0.35, 0.35), 1.0),
    "evening": ((0.22, 0.3, 0.5), (0.95, 0.68, 0.45), (2.7, 1.75, 0.95), 0.45),
}
WEATHERS = tuple(_WEATHER)


def daylight(random: np.random.Generator) -> Light:
    """Draw a sky with its surroundings on the horizon."""
    name = WEATHERS[int(random.choice(len(WEATHERS), p=(0.3, 0.3, 0.25, 0.15)))]
    zenith, horizon, sun_colour, clouds = _WEATHER[name]
    height = np.deg2rad(random.uniform(12, 26) if name == "evening" else random.uniform(28, 65))
    turn = random.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(height) * np.cos(turn), np.cos(height) * np.sin(turn), np.sin(height)])
    panorama = _sky(random, np.array(zenith), np.array(horizon), clouds)
    haze = panorama[_HORIZON - 4 : _HORIZON].mean(axis=(0, 1))
    _draw_hills(random, panorama, haze)
    _draw_houses(random, panorama, haze)
    _draw_trees(random, panorama, haze)
    # Below the horizon: what the ground sends back up, seen by no camera
    below = 0.16 * (haze + 0.3 * np.array(sun_colour))
    panorama[_HORIZON:] = below
    colour = np.array(sun_colour) * random.uniform(0.85, 1.15)
    return Light(panorama.astype(np.float32), _three(sun), _three(colour), _three(0.35 * below))


def studio() -> Light:
    """Even light on a neutral, light background, for the multi-view sets."""
    panorama = np.full((64, 128, 3), 0.8, np.float32)
    panorama[8:20, 20:44] = 2.0  # a soft box at each side, for the lacquer to mirror
    panorama[8:20, 84:108] = 2.0
    return Light(panorama, (0.30, 0.40, 0.866), (0.45, 0.45, 0.45), (0.0, 0.0, 0.0))


def _three(values: np.ndarray) -> tuple[float, float, float]:
    a, b, c = values.tolist()
    return a, b, c


def _sky(
    random: np.random.Generator, zenith: np.ndarray, horizon: np.ndarray, clouds: float
) -> Texels:
    up = np.linspace(1, 0, _HORIZON)[:, None, None]  # 1 zenith
    sky = horizon + (zenith - horizon) * (1 - (1 - up) ** 3) ** 0.9
    sky = np.broadcast_to(sky, (_HORIZON, _COLUMNS, 3)).copy()
    field = np.zeros((_HORIZON, _COLUMNS), np.float32)
    for cells, strength in (((5, 8), 1.0), ((11, 20), 0.6), ((24, 48), 0.35), ((60, 130), 0.2)):
        field += strength * noise(random, cells, field.shape)
    cover = np.clip((field + 2.4 * clouds - 1.6) / 1.4, 0, 1)[..., None]
    grey = 0.9 * horizon.mean() + 0.35 + 0.10 * field[..., None]
    if clouds == 1.0:
        grey = 0.72 + 0.10 * field[..., None]
    sky += cover * (grey - sky) * 0.85
    panorama = np.zeros((_ROWS, _COLUMNS, 3), np.float32)
    panorama[:_HORIZON] = np.clip(sky, 0.03, 1.8)
    return panorama


def _around(random: np.random.Generator, waves: int) -> np.ndarray:
    """A closed wavy line of about unit height, float64 [columns]."""
    turn = np.linspace(0, 2 * np.pi, _COLUMNS, endpoint=False)
    line = np.zeros(_COLUMNS)
    for wave in range(1, waves + 1):
        line += np.sin(wave * turn + random.uniform(0, 2 * np.pi)) * random.normal(0, wave**-0.8)
    return line


def _below(panorama: Texels, heights: np.ndarray) -> np.ndarray:
    """Mask of what lies between the horizon and a height in rows above it, by column."""
    above = _HORIZON - 1 - np.arange(_ROWS)[:, None]
    return np.asarray((above >= 0) & (above < heights))


def _draw_hills(random: np.random.Generator, panorama: Texels, haze: np.ndarray) -> None:
    for share in (0.75, 0.5):
        if random.random() < 0.6:
            heights = np.clip(random.uniform(3, 12) * (1 + 0.5 * _around(random, 14)), 0, 34)
            land = np.array((0.08, 0.11, 0.07)) * random.uniform(0.8, 1.5)
            panorama[_below(panorama, heights)] = share * haze + (1 - share) * land


def _draw_houses(random: np.random.Generator, panorama: Texels, haze: np.ndarray) -> None:
    for _ in range(int(random.integers(0, 34))):
        left, wide = int(random.integers(_COLUMNS)), int(random.integers(12, 60))
        high = int(random.integers(5, 26))
        colour = (
            np.array((0.35, 0.3, 0.26)) * random.uniform(0.4, 1.4) * random.uniform(0.85, 1.15, 3)
        )
        colour = 0.35 * haze + 0.65 * colour
        rows = np.arange(_HORIZON - high, _HORIZON)[:, None]
        columns = (left + np.arange(wide))[None, :] % _COLUMNS
        panorama[rows, columns] = colour
        panes = ((rows - _HORIZON) % 4 < 2) & (np.arange(wide)[None, :] % 4 < 2)
        panorama[np.broadcast_to(rows, panes.shape)[panes],
                 np.broadcast_to(columns, panes.shape)[panes]] = 0.5 * colour  # fmt: skip


def _draw_trees(random: np.random.Generator, panorama: Texels, haze: np.ndarray) -> None:
    for share in (0.4, 0.2):
        gaps = np.clip(_around(random, 6) + random.uniform(-0.6, 0.8), 0, 1)
        rough = 1 + 0.35 * noise(random, (1, 260), (1, _COLUMNS))[0]
        heights = np.clip(random.uniform(4, 11) * gaps * rough, 0, 26)
        where = _below(panorama, heights)
        green = np.array((0.06, 0.09, 0.03)) * random.uniform(0.7, 1.6)
        light = 1 + 0.3 * noise(random, (170, 512), (_ROWS, _COLUMNS))[where][:, None]
        panorama[where] = share * haze + (1 - share) * green * np.clip(light, 0.3, 2)
