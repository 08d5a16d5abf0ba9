"""Boxes and detections, in coordinates relative to the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """An axis-aligned box; coordinates are fractions of the frame's width and height.

    The order xmin, xmax, ymin, ymax is that of the YouTube-BoundingBoxes files.
    """

    xmin: float
    xmax: float
    ymin: float
    ymax: float

    @property
    def width(self) -> float:
        """Width as a fraction of the frame's width; 0 for a box turned inside out."""
        return max(0.0, self.xmax - self.xmin)

    @property
    def height(self) -> float:
        """Height as a fraction of the frame's height; 0 for a box turned inside out."""
        return max(0.0, self.ymax - self.ymin)

    @property
    def area(self) -> float:
        """Area as a fraction of the frame's area."""
        return self.width * self.height


@dataclass(frozen=True)
class Area:
    """A rectangle of whole pixels: from ``left`` to before ``right``, ``top`` to before ``bottom``.

    What of a frame is picture: all of it, or what black bars leave.
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def empty(self) -> bool:
        """Whether there is no pixel in it."""
        return self.right <= self.left or self.bottom <= self.top


@dataclass(frozen=True)
class Detection:
    """One detected object: COCO class name, score in [0, 1], box."""

    class_name: str
    score: float
    box: Box


@dataclass(frozen=True)
class FrameDetections:
    """What a detector found in one sampled frame.

    Attributes:
        timestamp_ms: Presentation time stamp of the frame.
        width: Frame width in pixels, after rotation.
        height: Frame height in pixels, after rotation.
        cut: Whether a scene cut lies between the previous sampled frame and this one.
        detections: Sorted by falling score.
        picture: What of the frame is picture and no black bar; None = all.
    """

    timestamp_ms: int
    width: int
    height: int
    cut: bool
    detections: tuple[Detection, ...]
    picture: Area | None = None


def intersection(a: Box, b: Box) -> float:
    """Area that two boxes share, as a fraction of the frame's area."""
    width = min(a.xmax, b.xmax) - max(a.xmin, b.xmin)
    height = min(a.ymax, b.ymax) - max(a.ymin, b.ymin)
    return width * height if width > 0 and height > 0 else 0.0


def iou(a: Box, b: Box) -> float:
    """Intersection over union, in [0, 1]; 0 when either box is empty."""
    shared = intersection(a, b)
    return shared / (a.area + b.area - shared) if shared > 0 else 0.0


def interpolate(a: Box, b: Box, share: float) -> Box:
    """The box a share of the way (0 = a, 1 = b) from ``a`` to ``b``, linearly."""
    return Box(
        a.xmin + share * (b.xmin - a.xmin),
        a.xmax + share * (b.xmax - a.xmax),
        a.ymin + share * (b.ymin - a.ymin),
        a.ymax + share * (b.ymax - a.ymax),
    )


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    """The tight box xmin, xmax, ymin, ymax of a mask [H, W], relative to it; None where empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = mask.shape
    return (
        float(columns[0] / width),
        float((columns[-1] + 1) / width),
        float(rows[0] / height),
        float((rows[-1] + 1) / height),
    )
