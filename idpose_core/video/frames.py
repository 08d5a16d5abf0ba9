"""Frames, and which frames of a video are wanted: by presentation time stamp, never by index.

All comparisons are made in whole milliseconds, so that every decoder chooses the same frames
whatever precision its own clock has, and so that a frame can be asked for again by the time stamp
that it was reported with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Target = tuple[int, int]
"""The first frame whose time stamp lies in [first, last] (milliseconds, both included)."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        timestamp_ms: Presentation time stamp, rounded to milliseconds, counted from the stream's
            start time; the frame's own time, not the grid time that it was chosen for.
        image: uint8 [H, W, 3], RGB, upright (the display matrix of the container is applied).
    """

    timestamp_ms: int
    image: Image


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about its video stream.

    Attributes:
        container: Name of the container format, as FFmpeg calls it.
        codec: Name of the codec, as FFmpeg calls it (``h264``, ``vp9``, ``av1``, ``gif``).
        width: Frame width in pixels, upright.
        height: Frame height in pixels, upright.
        rotation: Degrees counter-clockwise that the display matrix turns the coded picture by:
            0, 90, 180 or 270, before any mirroring. Both are applied to the frames handed out.
        duration_ms: Duration; 0 where the container does not say.
        average_fps: Average frame rate; 0.0 where the container does not say.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation: int
    duration_ms: int
    average_fps: float


class Decoder(Protocol):
    """One library that decodes video. It runs in the child process, see decoding.py."""

    name: str

    def frames(self, path: str, targets: Iterator[Target]) -> Iterator[Frame]:
        """Yield the frames that the targets choose, in order of time.

        Args:
            path: A file that ``container.inspect`` has accepted.
            targets: Rising and disjoint; may be endless.

        Yields:
            For each target the first frame that lies in it, if there is one. A damaged file yields
            its frames up to the damage.

        Raises:
            Unusable: DECODE_FAILED where damage comes before the first wanted frame.
        """
        ...


class Selector:
    """Chooses frames while they pass by in order of time, without knowing those to come."""

    def __init__(self, targets: Iterator[Target]) -> None:
        self._targets = targets
        self._target = next(targets, None)
        self._last = -math.inf

    @property
    def next_ms(self) -> int | None:
        """Earliest time at which a frame may be wanted; None when all targets are served."""
        return None if self._target is None else self._target[0]

    def take(self, timestamp_ms: int) -> bool:
        """Whether the frame at this time is wanted. Frames that go back in time never are."""
        if timestamp_ms <= self._last:
            return False
        self._last = timestamp_ms
        while self._target is not None and self._target[1] < timestamp_ms:
            self._target = next(self._targets, None)
        if self._target is None or timestamp_ms < self._target[0]:
            return False
        self._target = next(self._targets, None)
        return True


def grid_targets(fps: float, windows_ms: Sequence[tuple[int, int]] | None) -> Iterator[Target]:
    """Targets of regular sampling: one for each grid time k / fps.

    A grid time is served by the first frame at or after it, within half a period.

    Args:
        fps: Frames a second, in (0, 250].
        windows_ms: Inclusive windows (start, end) of grid times; they may overlap and come in any
            order. None for the whole video.

    Raises:
        ValueError: For a rate or a window outside its range.
    """
    if not 0 < fps <= 250:
        raise ValueError(f"sampling rate must be above 0 and at most 250 frames a second: {fps}")
    windows = sorted(windows_ms) if windows_ms is not None else [(0, None)]
    for start, end in windows:
        if start < 0 or (end is not None and end < start):
            raise ValueError(f"not a window in milliseconds: ({start}, {end})")
    return _grid(fps, windows)


def _grid(fps: float, windows: Iterable[tuple[int, int | None]]) -> Iterator[Target]:
    reach = round(500 / fps)
    k = 0
    for start, end in windows:
        k = max(k, math.floor(start * fps / 1000))
        while round(k * 1000 / fps) < start:
            k += 1
        while end is None or round(k * 1000 / fps) <= end:
            grid_ms = round(k * 1000 / fps)
            yield grid_ms, grid_ms + reach
            k += 1


def exact_targets(timestamps_ms: Iterable[int]) -> Iterator[Target]:
    """Targets that ask for the frames with exactly these time stamps, each once."""
    return iter([(t, t) for t in sorted(set(timestamps_ms))])
