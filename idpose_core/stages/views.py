"""Views: one object of a multi-view image set becomes a clip, each of its views a crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from idpose_core.datasets.views import View, ViewSet
from idpose_core.instances.boxes import Area
from idpose_core.instances.cropping import (
    CropTransform,
    cut_mask,
    cut_square,
    shown,
    square_around,
)
from idpose_core.instances.filters import Crop
from idpose_core.stages.crop import CropInstances, encode_png, pictured, placed
from storage.digests import digest
from storage.reasons import Status, Unusable
from storage.shards import RowStage

STEP_MS = 1000  # between views: no two of them are too near to be ID picture and target


@dataclass(frozen=True)
class CropViews(RowStage):
    """Make the crops of one object.

    Row: ``object`` (its name), ``sha256`` (of its files, null where it is made). Location: where
    its files are.
    """

    views: ViewSet
    size: int
    scale: float

    name: ClassVar[str] = "views"
    version: ClassVar[int] = 2
    shard_rows: ClassVar[int] = 2
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            *CropInstances.columns,
            pa.field("clip_id", pa.string()),
            pa.field("detector", pa.string()),
            pa.field("azimuth_deg", pa.float64()),
            pa.field("elevation_deg", pa.float64()),
            pa.field("mask", pa.binary()),
        ]
    )

    def settings(self) -> Mapping[str, Any]:
        """The set, and the geometry of its crops."""
        framing = None if self.views.whole else self.scale
        return {
            "set": self.views.name,
            **self.views.settings(),
            "size": self.size,
            "scale": framing,
        }

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row a view, in the set's order; the mask is a PNG with 255 on the object.

        Raises:
            Unusable: They cannot be had, or the object vanishes at the size of the crops.
        """
        found = self.views.views(row["object"], location)
        clip_id = digest([self.views.name, row["object"], len(found)])[:16]
        return [self._crop(clip_id, index, view) for index, view in enumerate(found)]

    def _crop(self, clip_id: str, index: int, view: View) -> dict[str, Any]:
        transform = self._transform(view)
        height, width = view.image.shape[:2]
        crop = Crop(cut_square(view.image, transform), shown(transform, Area(0, 0, width, height)))
        where = placed(view.image, transform)
        mask = None if view.mask is None else cut_mask(view.mask, transform)
        if mask is not None and not mask.any():
            raise Unusable(Status.TOO_SMALL, f"view {index} is less than a pixel of image.size")
        return {
            **where,
            **pictured(clip_id, index * STEP_MS, where, crop),
            **asdict(view.box),
            "clip_id": clip_id,
            "timestamp_ms": index * STEP_MS,
            "class_name": self.views.class_name,
            "detector": self.views.boxes_from,
            "score": 1.0,
            "azimuth_deg": view.azimuth_deg,
            "elevation_deg": view.elevation_deg,
            "mask": None if mask is None else encode_png(mask.astype(np.uint8) * 255),
        }

    def _transform(self, view: View) -> CropTransform:
        height, width = view.image.shape[:2]
        if not self.views.whole:
            return square_around(view.box, width, height, size=self.size, scale=self.scale)
        if height != width:
            raise ValueError(f"{self.views.name} gives views that are not square: {width}x{height}")
        return CropTransform(left=0, top=0, side=width, size=self.size)
