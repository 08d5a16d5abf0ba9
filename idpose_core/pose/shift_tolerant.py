"""Shift-tolerant AlexNet: the stand-in for RotNet where its weights cannot be had.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric" (ECCV 2022), retrain AlexNet with
a first convolution of stride 1 and with blur-pools (Zhang, "Making Convolutional Networks
Shift-Invariant Again", ICML 2019) wherever a stride stood. The weights come in the package
``stlpips-pytorch`` (BSD-2-Clause). They were trained on ImageNet *with* labels, so this network is
never reported under the name of RotNet.

The tensors have the shapes of a plain AlexNet and would load into one silently and wrongly: here
they load into this architecture only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Name in the published file -> name here. The blur kernels of the file are checked, not loaded;
# the heads of the perceptual metric (lin0..lin4) belong to the metric.
_PUBLISHED = {
    "net.slice1.0": "conv1",
    "net.slice2.5": "conv2",
    "net.slice3.9": "conv3",
    "net.slice4.11": "conv4",
    "net.slice5.13": "conv5",
}
_BLURS = ("net.slice1.1.filt", "net.slice2.4.filt", "net.slice3.8.filt")


class BlurPool(nn.Module):
    """Binomial 3x3 blur (1 2 1) with stride 2 and two pixels of reflection padding.

    ``[N, C, H, W]`` becomes ``[N, C, floor((H + 1) / 2) + 1, floor((W + 1) / 2) + 1]``.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (row[:, None] * row / 16.0)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Blur every channel by itself and keep every second pixel."""
        channels = x.shape[1]
        padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
        blurred: Tensor = F.conv2d(
            padded, self.kernel.expand(channels, 1, 3, 3), stride=2, groups=channels
        )
        return blurred


class LpipsScaling(nn.Module):
    """LPIPS' scaling layer: pictures in [-1, 1] to ImageNet's mean and deviation; holds no weights.

    The constants are those of Zhang et al., "The Unreasonable Effectiveness of Deep Features as a
    Perceptual Metric" (CVPR 2018), as in the package ``lpips``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale pictures [N, 3, H, W]."""
        return (x - self.shift) / self.scale


class ShiftTolerantAlexNet(nn.Module):
    """The convolutions of the shift-tolerant AlexNet, up to conv5.

    Input ``[N, 3, H, W]`` float, RGB in [-1, 1], H and W at least 32: the scaling of LPIPS to
    ImageNet statistics is inside, as in the published network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scaling = LpipsScaling()
        self.blur = BlurPool()
        self.conv1 = nn.Conv2d(3, 64, 11, stride=1, padding=2)
        self.conv2 = nn.Conv2d(64, 192, 5, padding=2)
        self.conv3 = nn.Conv2d(192, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 256, 3, padding=1)
        self.conv5 = nn.Conv2d(256, 256, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps after the ReLU of conv1 ... conv5, in this order.

        For 224 x 224 input: 64 x 110 x 110, 192 x 56 x 56, and 384, 256 and 256 channels at
        29 x 29.
        """
        scaled = self.scaling(x)
        conv1 = F.relu(self.blur(self.conv1(scaled)))
        conv2 = F.relu(self.conv2(self._pool(conv1)))
        conv3 = F.relu(self.conv3(self._pool(conv2)))
        conv4 = F.relu(self.conv4(conv3))
        return [conv1, conv2, conv3, conv4, F.relu(self.conv5(conv4))]

    def _pool(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.blur(F.max_pool2d(x, kernel_size=3, stride=1))
        return pooled


def convert_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of ``alex_shift_tolerant.pth`` to those of ``ShiftTolerantAlexNet``.

    Args:
        tensors: The state dict as published, or one already in this module's names.

    Raises:
        ValueError: When tensors are missing or do not have the shapes of this architecture, or
            when the file's blur kernels are missing (a plain AlexNet) or others than 1 2 1.
    """
    own = {name: tuple(value.shape) for name, value in ShiftTolerantAlexNet().state_dict().items()}
    if set(tensors) == set(own):
        converted = dict(tensors)
    else:
        _check_blurs(tensors)
        converted = {}
        for published, name in _PUBLISHED.items():
            for kind in ("weight", "bias"):
                if f"{published}.{kind}" not in tensors:
                    raise ValueError(f"not a shift-tolerant AlexNet: {published}.{kind} is missing")
                converted[f"{name}.{kind}"] = tensors[f"{published}.{kind}"]
    for name, shape in own.items():
        if tuple(converted[name].shape) != shape:
            raise ValueError(
                f"not a shift-tolerant AlexNet: {name} is {tuple(converted[name].shape)}, "
                f"expected {shape}"
            )
    return converted


def _check_blurs(tensors: Mapping[str, Tensor]) -> None:
    kernel = BlurPool().kernel
    for name in _BLURS:
        if name not in tensors:
            raise ValueError(
                f"not a shift-tolerant AlexNet: its blur kernel {name} is missing "
                "(a plain AlexNet has other strides and must not be loaded here)"
            )
        if not torch.equal(tensors[name], kernel.expand_as(tensors[name])):
            raise ValueError(f"not the blur 1 2 1 that this architecture has: {name}")
