from __future__ import annotations

import cv2
import numpy as np
import pytest

from idpose_core.instances.boxes import Box, Detection
from idpose_core.instances.filters import (
    ClipFilters,
    clip_status,
    observation_status,
    picture_statuses,
    sharpness,
)
from idpose_core.instances.tracks import Observation
from storage.reasons import Status

DEFAULT = ClipFilters()


def observation(xmin: float, xmax: float, ymin: float, ymax: float) -> Observation:
    """In pixels of a frame of 1000 x 500."""
    box = Box(xmin / 1000, xmax / 1000, ymin / 500, ymax / 500)
    return Observation(0, 1000, 500, Detection("car", 0.9, box))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100, 300, 100, 200), Status.OK),
        ((100, 164, 100, 164), Status.OK),
        ((100, 163, 100, 300), Status.TOO_SMALL),
        ((100, 300, 100, 163), Status.TOO_SMALL),
        ((3, 203, 100, 200), Status.OK),
        ((2, 202, 100, 200), Status.TOUCHES_BORDER),
        ((0, 200, 100, 200), Status.TOUCHES_BORDER),
        ((800, 998, 100, 200), Status.TOUCHES_BORDER),
        ((800, 997, 100, 200), Status.OK),
        ((100, 300, 2, 200), Status.TOUCHES_BORDER),
        ((100, 300, 100, 498), Status.TOUCHES_BORDER),
        ((100, 500, 100, 200), Status.OK),
        ((100, 505, 100, 200), Status.BAD_ASPECT),
        ((100, 300, 50, 450), Status.OK),
        ((100, 295, 50, 450), Status.BAD_ASPECT),
        ((100, 100, 100, 200), Status.TOO_SMALL),
    ],
)
def test_known_boxes(box: tuple[float, float, float, float], expected: Status) -> None:
    assert observation_status(observation(*box), DEFAULT) is expected


def test_an_empty_box_is_too_small_even_without_a_least_side() -> None:
    assert observation_status(observation(9, 9, 9, 9), ClipFilters(min_side=0)) is Status.TOO_SMALL


def test_sharpness_of_flat_and_of_checkered_pictures() -> None:
    assert sharpness(np.full((160, 160, 3), 90, np.uint8)) == 0
    checkers = np.indices((160, 160)).sum(axis=0) % 2 * 255
    picture = np.repeat(checkers[:, :, None], 3, axis=2).astype(np.uint8)
    # the kernel 0 1 0 / 1 -4 1 / 0 1 0 gives +-4 * 255 on a checkerboard
    assert sharpness(picture) == pytest.approx((4 * 255) ** 2, rel=0.05)


def test_blurring_lowers_sharpness_until_the_picture_is_dropped() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (160, 160, 3), dtype=np.uint8)
    values = [sharpness(cv2.GaussianBlur(picture, (0, 0), s)) for s in (0.5, 1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    blurred = cv2.GaussianBlur(picture, (0, 0), 8)
    assert picture_statuses([picture, blurred], DEFAULT) == [Status.OK, Status.BLURRED]


def test_only_identical_pictures_are_static() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 255, (160, 160, 3), dtype=np.uint8)
    other = picture.copy()
    other[0, 0, 0] += 1
    statuses = picture_statuses([picture, other, picture], DEFAULT)
    assert statuses == [Status.OK, Status.OK, Status.STATIC]


OK, SMALL, BORDER = Status.OK, Status.TOO_SMALL, Status.TOUCHES_BORDER


@pytest.mark.parametrize(
    ("times", "statuses", "expected"),
    [
        ([0, 500, 1000, 1500, 2000], [OK] * 5, Status.OK),
        ([0, 500, 1000, 1500, 1999], [OK] * 5, Status.TOO_SHORT),
        ([0, 500, 1000, 2000], [OK] * 4, Status.TOO_FEW_CROPS),
        ([0], [OK], Status.TOO_FEW_CROPS),
        ([0, 500, 1000, 1500, 2000], [OK, OK, OK, SMALL, OK], Status.TOO_SMALL),
        ([0, 500, 1000, 1500, 2000, 2500], [OK] * 5 + [BORDER], Status.OK),
        ([0, 500, 1000, 1500, 2000, 2500], [BORDER] + [OK] * 4 + [BORDER], BORDER),
        ([0, 500, 1000, 1500, 2000], [SMALL, BORDER, BORDER, SMALL, BORDER], BORDER),
        ([0, 500, 1000, 1500, 2000], [BORDER, SMALL, OK, OK, OK], SMALL),
        ([0, 100, 200], [SMALL] * 3, Status.TOO_FEW_CROPS),
    ],
)
def test_known_clips(times: list[int], statuses: list[Status], expected: Status) -> None:
    assert clip_status(times, statuses, DEFAULT) is expected


def test_a_clip_of_nothing_has_no_verdict() -> None:
    with pytest.raises(ValueError, match="without observations"):
        clip_status([], [], DEFAULT)
    with pytest.raises(ValueError, match="shorter"):
        clip_status([0, 1], [OK], DEFAULT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_crops": 0},
        {"min_seconds": -1},
        {"min_side": float("nan")},
        {"border": -1},
        {"max_aspect": 0.1},
        {"min_sharpness": -1},
    ],
)
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClipFilters(**wrong)  # type: ignore[arg-type]
