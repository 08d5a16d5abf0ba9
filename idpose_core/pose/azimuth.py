"""Tell a car's front from its rear: a small network that reads the azimuth of a masked picture.

The paper names front against rear as what its retrieval confuses most: a feature that is compared
cell by cell compares outlines above all, and those of a car from ahead and from behind are nearly
one. This network is taught the difference on pictures whose azimuth is known
(``azimuth_training``), and what it reads is set beside the pose feature
(``embedding.load_embedder``). A reading is the square root of a distribution over directions: the
dot product of two readings is their Bhattacharyya coefficient, and where a picture does not tell
front from rear, both have their share.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from idpose_core.pose.trunks import Trunk
from idpose_core.pose.turning import DIRECTIONS
from idpose_core.weights.tensors import read_tensors
from storage.digests import file_sha256

BINS = DIRECTIONS
SIDE = 64  # of the network's input in pixels
_CHANNELS = (16, 32, 64, 96)
_LEAST_SPREAD = 8.0  # grey levels: a picture flatter than this is not stretched further


class AzimuthNetwork(nn.Module):
    """Scores of 24 azimuths 15 degrees apart, of which the first is 0."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 4
        for index, channels in enumerate(_CHANNELS):
            kernel = 5 if index == 0 else 3
            blocks += [
                nn.Conv2d(before, channels, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            before = channels
        self.trunk = nn.Sequential(*blocks)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(before * (SIDE // 2 ** len(_CHANNELS)) ** 2, BINS)

    def forward(self, x: Tensor) -> Tensor:
        """Scores [N, 24] of ``network_input``'s [N, 4, 64, 64]."""
        scores: Tensor = self.head(self.drop(self.trunk(x).flatten(1)))
        return scores


def network_input(pictures: NDArray[np.uint8], opacity: NDArray[np.float32]) -> Tensor:
    """Put aligned pictures in the network's form.

    Args:
        pictures: uint8 [N, 64, 64, 3], RGB.
        opacity: float32 [N, 64, 64], the masks, 0 to 1.

    Returns:
        float32 [N, 4, 64, 64]: colours whose mean over the mask and all channels is 0 and whose
        deviation is 1, times the mask; and the mask less 0.5.
    """
    mask = torch.from_numpy(opacity)[:, None]
    colour = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float()
    area = mask.sum((2, 3), keepdim=True).clamp_min(1.0)
    middle = ((colour * mask).sum((2, 3), keepdim=True) / area).mean(1, keepdim=True)
    square = ((colour - middle).square() * mask).sum((2, 3), keepdim=True).mean(1, keepdim=True)
    deviation = (square / area).sqrt().clamp_min(_LEAST_SPREAD)
    return torch.cat([(colour - middle) / deviation * mask, mask - 0.5], 1)


def azimuth_probabilities(network: AzimuthNetwork, x: Tensor) -> Tensor:
    """Probabilities [N, 24] of ``network_input``'s [N, 4, 64, 64].

    A car's mirror image is a car at minus the azimuth, so both are read and their scores averaged.
    """
    backwards = (-torch.arange(BINS)) % BINS
    scores = network(x) + network(x.flip(3)).index_select(1, backwards.to(x.device))
    return torch.softmax(scores / 2, 1)


def azimuth_trunk(weights: Path, *, device: str) -> Trunk:
    """A reader of azimuths; its grid, float32 [24, 1, 1], has length 1.

    The trunk's picture is uint8 [S, S, 4]: an aligned RGB picture and its mask, 255 on the object.

    Args:
        weights: File of ``azimuth_training.train_azimuth``.
        device: Torch device.

    Raises:
        ValueError: A file that is missing, damaged or of another network.
    """
    network = AzimuthNetwork()
    tensors, expected = read_tensors(weights), network.state_dict()
    if {name: value.shape for name, value in tensors.items()} != {
        name: value.shape for name, value in expected.items()
    }:
        raise ValueError(f"{weights} does not hold a network that reads azimuths")
    network.load_state_dict(tensors)
    network.to(device).eval()

    def compute(picture: NDArray[np.uint8]) -> Tensor:
        small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        opacity = small[None, :, :, 3].astype(np.float32) / 255
        x = network_input(small[None, :, :, :3].astype(np.uint8), opacity).to(device)
        return azimuth_probabilities(network, x).sqrt().cpu().reshape(BINS, 1, 1)

    return Trunk(compute, BINS, file_sha256(weights))
