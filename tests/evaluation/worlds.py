"""A world whose answers are plain: a coloured pointer that turns; its colour is its identity."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.evaluation.views import LabelledViews

SIDE = 48
STEPS = 12


def pointer(colour: float, azimuth: float, side: int = SIDE) -> NDArray[np.uint8]:
    """A pointer of hue ``colour`` in [0, 1) on light grey, towards ``azimuth`` in degrees."""
    picture = np.full((4 * side, 4 * side, 3), 225, np.uint8)
    middle = np.array([2 * side, 2 * side])
    angle = np.radians(azimuth)
    way = np.array([np.cos(angle), -np.sin(angle)])
    across = np.array([way[1], -way[0]])
    corners = [middle + 1.4 * side * way, middle - side * way + 0.8 * side * across]
    corners.append(middle - side * way - 0.8 * side * across)
    shade = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(colour, 0.8, 0.8))
    cv2.fillPoly(picture, [np.array(corners).astype(np.int32)], shade)
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def pointers(objects: int, *, first: float = 0.0, source: str = "pointers") -> LabelledViews:
    """All azimuths of objects, whose hues are spread evenly."""
    hues = [(first + one / objects) % 1 for one in range(objects)]
    azimuths = np.arange(STEPS) * 360.0 / STEPS
    return LabelledViews(
        pictures=np.stack([pointer(hue, azimuth) for hue in hues for azimuth in azimuths]),
        identity=np.repeat(np.arange(objects), STEPS),
        video=np.repeat(np.arange(objects), STEPS),
        azimuth_deg=np.tile(azimuths, objects),
        elevation_deg=np.full(objects * STEPS, np.nan),
        elevation_order=np.zeros(objects * STEPS, np.int64),
        names=tuple(f"pointer-{one}" for one in range(objects)),
        source=source,
    )
