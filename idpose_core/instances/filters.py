"""Which observations make a good crop, and which tracks make a clip.

Every threshold is absolute: a statistic of the whole set would make a row depend on its
neighbours. The verdict is a status, so that what is lost keeps its reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.tracks import Observation
from storage.reasons import Status

_SLACK = 1e-6  # pixels; a length that is the threshold must not fall to either side by rounding


@dataclass(frozen=True)
class ClipFilters:
    """Thresholds; the defaults are meant for YouTube-BoundingBoxes at 2 to 4 frames a second.

    Attributes:
        min_crops: Least number of good crops of a clip.
        min_seconds: Least time from the first to the last good crop.
        min_side: Least length of a box's shorter side, in frame pixels.
        border: A box at most this many pixels from the frame's edge is taken to be cut off.
        min_aspect: Least width over height of a box, in pixels.
        max_aspect: Largest width over height of a box, in pixels. Vehicles seen from the side
            reach 3 (saloon) to 4 (articulated bus); more is a row of vehicles.
        min_sharpness: Least :func:`sharpness` of a crop of 160 pixels. Chosen by looking at the 70
            least sharp of 557 crops of real clips: below 50 nearly all are smeared, washed out
            or black, above it nearly none.
    """

    min_crops: int = 5
    min_seconds: float = 2.0
    min_side: float = 64
    border: float = 2
    min_aspect: float = 0.5
    max_aspect: float = 4.0
    min_sharpness: float = 50.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A threshold that no clip could meet, or that makes no sense.
        """
        if self.min_crops < 1:
            raise ValueError(f"min_crops must be at least 1, not {self.min_crops}")
        for name in ("min_seconds", "min_side", "border", "min_aspect", "min_sharpness"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")
        if not self.max_aspect >= self.min_aspect:
            raise ValueError(f"max_aspect {self.max_aspect} is below min_aspect {self.min_aspect}")


def observation_status(observation: Observation, filters: ClipFilters) -> Status:
    """Judges the box of one observation: OK, TOO_SMALL, TOUCHES_BORDER or BAD_ASPECT."""
    box = observation.detection.box
    width = box.width * observation.width
    height = box.height * observation.height
    if min(width, height) < max(filters.min_side - _SLACK, _SLACK):
        return Status.TOO_SMALL
    to_edge = min(
        box.xmin * observation.width,
        (1 - box.xmax) * observation.width,
        box.ymin * observation.height,
        (1 - box.ymax) * observation.height,
    )
    if to_edge <= filters.border + _SLACK:
        return Status.TOUCHES_BORDER
    if not filters.min_aspect - _SLACK <= width / height <= filters.max_aspect + _SLACK:
        return Status.BAD_ASPECT
    return Status.OK


def sharpness(picture: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the grey picture.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.

    Args:
        picture: Crop, uint8 [S, S, 3] RGB. Values of crops of other sizes do not compare.

    Returns:
        At least 0, in grey levels squared.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def picture_statuses(pictures: Sequence[NDArray[np.uint8]], filters: ClipFilters) -> list[Status]:
    """Judges the crops of one clip, in order of time: OK, BLURRED or STATIC.

    STATIC marks a crop whose pixels equal those of an earlier one of the clip: a frozen stream, or
    a frame rate below the sampling rate. Merely similar crops stay.
    """
    seen: set[bytes] = set()
    statuses = []
    for picture in pictures:
        digest = hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest()
        if digest in seen:
            statuses.append(Status.STATIC)
        elif sharpness(picture) < filters.min_sharpness:
            statuses.append(Status.BLURRED)
        else:
            statuses.append(Status.OK)
        seen.add(digest)
    return statuses


def clip_status(
    timestamps_ms: Sequence[int], statuses: Sequence[Status], filters: ClipFilters
) -> Status:
    """Judges a clip by the statuses of its observations.

    Args:
        timestamps_ms: Of all observations, increasing.
        statuses: What became of each: OK, or why there is no crop.
        filters: Thresholds.

    Returns:
        OK if the good crops are enough and far enough apart. Else TOO_SHORT or TOO_FEW_CROPS if
        all observations together would not have been enough either, and otherwise the reason that
        took most of them.

    Raises:
        ValueError: The two sequences differ in length, or there is no observation.
    """
    good = [t for t, status in zip(timestamps_ms, statuses, strict=True) if status is Status.OK]
    if not timestamps_ms:
        raise ValueError("a clip without observations has no verdict")
    shortfall = _shortfall(good, filters)
    if shortfall is Status.OK:
        return Status.OK
    shortfall_of_all = _shortfall(timestamps_ms, filters)
    if shortfall_of_all is not Status.OK:
        return shortfall_of_all
    lost = Counter(status for status in statuses if status is not Status.OK)
    return min(lost, key=lambda status: (-lost[status], status.value))


def _shortfall(timestamps_ms: Sequence[int], filters: ClipFilters) -> Status:
    if len(timestamps_ms) < filters.min_crops:
        return Status.TOO_FEW_CROPS
    if timestamps_ms[-1] - timestamps_ms[0] < 1000 * filters.min_seconds:
        return Status.TOO_SHORT
    return Status.OK
