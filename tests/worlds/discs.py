"""A set of views whose answers are known: a disc of the object's own colour that goes round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from idpose_core.datasets.views import View, ViewedObject
from idpose_core.instances.boxes import Box, box_of
from storage.reasons import Status, Unusable

SIDE, RADIUS, VIEWS = 96, 15, 8


@dataclass(frozen=True)
class Discs:
    """``disc-N`` has a disc of 15 pixels radius, 24 pixels from the middle, on grey."""

    whole: bool
    masks: bool = True

    name = "discs"
    class_name = "car"
    boxes_from = "drawn"

    def settings(self) -> Mapping[str, Any]:
        return {}

    def objects(self) -> Sequence[ViewedObject]:
        return [ViewedObject(f"disc-{n}", "test" if n % 3 == 0 else "train", VIEWS) for n in (1, 2)]

    def views(self, name: str, location: Mapping[str, Any]) -> Sequence[View]:
        if name == "disc-0":
            raise Unusable(Status.UNREADABLE, "there is no such disc")
        return [self._view(int(name[-1]), 360 / VIEWS * step) for step in range(VIEWS)]

    def _view(self, number: int, azimuth: float) -> View:
        x, y = disc_at(azimuth)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        mask = (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < RADIUS**2
        image = np.full((SIDE, SIDE, 3), 128, np.uint8)
        image[mask] = (40 * number, 200, 30)
        return View(image, Box(*box_of(mask)), azimuth, 10.0, mask if self.masks else None)


def disc_at(azimuth: float) -> tuple[float, float]:
    """The middle of the disc in pixels, x and y."""
    angle = np.deg2rad(azimuth)
    return SIDE / 2 + 24 * float(np.cos(angle)), SIDE / 2 - 24 * float(np.sin(angle))
