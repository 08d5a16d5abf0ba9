from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.instances.boxes import Area, Box
from idpose_core.instances.cropping import (
    GREY,
    CropTransform,
    crop_square,
    cut_mask,
    cut_square,
    object_in_crop,
    padding,
    shown,
    square_around,
)


def gradient(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8)


def test_the_square_is_centred_and_a_quarter_larger_than_the_longer_side() -> None:
    transform = square_around(Box(0.4, 0.6, 0.4, 0.5), 1000, 1000)
    assert (transform.left, transform.top, transform.side) == (375, 325, 250)


def test_a_wide_frame_gives_a_square_in_pixels_not_in_fractions() -> None:
    transform = square_around(Box(0.25, 0.75, 0.25, 0.75), 1600, 400)
    assert transform.side == round(1.25 * 800)
    assert (transform.left, transform.top) == (300, -300)


def test_a_crop_at_full_size_is_the_frame_itself() -> None:
    image = gradient(300, 400)
    crop, transform = crop_square(image, Box(0.3, 0.3 + 128 / 400, 0.3, 0.5), size=160)
    assert transform.side == 160
    left, top = transform.left, transform.top
    np.testing.assert_array_equal(crop, image[top : top + 160, left : left + 160])


def test_shrinking_averages_areas() -> None:
    image = np.zeros((320, 320, 3), np.uint8)
    image[::2, ::2] = 200
    crop, transform = crop_square(image, Box(0.1, 0.9, 0.1, 0.9), size=160)
    assert transform.side == 320
    assert np.all(crop == 50)


def test_padding_larger_than_the_frame() -> None:
    image = gradient(20, 400)
    crop, transform = crop_square(image, Box(0.0, 1.0, 0.0, 1.0), size=500)
    assert transform.side == 500
    assert transform.top < -2 * 20
    padded = np.pad(image, ((240, 240), (50, 50), (0, 0)), constant_values=GREY)
    np.testing.assert_array_equal(crop, padded)
    assert padding(transform, Area(0, 0, 400, 20)) == pytest.approx(1 - 20 * 400 / 500**2)


def test_beyond_the_frame_there_is_grey_and_no_second_object() -> None:
    image = gradient(100, 100)
    crop, transform = crop_square(image, Box(0.6, 1.0, 0.3, 0.7), size=50)
    padded = cv2.copyMakeBorder(image, 30, 30, 30, 30, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    top, left = transform.top + 30, transform.left + 30
    np.testing.assert_array_equal(crop, padded[top : top + 50, left : left + 50])


def test_a_black_bar_is_padding_like_the_world_beyond_the_frame() -> None:
    image = gradient(100, 100)
    image[80:] = 0
    bar_free = Area(0, 0, 100, 80)
    crop, transform = crop_square(image, Box(0.3, 0.7, 0.38, 0.78), size=50, picture=bar_free)
    assert (transform.top, transform.side) == (33, 50)
    assert np.all(crop[47:] == GREY)
    np.testing.assert_array_equal(crop[:47], image[33:80, transform.left : transform.left + 50])
    assert padding(transform, bar_free) == pytest.approx(3 / 50)
    assert shown(transform, bar_free) == Area(0, 0, 50, 47)


squares = st.builds(
    CropTransform,
    left=st.integers(-80, 120),
    top=st.integers(-80, 120),
    side=st.integers(1, 150),
    size=st.integers(1, 96),
)
areas = st.builds(
    lambda x, y: Area(min(x), min(y), max(x), max(y)),
    st.tuples(st.integers(0, 60), st.integers(61, 100)),
    st.tuples(st.integers(0, 40), st.integers(41, 70)),
)


@given(squares, areas)
def test_what_is_shown_is_the_picture_alone_and_what_is_not_is_grey(
    transform: CropTransform, area: Area
) -> None:
    """White picture in a black frame: no pixel of the part that is shown is anything but white."""
    image = np.zeros((70, 100, 3), np.uint8)
    image[area.top : area.bottom, area.left : area.right] = 255
    crop = cut_square(image, transform, area)
    assert crop.min() >= GREY  # the bar itself never shows
    assert 0 <= padding(transform, area) <= 1
    part = shown(transform, area)
    assert 0 <= part.left < part.right <= transform.size
    assert 0 <= part.top < part.bottom <= transform.size
    if padding(transform, area) == 0:
        assert part == Area(0, 0, transform.size, transform.size)
    if min(part.right - part.left, part.bottom - part.top) > 1:
        assert crop[part.top : part.bottom, part.left : part.right].min() == 255


@given(squares, areas, st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1))
def test_padding_does_not_touch_the_way_back(transform, area, points) -> None:  # type: ignore[no-untyped-def]
    frame = np.array(points)
    cut_square(np.zeros((70, 100, 3), np.uint8), transform, area)
    back = transform.to_frame(transform.to_crop(frame))
    np.testing.assert_allclose(back, frame, rtol=0, atol=1e-6)


def test_a_frames_pixel_is_found_where_the_transform_says_beside_padding() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[20, 90] = 255
    crop, transform = crop_square(image, Box(0.7, 1.0, 0.1, 0.4), size=38)
    (y, x) = np.argwhere(crop[..., 0] == 255)[0]
    assert transform.side == 38
    assert tuple(transform.to_frame(np.array([x, y], float))) == (90, 20)


def test_the_object_in_a_crop() -> None:
    transform = square_around(Box(0.4, 0.6, 0.4, 0.5), 1000, 1000, size=50)
    box = Box(0.4, 0.6, 0.4, 0.5)
    assert object_in_crop(transform, box, 1000, 1000) == Area(5, 15, 45, 35)
    assert object_in_crop(transform, Box(0.1, 0.9, 0.1, 0.9), 1000, 1000) == Area(0, 0, 50, 50)


fractions = st.floats(0, 1, allow_nan=False)


@given(
    x=st.tuples(fractions, fractions).filter(lambda p: p[0] != p[1]),
    y=st.tuples(fractions, fractions).filter(lambda p: p[0] != p[1]),
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    size=st.integers(1, 512),
    points=st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1),
)
def test_the_way_back_is_exact(x, y, width, height, size, points) -> None:  # type: ignore[no-untyped-def]
    box = Box(min(x), max(x), min(y), max(y))
    if box.area == 0:  # the product of two tiny sides underflows
        return
    transform = square_around(box, width, height, size=size)
    frame = np.array(points)
    back = transform.to_frame(transform.to_crop(frame))
    np.testing.assert_allclose(back, frame, rtol=0, atol=1e-6)
    assert transform.side >= 1


@given(
    x=st.tuples(fractions, fractions).filter(lambda p: abs(p[0] - p[1]) > 0.01),
    y=st.tuples(fractions, fractions).filter(lambda p: abs(p[0] - p[1]) > 0.01),
)
def test_the_box_lies_inside_its_crop(x, y) -> None:  # type: ignore[no-untyped-def]
    box = Box(min(x), max(x), min(y), max(y))
    transform = square_around(box, 640, 360, size=160)
    xmin, xmax, ymin, ymax = transform.box_to_crop(box, 640, 360)
    # rounding the square to whole pixels moves it by at most one frame pixel
    slack = transform.size / transform.side
    assert min(xmin, ymin) >= -slack
    assert max(xmax, ymax) <= transform.size + slack
    assert max(xmax - xmin, ymax - ymin) == pytest.approx(transform.size / 1.25, abs=slack)


def test_a_box_of_a_pixel() -> None:
    image = gradient(100, 100)
    crop, transform = crop_square(image, Box(0.50, 0.51, 0.50, 0.51), size=16)
    assert transform.side == 1
    assert np.all(crop == image[transform.top, transform.left])


def test_a_frame_of_one_pixel() -> None:
    image = np.full((1, 1, 3), 7, np.uint8)
    crop, _ = crop_square(image, Box(0, 1, 0, 1), size=160)
    assert crop.shape == (160, 160, 3)
    assert np.all(crop == 7)


def test_a_box_that_reaches_beyond_the_frame() -> None:
    crop, transform = crop_square(gradient(100, 100), Box(-0.5, 0.5, 0.2, 0.4), size=32)
    assert crop.shape == (32, 32, 3)
    assert transform.left == round(0 - 125 / 2)


@pytest.mark.parametrize(
    "box",
    [
        Box(0.5, 0.5, 0.1, 0.9),
        Box(0.6, 0.4, 0.1, 0.9),
        Box(float("nan"), 0.5, 0.1, 0.9),
        Box(0.1, float("inf"), 0.1, 0.9),
    ],
)
def test_an_empty_or_infinite_box_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match="not a box"):
        crop_square(gradient(10, 10), box)


@pytest.mark.parametrize("box", [Box(1.1, 1.3, 0, 1), Box(-0.5, 0.0, 0, 1), Box(0, 1, 1.0, 2)])
def test_a_box_outside_of_the_frame_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match="outside"):
        crop_square(gradient(10, 10), box)


def test_a_mask_is_cut_like_its_picture_and_ends_with_the_frame() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 35:] = True  # cut off by the right edge
    picture = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    for box in (Box(0.6, 1.0, 0.25, 0.75), Box(0.1, 0.9, 0.1, 0.9), Box(0.7, 1.3, 0.3, 0.6)):
        crop, transform = crop_square(picture, box, size=48, scale=1.25)
        found = cut_mask(mask, transform)
        x, y = transform.to_frame(np.stack([np.arange(48) + 0.5] * 2, axis=1)).T
        inside = np.ix_((y > 1) & (y < 39), x < 59)
        assert np.array_equal(found[inside], crop[..., 0][inside] > 127)
        assert not found[:, x > 61].any()
    everything = CropTransform(0, 0, 40, 40)
    assert np.array_equal(cut_mask(mask[:, :40], everything), mask[:, :40])
