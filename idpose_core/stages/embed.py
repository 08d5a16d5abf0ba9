"""Embed: the pose feature of each crop (conv4 of a self-supervised AlexNet in the paper)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from idpose_core.stages.crop import decode_png
from storage.shards import RowStage, read_located

if TYPE_CHECKING:  # torch takes half a gigabyte, and planning needs none of it
    from idpose_core.pose.embedding import Embedder, EmbedderKind


@dataclass(frozen=True)
class EmbedCrops(RowStage):
    """Embed the crops of one clip.

    Row: ``crops`` and ``masks`` (keys of these results; ``masks`` null without masks).
    Location: ``crops`` and ``masks``, where they lie.
    """

    kind: EmbedderKind
    weights_path: str | None
    weights_sha256: str | None
    masked: bool
    silhouette: bool
    image_size: int
    device: str
    azimuth_path: str | None = None
    azimuth_sha256: str | None = None
    turning: bool = True  # whether a clip's crops are moments of one movement, not single views

    name: ClassVar[str] = "embed"
    version: ClassVar[int] = 3
    shard_rows: ClassVar[int] = 4
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("crop_id", pa.string()),
            pa.field("feature", pa.binary()),
            pa.field("reading", pa.list_(pa.float32())),  # front, cosine, sine; null = not read
        ]
    )

    def settings(self) -> Mapping[str, Any]:
        """The embedder and its options."""
        chosen = ("kind", "masked", "silhouette", "image_size", "turning")
        return {name: getattr(self, name) for name in chosen}

    def weights(self) -> Mapping[str, str]:
        """The weights of the embedder and of what reads azimuths; those that are asked for."""
        used = {self.kind: self.weights_sha256, "azimuth": self.azimuth_sha256}
        return {role: sha256 for role, sha256 in used.items() if sha256}

    def prepare(self) -> None:
        """Load the embedder."""
        self._load()

    def _load(self) -> Embedder:
        return _embedder(
            self.kind,
            self.weights_path,
            self.image_size,
            self.masked,
            self.silhouette,
            self.device,
            self.azimuth_path,
        )

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row a crop; the feature is little-endian float16, of unit length."""
        crops = read_located(location["crops"], ["crop_id", "timestamp_ms", "image"])
        pictures = np.stack([decode_png(crop["image"]["bytes"]) for crop in crops])
        masks = None
        if self.masked:
            found = read_located(location["masks"], ["crop_id", "mask"])
            by_crop = {mask["crop_id"]: mask["mask"] for mask in found}
            masks = np.stack([decode_png(by_crop[crop["crop_id"]]) > 0 for crop in crops])
        embedder = self._load()
        readings = None
        if self.turning:
            times = np.array([crop["timestamp_ms"] for crop in crops], np.int64)
            features, readings = embedder.embed_clip(pictures, masks, times)
        else:
            features = embedder.embed(pictures, masks)
        read = [None] * len(crops) if readings is None else readings.tolist()
        return [
            {"crop_id": crop["crop_id"], "feature": feature.tobytes(), "reading": reading}
            for crop, feature, reading in zip(crops, features.astype("<f2"), read, strict=True)
        ]


@functools.lru_cache(maxsize=1)
def _embedder(
    kind: EmbedderKind,
    weights: str | None,
    image_size: int,
    masked: bool,
    silhouette: bool,
    device: str,
    azimuth: str | None,
) -> Embedder:
    from idpose_core.pose.embedding import load_embedder

    return load_embedder(
        kind,
        Path(weights) if weights else None,
        image_size=image_size,
        masked=masked,
        silhouette=silhouette,
        device=device,
        azimuth=Path(azimuth) if azimuth else None,
    )
