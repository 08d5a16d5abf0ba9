"""What drops a crop beside size, border and blur: exposure, padding, details, other objects."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.instances.appearance import appearance, distance, exposure
from idpose_core.instances.boxes import Area, Box, Detection
from idpose_core.instances.cropping import crop_square
from idpose_core.instances.filters import (
    ClipFilters,
    Crop,
    is_part,
    observation_status,
    picture_statuses,
)
from idpose_core.instances.tracks import Observation
from idpose_core.video.decoding import frames_at
from storage.reasons import Status

DEFAULT = ClipFilters()
RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (160, 160, 3), dtype=np.uint8)


def seen(box: Box, time: int = 0, kind: str = "car", score: float = 0.9) -> Observation:
    return Observation(time, 1000, 500, Detection(kind, score, box))


def scaled(low: int, high: int) -> np.ndarray:
    """Noise between two grey levels."""
    return (low + NOISE.astype(float) / 255 * (high - low)).astype(np.uint8)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (NOISE, Status.OK),
        (scaled(0, 20), Status.TOO_DARK),  # the first frames of a fade
        (np.zeros((160, 160, 3), np.uint8), Status.TOO_DARK),
        (scaled(200, 230), Status.LOW_CONTRAST),  # washed out
        (np.full((160, 160, 3), 90, np.uint8), Status.LOW_CONTRAST),
        (cv2.GaussianBlur(NOISE, (0, 0), 8), Status.BLURRED),
    ],
)
def test_known_exposures(picture: np.ndarray, expected: Status) -> None:
    assert picture_statuses([picture], DEFAULT) == [expected]


def test_without_thresholds_nothing_is_too_dark_or_flat() -> None:
    lenient = ClipFilters(min_brightness=0, min_contrast=0, min_sharpness=0)
    assert picture_statuses([np.zeros((8, 8, 3), np.uint8)], lenient) == [Status.OK]


def test_a_dark_object_in_a_bright_place_is_judged_by_itself() -> None:
    picture = NOISE.copy()
    picture[40:120, 40:120] = 5
    assert picture_statuses([picture], DEFAULT) == [Status.OK]
    assert picture_statuses([Crop(picture, object=Area(40, 40, 120, 120))], DEFAULT) == [
        Status.TOO_DARK
    ]


def test_the_edge_of_the_padding_makes_no_crop_sharp() -> None:
    blurred = cv2.GaussianBlur(scaled(0, 255), (0, 0), 2)
    blurred = cv2.resize(blurred[:40, :40], (160, 160), interpolation=cv2.INTER_CUBIC)
    blurred[:60] = 128
    crop = Crop(blurred, shown=Area(0, 60, 160, 160), object=Area(30, 70, 130, 130))
    assert picture_statuses([crop], DEFAULT)[0] in (Status.BLURRED, Status.LOW_CONTRAST)


def test_bars_are_the_border_of_the_picture() -> None:
    box = Box(0.2, 0.4, 0.21, 0.5)  # 105 to 250 of 500 pixels
    assert observation_status(seen(box), DEFAULT) is Status.OK
    bar = Area(0, 104, 1000, 500)
    assert observation_status(seen(box), DEFAULT, picture=bar) is Status.TOUCHES_BORDER
    inside = Area(0, 120, 1000, 500)  # the box reaches into the bar
    assert observation_status(seen(box), DEFAULT, picture=inside) is Status.TOUCHES_BORDER
    assert observation_status(seen(box), DEFAULT, picture=Area(0, 60, 1000, 500)) is Status.OK


def test_a_box_that_fills_the_picture_is_a_detail() -> None:
    box = Box(0.01, 0.98, 0.3, 0.9)
    assert observation_status(seen(box), DEFAULT) is Status.DETAIL
    open_to_all = ClipFilters(max_fill=1, max_padding=1)
    assert observation_status(seen(box), open_to_all) is Status.OK


def test_the_share_of_padding_decides() -> None:
    box = Box(0.2, 0.6, 0.05, 0.55)  # a square of 500 pixels, 100 of them above the frame
    share = 100 / 500
    for limit, expected in ((share, Status.OK), (share - 0.01, Status.PADDED)):
        assert observation_status(seen(box), ClipFilters(max_padding=limit)) is expected
    bar = Area(0, 20, 1000, 500)
    filters = ClipFilters(max_padding=share)
    assert observation_status(seen(box), filters, picture=bar) is Status.PADDED
    assert observation_status(seen(box), filters, scale=1.1) is Status.OK


CAR, WHEEL = Box(0.2, 0.6, 0.2, 0.6), Box(0.25, 0.35, 0.4, 0.6)


def test_a_wheel_in_a_car_that_is_hardly_found_is_a_part() -> None:
    wheel = seen(WHEEL)
    weak = Detection("truck", 0.1, CAR)
    assert is_part([wheel], 0, [wheel.detection, weak], DEFAULT)
    assert not is_part([wheel], 0, [wheel.detection], DEFAULT)
    assert not is_part([wheel], 0, [Detection("person", 0.9, CAR)], DEFAULT)
    assert not is_part([wheel], 0, [weak], ClipFilters(min_part=0))
    assert not is_part([seen(CAR)], 0, [seen(CAR).detection, wheel.detection], DEFAULT)


def test_a_box_smaller_than_before_and_after_is_a_part() -> None:
    track = [seen(CAR, 0), seen(CAR, 250), seen(WHEEL, 500), seen(WHEEL, 750), seen(CAR, 1000)]
    assert [is_part(track, i, [], DEFAULT) for i in range(5)] == [False, False, True, True, False]
    leaving = [*track[:4], seen(WHEEL, 1000)]  # it drives away: nothing larger comes after
    assert not any(is_part(leaving, i, [], DEFAULT) for i in range(5))
    slow = [seen(CAR, 0), seen(WHEEL, 2000), seen(CAR, 4000)]
    assert not any(is_part(slow, i, [], DEFAULT) for i in range(3))


def coloured(level: tuple[int, int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 25, (160, 160, 3))
    return np.clip(np.array(level) + noise, 0, 255).astype(np.uint8)


def test_only_the_longest_run_of_one_appearance_remains() -> None:
    red, blue = (190, 30, 40), (40, 60, 200)
    clip = [coloured(c, i) for i, c in enumerate([red, red, blue, blue, blue, red])]
    jump, ok = Status.APPEARANCE_JUMP, Status.OK
    assert picture_statuses(clip, DEFAULT) == [jump, jump, ok, ok, ok, jump]
    assert picture_statuses(clip[:4], DEFAULT) == [ok, ok, jump, jump]  # of equals the first
    assert picture_statuses(clip, ClipFilters(max_appearance_jump=1)) == [ok] * 6
    assert picture_statuses([], DEFAULT) == []


def test_what_is_dropped_for_another_reason_is_not_compared() -> None:
    red, dark = coloured((190, 30, 40), 0), scaled(0, 15)
    clip = [red, dark, coloured((190, 30, 40), 1)]
    assert picture_statuses(clip, DEFAULT) == [Status.OK, Status.TOO_DARK, Status.OK]


@given(st.integers(0, 999), st.integers(0, 999))
def test_the_distance_of_appearances(a: int, b: int) -> None:
    one, other = (
        appearance(np.random.default_rng(s).integers(0, 200, (20, 30, 3), np.uint8)) for s in (a, b)
    )
    assert one.sum() == pytest.approx(1, rel=1e-5)
    assert 0 <= distance(one, other) <= 1
    assert distance(one, other) == pytest.approx(distance(other, one))
    assert distance(one, one) == pytest.approx(0, abs=1e-3)


def test_exposure_of_known_pictures() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    assert exposure(picture) == (0, 0)
    picture[:50] = 200
    assert exposure(picture) == (200, 100)
    picture[3:] = 0  # a lamp of less than a twentieth
    assert exposure(picture)[0] == 0


@pytest.mark.parametrize("wrong", [{"max_fill": 1.1}, {"min_part": -1}, {"min_contrast": -1}])
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClipFilters(**wrong)  # type: ignore[arg-type]


def real_crop(real_data: Path, name: str, time: int, box: Box) -> Crop:
    [frame] = frames_at(str(real_data / "clips" / name), [time])
    picture, _ = crop_square(frame.image, box)
    return Crop(picture, object=Area(16, 40, 144, 120))


def test_a_real_fade_is_dropped_and_a_real_night_is_kept(real_data: Path) -> None:
    fade = real_crop(real_data, "bmw_x4m_street.mp4", 0, Box(0.35, 0.8, 0.52, 0.64))
    night = real_crop(real_data, "merc_cls_night_orbit.mp4", 0, Box(0.1, 0.9, 0.47, 0.7))
    assert picture_statuses([fade], DEFAULT) == [Status.TOO_DARK]
    assert picture_statuses([night], DEFAULT) == [Status.OK]


def test_a_real_swap_is_a_jump_and_a_real_turn_is_none(real_data: Path) -> None:
    red, truck, later = (
        real_crop(real_data, name, time, box)
        for name, time, box in (
            ("davis_car-turn_480.mp4", 3800, Box(0.3, 0.7, 0.3, 0.6)),
            ("porsche_gt3rs_red.mp4", 0, Box(0.1, 0.85, 0.45, 0.7)),
            ("porsche_gt3rs_red.mp4", 1500, Box(0.1, 0.85, 0.45, 0.7)),
        )
    )
    jump, ok = Status.APPEARANCE_JUMP, Status.OK
    assert picture_statuses([red, truck, later], DEFAULT) == [jump, ok, ok]
