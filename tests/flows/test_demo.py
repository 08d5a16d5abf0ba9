from __future__ import annotations

from flows.demo import TRAINING
from idpose_core.training.config import resolve


def test_the_grid_that_the_demo_points_to_is_drawn() -> None:
    training = resolve(TRAINING).training
    assert training.steps % training.sample_every == 0
