"""Mask: tell the object from its background, for the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from idpose_core.datasets.rendered.truth import mask_of, sighting_in
from idpose_core.instances.cropping import CropTransform, cut_mask
from idpose_core.pose.masks import find_mask
from idpose_core.stages.crop import box_in_crop, decode_png, encode_png
from idpose_core.stages.link import BOX_NAMES
from storage.shards import RowStage, read_located

Mask = NDArray[np.bool_]


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
        return [_row(crop, _found(crop)) for crop in read_located(location, _CROP)]


@dataclass(frozen=True)
class TrueMasks(RowStage):
    """Cut the masks of the rendered world's truth as the crops of a clip were cut.

    What the truth does not know (the detector saw an object where there is none, or nothing of it
    is in sight) is segmented as by ``MaskObjects``; the column ``method`` says so.

    Row: ``crops`` and ``truth`` (keys of these results). Location: where they lie.
    """

    name: ClassVar[str] = "true-mask"
    version: ClassVar[int] = 1
    shard_rows: ClassVar[int] = 16
    columns: ClassVar[pa.Schema] = pa.schema(
        [*MaskObjects.columns, pa.field("method", pa.string())]
    )

    def settings(self) -> Mapping[str, Any]:
        """Nothing: truth is truth."""
        return {}

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row a crop; the mask is a PNG with 255 on the object."""
        truth = read_located(location["truth"], ["timestamp_ms", "mask_png", *BOX_NAMES])
        rows = []
        for crop in read_located(location["crops"], _CROP):
            mask, method = _true(crop, truth), "truth"
            if mask is None:
                mask, method = _found(crop), "grabcut"
            rows.append({**_row(crop, mask), "method": method})
        return rows


_CROP = ["crop_id", "image", "timestamp_ms", "transform", "frame_width", "frame_height", *BOX_NAMES]


def _true(crop: Mapping[str, Any], truth: Sequence[Mapping[str, Any]]) -> Mask | None:
    seen = sighting_in(crop, truth)
    if seen is None:
        return None
    transform = CropTransform(*(int(value) for value in crop["transform"]))
    mask = cut_mask(mask_of(seen["mask_png"]), transform)
    return mask if mask.any() else None


def _found(crop: Mapping[str, Any]) -> Mask:
    return find_mask(decode_png(crop["image"]["bytes"]), box_in_crop(crop))


def _row(crop: Mapping[str, Any], mask: Mask) -> dict[str, Any]:
    return {"crop_id": crop["crop_id"], "mask": encode_png(mask.astype(np.uint8) * 255)}
