"""What the object in a crop looks like as a whole: how bright, how contrasted, in which colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_BINS = 8  # for each of L, a and b
_BRIGHT = 95  # percentile: lamps that light up a twentieth of the box make nothing else visible


def exposure(picture: NDArray[np.uint8]) -> tuple[float, float]:
    """Brightness and contrast of a picture uint8 [H, W, 3] RGB.

    Returns:
        The grey level that the brightest twentieth of the pixels reaches, in [0, 255], and the
        standard deviation of the grey levels.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return float(np.percentile(grey, _BRIGHT)), float(grey.std())


def appearance(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histogram over the Lab colours of a picture uint8 [H, W, 3] RGB, [512], with sum 1."""
    lab = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2LAB)
    counts = cv2.calcHist([lab], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3).ravel()
    return np.asarray(counts / counts.sum(), dtype=np.float32)


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Hellinger distance of two histograms: 0 for equal ones, 1 where they share no colour."""
    return float(np.sqrt(max(0.0, 1.0 - float(np.sqrt(a * b).sum()))))
