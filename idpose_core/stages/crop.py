"""Crop: the square pictures of one clip, with the way back to their frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa

from idpose_core.instances.boxes import Box
from idpose_core.instances.cropping import CropTransform, crop_square
from idpose_core.instances.filters import ClipFilters, sharpness
from idpose_core.stages.link import BOX
from idpose_core.video.decoding import frames_at
from storage.digests import digest, sha256
from storage.reasons import Status, Unusable
from storage.schemas import IMAGE
from storage.shards import RowStage


@dataclass(frozen=True)
class CropInstances(RowStage):
    """Cut the followed object out of its frames.

    Identical neighbouring frames and blurred crops are left out; what remains must satisfy the
    clip's minimum of crops and of seconds.

    Row: ``media_sha256``, ``clip_id``, ``observations``. Location: ``path`` of the media.
    """

    size: int
    scale: float
    filters: ClipFilters
    decoder: str
    deadline_s: float

    name: ClassVar[str] = "crop"
    version: ClassVar[int] = 1
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
        kept = ("min_crops", "min_seconds", "min_sharpness")
        limits = {name: getattr(self.filters, name) for name in kept}
        return {"size": self.size, "scale": self.scale, "decoder": self.decoder, **limits}

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row a crop, by time."""
        wanted = {seen["timestamp_ms"]: seen for seen in row["observations"]}
        frames = frames_at(
            location["path"], sorted(wanted), decoder=self.decoder, deadline_s=self.deadline_s
        )
        crops: list[dict[str, Any]] = []
        left_out = {Status.BLURRED: 0, Status.STATIC: 0}
        previous: str | None = None
        for timestamp_ms, image in ((frame.timestamp_ms, frame.image) for frame in frames):
            frame_digest = sha256(np.ascontiguousarray(image).data)
            if frame_digest == previous:
                left_out[Status.STATIC] += 1
                continue
            previous = frame_digest
            crop = self._crop(row["clip_id"], image, wanted[timestamp_ms])
            if crop["sharpness"] < self.filters.min_sharpness:
                left_out[Status.BLURRED] += 1
                continue
            crops.append(crop)
        self._check(crops, len(wanted), left_out)
        return crops

    def _crop(self, clip_id: str, image: np.ndarray, seen: Mapping[str, Any]) -> dict[str, Any]:
        box = Box(seen["xmin"], seen["xmax"], seen["ymin"], seen["ymax"])
        picture, transform = crop_square(image, box, size=self.size, scale=self.scale)
        plain = transform.to_list()
        identity = [clip_id, seen["timestamp_ms"], plain, sha256(picture.tobytes())]
        return {
            **seen,
            "crop_id": digest(identity)[:24],
            "image": {"bytes": encode_png(picture), "path": None},
            "frame_width": image.shape[1],
            "frame_height": image.shape[0],
            "transform": plain,
            "sharpness": sharpness(picture),
        }

    def _check(
        self, crops: Sequence[Mapping[str, Any]], frames: int, left_out: Mapping[Status, int]
    ) -> None:
        why = ", ".join(f"{count} {status.value}" for status, count in left_out.items() if count)
        found = f"{len(crops)} of {frames} frames kept" + (f" ({why})" if why else "")
        if len(crops) < self.filters.min_crops:
            most = max(left_out, key=lambda status: left_out[status])
            mostly = left_out[most] > frames / 2
            raise Unusable(most if mostly else Status.TOO_FEW_CROPS, found)
        seconds = (crops[-1]["timestamp_ms"] - crops[0]["timestamp_ms"]) / 1000
        if seconds < self.filters.min_seconds:
            raise Unusable(Status.TOO_SHORT, f"{seconds:.2f} s between first and last crop")


def box_in_crop(crop: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The object's box (xmin, xmax, ymin, ymax) in pixels of its crop."""
    transform = CropTransform.from_list(crop["transform"])
    box = Box(crop["xmin"], crop["xmax"], crop["ymin"], crop["ymax"])
    return transform.box_to_crop(box, crop["frame_width"], crop["frame_height"])


def encode_png(picture: np.ndarray) -> bytes:
    """Lossless PNG of an RGB picture uint8 [H, W, 3] or a mask uint8 [H, W]."""
    pixels = picture[..., ::-1] if picture.ndim == 3 else picture
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise ValueError("the picture could not be encoded as PNG")
    return bytes(data)


def decode_png(data: bytes) -> np.ndarray:
    """The RGB picture uint8 [H, W, 3], or the mask uint8 [H, W], of ``encode_png``."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("not a picture")
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels


def pictures(rows: Sequence[Mapping[str, Any]]) -> Iterator[np.ndarray]:
    """The decoded pictures of crop rows."""
    for row in rows:
        yield decode_png(row["image"]["bytes"])
