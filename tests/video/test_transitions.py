"""Cuts in the dark, dissolves and fades: known answers, splices of real videos."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from idpose_core.video.decoding import sample_frames
from idpose_core.video.footage import scene_cuts
from idpose_core.video.transitions import glimpse, relative_difference, unlikeness
from tests.video.make_videos import Image
from tests.video.test_footage import scenery


def darkened(frames: list[Image], gain: float) -> list[Image]:
    """Without colour, and darker."""
    return [
        np.repeat((image.mean(axis=2, keepdims=True) * gain).astype(np.uint8), 3, axis=2)
        for image in frames
    ]


def mixed(a: Image, b: Image, share: float) -> Image:
    return np.round((1 - share) * a + share * b).astype(np.uint8)


def flagged(frames: list[Image]) -> list[int]:
    return [i for i, cut in enumerate(scene_cuts(frames)) if cut]


def test_neither_exposure_nor_contrast_makes_a_frame_another_one() -> None:
    image, other = scenery(1, 1)[0], scenery(2, 1)[0]
    dim = (image * 0.3).astype(np.uint8)
    assert unlikeness(glimpse(image), glimpse(dim)) < 0.01
    assert relative_difference(glimpse(image), glimpse(image)) == 0
    pair = glimpse(image), glimpse(other)
    dark = glimpse(dim), glimpse((other * 0.3).astype(np.uint8))
    assert relative_difference(*dark) == pytest.approx(relative_difference(*pair), rel=0.05)


@pytest.mark.parametrize("gain", [1.0, 0.3, 0.1])
def test_a_hard_cut_in_a_dark_video_without_colour(gain: float) -> None:
    frames = darkened([*scenery(1, 6), *scenery(2, 6)], gain)
    assert flagged(frames) == [6]


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_headlamps_that_flash_are_no_cut(gain: float) -> None:
    frames = darkened([scenery(1, 1)[0]] * 8, gain * 0.5)
    frames[4] = darkened([scenery(1, 1)[0]], gain)[0]
    assert flagged(frames) == []


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_every_frame_of_a_dissolve_begins_a_shot(count: int, gain: float) -> None:
    a, b = scenery(1, 1)[0], scenery(2, 1)[0]
    between = [mixed(a, b, (k + 1) / (count + 1)) for k in range(count)]
    frames = darkened([*[a] * 6, *between, *[b] * 6], gain)
    assert flagged(frames) == list(range(6, 7 + count))
    found = scene_cuts(frames, dissolve_error=0)
    assert sum(found) < count + 1


def test_what_fades_to_black_and_back_is_two_shots() -> None:
    a, b = scenery(1, 1)[0], scenery(2, 1)[0]
    black = np.zeros_like(a)
    out, back = [mixed(a, black, s) for s in (0.3, 0.6)], [mixed(b, black, s) for s in (0.6, 0.3)]
    flags = flagged([*[a] * 5, *out, black, black, *back, *[b] * 5])
    assert {7, 9} <= set(flags)
    assert set(flags) <= {7, 8, 9}


def dissolved(real_data: Path, first: str, second: str, gain: float) -> list[Image]:
    """Two real videos that dissolve into each other over three frames while both go on."""
    shots = []
    for name in (first, second):
        frames = [f.image for f in sample_frames(str(real_data / "clips" / name), fps=4)][:11]
        shots.append([cv2.resize(f, (320, 240), interpolation=cv2.INTER_AREA) for f in frames])
    between = [mixed(shots[0][8 + k], shots[1][k], (k + 1) / 4) for k in range(3)]
    return [(f * gain).astype(np.uint8) for f in [*shots[0][:8], *between, *shots[1][3:]]]


NIGHT = ("bmw_m3_white_night.mp4", "merc_g63_roll.mp4", "merc_cls_night_orbit.mp4")


@pytest.mark.parametrize("pair", list(itertools.permutations(NIGHT, 2)))
def test_real_dissolves(real_data: Path, pair: tuple[str, str]) -> None:
    assert {8, 9, 10} <= set(flagged(dissolved(real_data, *pair, gain=1.0)))


@pytest.mark.parametrize("gain", [1.0, 0.25])
def test_a_real_hard_cut_in_the_dark_without_colour(real_data: Path, gain: float) -> None:
    path = real_data / "multishot" / "audi_rs5_night.mp4"
    frames = [frame.image for frame in sample_frames(str(path), fps=4)]
    assert flagged(darkened(frames, gain)) == [8]


def test_the_transition_is_in_neither_shot(real_data: Path) -> None:
    """A dissolve of a second: the two sampled frames that show both cars are alone."""
    path = real_data / "odd_files" / "dissolve" / "dissolve.mp4"
    assert flagged([frame.image for frame in sample_frames(str(path), fps=4)]) == [11, 12]


@pytest.mark.parametrize(
    "name", ["bmw_drift_smoke.mp4", "merc_cls_night_orbit.mp4", "bmw_m3_white_night.mp4"]
)
def test_fast_motion_smoke_and_night_are_not_cut(real_data: Path, name: str) -> None:
    path = real_data / "clips" / name
    assert flagged([frame.image for frame in sample_frames(str(path), fps=4)]) == []
