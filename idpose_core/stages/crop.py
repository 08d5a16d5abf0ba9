"""Crop: the square pictures of one clip, with the way back to their frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from idpose_core.instances.boxes import Area, Box
from idpose_core.instances.cropping import CropTransform, crop_square, object_in_crop, shown
from idpose_core.instances.filters import (
    ClipFilters,
    Crop,
    clip_status,
    part,
    picture_statuses,
    sharpness,
)
from idpose_core.stages.link import BOX, BOX_NAMES, count_statuses
from idpose_core.video.decoding import frames_at
from storage.copies import media_file
from storage.digests import digest, sha256
from storage.reasons import Status, Unusable
from storage.schemas import IMAGE
from storage.shards import RowStage

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class CropInstances(RowStage):
    """Cut the followed object out of its frames.

    Pictures that are repeated, blurred, too dark or flat, and those in which the object looks like
    another one, are left out; what remains must satisfy the clip's minimum of crops and of seconds.

    Row: ``media_sha256``, ``clip_id``, ``observations``. Location: ``path`` of the media.
    """

    size: int
    scale: float
    filters: ClipFilters
    decoder: str
    deadline_s: float

    name: ClassVar[str] = "crop"
    version: ClassVar[int] = 2
    shard_rows: ClassVar[int] = 4
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("crop_id", pa.string()),
            pa.field("image", IMAGE),
            pa.field("timestamp_ms", pa.int64()),
            pa.field("class_name", pa.string()),
            pa.field("score", pa.float64()),
            *BOX,
            pa.field("frame_width", pa.int32()),
            pa.field("frame_height", pa.int32()),
            pa.field("transform", pa.list_(pa.float64())),
            pa.field("sharpness", pa.float64()),
        ]
    )

    def settings(self) -> Mapping[str, Any]:
        """Geometry, filters and decoder."""
        limits = {name: getattr(self.filters, name) for name in _LIMITS}
        return {"size": self.size, "scale": self.scale, "decoder": self.decoder, **limits}

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row a crop, by time."""
        wanted = {seen["timestamp_ms"]: seen for seen in row["observations"]}
        with media_file(location, row["media_sha256"]) as file:
            frames = frames_at(
                file, sorted(wanted), decoder=self.decoder, deadline_s=self.deadline_s
            )
            cut = [
                (frame.timestamp_ms, self._cut(frame.image, wanted[frame.timestamp_ms]))
                for frame in frames
            ]
        statuses = picture_statuses([crop for _, (crop, _) in cut], self.filters)
        verdict = clip_status([time for time, _ in cut], statuses, self.filters)
        if verdict is not Status.OK:
            raise Unusable(verdict, count_statuses(statuses))
        return [
            {**wanted[time], **where, **pictured(row["clip_id"], time, where, crop)}
            for (time, (crop, where)), status in zip(cut, statuses, strict=True)
            if status is Status.OK
        ]

    def _cut(self, image: Picture, seen: Mapping[str, Any]) -> tuple[Crop, dict[str, Any]]:
        height, width = image.shape[:2]
        box = Box(*(seen[name] for name in BOX_NAMES))
        area = Area(0, 0, width, height) if seen["picture"] is None else Area(*seen["picture"])
        picture, transform = crop_square(image, box, size=self.size, scale=self.scale, picture=area)
        in_box = object_in_crop(transform, box, width, height)
        return Crop(picture, shown(transform, area), in_box), placed(image, transform)


_LIMITS = (
    "min_crops",
    "min_seconds",
    "min_sharpness",
    "min_brightness",
    "min_contrast",
    "max_appearance_jump",
)


def placed(image: Picture, transform: CropTransform) -> dict[str, Any]:
    """What a crop's row has of its place: the frame's size and the transform."""
    height, width = image.shape[:2]
    return {"frame_width": width, "frame_height": height, "transform": list(astuple(transform))}


def pictured(
    clip_id: str, timestamp_ms: int, where: Mapping[str, Any], crop: Crop
) -> dict[str, Any]:
    """What a crop's row has of its picture: id, encoded picture, sharpness of what is shown."""
    identity = [clip_id, timestamp_ms, where["transform"], sha256(crop.picture.tobytes())]
    return {
        "crop_id": digest(identity)[:24],
        "image": {"bytes": encode_png(crop.picture), "path": None},
        "sharpness": sharpness(part(crop.picture, crop.shown)),
    }


def box_in_crop(crop: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The object's box (xmin, xmax, ymin, ymax) in pixels of its crop."""
    transform = CropTransform(*(int(value) for value in crop["transform"]))
    box = Box(*(crop[name] for name in BOX_NAMES))
    return transform.box_to_crop(box, crop["frame_width"], crop["frame_height"])


def encode_png(picture: Picture) -> bytes:
    """Lossless PNG of an RGB picture uint8 [H, W, 3] or a mask uint8 [H, W]."""
    pixels = picture[..., ::-1] if picture.ndim == 3 else picture
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise ValueError("the picture could not be encoded as PNG")
    return bytes(data)


def decode_png(data: bytes) -> Picture:
    """The RGB picture uint8 [H, W, 3], or the mask uint8 [H, W], of ``encode_png``."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("not a picture")
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels
