"""Square crops around an object, and the exact way back to the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.boxes import Box


@dataclass(frozen=True)
class CropTransform:
    """Which square of the frame became a crop.

    Coordinates are continuous: pixel k covers the interval from k to k + 1. Whole numbers describe
    the square, so that the way back is exact.

    Attributes:
        left: Frame x of the crop's left edge in pixels; negative where the crop is padded.
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
    image: NDArray[np.uint8], box: Box, *, size: int = 160, scale: float = 1.25
) -> tuple[NDArray[np.uint8], CropTransform]:
    """Cuts the square around a box, mirrored where it leaves the frame.

    Shrinking averages areas; enlarging, where there are no areas to average, interpolates
    linearly.

    Args:
        image: Frame, uint8 [H, W, 3] RGB.
        box: Relative to the frame.
        size: Side of the crop in pixels.
        scale: Side of the square over the longer side of the box.

    Returns:
        The crop, uint8 [size, size, 3] RGB, and its transform.

    Raises:
        ValueError: The box is empty, not finite, or does not meet the frame.
    """
    height, width = image.shape[:2]
    transform = square_around(box, width, height, size=size, scale=scale)
    return cut_square(image, transform), transform


def cut_square(image: NDArray[np.uint8], transform: CropTransform) -> NDArray[np.uint8]:
    """The crop of a transform, uint8 [size, size, 3] RGB; see :func:`crop_square`."""
    height, width = image.shape[:2]
    rows = reflected(transform.top, transform.side, height)
    columns = reflected(transform.left, transform.side, width)
    square = image[rows[:, None], columns]
    return np.asarray(_resized(square, transform), dtype=np.uint8)


def cut_mask(mask: NDArray[np.bool_], transform: CropTransform) -> NDArray[np.bool_]:
    """The object's mask in the crop of a transform, bool [size, size].

    Beyond the frame there is no object, though the picture is mirrored there.
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


def reflected(start: int, count: int, length: int) -> NDArray[np.int64]:
    """Indices ``start`` to ``start + count`` folded into 0..length-1 by mirroring at the ends.

    The edge pixel is not repeated, as in ``numpy.pad(mode="reflect")``; the padding may exceed
    the length, and then it is mirrored again.
    """
    period = max(1, 2 * (length - 1))
    folded = np.arange(start, start + count, dtype=np.int64) % period
    return np.minimum(folded, period - folded) if length > 1 else folded
