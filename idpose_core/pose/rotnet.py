"""RotNet's AlexNet, whose conv4 is the paper's pose feature.

Gidaris, Singh, Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations"
(ICLR 2018); structure after ``architectures/AlexNet.py`` of gidariss/FeatureLearningRotNet: one
tower, batch normalisation after every convolution. "Identity from here, Pose from there"
(ICCV 2019, section 4) retrieves by conv4, taken after BN and ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

CHANNELS = (64, 192, 384, 256, 256)
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Place of each convolution block in the published network's list of blocks.
_PUBLISHED_BLOCK = {"conv1": 0, "conv2": 2, "conv3": 4, "conv4": 5, "conv5": 6}
_KERNELS = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # size, stride, padding


def _block(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class RotNetAlexNet(nn.Module):
    """The five convolution blocks of RotNet's AlexNet.

    Input ``[N, 3, H, W]`` float, RGB in [0, 1], already normalised with ImageNet's mean and
    deviation; 224 and 227 both give 13 x 13 at conv4.

    Args:
        width: Multiplier of every channel count; 1 is the published network.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(f"width must be positive, not {width}")
        channels = [max(1, round(width * count)) for count in CHANNELS]
        self.channels = tuple(channels)
        inputs = [3, *channels[:-1]]
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            _block(i, o, *kernel) for i, o, kernel in zip(inputs, channels, _KERNELS, strict=True)
        )
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps after BN and ReLU of conv1 ... conv5; conv4 of 224 is ``[N,256,13,13]``."""
        conv1 = self.conv1(x)
        conv2 = self.conv2(self.pool(conv1))
        conv3 = self.conv3(self.pool(conv2))
        conv4 = self.conv4(conv3)
        return [conv1, conv2, conv3, conv4, self.conv5(conv4)]


def random_rotnet(seed: int, width: float = 1.0) -> RotNetAlexNet:
    """A network with He-initialised weights that depend on ``seed`` only, in eval mode.

    The control that every retrieval figure carries beside it: what the architecture alone gives.
    """
    network = RotNetAlexNet(width)
    initialise(network, torch.Generator().manual_seed(seed))
    return network.eval()


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """He-normal weights, zero biases, unit batch norm, from ``generator`` alone."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def convert_checkpoint(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of ``RotNetAlexNet`` from a published checkpoint or from a file of ``pretext``.

    Args:
        checkpoint: ``{'epoch': int, 'network': state_dict}`` as FeatureLearningRotNet saves it
            (its blocks are named ``_feature_blocks.<index>``; ``num_batches_tracked`` does not
            exist in files of PyTorch 0.2), such a state dict itself, or a state dict in this
            module's names. ``module.`` in front of every name (DataParallel) is taken off.

    Returns:
        A state dict that fits ``RotNetAlexNet(width_of(result))`` exactly.

    Raises:
        ValueError: When tensors are missing, or their shapes are not those of this architecture.
    """
    tensors = checkpoint.get("network", checkpoint)
    if not isinstance(tensors, Mapping):
        raise ValueError("not a RotNet checkpoint: its 'network' is no state dict")
    tensors = {str(name).removeprefix("module."): value for name, value in tensors.items()}
    published = any(name.startswith("_feature_blocks.") for name in tensors)
    converted: dict[str, Tensor] = {}
    for layer in LAYERS:
        source = f"_feature_blocks.{_PUBLISHED_BLOCK[layer]}" if published else layer
        for entry in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean"):
            converted[f"{layer}.{entry}"] = _tensor(tensors, f"{source}.{entry}")
        converted[f"{layer}.1.running_var"] = _tensor(tensors, f"{source}.1.running_var")
        tracked = tensors.get(f"{source}.1.num_batches_tracked", torch.tensor(0))
        converted[f"{layer}.1.num_batches_tracked"] = tracked
    expected = RotNetAlexNet(width_of(converted)).state_dict()
    for name, value in expected.items():
        if converted[name].shape != value.shape:
            raise ValueError(
                f"not RotNet's AlexNet: {name} is {tuple(converted[name].shape)}, "
                f"expected {tuple(value.shape)}"
            )
    return converted


def width_of(tensors: Mapping[str, Tensor]) -> float:
    """The width multiplier with which ``tensors`` were made, read from conv3 (the widest)."""
    return tensors["conv3.0.weight"].shape[0] / CHANNELS[2]


def _tensor(tensors: Mapping[str, Any], name: str) -> Tensor:
    value = tensors.get(name)
    if not isinstance(value, Tensor):
        raise ValueError(f"not RotNet's AlexNet: the tensor {name} is missing")
    return value
