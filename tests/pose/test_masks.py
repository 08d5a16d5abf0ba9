"""Masks: known shapes, the fallback, determinism, bad input."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from idpose_core.pose.masks import find_mask, segment

SIZE = 96


def scene(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A two-coloured blob on a textured background, and its truth."""
    draws = np.random.default_rng(seed)
    picture = draws.integers(90, 140, (SIZE, SIZE, 3)).astype(np.uint8)
    truth = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(truth, (48, 52), (36, 18), 0, 0, 360, 1, -1)
    cv2.rectangle(truth, (32, 26), (64, 52), 1, -1)
    inside = truth.astype(bool)
    noise = draws.integers(-15, 15, (SIZE, SIZE, 1))
    picture[inside] = np.clip(np.array([200, 30, 40]) + noise, 0, 255)[inside]
    window = np.zeros_like(truth)
    cv2.rectangle(window, (40, 32), (56, 42), 1, -1)
    picture[window.astype(bool)] = (20, 20, 60)
    return picture, inside


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    return (
        float(columns.min()),
        float(columns.max() + 1),
        float(rows.min()),
        float(rows.max() + 1),
    )


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.5, -2.0), (-3.0, 2.0)])
def test_a_clear_object_is_found_with_its_window(seed: int, shift: tuple[float, float]) -> None:
    picture, truth = scene(seed)
    xmin, xmax, ymin, ymax = box_of(truth)
    found = segment(picture, (xmin + shift[0], xmax + shift[0], ymin + shift[1], ymax + shift[1]))
    assert found.method == "grabcut"
    assert overlap(found.mask, truth) > 0.95
    assert found.mask[32:42, 40:56].all()  # the window belongs to the object


def test_the_object_may_reach_a_little_beyond_the_box() -> None:
    picture, truth = scene(0)
    xmin, xmax, ymin, ymax = box_of(truth)
    narrow = (xmin + 0.04 * (xmax - xmin), xmax - 0.04 * (xmax - xmin), ymin, ymax)
    assert overlap(find_mask(picture, narrow), truth) > 0.95


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_flat_picture_gives_a_usable_mask(grey: int) -> None:
    picture = np.full((SIZE, SIZE, 3), grey, np.uint8)
    mask = find_mask(picture, (20.0, 70.0, 30.0, 60.0))
    assert mask[45, 45]
    assert not mask[5, 5]
    assert 0.3 < mask.sum() / (50 * 30) < 1.25


def test_a_box_that_fills_the_picture_falls_back_to_its_ellipse() -> None:
    picture, _ = scene(1)
    found = segment(picture, (-10.0, SIZE + 10.0, -10.0, SIZE + 10.0))
    assert found.method == "ellipse"  # no pixel of background is left to learn from
    assert found.mask[SIZE // 2, SIZE // 2]
    assert 0.8 < found.mask.mean() <= 1.0


@pytest.mark.parametrize("label", [cv2.GC_PR_BGD, cv2.GC_PR_FGD])
def test_an_object_lost_or_swollen_falls_back_to_the_ellipse(
    monkeypatch: pytest.MonkeyPatch, label: int
) -> None:
    def grab_cut(_image: object, labels: NDArray[np.uint8], *_: object) -> None:
        labels[labels != cv2.GC_FGD] = label

    monkeypatch.setattr(cv2, "grabCut", grab_cut)
    found = segment(scene(0)[0], (8.0, 88.0, 18.0, 78.0))
    area = np.pi * 40 * 30
    assert found.method == "ellipse"
    assert abs(found.mask.sum() - area) < 0.02 * area
    assert np.allclose([edge.mean() for edge in np.nonzero(found.mask)], [47.5, 47.5], atol=0.1)


def test_same_input_same_mask_whatever_ran_before() -> None:
    picture, truth = scene(2)
    first = find_mask(picture, box_of(truth))
    cv2.setRNGSeed(99)
    find_mask(scene(3)[0], (10.0, 50.0, 10.0, 50.0))
    again = find_mask(picture.copy(), box_of(truth))
    assert np.array_equal(first, again)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    left=st.floats(-20, 90),
    top=st.floats(-20, 90),
    width=st.floats(0.2, 130),
    height=st.floats(0.2, 130),
)
def test_any_box_that_meets_the_picture_gives_one_filled_region(
    seed: int, left: float, top: float, width: float, height: float
) -> None:
    if left + width <= 0 or top + height <= 0:
        return
    picture = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    before = picture.copy()
    found = segment(picture, (left, left + width, top, top + height))
    assert found.mask.dtype == np.bool_
    assert found.mask.shape == (SIZE, SIZE)
    assert found.mask.any()
    assert np.array_equal(picture, before)
    if found.method == "grabcut":
        count, _ = cv2.connectedComponents(found.mask.astype(np.uint8), connectivity=8)
        assert count == 2
        outside = np.pad(~found.mask, 1, constant_values=True).astype(np.uint8)
        holes, _ = cv2.connectedComponents(outside, connectivity=4)
        assert holes == 2  # the outside alone


def test_quick_enough() -> None:
    picture = cv2.resize(scene(0)[0], (160, 160), interpolation=cv2.INTER_LINEAR)
    began = time.process_time()
    for _ in range(3):
        find_mask(np.asarray(picture, np.uint8), (10.0, 150.0, 30.0, 130.0))
    assert (time.process_time() - began) / 3 < 0.5  # about 0.05 s; a wide margin for slow machines


@pytest.mark.parametrize(
    ("picture", "box", "message"),
    [
        (np.zeros((9, 9, 3), np.float32), (0.0, 5.0, 0.0, 5.0), "uint8"),
        (np.zeros((9, 9), np.uint8), (0.0, 5.0, 0.0, 5.0), "uint8"),
        (np.zeros((9, 8, 3), np.uint8), (0.0, 5.0, 0.0, 5.0), "square"),
        (np.zeros((9, 9, 3), np.uint8), (5.0, 5.0, 0.0, 5.0), "empty"),
        (np.zeros((9, 9, 3), np.uint8), (float("nan"), 5.0, 0.0, 5.0), "finite"),
        (np.zeros((9, 9, 3), np.uint8), (9.0, 12.0, 0.0, 5.0), "outside"),
    ],
)
def test_bad_input(
    picture: NDArray[np.uint8], box: tuple[float, float, float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segment(picture, box)
