"""Shift-tolerant VGG16: a perceptual trunk where VGG19's weights cannot be had.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric" (ECCV 2022): VGG16 whose pools
keep every pixel (stride 1) and leave the halving to a blur-pool (Zhang, ICML 2019), retrained on
ImageNet. The weights come in the package ``stlpips-pytorch`` (BSD-2-Clause). It is never reported
under the name of VGG.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.models.layers import convolution
from idpose_core.pose.shift_tolerant import BlurPool, LpipsScaling

# Channels of each block's convolutions, all 3 x 3 with padding 1.
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Place of each block's first convolution in the published list of layers; the next ones follow
# in steps of two (convolution, ReLU), and the blur stands right before.
_FIRST = (0, 6, 12, 20, 28)


class ShiftTolerantVgg16(nn.Module):
    """The convolutions of the shift-tolerant VGG16.

    Input ``[N, 3, H, W]`` float, RGB in [-1, 1], H and W at least 32: the scaling of LPIPS to
    ImageNet statistics is inside, as in the published network.

    Args:
        blocks: How many of the five blocks are run.
        last: Convolutions of the last of them that are run; all by default.
    """

    def __init__(self, blocks: int = len(_BLOCKS), last: int | None = None) -> None:
        super().__init__()
        self._run = [len(block) for block in _BLOCKS[:blocks]]
        self._run[-1] = last or self._run[-1]
        self.scaling = LpipsScaling()
        self.blur = BlurPool()
        self.blocks = nn.ModuleList()
        inputs = 3
        for channels in _BLOCKS:
            block = nn.ModuleList()
            for outputs in channels:
                block.append(convolution(inputs, outputs, 3, padding="zero"))
                inputs = outputs
            self.blocks.append(block)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Feature maps after every ReLU, block by block: ``[0][0]`` is relu1_1, ``[4][2]`` relu5_3.

        For 64 x 64 input the blocks have sides 64, 33, 17, 9 and 5.
        """
        x = self.scaling(x)
        features: list[list[Tensor]] = []
        for number, (block, wanted) in enumerate(zip(self.blocks, self._run, strict=False)):
            if number > 0:
                x = self.blur(F.max_pool2d(x, kernel_size=2, stride=1))
            maps: list[Tensor] = []
            for convolve in block[:wanted]:  # type: ignore[index]
                x = F.relu(convolve(x))
                maps.append(x)
            features.append(maps)
        return features


def convert_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of ``vgg_shift_tolerant.pth`` to those of ``ShiftTolerantVgg16``.

    Args:
        tensors: The state dict as published, or one already in this module's names. The blur
            kernels of the file are checked; the heads of the perceptual metric are left out.

    Raises:
        ValueError: Tensors are missing or have other shapes, or the file's blur kernels are
            missing (a plain VGG16, which must not be loaded here) or others than 1 2 1.
    """
    with torch.device("meta"):
        own = ShiftTolerantVgg16().state_dict()
    converted = dict(tensors) if set(tensors) == set(own) else _renamed(tensors)
    for name, value in own.items():
        if converted[name].shape != value.shape:
            raise ValueError(
                f"not a shift-tolerant VGG16: {name} is {tuple(converted[name].shape)}, expected "
                f"{tuple(value.shape)}"
            )
    return converted


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    def published(name: str) -> Tensor:
        if name not in tensors:
            raise ValueError(
                f"not a shift-tolerant VGG16: {name} is missing (a plain VGG16 has other strides "
                "and must not be loaded here)"
            )
        return tensors[name]

    converted: dict[str, Tensor] = {}
    kernel = BlurPool().kernel
    for block, (channels, first) in enumerate(zip(_BLOCKS, _FIRST, strict=True)):
        part = f"net.slice{block + 1}"
        if block > 0:
            filt = published(f"{part}.{first - 1}.filt")
            if filt.ndim != 4 or not torch.equal(filt, kernel.expand(len(filt), 1, 3, 3)):
                raise ValueError(f"not the blur 1 2 1 of this network: {part}.{first - 1}.filt")
        for index in range(len(channels)):
            for kind in ("weight", "bias"):
                source = f"{part}.{first + 2 * index}.{kind}"
                converted[f"blocks.{block}.{index}.{kind}"] = published(source)
    return converted
