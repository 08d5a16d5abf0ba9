"""From light to pixels: exposure, tone and a touch of noise removal."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.renderer import Pixels

Picture = NDArray[np.uint8]


def exposure_for(light: Pixels) -> float:
    """The factor that brings a picture [H, W, 3] to a middling brightness, as a camera would."""
    grey = light @ np.array((0.2126, 0.7152, 0.0722), np.float32)
    middling = float(np.exp(np.log(grey + 0.02).mean()))
    return float(np.clip(0.24 / middling, 0.5, 3.0))


def developed(light: Pixels, exposure: float) -> Picture:
    """Linear light float32 [H, W, 3] as an sRGB picture, uint8 [H, W, 3]; highlights roll off."""
    x = np.maximum(light * np.float32(exposure), 0)
    rolled = x * (1 + x / 4.0) / (1 + x * 0.62)
    return encoded(rolled)


def encoded(light: Pixels) -> Picture:
    """Linear light float32 [H, W, 3] in 0..1 as an sRGB picture, uint8; above 1 it clips."""
    x = np.clip(light, 0, 1)
    curve = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(x, 1 / 2.4) - 0.055)
    return np.asarray(np.round(curve * 255), np.uint8)


def smoothed(picture: Picture) -> Picture:
    """Less of the noise that few light paths leave; edges stay."""
    return np.asarray(cv2.bilateralFilter(picture, 5, 22, 1.6), np.uint8)
