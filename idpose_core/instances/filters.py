"""Which observations make a good crop, and which tracks make a clip.

Every threshold is absolute: a statistic of the whole set would make a row depend on its
neighbours. The verdict is a status, so that what is lost keeps its reason.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.appearance import appearance, distance, exposure
from idpose_core.instances.boxes import Area, Detection, intersection
from idpose_core.instances.cropping import padding, square_around
from idpose_core.instances.suppression import same_object_class
from idpose_core.instances.tracks import Observation
from storage.reasons import Status

_INSIDE = 0.9  # share of a box that lies in another one's, from which it is a part of it
_NEAR_MS = 1500  # boxes of a track so near in time compare in size
_ROUNDING = 20 / 12  # sharpness that rounding to whole grey levels alone gives
_SLACK = 1e-6  # pixels; a length that is the threshold must not fall to either side by rounding


@dataclass(frozen=True)
class ClipFilters:
    """Thresholds; the defaults are meant for YouTube-BoundingBoxes at 2 to 4 frames a second.

    Attributes:
        min_crops: Least number of good crops of a clip.
        min_seconds: Least time from the first to the last good crop.
        min_side: Least length of a box's shorter side, in frame pixels.
        border: A box at most this many pixels from the picture's edge is taken to be cut off.
        min_aspect: Least width over height of a box, in pixels.
        max_aspect: Largest width over height of a box, in pixels. Vehicles seen from the side
            reach 3 (saloon) to 4 (articulated bus); more is a row of vehicles.
        max_fill: Largest share of the picture's width or height that a box may fill. Detectors
            frame a wheel or an inside that fills the picture a few pixels off the border.
        min_part: Least area of a box over that of a box of its kind around it, or of the same
            object's boxes both before and after.
        max_padding: Largest share of the crop that may lie beyond the picture.
        min_sharpness: Least :func:`sharpness` of a crop of 160 pixels. Chosen by looking at the 70
            least sharp of 557 crops of real clips: below 50 nearly all are smeared, washed out
            or black, above it nearly none.
        min_brightness: Least grey level that the brightest twentieth of the object's box reaches.
            Black cars at night that can just be made out by their outline reach 45 to 60, the first
            frames of a fade 22.
        min_contrast: Least standard deviation of the grey levels in the object's box. The same cars
            have 21, a fade 8.
        max_appearance_jump: Largest :func:`appearance.distance` of successive crops of a clip.
            Turning, smoke and lamps that go on stay below 0.47; of different vehicles three in four
            are above 0.5.
    """

    min_crops: int = 5
    min_seconds: float = 2.0
    min_side: float = 64
    border: float = 2
    min_aspect: float = 0.5
    max_aspect: float = 4.0
    max_fill: float = 0.96
    min_part: float = 0.5
    max_padding: float = 0.5
    min_sharpness: float = 50.0
    min_brightness: float = 40.0
    min_contrast: float = 12.0
    max_appearance_jump: float = 0.5

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A threshold that no clip could meet, or that makes no sense.
        """
        if self.min_crops < 1:
            raise ValueError(f"min_crops must be at least 1, not {self.min_crops}")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")
        for name in ("max_fill", "min_part", "max_padding", "max_appearance_jump"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], but is {getattr(self, name)}")
        if not self.max_aspect >= self.min_aspect:
            raise ValueError(f"max_aspect {self.max_aspect} is below min_aspect {self.min_aspect}")


_NOT_NEGATIVE = (
    "min_seconds",
    "min_side",
    "border",
    "min_aspect",
    "min_sharpness",
    "min_brightness",
    "min_contrast",
)


def observation_status(
    observation: Observation,
    filters: ClipFilters,
    *,
    picture: Area | None = None,
    scale: float = 1.25,
) -> Status:
    """Judges the box of one observation by its place in the picture.

    Args:
        observation: What is judged.
        filters: Thresholds.
        picture: What of the frame is picture and no black bar; None = all.
        scale: Side of the crop over the longer side of the box.

    Returns:
        OK, TOO_SMALL, TOUCHES_BORDER, BAD_ASPECT, DETAIL (it fills the picture) or PADDED.
    """
    area = picture or Area(0, 0, observation.width, observation.height)
    box = observation.detection.box
    width = box.width * observation.width
    height = box.height * observation.height
    if min(width, height) < max(filters.min_side - _SLACK, _SLACK):
        return Status.TOO_SMALL
    to_edge = min(
        box.xmin * observation.width - area.left,
        area.right - box.xmax * observation.width,
        box.ymin * observation.height - area.top,
        area.bottom - box.ymax * observation.height,
    )
    if to_edge <= filters.border + _SLACK:
        return Status.TOUCHES_BORDER
    if not filters.min_aspect - _SLACK <= width / height <= filters.max_aspect + _SLACK:
        return Status.BAD_ASPECT
    fill = max(width / (area.right - area.left), height / (area.bottom - area.top))
    if fill > filters.max_fill + _SLACK:
        return Status.DETAIL
    square = square_around(box, observation.width, observation.height, scale=scale)
    if padding(square, area) > filters.max_padding + _SLACK:
        return Status.PADDED
    return Status.OK


def is_part(
    track: Sequence[Observation], place: int, around: Sequence[Detection], filters: ClipFilters
) -> bool:
    """Whether a box shows only a part of the object: a wheel, a lamp.

    So it is where a box of its kind lies around it that is much larger, however weak its score; and
    where the same object was much larger a moment before and is so again a moment later.

    Args:
        track: Observations of one object, in order of time.
        place: Which of them is judged.
        around: All that the detector found in its frame, itself included.
        filters: Thresholds.
    """
    seen = track[place]
    kind, box = seen.detection.class_name, seen.detection.box
    much = box.area / filters.min_part if filters.min_part > 0 else math.inf
    if any(
        same_object_class(kind, other.class_name)
        and other.box.area > much
        and intersection(box, other.box) >= _INSIDE * box.area
        for other in around
    ):
        return True
    near = [o for o in track if abs(o.timestamp_ms - seen.timestamp_ms) <= _NEAR_MS]
    larger = [o.timestamp_ms for o in near if o.detection.box.area > much]
    return bool(larger) and min(larger) < seen.timestamp_ms < max(larger)


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


@dataclass(frozen=True)
class Crop:
    """A crop as it is judged.

    Attributes:
        picture: uint8 [S, S, 3] RGB.
        shown: Which part of it shows the picture and no padding; None = all.
        object: Which part of it lies in the object's box; None = all.
    """

    picture: NDArray[np.uint8]
    shown: Area | None = None
    object: Area | None = None


def picture_statuses(
    pictures: Sequence[Crop | NDArray[np.uint8]], filters: ClipFilters
) -> list[Status]:
    """Judges the crops of one clip, in order of time.

    STATIC marks a crop whose pixels equal those of an earlier one of the clip: a frozen stream, or
    a frame rate below the sampling rate. Merely similar crops stay. APPEARANCE_JUMP marks those
    that are not in the longest run of crops without a jump of appearance (of equals the first).

    Returns:
        OK, STATIC, TOO_DARK, LOW_CONTRAST, BLURRED or APPEARANCE_JUMP for each.
    """
    crops = [p if isinstance(p, Crop) else Crop(p) for p in pictures]
    seen: set[bytes] = set()
    statuses = []
    for crop in crops:
        digest = hashlib.sha256(np.ascontiguousarray(crop.picture).tobytes()).digest()
        statuses.append(Status.STATIC if digest in seen else _crop_status(crop, filters))
        seen.add(digest)
    good = [i for i, status in enumerate(statuses) if status is Status.OK]
    colours = [appearance(part(crops[i].picture, crops[i].object)) for i in good]
    jumps = [distance(a, b) > filters.max_appearance_jump for a, b in pairwise(colours)]
    for i in set(good) - set(_longest_run(good, jumps)):
        statuses[i] = Status.APPEARANCE_JUMP
    return statuses


def part(picture: NDArray[np.uint8], area: Area | None) -> NDArray[np.uint8]:
    """A rectangle of a picture [H, W, 3]; None = all of it."""
    return picture if area is None else picture[area.top : area.bottom, area.left : area.right]


def _crop_status(crop: Crop, filters: ClipFilters) -> Status:
    brightness, contrast = exposure(part(crop.picture, crop.object))
    if brightness < filters.min_brightness:
        return Status.TOO_DARK
    sharp = sharpness(part(crop.picture, crop.shown))
    if contrast < filters.min_contrast:
        # Flat, unless it would be blurred still if its contrast were stretched to the least one
        detail = max(0.0, sharp - _ROUNDING)
        stretched = detail * (filters.min_contrast / contrast) ** 2 if contrast > 0 else math.inf
        return Status.LOW_CONTRAST if stretched >= filters.min_sharpness else Status.BLURRED
    return Status.BLURRED if sharp < filters.min_sharpness else Status.OK


def _longest_run(items: Sequence[int], breaks: Sequence[bool]) -> list[int]:
    """The longest stretch of items without a break; ``breaks[k]`` lies between k and k + 1."""
    runs: list[list[int]] = [[]]
    for k, item in enumerate(items):
        if k > 0 and breaks[k - 1]:
            runs.append([])
        runs[-1].append(item)
    return max(runs, key=len)


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
