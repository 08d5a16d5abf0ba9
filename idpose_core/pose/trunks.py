"""From one picture to a grid of features: the networks of ``embedding`` with their input rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from idpose_core.pose.rotnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LAYERS,
    RotNetAlexNet,
    convert_checkpoint,
    random_rotnet,
    width_of,
)
from idpose_core.pose.shift_tolerant import ShiftTolerantAlexNet, convert_published
from idpose_core.weights.tensors import read_tensors
from storage.digests import file_sha256

GREY_PIXELS_SIDE = 32
_ROTNET_INPUT = 224  # side of the input for which AlexNet's conv4 has 13 x 13 cells


@dataclass(frozen=True)
class Trunk:
    """A picture uint8 [S, S, 3] to a grid float32 [C, G, G] on the CPU.

    Attributes:
        compute: The function.
        dimension: C * G * G.
        weights_sha256: Digest of the weights file, None where there is none.
    """

    compute: Callable[[NDArray[np.uint8]], Tensor]
    dimension: int
    weights_sha256: str | None

    def __call__(self, picture: NDArray[np.uint8]) -> Tensor:
        """The grid of one picture."""
        return self.compute(picture)


def rotnet_trunk(weights: Path, *, layer: str, grid: int, device: str) -> Trunk:
    """RotNet's AlexNet from a published checkpoint or a file of ``pretext.train_rotnet``.

    Raises:
        ValueError: An unknown layer; a file that is missing, damaged or of another network.
    """
    tensors = convert_checkpoint(read_tensors(weights))
    network = RotNetAlexNet(width_of(tensors))
    network.load_state_dict(tensors)
    return _rotnet_like(network, file_sha256(weights), layer=layer, grid=grid, device=device)


def random_alexnet_trunk(seed: int, *, layer: str, grid: int, device: str) -> Trunk:
    """RotNet's AlexNet with seeded random weights."""
    return _rotnet_like(random_rotnet(seed), None, layer=layer, grid=grid, device=device)


def shift_tolerant_trunk(weights: Path, *, layer: str, grid: int, device: str) -> Trunk:
    """Shift-tolerant AlexNet on pictures of their own size, its map pooled to the grid.

    Raises:
        ValueError: An unknown layer; a file that is missing, damaged or of another network.
    """
    index = _layer_index(layer)
    network = ShiftTolerantAlexNet()
    network.load_state_dict(convert_published(read_tensors(weights)))
    network.to(device).eval()

    def compute(picture: NDArray[np.uint8]) -> Tensor:
        x = _planes(picture).to(device) / 127.5 - 1.0
        return F.adaptive_avg_pool2d(network(x)[index], grid)[0].cpu()

    channels = (64, 192, 384, 256, 256)[index]
    return Trunk(compute, channels * grid * grid, file_sha256(weights))


def grey_pixels(picture: NDArray[np.uint8]) -> Tensor:
    """32 x 32 grey values minus their mean: float32 [1, 32, 32]."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    pooled = F.adaptive_avg_pool2d(torch.from_numpy(grey)[None], GREY_PIXELS_SIDE)
    return pooled - pooled.mean()


def _rotnet_like(
    network: RotNetAlexNet, sha256: str | None, *, layer: str, grid: int, device: str
) -> Trunk:
    index = _layer_index(layer)
    network.to(device).eval()
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)

    def compute(picture: NDArray[np.uint8]) -> Tensor:
        x = _planes(picture).to(device) / 255.0
        side = (_ROTNET_INPUT, _ROTNET_INPUT)
        x = F.interpolate(x, side, mode="bilinear", align_corners=False, antialias=True)
        return F.adaptive_avg_pool2d(network((x - mean) / std)[index], grid)[0].cpu()

    return Trunk(compute, network.channels[index] * grid * grid, sha256)


def _planes(picture: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float()


def _layer_index(layer: str) -> int:
    if layer not in LAYERS:
        raise ValueError(f"unknown layer {layer!r}: choose from {list(LAYERS)}")
    return LAYERS.index(layer)
