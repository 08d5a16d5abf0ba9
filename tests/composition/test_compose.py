"""Composition, with a model whose answer is known: a blue ellipse in the pose picture's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest

from idpose_core.composition.blending import BLENDS, Blend
from idpose_core.composition.compose import compose, object_mask
from idpose_core.composition.framing import Framing
from idpose_core.composition.swapper import Swapper
from idpose_core.composition.window import Window

SIZE = 64
RED, BLUE = (210, 30, 30), (30, 30, 210)


@dataclass
class Known:
    """What a swapper needs of a subject."""

    shrink: float = 1.0
    size: int = SIZE

    def generator(self, identity: Any, pose: Any) -> Any:
        """Blue where the pose picture is red, about its middle, on the ground that it has."""
        import torch

        made = []
        for one in pose:
            picture = ((one.numpy().transpose(1, 2, 0) + 1) * 127.5).round().astype(np.uint8)
            red = (picture[..., 0] > 150) & (picture[..., 1] < 100)
            rows, columns = np.nonzero(red)
            middle = (float(columns.mean()), float(rows.mean()))
            axes = (np.ptp(columns) / 2 * self.shrink, np.ptp(rows) / 2 * self.shrink)
            result = np.where(red[..., None], np.uint8(100), picture)
            cv2.ellipse(result, (middle, (2 * axes[0], 2 * axes[1]), 0), BLUE, -1)
            made.append(torch.from_numpy(result).permute(2, 0, 1) / 127.5 - 1)
        return torch.stack(made)


def swapper(shrink: float = 1.0) -> Swapper:
    return Swapper(Known(shrink), Framing.of({"image": {"size": 96}}))  # type: ignore[arg-type]


def scene(*cars: tuple[int, int, int, int]) -> np.ndarray:
    """Red ellipses (x, y and half axes) on a road of quiet noise, 480 x 320."""
    draws = np.random.default_rng(1)
    frame = draws.integers(95, 106, (320, 480, 3), dtype=np.uint8)
    for x, y, wide, high in cars:
        cv2.ellipse(frame, (x, y), (wide, high), 0, 0, 360, RED, -1)
    return frame


def box(x: int, y: int, wide: int, high: int) -> tuple[int, int, int, int]:
    return (max(0, x - wide), max(0, y - high), min(480, x + wide), min(320, y + high))


def identity() -> np.ndarray:
    return np.zeros((SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("car", [(240, 160, 90, 50), (70, 160, 80, 45), (300, 290, 70, 40)])
def test_the_new_object_stands_where_the_old_one_stood(car: tuple[int, int, int, int]) -> None:
    before = scene(car)
    made = swapper()
    seen = made.look(before, box(*car))
    after, (what,) = compose(made, before, [seen], identity())
    rows, columns = np.mgrid[:320, :480] + 0.5
    away = np.hypot((columns - car[0] - 0.5) / car[2], (rows - car[1] - 0.5) / car[3])
    changed = (after != before).any(axis=2)
    assert not changed[what.matte == 0].any()
    inner = (away < 0.8) & (rows > 6) & (rows < 314) & (columns > 6) & (columns < 474)
    assert (abs(after[inner].astype(int) - BLUE) < 25).all()
    assert not changed[away > 1.25].any()
    assert what.mask_from == "grabcut"


def test_the_middle_of_the_new_object_is_within_half_a_pixel() -> None:
    car = (240, 160, 90, 50)
    made = swapper(0.8)
    after, _ = compose(made, scene(car), [made.look(scene(car), box(*car))], identity())
    rows, columns = np.nonzero((after[..., 2] > 160) & (after[..., 0] < 80))
    scale = Window.of(made.look(scene(car), box(*car)).transform, SIZE).side / SIZE
    # Known's ellipse is drawn about the mean of whole pixels of its picture.
    assert abs(columns.mean() - car[0]) < 0.5 * scale and abs(rows.mean() - car[1]) < 0.5 * scale


def test_what_the_new_object_leaves_uncovered_is_told() -> None:
    car = (240, 160, 90, 50)
    before = scene(car)
    shares = {}
    for shrink in (1.0, 0.7):
        made = swapper(shrink)
        _, (what,) = compose(made, before, [made.look(before, box(*car))], identity())
        shares[shrink] = what.uncovered
    assert shares[1.0] < 0.08
    assert shares[0.7] == pytest.approx(1 - 0.7**2, abs=0.07)


@pytest.mark.parametrize("kind", BLENDS)
def test_several_objects_and_nothing_else(kind: Blend) -> None:
    cars = [(120, 160, 80, 45), (350, 120, 60, 34)]
    before = scene(*cars)
    made = swapper()
    seen = [made.look(before, box(*car)) for car in cars]
    after, replaced = compose(made, before, seen, identity(), kind=kind)
    outside = np.all([what.matte == 0 for what in replaced], axis=0)
    assert (after[outside] == before[outside]).all()
    for x, y, _, _ in cars:
        assert (after[y, x] != before[y, x]).any()
        if kind != "poisson":  # it takes its colours from around, where the old object still shows
            assert after[y, x, 2] > after[y, x, 0]
    assert [what.instance for what in replaced] == seen


def test_the_mask_of_the_scenes_object_is_the_object() -> None:
    car = (240, 160, 90, 50)
    before = scene(car)
    found = object_mask(swapper().look(before, box(*car)))
    truth = (before == RED).all(axis=2)
    assert (found & truth).sum() / (found | truth).sum() > 0.96
