"""The clean multi-view sets as a source of clips: one model = one clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idpose_core.datasets.rendered.families import model_name
from idpose_core.datasets.rendered.splits import training_and_test
from idpose_core.datasets.rendered.videos import WORLD_VERSION
from idpose_core.datasets.rendered.views import rendered_views, view_grid
from idpose_core.datasets.views import View, ViewedObject
from idpose_core.instances.boxes import Box, box_of


@dataclass(frozen=True)
class RenderedViewSet:
    """See ``datasets.views.ViewSet``.

    The models of the world's validation split are left out: they are for choosing settings.

    Attributes:
        kind: car or chair.
        models: The first so many models of the family.
        samples: Light paths a pixel.
        side: Of the pictures.
    """

    kind: str
    models: int
    samples: int
    side: int

    name = "rendered-views"
    boxes_from = "true-mask"
    whole = True

    @property
    def class_name(self) -> str:
        """The kind: both are COCO's words."""
        return self.kind

    def settings(self) -> Mapping[str, Any]:
        """Everything that the pictures depend on; how many models there are is not of it."""
        made = {"kind": self.kind, "samples": self.samples, "side": self.side}
        return {**made, "world": WORLD_VERSION}

    def objects(self) -> Sequence[ViewedObject]:
        """The models.

        Raises:
            ValueError: There are not so many.
        """
        count = len(view_grid(self.kind))
        return [
            ViewedObject(model_name(self.kind, model), split, count)
            for model, split in sorted(training_and_test(self.kind, self.models).items())
        ]

    def views(self, name: str, location: Mapping[str, Any]) -> Sequence[View]:
        """Render the views of a model, by elevation and then azimuth."""
        model = int(name.rsplit("-", 1)[1])
        return [
            View(v.image, Box(*_seen(box_of(v.mask))), v.azimuth_deg, v.elevation_deg, v.mask)
            for v in rendered_views(self.kind, [model], side=self.side, samples=self.samples)
        ]


def _seen(box: tuple[float, float, float, float] | None) -> tuple[float, float, float, float]:
    if box is None:
        raise ValueError("a model fills not one pixel: the picture is too small")
    return box
