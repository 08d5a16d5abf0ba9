"""The way from a frame to what the model sees, and back: exact, at the border too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.composition.window import Window
from idpose_core.evaluation.pictures import at_size
from idpose_core.instances.boxes import Area, Box
from idpose_core.instances.cropping import CropTransform, cut_square


def ramp(height: int, width: int) -> np.ndarray:
    """A frame that says where it is: its pixels' centres, x in red and y in green."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.arange(width)[None, :]
    frame[..., 1] = np.arange(height)[:, None]
    return frame


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("square", [(20, 30, 160), (-37, 90, 133), (120, -50, 171), (60, 60, 41)])
def test_what_the_model_sees_comes_back_where_it_was(
    size: int, square: tuple[int, int, int]
) -> None:
    frame = ramp(230, 250)
    transform = CropTransform(*square, size=160)
    view = at_size(cut_square(frame, transform)[None], size)[0]
    window = Window.of(transform, size)
    area = window.area(250, 230)
    back = window.to_frame(view, area).astype(float)
    truth = frame[area.top : area.bottom, area.left : area.right].astype(float)
    # Away from where the crop mixes the frame's border with grey.
    rim = 2 + int(3 * max(1, transform.side / 160, window.side / size))
    inner = np.s_[rim:-rim, rim:-rim, :2]
    assert abs(back - truth)[inner].max() <= 1  # a grey level a pixel, rounded three times
    assert abs((back - truth)[inner].mean(axis=(0, 1))).max() < 0.25


@given(
    left=st.floats(-80, 80), top=st.floats(-80, 80), side=st.floats(3, 150),
    size=st.sampled_from([16, 32]),
)  # fmt: skip
def test_the_way_back_is_the_inverse_of_brute_force(
    left: float, top: float, side: float, size: int
) -> None:
    window = Window(left, top, side, size)
    area = window.area(100, 90)
    if area.empty:
        return
    assert area.left >= left - 1e-9 and area.right <= left + side + 1e-9
    picture = np.zeros((size, size, 3), np.uint8)
    picture[..., 0] = (np.arange(size) * 255 // (size - 1))[None, :]
    picture[..., 1] = (np.arange(size) * 255 // (size - 1))[:, None]
    found = window.to_frame(picture, area).astype(float)
    x = (np.arange(area.left, area.right) + 0.5 - left) * size / side - 0.5
    y = (np.arange(area.top, area.bottom) + 0.5 - top) * size / side - 0.5
    # Half a pixel, of picture or frame whichever is the coarser, in grey levels; away from edges.
    step = 0.5 * max(1.0, size / side) * 255 / (size - 1) + 1.5
    reach = 2 * max(1.0, size / side)
    for axis, place in ((0, x), (1, y)):
        inside = (place > reach) & (place < size - 1 - reach)
        values = found[..., axis].mean(axis=axis)
        assert (abs(values - place * 255 / (size - 1))[inside] <= step).all()


def test_a_box_in_the_models_picture() -> None:
    window = Window(left=10.0, top=20.0, side=50.0, size=100)
    assert window.box(Box(0.1, 0.2, 0.3, 0.5), 200, 100) == (20.0, 60.0, 20.0, 60.0)


def test_a_window_beyond_the_frame_has_no_area() -> None:
    assert Window(500.0, 0.0, 40.0, 32).area(100, 100).empty
    assert Window(5.2, 5.2, 0.5, 32).area(100, 100).empty
    assert not Area(0, 0, 1, 1).empty
