"""Files of car-view with random weights, whose maps and readings differ from picture to picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from idpose_core.pose.car_view import ViewReader, planes


def random_network() -> EfficientNet:
    """The package's EfficientNet-Lite0; its norms fit random pictures, as training leaves them."""
    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-lite0")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.5)
    with torch.no_grad():
        network.train()((planes(fields(4, 224)) - 127) / 128)
    return network.eval()


def save_trunk(path: Path) -> Path:
    save_file(random_network().state_dict(), path)
    return path


def save_reader(path: Path) -> Path:
    torch.manual_seed(1)
    reader = ViewReader(8)
    nn.init.normal_(reader.out.weight, 0, 1)
    save_file(reader.state_dict(), path)
    return path


def fields(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures of coarse fields of colour, uint8 [N, side, side, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3)).astype(np.uint8)
    return np.stack([cv2.resize(picture, (side, side)) for picture in coarse])
