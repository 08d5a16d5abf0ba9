"""Black bars: known answers, what is no bar, and the real videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.instances.boxes import Area
from idpose_core.video.bars import BarFinder
from idpose_core.video.decoding import sample_frames
from tests.video.make_videos import Image
from tests.video.test_footage import scenery


def found(frames: Iterable[Image], most: float = 0.4) -> Area:
    finder = BarFinder(most)
    height = width = 0
    for image in frames:
        height, width = image.shape[:2]
        finder.add(image)
    return finder.area(width, height)


def barred(frames: list[Image], area: Area) -> list[Image]:
    """The frames with everything but the area black, and the noise of a codec in the black."""
    random = np.random.default_rng(0)
    made = []
    for image in frames:
        black = random.integers(0, 9, image.shape, dtype=np.uint8)
        rows, columns = slice(area.top, area.bottom), slice(area.left, area.right)
        black[rows, columns] = image[rows, columns]
        made.append(black)
    return made


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 100), st.integers(0, 100))
def test_bars_are_found_to_the_pixel(top: int, bottom: int, left: int, right: int) -> None:
    frames = [np.maximum(image, 60) for image in scenery(1, 4)]  # of 320 x 180 pixels
    area = Area(left, top, 320 - right, 180 - bottom)
    assert found(barred(frames, area)) == area


def test_a_caption_that_stands_still_is_part_of_its_bar() -> None:
    area = Area(0, 40, 320, 140)
    frames = barred(scenery(1, 6), area)
    for image in frames:
        image[10:30, 60:180] = 230
    assert found(frames) == area
    for k, image in enumerate(frames):
        image[10:30, 60 + 20 * k : 180 + 20 * k] = 90 + 20 * k
    assert found(frames).top < 40  # something moves there: it is picture


def test_an_intro_over_the_whole_frame_takes_no_bars_away() -> None:
    area = Area(0, 40, 320, 140)
    assert found([*scenery(2, 1), *barred(scenery(1, 19), area)]) == area


def test_a_night_sky_and_a_dark_road_are_no_bars() -> None:
    """Dark and still, but there is no line at which the picture begins."""
    ramp = np.linspace(0, 1, 180)[:, None, None] ** 3 * 120
    night = [np.broadcast_to(ramp, (180, 320, 3)).astype(np.uint8) for _ in range(6)]
    assert found(night) == Area(0, 0, 320, 180)
    assert found([np.zeros((180, 320, 3), np.uint8)] * 6) == Area(0, 0, 320, 180)


def test_limits() -> None:
    frames = barred(scenery(1, 6), Area(0, 80, 320, 180))
    assert found(frames, most=0.4).top == 0  # wider than a bar may be
    assert found(frames, most=0.45).top == 80
    assert found(frames, most=0).top == 0
    assert found(frames[:2]).top == 0  # of two frames nobody knows what stands still


def test_frames_of_another_size_have_no_bars() -> None:
    finder = BarFinder(0.4)
    for image in [*barred(scenery(1, 6), Area(0, 40, 320, 140)), *scenery(1, 2, width=160)]:
        finder.add(image)
    assert finder.area(320, 180) == Area(0, 40, 320, 140)
    assert finder.area(160, 180) == Area(0, 0, 160, 180)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clips/highway_daf_trucks.mp4", Area(86, 60, 553, 419)),  # bars on all four sides
        ("odd_files/reupload/upright.mp4", Area(0, 185, 360, 455)),
        ("clips/merc_cls_night_orbit.mp4", Area(0, 0, 480, 854)),  # black sky
        ("clips/merc_g63_roll.mp4", Area(0, 0, 640, 360)),
    ],
)
def test_real_videos(real_data: Path, name: str, expected: Area) -> None:
    area = found(frame.image for frame in sample_frames(str(real_data / name), fps=2))
    edges = [(area.left, expected.left), (area.top, expected.top)]
    edges += [(area.right, expected.right), (area.bottom, expected.bottom)]
    assert all(abs(a - b) <= 4 for a, b in edges), area
