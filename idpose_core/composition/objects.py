"""The objects of a photograph: which there are, and which one is meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.boxes import Box, Detection
from idpose_core.instances.detectors import Detector
from idpose_core.instances.tracks import confusable
from storage.errors import ToldError

Picture = NDArray[np.uint8]
FLOOR = 0.1
"""Least score that a detector reports; below the threshold it is told, not used."""


class NoObjectError(ToldError):
    """Nothing in the picture is of the wanted classes; the message has the remedy."""


def find_objects(
    picture: Picture, detector: Detector, classes: Sequence[str], threshold: float
) -> list[Detection]:
    """The objects of the wanted classes, the one that is most likely meant first.

    That is the one with the highest score times area. A detector reports one and the same vehicle
    now as a car and now as a truck: where none of the classes is found, what it takes for one of
    them is.

    Args:
        picture: uint8 [H, W, 3] RGB.
        detector: With ``FLOOR`` as its floor.
        classes: COCO names.
        threshold: Least score.

    Raises:
        NoObjectError: There is none.
    """
    (found,) = detector.detect([picture])
    near = [d for d in found if d.class_name in confusable(frozenset(classes))]
    good = [d for d in near if d.score >= threshold and d.box.area > 0]
    exact = [d for d in good if d.class_name in classes]
    if not good:
        raise NoObjectError(_nothing(picture, near, classes, threshold))
    return sorted(exact or good, key=_prominence, reverse=True)


def marked(picture: Picture, corners: Sequence[float]) -> Detection:
    """The object that a person marked.

    Args:
        picture: uint8 [H, W, 3].
        corners: x0, y0, x1, y1 in pixels of the picture.

    Raises:
        NoObjectError: That is no box in the picture.
    """
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = corners
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise NoObjectError(
            f"the box {_pixels(corners)} is none in a picture of {width} x {height} pixels: give "
            "x0,y0,x1,y1 with x0 < x1 and y0 < y1"
        )
    return Detection("marked", 1.0, Box(x0 / width, x1 / width, y0 / height, y1 / height))


def corners(box: Box, picture: Picture) -> tuple[int, int, int, int]:
    """A box as x0, y0, x1, y1 in whole pixels of its picture."""
    height, width = picture.shape[:2]
    return (
        round(box.xmin * width), round(box.ymin * height),
        round(box.xmax * width), round(box.ymax * height),
    )  # fmt: skip


def _prominence(found: Detection) -> float:
    return found.score * found.box.area


def _nothing(
    picture: Picture, near: Sequence[Detection], classes: Sequence[str], threshold: float
) -> str:
    wanted = " or ".join(classes)
    message = f"no {wanted} is found with a score of {threshold:g} or more"
    if not near:
        return f"{message}: mark it with --box x0,y0,x1,y1, or give another picture"
    best = max(near, key=_prominence)
    return (
        f"{message}; the best candidate has {best.score:.2f}: mark it with "
        f"--box {_pixels(corners(best.box, picture))} if that is it"
    )


def _pixels(corners: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in corners)
