"""Black bars around the picture (letterbox, pillarbox), found once for a whole video."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from idpose_core.instances.boxes import Area
from idpose_core.video.frames import Image

_DARK = 24  # grey levels of 255; limited range and compression lift black to about 16
_LIT = 40
_STILL = 24  # grey levels between successive frames, for compression
_MOST_TIME = 0.9  # share of the frames: an intro over the whole frame takes no bars away
_DARK_SHARE = 0.5  # of a line of a bar; the rest may be a caption that stands still
_PURE_SHARE = 0.98  # of a bar's first and last line, beside which a caption never stands
_STILL_SHARE = 0.99
_LIT_SHARE = 0.25  # of a line beside a bar: a night sky has no such edge
_EDGE = 3  # lines within which the picture must begin
_LEAST_FRAMES = 3  # with fewer everything stands still

Lines = npt.NDArray[np.bool_]


class BarFinder:
    """Looks at the frames of a video as they pass, and then says where its picture is.

    A bar is made of lines at the frame's edge that are dark and stand still; a caption or a
    watermark that stands still in a bar is part of it. Where the bar ends the picture begins at
    once: the dark edge of a night scene is no bar.
    """

    def __init__(self, most: float) -> None:
        """``most``: largest share of the frame's height or width that one bar may have."""
        self._most = most
        self._frames = 0
        self._before: npt.NDArray[np.uint8] | None = None
        self._counts: dict[str, npt.NDArray[np.int32]] = {}

    def add(self, image: Image) -> None:
        """Look at a frame uint8 [H, W, 3]; those of another size than the first do not count."""
        if self._most == 0:
            return
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if self._before is None:
            self._counts = {name: np.zeros(grey.shape, np.int32) for name in _SIGNS}
            self._before = grey
        if grey.shape != self._before.shape:
            return
        self._frames += 1
        self._counts["dark"] += grey <= _DARK
        self._counts["lit"] += grey > _LIT
        self._counts["still"] += cv2.absdiff(grey, self._before) <= _STILL
        self._before = grey

    def area(self, width: int, height: int) -> Area:
        """What of a frame of this size is picture; all of it where there are no bars."""
        whole = Area(0, 0, width, height)
        if self._frames < _LEAST_FRAMES or self._before is None:
            return whole
        if self._before.shape != (height, width):
            return whole
        often = self._frames * _MOST_TIME
        dark, still = self._counts["dark"] >= often, self._counts["still"] >= often
        lit = self._counts["lit"] >= self._frames - often
        top, bottom = self._bars(dark, still, lit)
        left, right = self._bars(dark.T, still.T, lit.T)
        return Area(left, top, width - right, height - bottom)

    def _bars(self, dark: Lines, still: Lines, lit: Lines) -> tuple[int, int]:
        """How many of the first and of the last rows are a bar."""
        black = (dark.mean(axis=1) >= _DARK_SHARE) & (still.mean(axis=1) >= _STILL_SHARE)
        pure = black & (dark.mean(axis=1) >= _PURE_SHARE)
        bright = lit.mean(axis=1) >= _LIT_SHARE
        most = int(self._most * len(black))
        backwards = black[::-1], pure[::-1], bright[::-1]
        return _bar(black, pure, bright, most), _bar(*backwards, most)


_SIGNS = ("dark", "lit", "still")


def _bar(black: Lines, pure: Lines, bright: Lines, most: int) -> int:
    reach = len(black) if black.all() else int(black.argmin())
    if reach == 0 or not pure[0]:
        return 0
    lines = 1 + int(np.flatnonzero(pure[:reach])[-1])
    return lines if lines <= most and bright[lines : lines + _EDGE].any() else 0
