"""Lay a picture over another one through a matte; where the matte is 0, nothing changes.

Alpha is the paper's (section 4.3). Laplacian pyramid: Burt and Adelson, *A multiresolution spline*
(1983). Poisson: Perez, Gangnet and Blake, *Poisson image editing* (2003), OpenCV's implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Matte = NDArray[np.float32]
Blend = Literal["alpha", "laplacian", "poisson"]
BLENDS: tuple[Blend, ...] = get_args(Blend)
_LEVELS = 4
_RIM = 2  # pixels around what Poisson sees: OpenCV solves nothing at the edge of a picture


def blend(kind: Blend, ground: Picture, made: Picture, matte: Matte) -> Picture:
    """The generation over the ground.

    Args:
        kind: How.
        ground: uint8 [H, W, 3].
        made: The same shape.
        matte: float32 [H, W] in [0, 1].

    Returns:
        uint8 [H, W, 3]; where the matte is 0, the ground's own bits.
    """
    if not matte.any():
        return ground.copy()
    mixed = _KINDS[kind](ground, made, matte)
    result: Picture = np.where(matte[..., None] > 0, mixed, ground)
    return result


def _alpha(ground: Picture, made: Picture, matte: Matte) -> Picture:
    opacity = matte[..., None]
    return _rounded(made * opacity + ground * (1 - opacity))


def _laplacian(ground: Picture, made: Picture, matte: Matte) -> Picture:
    """Every band of frequencies is mixed over a seam as wide as its own waves."""
    levels = min(_LEVELS, int(np.log2(min(ground.shape[:2]))))
    below, above = (_halved(picture.astype(np.float32), levels) for picture in (ground, made))
    mattes = _halved(matte, levels)
    mixed = _mixed(below[-1], above[-1], mattes[-1])
    for level in reversed(range(levels)):
        size = below[level].shape[1::-1]
        bands = [
            pyramid[level] - cv2.pyrUp(pyramid[level + 1], dstsize=size)
            for pyramid in (below, above)
        ]
        mixed = cv2.pyrUp(mixed, dstsize=size) + _mixed(bands[0], bands[1], mattes[level])
    return _rounded(mixed)


def _poisson(ground: Picture, made: Picture, matte: Matte) -> Picture:
    """The generation's gradients within the matte, the ground's colours at its edge."""
    wide = [
        cv2.copyMakeBorder(picture, _RIM, _RIM, _RIM, _RIM, cv2.BORDER_REPLICATE)
        for picture in (ground, made)
    ]
    mask = np.pad(np.where(matte > 0, np.uint8(255), np.uint8(0)), _RIM)
    left, top, width, height = cv2.boundingRect(mask)
    centre = (left + width // 2, top + height // 2)
    cloned = cv2.seamlessClone(wide[1], wide[0], mask, centre, cv2.NORMAL_CLONE)
    return np.asarray(cloned[_RIM:-_RIM, _RIM:-_RIM], np.uint8)


_KINDS: dict[Blend, Callable[[Picture, Picture, Matte], Picture]] = {
    "alpha": _alpha,
    "laplacian": _laplacian,
    "poisson": _poisson,
}


def _halved(picture: NDArray[np.float32], levels: int) -> list[NDArray[np.float32]]:
    """The picture, and so many halvings of it."""
    pyramid = [picture]
    for _ in range(levels):
        pyramid.append(np.asarray(cv2.pyrDown(pyramid[-1]), np.float32))
    return pyramid


def _mixed(
    ground: NDArray[np.float32], made: NDArray[np.float32], matte: NDArray[np.float32]
) -> NDArray[np.float32]:
    return ground + (made - ground) * matte[..., None]


def _rounded(values: NDArray[np.float32]) -> Picture:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)
