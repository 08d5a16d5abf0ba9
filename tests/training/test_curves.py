"""The picture of a run's curves: what is drawn, and what is said where nothing can be."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from idpose_core.training.curves import curves_of, draw_curves

ROWS = [
    {"step": 10, "L1_dis": 0.5, "D_real": 1.0, "seconds_per_step": 2.0},
    {"step": 10, "gradient/L1_dis": 0.1},
    {"step": 20, "L1_dis": 0.25, "D_real": 0.5, "L_pv": float("nan")},
    {"step": 20, "held_out/d": 0.7},
]


def test_every_quantity_is_in_its_own_panel() -> None:
    assert curves_of(ROWS, "L")["L1_dis"] == ([10, 20], [0.5, 0.25])
    assert list(curves_of(ROWS, "L")) == ["L1_dis", "L_pv"]
    assert curves_of(ROWS, "gradient/") == {"L1_dis": ([10], [0.1])}
    assert curves_of(ROWS, "held_out/") == {"d": ([20], [0.7])}
    assert curves_of(ROWS, "D_") == {"D_real": ([10, 20], [1.0, 0.5])}


def test_the_picture_shows_the_curves() -> None:
    picture = np.asarray(Image.open(BytesIO(draw_curves(ROWS, "a run"))).convert("RGB"))
    other = np.asarray(Image.open(BytesIO(draw_curves(ROWS[:1], "a run"))).convert("RGB"))
    assert picture.shape[0] > other.shape[0] > 200  # two rows of panels, and one
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_no_empty_panel_is_left() -> None:
    three = [row for row in ROWS if "D_real" not in row] + [{"step": 30, "L1_dis": 0.2}]
    picture = np.asarray(Image.open(BytesIO(draw_curves(three, "a run"))).convert("L"))
    height, width = picture.shape
    assert (picture[height * 3 // 5 :, width * 3 // 5 :] == 255).all()


def test_nothing_recorded_is_said() -> None:
    with pytest.raises(ValueError, match="log_every"):
        draw_curves([{"step": 1, "seconds_per_step": 2.0}], "a run")
