"""Pictures of vehicles as reels show them: framed by a detector, cut off, dark, blurred, tinted.

What a reader of views (``car_view_training``) learns from is clear and well lit; what it is to read
is not. Every function draws its changes from the generator that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Pixels = NDArray[np.float32]
Edges = tuple[float, float, float, float]
"""xmin, xmax, ymin, ymax in pixels."""

SIDE = 224
GREY = 124  # of what lies beyond a frame
_CONTEXT = 1.25  # side of a crop over the longer side of its box, as in a build


def framed(picture: Picture, box: Edges, draws: np.random.Generator) -> Picture:
    """The square around a box that is a little off and turned, grey beyond the picture.

    Args:
        picture: uint8 [H, W, 3].
        box: Of the vehicle.
        draws: Source of the changes.

    Returns:
        uint8 [224, 224, 3].
    """
    matrix = _framing(box, draws, stretch=0.0)
    shrink = 1 / np.hypot(*matrix[0, :2])
    if shrink > 1:  # warping does not average: what shrinks is made soft before
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.4 * shrink), np.uint8)
    return np.asarray(
        cv2.warpAffine(picture, matrix, (SIDE, SIDE), borderValue=(GREY,) * 3), np.uint8
    )


def placed(
    picture: Picture, mask: NDArray[np.bool_], behind: Picture, draws: np.random.Generator
) -> Picture:
    """A rendered vehicle in other paint and light before another background.

    Args:
        picture: uint8 [S, S, 3].
        mask: bool [S, S], where the vehicle is.
        behind: uint8 [H, W, 3].
        draws: Source of the changes.

    Returns:
        uint8 [224, 224, 3].
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)
    matrix = _framing(box, draws, stretch=0.04)
    size = (SIDE, SIDE)
    colour = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    opacity = cv2.warpAffine(mask.astype(np.float32), matrix, size)
    opacity = cv2.GaussianBlur(opacity, (0, 0), 0.7)[..., None]
    shadow = cv2.GaussianBlur(np.roll(opacity[..., 0], 6, 0), (0, 0), 7)[..., None]
    pixels = colour.astype(np.float32)
    if draws.random() < 0.3:
        pixels = pixels[..., draws.permutation(3)]
    pixels = pixels * draws.uniform(0.35, 1.25) + draws.normal(0, 12)
    if draws.random() < 0.6:  # reflections and shade
        pixels = pixels * np.exp(_smooth(draws.normal(0, 0.35, (6, 6))))[..., None]
    ground = _square_of(behind, draws).astype(np.float32) * draws.uniform(0.4, 1.1)
    ground = ground * (1 - shadow * draws.uniform(0, 0.7))
    return _rounded(ground * (1 - opacity) + np.clip(pixels, 0, 255) * opacity)


def surroundings(pictures: Sequence[Picture], boxes: Sequence[Edges]) -> list[Picture]:
    """What photographs show beside, above and below their vehicles, at least 50 pixels wide."""
    found = []
    for picture, (left, right, top, bottom) in zip(pictures, boxes, strict=True):
        parts = (
            picture[:, : int(left)], picture[:, int(right) :],
            picture[: int(top)], picture[int(bottom) :],
        )  # fmt: skip
        found += [part for part in parts if min(part.shape[:2]) > 50]
    return found


def as_filmed(picture: Picture, draws: np.random.Generator) -> Picture:
    """A picture uint8 [224, 224, 3] cut off, hidden in part, and in the light of a reel."""
    picture = _cut_off(picture, draws)
    if draws.random() < 0.18:
        picture = _at_night(picture, draws)
    pixels = _other_colours(picture.astype(np.float32), draws)
    pixels = _other_light(pixels, draws)
    pixels = _softer(pixels, draws)
    if draws.random() < 0.4:
        pixels = pixels + draws.normal(0, draws.uniform(2, 14), pixels.shape).astype(np.float32)
    seen = _rounded(pixels)
    if draws.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(draws.integers(20, 80))]
        seen = np.asarray(cv2.imdecode(cv2.imencode(".jpg", seen, quality)[1], 1), np.uint8)
    return seen


def _framing(box: Edges, draws: np.random.Generator, *, stretch: float) -> NDArray[np.float64]:
    """The map [2, 3] of a picture's pixels to the square's."""
    width, height = box[1] - box[0], box[3] - box[2]
    middle = np.array([(box[0] + box[1]) / 2, (box[2] + box[3]) / 2])
    middle = middle + draws.normal(0, 0.04, 2) * (width, height)
    scale = SIDE / (_CONTEXT * max(width, height) * np.exp(draws.normal(0, 0.1)))
    angle = np.radians(draws.normal(0, 3))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([scale * np.exp(draws.normal(0, stretch)), scale])
    return np.asarray(np.c_[linear, SIDE / 2 - linear @ middle])


def _square_of(picture: Picture, draws: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    side = int(min(height, width) * draws.uniform(0.5, 1))
    top, left = draws.integers(0, height - side + 1), draws.integers(0, width - side + 1)
    part = cv2.resize(picture[top : top + side, left : left + side], (SIDE, SIDE))
    return np.asarray(part[:, ::-1] if draws.random() < 0.5 else part, np.uint8)


def _cut_off(picture: Picture, draws: np.random.Generator) -> Picture:
    """Grey as beyond a frame's edge, or something that stands before."""
    picture = picture.copy()
    if draws.random() < 0.4:
        across = picture if draws.random() < 0.5 else picture.transpose(1, 0, 2)
        depth = int(draws.uniform(0.02, 0.35) * SIDE)
        both, last = draws.random() < 0.3, draws.random() < 0.5
        if both or not last:
            across[:depth] = GREY
        if both or last:
            across[SIDE - depth :] = GREY
    if draws.random() < 0.15:
        width, height = int(draws.integers(8, 50)), int(draws.integers(30, 150))
        left, top = draws.integers(0, SIDE - width), draws.integers(0, SIDE - height)
        picture[top : top + height, left : left + width] = draws.integers(0, 256, 3)
    return picture


def _at_night(picture: Picture, draws: np.random.Generator) -> Picture:
    """Dark; the rear lamps of a car that is not red glow."""
    pixels = picture.astype(np.float32)
    red, green, blue = (pixels[..., channel] for channel in range(3))
    lamps = (red > 90) & (red > 1.5 * green) & (red > 1.5 * blue)
    dark = 255 * (pixels / 255) ** np.float32(draws.uniform(1.8, 3.2)) * draws.uniform(0.35, 0.9)
    if 0.0008 < lamps.mean() < 0.05:
        lit = cv2.GaussianBlur(lamps.astype(np.float32), (0, 0), 1.2)
        glow = cv2.GaussianBlur(lit, (0, 0), draws.uniform(4, 10)) * draws.uniform(0.5, 2)
        colour = np.array([255, draws.uniform(20, 90), draws.uniform(10, 60)])
        dark = dark * (1 - 0.8 * lit[..., None])
        dark = dark + colour * np.clip(1.1 * lit + glow, 0, 1)[..., None]
    return _rounded(dark)


def _other_colours(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    grey = pixels.mean(2, keepdims=True)
    pixels = (grey + (pixels - grey) * draws.uniform(0.1, 1.5)) * draws.uniform(0.9, 1.1, 3)
    if draws.random() < 0.15:
        pixels = np.repeat(pixels.mean(2, keepdims=True), 3, 2)
    return np.asarray(pixels, np.float32)


def _other_light(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    """Gamma, darkness, light from one side, haze."""
    gamma = np.float32(np.exp(draws.normal(0.15, 0.4)))
    pixels = np.asarray(255 * np.clip(pixels / 255, 0, 1) ** gamma, np.float32)
    if draws.random() < 0.3:
        pixels = pixels * draws.uniform(0.3, 1.0)
    if draws.random() < 0.4:
        across, down = draws.normal(0, 0.35, 2)
        ramp = np.linspace(-1, 1, SIDE)
        light = np.exp(across * ramp[None] + down * ramp[:, None])[..., None]
        pixels = np.asarray(pixels * light, np.float32)
    if draws.random() < 0.3:
        pixels = pixels * draws.uniform(0.5, 0.9) + draws.uniform(0, 90)
    return np.asarray(pixels, np.float32)


def _softer(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    """Fewer pixels, out of focus, or moved while it was exposed."""
    how = draws.random()
    if how < 0.35:
        side = int(draws.uniform(40, 140))
        small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR))
    if how < 0.55:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), draws.uniform(0.6, 2.5)))
    if how < 0.7:
        length = int(draws.integers(3, 12))
        path = np.zeros((length, length), np.float32)
        path[length // 2] = 1 / length
        middle = (length / 2 - 0.5, length / 2 - 0.5)
        turn = cv2.getRotationMatrix2D(middle, draws.uniform(-20, 20), 1)
        return np.asarray(cv2.filter2D(pixels, -1, cv2.warpAffine(path, turn, (length, length))))
    return pixels


def _smooth(coarse: NDArray[np.float64]) -> Pixels:
    field = cv2.resize(coarse.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field)


def _rounded(pixels: NDArray[np.floating]) -> Picture:
    return np.asarray(np.rint(np.clip(pixels, 0, 255)), np.uint8)
