"""Separate the object from its background, given the detector's box.

Retrieval by an unmasked feature finds similar backgrounds, not similar poses: on natural
backgrounds a mask is worth more than the network (docs/decisions/pose-embedder-default.md).
GrabCut: Rother, Kolmogorov, Blake (SIGGRAPH 2004), OpenCV's implementation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

# All chosen on composites of ETH-80 toy cars on natural backgrounds. A detector's box is a few
# percent off, so the object may reach beyond it; and what lies well inside of it is the object.
_BEYOND_BOX = 0.05  # share of the box's width and height that the object may stick out, each side
_CORE = 0.65  # half axes of the ellipse that is surely object, over those of the box
_ITERATIONS = 3

# Outside of these shares of the box's area, GrabCut has swallowed or lost the object. The core
# alone has a share of 0.33.
_LEAST_SHARE = 0.34
_MOST_SHARE = (1 + 2 * _BEYOND_BOX) ** 2 * 0.995


@dataclass(frozen=True)
class Segmentation:
    """A mask and how it was found.

    Attributes:
        mask: bool [S, S], True on the object, one connected region without holes.
        method: ``grabcut``, or ``ellipse`` where GrabCut gave nothing usable: then the ellipse
            that the box encloses.
    """

    mask: NDArray[np.bool_]
    method: Literal["grabcut", "ellipse"]


def find_mask(
    picture: NDArray[np.uint8], box_in_crop: tuple[float, float, float, float]
) -> NDArray[np.bool_]:
    """The object's mask, bool [S, S], never empty; see :func:`segment`."""
    return segment(picture, box_in_crop).mask


def segment(
    picture: NDArray[np.uint8], box_in_crop: tuple[float, float, float, float]
) -> Segmentation:
    """Segment the object inside a detector's box by GrabCut.

    The same picture and box give the same mask: OpenCV's generator is seeded, because GrabCut
    starts its colour models by k-means.

    Args:
        picture: uint8 [S, S, 3] RGB.
        box_in_crop: xmin, xmax, ymin, ymax in pixels of the picture; may reach beyond it.

    Raises:
        ValueError: Another type or shape, or a box that is empty, not finite, or outside.
    """
    _check(picture, box_in_crop)
    seeds = _seeds(picture.shape[0], box_in_crop)
    ellipse = seeds.ellipse
    labels = seeds.labels
    # GrabCut fits colours to both sides and raises where one of them has no pixels.
    if (labels == cv2.GC_BGD).any() and (labels == cv2.GC_PR_FGD).any():
        cv2.setRNGSeed(0)
        cv2.grabCut(
            np.ascontiguousarray(picture),
            labels,
            None,
            np.zeros((1, 65)),
            np.zeros((1, 65)),
            _ITERATIONS,
            cv2.GC_INIT_WITH_MASK,
        )
        mask = _largest_region_filled((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))
        if _LEAST_SHARE <= mask.sum() / seeds.box_area <= _MOST_SHARE:
            return Segmentation(mask, "grabcut")
    return Segmentation(ellipse, "ellipse")


@dataclass(frozen=True)
class _Seeds:
    labels: NDArray[np.uint8]
    ellipse: NDArray[np.bool_]
    box_area: float  # of the part of the box inside of the picture, in pixels


def _seeds(size: int, box: tuple[float, float, float, float]) -> _Seeds:
    """GrabCut's labels: background, probable background, probable and certain foreground."""
    xmin, xmax, ymin, ymax = box
    centres = np.arange(size) + 0.5
    # Place in the box: -1 and 1 are its edges.
    u = np.abs((centres - (xmin + xmax) / 2) / ((xmax - xmin) / 2))[None, :]
    v = np.abs((centres - (ymin + ymax) / 2) / ((ymax - ymin) / 2))[:, None]
    labels = np.full((size, size), cv2.GC_BGD, dtype=np.uint8)
    rim = 1 + 2 * _BEYOND_BOX
    labels[(u < rim) & (v < rim)] = cv2.GC_PR_BGD
    inside = (u < 1) & (v < 1)
    labels[inside] = cv2.GC_PR_FGD
    labels[u**2 + v**2 < _CORE**2] = cv2.GC_FGD
    ellipse = u**2 + v**2 < 1
    if not ellipse.any():  # a box thinner than a pixel
        ellipse = (u == u.min()) & (v == v.min())
    return _Seeds(labels, ellipse, max(1.0, float(inside.sum())))


def _largest_region_filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 8-connected region with its holes filled: windows belong to the car."""
    count, regions, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    if count == 1:
        return mask
    largest = regions == 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    padded = np.pad(largest.astype(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2)
    filled: NDArray[np.bool_] = padded[1:-1, 1:-1] != 2
    return filled


def _check(picture: NDArray[np.uint8], box: tuple[float, float, float, float]) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"the picture must be uint8 [S, S, 3], not {picture.dtype} {list(picture.shape)}"
        )
    if picture.shape[0] != picture.shape[1]:
        raise ValueError(f"the picture must be square, not {list(picture.shape[:2])}")
    xmin, xmax, ymin, ymax = box
    size = picture.shape[0]
    if not all(math.isfinite(edge) for edge in box) or xmax <= xmin or ymax <= ymin:
        raise ValueError(f"the box is empty or not finite: {box}")
    if xmin >= size or xmax <= 0 or ymin >= size or ymax <= 0:
        raise ValueError(f"the box lies outside of the picture of {size} pixels: {box}")
