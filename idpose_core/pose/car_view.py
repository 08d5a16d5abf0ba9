"""``car-view``: the pose feature of vehicles, direction first, then what the picture looks like.

The middle of a network that has seen ImageNet knows which way a car faces; its end has forgotten
it, and so has every outline (docs/decisions/car-view.md). Maps of blocks 11 and 13 of
EfficientNet-Lite0 are averaged to 3 x 3 cells, and a small perceptron, learnt from rendered cars
and photographs (``car_view_training``), reads front score, cosine and sine from them. The map of
block 10 decides among pictures that face the same way. No mask is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from idpose_core.instances.arrays import single_thread
from idpose_core.pose.turning import (
    AZIMUTHS,
    Floats,
    Times,
    clip_directions,
    lone_directions,
    mean_readings,
    readings_of,
)
from idpose_core.weights.tensors import read_tensors
from storage.digests import file_sha256

SIDE = 224  # of the network's input in pixels
DIRECTION_WEIGHT = 2.0
"""Of the directions in a feature, where the map has 1."""

_FINE_BLOCK, _READ_BLOCKS = 10, (11, 13)
_FINE_GRID, _READ_GRID = 7, 3
_FINE_CHANNELS, _READ_CHANNELS = 112, 192
READ = len(_READ_BLOCKS) * _READ_CHANNELS * _READ_GRID**2
"""Numbers that the perceptron reads."""
SPREAD = 0.5
"""Of a reading around the truth: the smaller, the more a reading is worth."""


class Trunk(nn.Module):
    """EfficientNet-Lite0 up to block 13, batch norms folded into their convolutions."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(dict(tensors))
        network.eval()
        self.stem = nn.Sequential(
            fuse_conv_bn_eval(network._conv_stem, network._bn0), network._swish
        )
        self.blocks = nn.ModuleList(network._blocks[: _READ_BLOCKS[-1] + 1])
        for block in self.blocks:
            for convolution, norm in (
                ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")
            ):  # fmt: skip
                if hasattr(block, convolution):
                    fused = fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm))
                    setattr(block, convolution, fused)
                    setattr(block, norm, nn.Identity())
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of pictures.

        Args:
            x: float32 [N, 3, 224, 224], grey levels 0 to 255.

        Returns:
            The map of block 10, [N, 112, 7, 7], and those that are read, [N, READ].
        """
        # 127 and 128 as in its training: tensorflow/tpu, efficientnet/lite.
        x = self.stem(((x - 127) / 128).contiguous(memory_format=torch.channels_last))
        read = []
        fine = x
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == _FINE_BLOCK:
                fine = F.adaptive_avg_pool2d(x, _FINE_GRID)
            if number in _READ_BLOCKS:
                read.append(F.adaptive_avg_pool2d(x, _READ_GRID).flatten(1))
        return fine, torch.cat(read, 1)


class ViewReader(nn.Module):
    """The perceptron: READ numbers to front score, cosine and sine of the azimuth."""

    mean: Tensor
    spread: Tensor

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(READ))
        self.register_buffer("spread", torch.ones(READ))
        self.hidden = nn.Linear(READ, hidden)
        self.out = nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Readings [N, 3] of the trunk's second output."""
        read: Tensor = self.out(F.gelu(self.hidden((x - self.mean) / self.spread)))
        return read


def load_trunk(weights: Path) -> Trunk:
    """The trunk of the published EfficientNet-Lite0.

    Raises:
        ValueError: A file that is missing, damaged or of another network.
    """
    try:
        return Trunk(read_tensors(weights)).eval()
    except RuntimeError as error:
        raise ValueError(f"{weights} does not hold EfficientNet-Lite0") from error


def load_reader(weights: Path) -> ViewReader:
    """A perceptron of ``car_view_training``.

    Raises:
        ValueError: A file that is missing, damaged or of another network.
    """
    tensors = read_tensors(weights)
    rows = tensors.get("hidden.weight")
    try:
        reader = ViewReader(len(rows) if rows is not None else 1)
        reader.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{weights} does not hold a reader of views") from error
    return reader.eval()


def network_picture(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A square picture as the trunk sees it, uint8 [224, 224, 3]."""
    shrinks = picture.shape[0] > SIDE
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=method), np.uint8)


def planes(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 [N, S, S, 3] as float32 [N, 3, S, S], 0 to 255."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float()


def witness_of(readings: Floats, *, spread: float = SPREAD) -> Floats:
    """Log-likelihoods [N, 24] of the directions, given readings [N, 3].

    The dot product with what a perfect reader says, and not the distance from it: of a view from
    the side a perfect reader says less than of an end, so a reading that is short because it is
    unsure would be nearest to a side.
    """
    # Not `@`: how BLAS adds up depends on the number of rows.
    told = (readings[:, None] * readings_of(AZIMUTHS)[None]).sum(axis=2)
    return np.asarray(told / spread**2)


class CarViewEmbedder:
    """An ``Embedder`` (``embedding``) of vehicles."""

    def __init__(self, trunk: Path, reader: Path, *, image_size: int, device: str = "cpu") -> None:
        """Load both networks.

        Args:
            trunk: The published file of EfficientNet-Lite0.
            reader: A file of ``car_view_training``.
            image_size: Side of the pictures in pixels.
            device: Torch device.

        Raises:
            ValueError: A file that is missing, damaged or of another network.
        """
        self.name = "car-view"
        self.dimension = len(AZIMUTHS) + _FINE_CHANNELS * _FINE_GRID**2
        self.weights_sha256: str | None = file_sha256(trunk)
        self.azimuth_sha256: str | None = file_sha256(reader)
        self._trunk = load_trunk(trunk).to(device)
        self._reader = load_reader(reader).to(device)
        self._image_size = image_size
        self._device = device

    def embed(
        self, pictures: NDArray[np.uint8], masks: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float16]:
        """See ``embedding.Embedder``; masks are not looked at."""
        looks, readings = self.look(pictures)
        return features_of(lone_directions(witness_of(readings)), looks)

    def embed_clip(
        self,
        pictures: NDArray[np.uint8],
        masks: NDArray[np.bool_] | None,
        timestamps_ms: Times,
    ) -> tuple[NDArray[np.float16], NDArray[np.float32] | None]:
        """See ``embedding.Embedder``."""
        looks, readings = self.look(pictures)
        directions = clip_directions(witness_of(readings), timestamps_ms)
        return features_of(directions, looks), mean_readings(directions)

    @torch.inference_mode()
    def look(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Floats]:
        """Look at each picture by itself, and mirrored.

        Args:
            pictures: uint8 [N, S, S, 3].

        Returns:
            Unit maps float32 [N, D], and readings [N, 3] of single pictures.

        Raises:
            ValueError: Pictures of another size or type.
        """
        size = self._image_size
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (size, size, 3):
            raise ValueError(
                f"pictures must be uint8 [N, {size}, {size}, 3], "
                f"not {pictures.dtype} {list(pictures.shape)}"
            )
        looks = np.empty((len(pictures), self.dimension - len(AZIMUTHS)), np.float32)
        readings = np.empty((len(pictures), 3))
        with single_thread("cpu"):
            for index, picture in enumerate(pictures):
                seen = network_picture(picture)
                x = planes(np.stack([seen, seen[:, ::-1]])).to(self._device)
                fine, read = self._trunk(x)
                told = self._reader(read).double().cpu().numpy()
                readings[index] = (told[0] + told[1] * (1, 1, -1)) / 2
                look = F.normalize(fine[0], dim=0, eps=1e-6).flatten()
                looks[index] = F.normalize(look, dim=0, eps=1e-12).cpu().numpy()
        return looks, readings


def features_of(directions: Floats, looks: NDArray[np.float32]) -> NDArray[np.float16]:
    """Directions as amplitudes, whose dot product is Bhattacharyya's coefficient, and the maps."""
    parts = np.hstack([DIRECTION_WEIGHT * np.sqrt(directions), looks])
    return np.asarray(parts / np.hypot(DIRECTION_WEIGHT, 1.0), np.float16)
