from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from idpose_core.instances.boxes import Box, interpolate, intersection, iou

unit = st.floats(0, 1, allow_nan=False)
boxes = st.builds(
    lambda a, b, c, d: Box(min(a, b), max(a, b), min(c, d), max(c, d)), unit, unit, unit, unit
)


def test_known_overlap() -> None:
    a = Box(xmin=0.0, xmax=0.4, ymin=0.0, ymax=0.5)
    b = Box(xmin=0.2, xmax=0.6, ymin=0.0, ymax=0.5)
    assert intersection(a, b) == pytest.approx(0.1)
    assert iou(a, b) == pytest.approx(0.1 / 0.3)


def test_boxes_that_touch_do_not_overlap() -> None:
    assert iou(Box(0, 0.5, 0, 1), Box(0.5, 1, 0, 1)) == 0


def test_a_box_turned_inside_out_is_empty() -> None:
    inside_out = Box(xmin=0.6, xmax=0.2, ymin=0, ymax=1)
    assert inside_out.area == 0
    assert iou(inside_out, inside_out) == 0


@given(boxes, boxes)
def test_iou_agrees_with_torchvision(a: Box, b: Box) -> None:
    corners = [
        torch.tensor([[box.xmin, box.ymin, box.xmax, box.ymax]], dtype=torch.float64)
        for box in (a, b)
    ]
    expected = np.nan_to_num(float(box_iou(*corners)))
    assert iou(a, b) == pytest.approx(expected, abs=1e-9)
    assert iou(a, b) == iou(b, a)


def test_interpolation_is_linear() -> None:
    a, b = Box(0.0, 0.2, 0.0, 0.4), Box(0.4, 0.8, 0.2, 0.4)
    assert interpolate(a, b, 0) == a
    middle = interpolate(a, b, 0.5)
    assert (middle.xmin, middle.xmax, middle.ymin, middle.ymax) == pytest.approx(
        (0.2, 0.5, 0.1, 0.4)
    )
