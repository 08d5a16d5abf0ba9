"""The perceptual distance d of the disentanglement losses (section 3.3: "the perceptual loss").

d(x, y) = sum over five layers of w mean |phi(x) - phi(y)|, weights and layers as in pix2pixHD
(NVIDIA/pix2pixHD, ``models/networks.py``, VGGLoss): the first ReLU of each of the five blocks of
VGG19. pix2pixHD multiplies this by 10, the paper does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from idpose_core.models.layers import at_least_float32, check_choice
from idpose_core.models.shift_tolerant_vgg16 import ShiftTolerantVgg16
from idpose_core.models.shift_tolerant_vgg16 import convert_published as convert_vgg16
from idpose_core.pose.rotnet import IMAGENET_MEAN, IMAGENET_STD
from idpose_core.pose.shift_tolerant import ShiftTolerantAlexNet
from idpose_core.pose.shift_tolerant import convert_published as convert_alexnet
from idpose_core.weights.tensors import read_tensors
from storage.digests import file_sha256

PerceptualKind = Literal["vgg19", "st-vgg16", "st-alex", "pixel-l1"]
VggInput = Literal["imagenet", "raw"]

LAYER_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
VGG19_ENDS = (2, 7, 12, 21, 30)
"""Where torchvision's list of VGG19's layers is cut: relu1_1, 2_1, 3_1, 4_1, 5_1 come out."""


@dataclass(frozen=True)
class PerceptualConfig:
    """Which distance.

    Attributes:
        kind: ``vgg19`` (the paper's); ``st-vgg16`` and ``st-alex``, where VGG19 cannot be had, on
            the same places of their own trunks (a loss of 1 means something else there);
            ``pixel-l1``, mean |x - y| without any trunk, for tests.
        vgg_input: See :class:`Vgg19Features`; of ``vgg19`` alone.
        pixel_l1_weight: Weight of mean |x - y|, added to the trunk's distance.
        layers: How many of the five layers count, from the first on; ``st-vgg16`` does not compute
            the others.

    Raises:
        ValueError: An unknown choice, a negative weight.
    """

    kind: PerceptualKind = "vgg19"
    vgg_input: VggInput = "imagenet"
    pixel_l1_weight: float = 0.0
    layers: int = len(LAYER_WEIGHTS)

    def __post_init__(self) -> None:
        check_choice("perceptual", self.kind, PerceptualKind)
        check_choice("vgg_input", self.vgg_input, VggInput)
        if not self.pixel_l1_weight >= 0:
            raise ValueError(f"pixel_l1_weight must not be negative: {self.pixel_l1_weight}")
        if not 1 <= self.layers <= len(LAYER_WEIGHTS):
            raise ValueError(f"layers lie in 1 to {len(LAYER_WEIGHTS)}, not {self.layers}")


class Vgg19Features(nn.Module):
    """VGG19 up to relu5_1, with the names of torchvision's tensors (``features.N``).

    Args:
        vgg_input: ``imagenet`` brings pictures in [-1, 1] to ImageNet's mean and deviation, which
            the network was trained on; ``raw`` feeds them as they are, as pix2pixHD does (its
            issue 136).

    Raises:
        ValueError: Another ``vgg_input``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, vgg_input: VggInput = "imagenet") -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        check_choice("vgg_input", vgg_input, VggInput)
        self.vgg_input = vgg_input
        self.features = make_layers(cfgs["E"])[: VGG19_ENDS[-1]]
        # In [-1, 1] instead of [0, 1].
        mean = 2 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) - 1
        std = 2 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The five maps of pictures ``[N, 3, H, W]`` in [-1, 1], H and W at least 16."""
        if self.vgg_input == "imagenet":
            x = (x - self.mean) / self.std
        maps: list[Tensor] = []
        for end, layer in enumerate(self.features, start=1):
            x = layer(x)
            if end in VGG19_ENDS:
                maps.append(x)
        return maps


class PerceptualDistance(nn.Module):
    """d(x, y) over a frozen trunk.

    Args:
        config: What it is, for reports and checks.
        trunk: From pictures ``[N, 3, H, W]`` in [-1, 1] to one map a weight of ``LAYER_WEIGHTS``;
            None for ``pixel-l1``. It is frozen, and stays in evaluation mode.
        weights_sha256: Digest of the trunk's weights, None where there is none.
    """

    def __init__(
        self,
        config: PerceptualConfig,
        trunk: nn.Module | None = None,
        *,
        weights_sha256: str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.pixel_weight = config.pixel_l1_weight if trunk is not None else 1.0
        self.weights_sha256 = weights_sha256
        self.requires_grad_(False)
        self.train(False)

    def forward(self, generated: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """d, a float []; its gradient reaches the generated pictures only.

        Args:
            generated: float [N, 3, H, W] in [-1, 1].
            target: The same shape, taken as data.
            weight: float [N], how much each picture counts in the mean over all; None = 1 each.

        Raises:
            ValueError: Different shapes.
        """
        if generated.shape != target.shape:
            raise ValueError(f"{tuple(generated.shape)} against {tuple(target.shape)}")
        target = target.detach()
        distance = generated.new_zeros((), dtype=at_least_float32(generated).dtype)
        if self.pixel_weight:
            distance = distance + self.pixel_weight * _mean_distance(generated, target, weight)
        if self.trunk is not None:
            weights = LAYER_WEIGHTS[: self.config.layers]
            with torch.no_grad():
                aims = self.trunk(target)
            maps = self.trunk(generated)
            for share, found, aim in zip(weights, maps, aims, strict=False):  # the first so many
                distance = distance + share * _mean_distance(found, aim, weight)
        return distance

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stays in evaluation mode, whatever is asked of the model around it."""
        super().train(False)
        return self


def _mean_distance(x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
    apart = (at_least_float32(x) - at_least_float32(y)).abs()
    if weight is None:
        return apart.mean()
    return (apart.flatten(1).mean(1) * weight).mean()


class _FirstOfBlocks(nn.Module):
    """The first map of every block: relu1_1 ... relu5_1, the layers of the paper's VGG19."""

    def __init__(self, network: ShiftTolerantVgg16) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return [block[0] for block in self.network(x)]


def load_perceptual(
    config: PerceptualConfig | None = None, weights: Path | None = None
) -> PerceptualDistance:
    """The distance of this configuration, ready for use.

    Args:
        config: VGG19 where it is None.
        weights: The trunk's file, as ``idpose_core.weights.find_weights(config.kind, root)`` gives
            it; None for ``pixel-l1``.

    Raises:
        ValueError: No file, or one that is missing, damaged or of another network.
    """
    config = config or PerceptualConfig()
    kind = config.kind
    if kind == "pixel-l1":
        return PerceptualDistance(config)
    if weights is None:
        raise ValueError(f"the perceptual distance {kind} needs its weights file")
    loaders: dict[str, Callable[[Path], nn.Module]] = {
        "vgg19": lambda path: _load_vgg19(path, config.vgg_input),
        "st-vgg16": lambda path: _load_st_vgg16(path, config.layers),
        "st-alex": _load_st_alex,
    }
    try:
        trunk = loaders[kind](weights)
    except ValueError as error:
        path = "" if str(weights) in str(error) else f"{weights}: "
        raise ValueError(f"the perceptual distance {kind}: {path}{error}") from error
    return PerceptualDistance(config, trunk, weights_sha256=file_sha256(weights))


def _load_vgg19(path: Path, vgg_input: VggInput) -> nn.Module:
    network = Vgg19Features(vgg_input)
    tensors = read_tensors(path)
    own = network.state_dict()
    for name, value in own.items():
        if name not in tensors or tensors[name].shape != value.shape:
            raise ValueError(f"not VGG19: {name} is missing or has another shape")
    network.load_state_dict({name: tensors[name] for name in own})
    return network


def _load_st_vgg16(path: Path, layers: int) -> nn.Module:
    network = ShiftTolerantVgg16(blocks=layers, last=1)
    network.load_state_dict(convert_vgg16(read_tensors(path)))
    return _FirstOfBlocks(network)


def _load_st_alex(path: Path) -> nn.Module:
    network = ShiftTolerantAlexNet()
    network.load_state_dict(convert_alexnet(read_tensors(path)))
    return network
