"""Square crops around an object, and the exact way back to the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.boxes import Area, Box

GREY = 128
"""Level of what lies beyond the picture: a mirrored frame would show a second object there."""


@dataclass(frozen=True)
class CropTransform:
    """Which square of the frame became a crop.

    Coordinates are continuous: pixel k covers the interval from k to k + 1. Whole numbers describe
    the square, so that the way back is exact.

    Attributes:
        left: Frame x of the crop's left edge in pixels; negative where it is beyond the frame.
        top: Frame y of the crop's upper edge in pixels.
        side: Side of the square in frame pixels, at least 1.
        size: Side of the crop in crop pixels.
    """

    left: int
    top: int
    side: int
    size: int

    def to_frame(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Crop pixels (x, y) [..., 2] to frame pixels."""
        origin = np.array([self.left, self.top], dtype=np.float64)
        return origin + np.asarray(points, dtype=np.float64) * (self.side / self.size)

    def to_crop(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Frame pixels (x, y) [..., 2] to crop pixels."""
        origin = np.array([self.left, self.top], dtype=np.float64)
        return (np.asarray(points, dtype=np.float64) - origin) * (self.size / self.side)

    def box_to_crop(self, box: Box, width: int, height: int) -> tuple[float, float, float, float]:
        """A box of the frame (width x height pixels) as xmin, xmax, ymin, ymax in crop pixels."""
        corners = np.array(
            [[box.xmin * width, box.ymin * height], [box.xmax * width, box.ymax * height]]
        )
        (xmin, ymin), (xmax, ymax) = self.to_crop(corners)
        return float(xmin), float(xmax), float(ymin), float(ymax)


def square_around(
    box: Box, width: int, height: int, *, size: int = 160, scale: float = 1.25
) -> CropTransform:
    """The square of side ``scale * max(w, h)`` that is centred on a box.

    At a scale of 1.1 the training crop, 0.895 of this one, would always cut the bumpers.

    Args:
        box: Relative to the frame; it may reach beyond it.
        width: Frame width in pixels.
        height: Frame height in pixels.
        size: Side of the crop in pixels.
        scale: Side of the square over the longer side of the box.

    Raises:
        ValueError: The box is empty, not finite, or does not meet the frame.
    """
    edges = (box.xmin, box.xmax, box.ymin, box.ymax)
    if not all(math.isfinite(edge) for edge in edges) or box.area <= 0:
        raise ValueError(f"not a box that can be cropped: {box}")
    if box.xmin >= 1 or box.xmax <= 0 or box.ymin >= 1 or box.ymax <= 0:
        raise ValueError(f"the box lies outside of the frame: {box}")
    side = max(1, round(scale * max(box.width * width, box.height * height)))
    centre_x = (box.xmin + box.xmax) / 2 * width
    centre_y = (box.ymin + box.ymax) / 2 * height
    return CropTransform(
        left=round(centre_x - side / 2), top=round(centre_y - side / 2), side=side, size=size
    )


def crop_square(
    image: NDArray[np.uint8],
    box: Box,
    *,
    size: int = 160,
    scale: float = 1.25,
    picture: Area | None = None,
) -> tuple[NDArray[np.uint8], CropTransform]:
    """Cuts the square around a box, grey where it leaves the picture.

    Shrinking averages areas; enlarging, where there are no areas to average, interpolates
    linearly.

    Args:
        image: Frame, uint8 [H, W, 3] RGB.
        box: Relative to the frame.
        size: Side of the crop in pixels.
        scale: Side of the square over the longer side of the box.
        picture: What of the frame is shown; None = all.

    Returns:
        The crop, uint8 [size, size, 3] RGB, and its transform.

    Raises:
        ValueError: The box is empty, not finite, or does not meet the frame.
    """
    height, width = image.shape[:2]
    transform = square_around(box, width, height, size=size, scale=scale)
    return cut_square(image, transform, picture), transform


def cut_square(
    image: NDArray[np.uint8], transform: CropTransform, picture: Area | None = None
) -> NDArray[np.uint8]:
    """The crop of a transform, uint8 [size, size, 3] RGB; see :func:`crop_square`."""
    height, width = image.shape[:2]
    seen = _within(transform, picture or Area(0, 0, width, height))
    square = np.full((transform.side, transform.side, 3), GREY, np.uint8)
    square[
        seen.top - transform.top : seen.bottom - transform.top,
        seen.left - transform.left : seen.right - transform.left,
    ] = image[seen.top : seen.bottom, seen.left : seen.right]
    return np.asarray(_resized(square, transform), dtype=np.uint8)


def padding(transform: CropTransform, picture: Area) -> float:
    """Share of a crop's area, in [0, 1], that lies beyond the picture."""
    seen = _within(transform, picture)
    shown = (seen.right - seen.left) * (seen.bottom - seen.top)
    return 1.0 - shown / transform.side**2


def shown(transform: CropTransform, picture: Area) -> Area:
    """The part of a crop that shows the picture, in whole crop pixels, without mixed ones.

    It has at least a pixel, be it a mixed one.
    """
    seen = _within(transform, picture)
    scale = transform.size / transform.side
    left, right = (scale * (x - transform.left) for x in (seen.left, seen.right))
    top, bottom = (scale * (y - transform.top) for y in (seen.top, seen.bottom))
    mixed = scale / 2 if scale > 1 else 0.0  # enlarging interpolates across the picture's edge
    left, top = (math.ceil(edge + mixed) if edge > 0 else 0 for edge in (left, top))
    right, bottom = (
        int(edge - mixed) if edge < transform.size else transform.size for edge in (right, bottom)
    )
    return _whole_pixels(left, top, right, bottom, transform.size)


def object_in_crop(transform: CropTransform, box: Box, width: int, height: int) -> Area:
    """The pixels of a crop in the object's box; at least one. The frame has width x height."""
    xmin, xmax, ymin, ymax = transform.box_to_crop(box, width, height)
    return _whole_pixels(int(xmin), int(ymin), math.ceil(xmax), math.ceil(ymax), transform.size)


def _whole_pixels(left: int, top: int, right: int, bottom: int, size: int) -> Area:
    left, top = min(max(left, 0), size - 1), min(max(top, 0), size - 1)
    return Area(left, top, max(left + 1, min(right, size)), max(top + 1, min(bottom, size)))


def _within(transform: CropTransform, picture: Area) -> Area:
    """What of the square lies in the picture, in frame pixels; empty where they do not meet."""
    left, top = max(transform.left, picture.left), max(transform.top, picture.top)
    right = min(transform.left + transform.side, picture.right)
    bottom = min(transform.top + transform.side, picture.bottom)
    return Area(left, top, max(left, right), max(top, bottom))


def cut_mask(mask: NDArray[np.bool_], transform: CropTransform) -> NDArray[np.bool_]:
    """The object's mask in the crop of a transform, bool [size, size].

    Beyond the frame there is no object.
    """
    height, width = mask.shape
    rows = np.arange(transform.top, transform.top + transform.side)
    columns = np.arange(transform.left, transform.left + transform.side)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    square = mask[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)] & inside
    share = _resized(square.astype(np.float32), transform)
    return np.asarray(share >= 0.5, dtype=np.bool_)


def _resized(square: NDArray[Any], transform: CropTransform) -> NDArray[Any]:
    size = transform.size
    method = cv2.INTER_AREA if transform.side >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=method))
