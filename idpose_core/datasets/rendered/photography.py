"""From light to pixels: exposure, tone and a touch of noise removal."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.renderer import Layers, Light, Pixels

Picture = NDArray[np.uint8]


_FLOOR = 0.02  # of the guide: reflectance that every surface has at least
_BLUR = 1.4  # of the skylight, in pixels of the half-size picture


def lit(layers: Layers, light: Light) -> Pixels:
    """Put the layers together, float32 [H, W, 3] linear.

    Skylight varies slowly but is found by chance, so it is noisy. It is blurred after it was
    divided by a guide that holds all detail (what a flash at the camera lights, undone for the
    distance) and multiplied by the guide again: the detail stays sharp, the noise goes.
    """
    height, width = layers.depth.shape
    solid = layers.depth > 0
    guide = np.pi * layers.flash * layers.depth[..., None] ** 2
    # Above 1 it is a mirror image of the flash
    guide = np.minimum(guide, 0.85) + np.float32(_FLOOR)
    guide *= solid[..., None]
    small = layers.sky.shape[1::-1]
    inner = cv2.erode(solid.astype(np.float32), np.ones((3, 3)))  # no sky seen past an edge
    inner = (cv2.resize(inner, small, interpolation=cv2.INTER_AREA) > 0.99)[..., None]
    low = cv2.resize(guide, small, interpolation=cv2.INTER_AREA) * inner
    numerator = cv2.GaussianBlur(np.minimum(layers.sky, 4) * inner, (0, 0), _BLUR)
    share = numerator / (cv2.GaussianBlur(low, (0, 0), _BLUR) + np.float32(1e-4))
    ambient = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)
    # What the ground sends back, which the sky's paths leave out
    return np.asarray(
        layers.sun + guide * (ambient + np.asarray(light.bounce, np.float32)), np.float32
    )


def exposure_for(light: Pixels) -> float:
    """The factor that brings a picture [H, W, 3] to a middling brightness, as a camera would."""
    grey = light @ np.array((0.2126, 0.7152, 0.0722), np.float32)
    middling = float(np.exp(np.log(grey + 0.02).mean()))
    return float(np.clip(0.24 / middling, 0.5, 3.0))


def developed(light: Pixels, exposure: float) -> Picture:
    """Linear light float32 [H, W, 3] as an sRGB picture, uint8 [H, W, 3]; highlights roll off."""
    x = np.maximum(light * np.float32(exposure), 0)
    rolled = x * (1 + x / 4.0) / (1 + x * 0.62)
    grey = rolled.mean(axis=2, keepdims=True)
    return encoded(_contrast(grey + 1.12 * (rolled - grey)))


def _contrast(light: Pixels) -> Pixels:
    """Darker darks, as cameras have them; middle grey stays."""
    x = np.clip(light, 0, 1)
    return np.asarray(x * (0.72 + 0.56 * x ** np.float32(0.4)), np.float32)


def encoded(light: Pixels) -> Picture:
    """Linear light float32 [H, W, 3] in 0..1 as an sRGB picture, uint8; above 1 it clips."""
    x = np.clip(light, 0, 1)
    curve = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(x, 1 / 2.4) - 0.055)
    return np.asarray(np.round(curve * 255), np.uint8)


def smoothed(picture: Picture) -> Picture:
    """Less of the noise that few light paths leave; edges stay."""
    return np.asarray(cv2.GaussianBlur(picture, (3, 3), 0.5), np.uint8)
