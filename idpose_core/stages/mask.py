"""Mask: tell the object from its background, for the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from idpose_core.pose.masks import find_mask
from idpose_core.stages.crop import box_in_crop, decode_png, encode_png
from idpose_core.stages.link import BOX_NAMES
from storage.shards import RowStage, read_located


@dataclass(frozen=True)
class MaskObjects(RowStage):
    """Segment the object in each crop of a clip, starting from the detector's box.

    Row: ``crops`` (key of the crop result). Location: where the crops lie.
    """

    kind: str

    name: ClassVar[str] = "mask"
    version: ClassVar[int] = 1
    shard_rows: ClassVar[int] = 4
    columns: ClassVar[pa.Schema] = pa.schema(
        [pa.field("crop_id", pa.string()), pa.field("mask", pa.binary())]
    )

    def settings(self) -> Mapping[str, Any]:
        """The kind of mask."""
        return {"kind": self.kind}

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row a crop; the mask is a PNG with 255 on the object."""
        crops = read_located(
            location,
            [
                "crop_id",
                "image",
                "transform",
                "frame_width",
                "frame_height",
                *BOX_NAMES,
            ],
        )
        return [{"crop_id": crop["crop_id"], "mask": self._mask(crop)} for crop in crops]

    def _mask(self, crop: Mapping[str, Any]) -> bytes:
        found = find_mask(decode_png(crop["image"]["bytes"]), box_in_crop(crop))
        return encode_png(found.astype(np.uint8) * 255)
