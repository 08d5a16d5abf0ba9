"""How unlike two frames are, whatever their exposure, and where one shot dissolves into another.

A difference in grey levels says little in a dark or pale video: there all differences are small. So
frames are compared relative to their own contrast, as pictures of 32 x 32 pixels, in which a car
that drives on has moved by a pixel or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from idpose_core.video.frames import Image

Grid = npt.NDArray[np.float32]

UNLIKE = 0.4  # unlikeness from which two frames may show two shots
_SIDE = 32
_DETAIL_SIDE = 128  # of the longer side
_ROUNDING = 20 / 12  # the squares of the Laplacian's weights, times the variance of rounding
_LEAST_CONTRAST = 2.0  # grey levels; below is the noise of black frames
_REACH = 9  # steps that a dissolve may take: 2 s at 4 frames a second
_LEAST_STEP = 0.05  # share of the way from shot to shot that each frame of a dissolve must go
_MOST_STEP = 0.8  # more is a hard cut in a moving picture
_LEAST_RATIO = 0.25  # of the shots' contrasts; less is one shot that fades in or out
_FADED = 0.8  # share of the shots' detail that the middle of a dissolve may have; half is usual
_ISOLATED = 1.1  # a dissolve changes more than as many steps before and after it, by this factor


@dataclass(frozen=True)
class Glimpse:
    """What is kept of a frame for comparing it with others.

    Attributes:
        grid: The frame as float32 [32, 32, 3].
        detail: Mean square of the Laplacian of the grey frame at 128 pixels, without what rounding
            to whole grey levels adds.
    """

    grid: Grid
    detail: float

    @property
    def contrast(self) -> float:
        """Standard deviation over the frame, mean of the three colours, in grey levels."""
        return float(self.grid.std(axis=(0, 1)).mean())

    @property
    def blank(self) -> bool:
        """Whether nothing is to be seen: black, white, or one colour."""
        return self.contrast < _LEAST_CONTRAST


def glimpse(image: Image) -> Glimpse:
    """What is kept of a frame uint8 [H, W, 3] RGB."""
    grid = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    scale = _DETAIL_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    detail = float((cv2.Laplacian(grey, cv2.CV_64F) ** 2).mean())
    return Glimpse(np.asarray(grid, dtype=np.float32), max(0.0, detail - _ROUNDING))


def relative_difference(a: Glimpse, b: Glimpse) -> float:
    """Mean absolute difference over the contrast of the two; about 1 for unrelated pictures."""
    contrast = np.sqrt((a.contrast**2 + b.contrast**2) / 2)
    return float(np.abs(a.grid - b.grid).mean() / max(contrast, _LEAST_CONTRAST))


def unlikeness(a: Glimpse, b: Glimpse) -> float:
    """One minus the correlation of the two grey pictures, in [0, 2]; exposure changes nothing."""
    x, y = (grey - grey.mean() for grey in (a.grid.mean(axis=2), b.grid.mean(axis=2)))
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    if scale == 0:  # a frame without any texture: alike only to another one
        return float(bool(x.any()) != bool(y.any()))
    return 1.0 - float((x * y).sum()) / scale


def dissolves(seen: Sequence[Glimpse], *, least_difference: float, max_error: float) -> set[int]:
    """The frames that are part of a dissolve, and the first one after it.

    In a dissolve every frame is a mixture of the last frame before and the first one after it, with
    ever more of the latter and with less detail than either. What moves is no such mixture, but a
    slow pan over smooth ground nearly is; it goes on before and after, though.

    Args:
        seen: Successive frames.
        least_difference: Least :func:`relative_difference` of the two shots.
        max_error: Largest share of the squared difference between the shots that a frame may be
            off the best mixture; 0 finds nothing.

    Returns:
        Indices of ``seen``.
    """
    found: set[int] = set()
    for first in range(len(seen)):
        for last in range(first + 2, min(first + _REACH, len(seen) - 1) + 1):
            start, end = seen[first], seen[last]
            change = relative_difference(start, end)
            if (
                change >= least_difference
                and _LEAST_RATIO <= start.contrast / max(end.contrast, 1e-9) <= 1 / _LEAST_RATIO
                and unlikeness(start, end) >= UNLIKE
                and _is_mixture(start, end, seen[first + 1 : last], max_error)
                and change >= _ISOLATED * _change_beside(seen, first, last)
            ):
                found.update(range(first + 1, last + 1))
    return found


def _is_mixture(start: Glimpse, end: Glimpse, between: Sequence[Glimpse], max_error: float) -> bool:
    """Whether frames lead evenly from one to the other, as mixtures of the two."""
    way = end.grid - start.grid
    length = float((way * way).sum())
    shares = []
    for frame in between:
        gone = frame.grid - start.grid
        share = float((gone * way).sum()) / length
        if float(((gone - share * way) ** 2).sum()) >= max_error * length:
            return False
        shares.append(share)
    steps = np.diff([0.0, *shares, 1.0])
    if steps.min() < _LEAST_STEP or steps.max() > _MOST_STEP:
        return False
    share, middle = min(zip(shares, between, strict=True), key=lambda pair: abs(pair[0] - 0.5))
    return middle.detail <= _FADED * ((1 - share) * start.detail + share * end.detail)


def _change_beside(seen: Sequence[Glimpse], first: int, last: int) -> float:
    """The larger change over as many steps before the first frame and after the last one."""
    steps = last - first
    before = relative_difference(seen[max(0, first - steps)], seen[first])
    return max(before, relative_difference(seen[last], seen[min(len(seen) - 1, last + steps)]))
