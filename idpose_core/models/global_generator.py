"""pix2pixHD's generator for a pair of pictures (NVIDIA/pix2pixHD, ``models/networks.py``).

``GlobalGenerator`` with the two pictures one on top of the other as its input: no encoder of its
own for either of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idpose_core.models.generator import GeneratorConfig, ResidualBlock
from idpose_core.models.layers import Norm, convolution, initialise, instance_norm


@dataclass(frozen=True)
class GlobalGeneratorConfig:
    """What is open.

    Attributes:
        size: Side of the pictures in pixels.
        width: Channels of the first map (``ngf``); they double with every halving.
        n_down: Times that the picture is halved. With a width of 64, 3 make 45.6 million
            parameters, and 4 (the reference's, for pictures of 1024 x 512) 182.5 million.
        n_blocks: Residual blocks at the smallest side.
        norm: Implementation of the instance norm; ``group`` for ``channels_last``.

    Raises:
        ValueError: A setting that no network can have.
    """

    size: int = 128
    width: int = 64
    n_down: int = 3
    n_blocks: int = 9
    norm: Norm = "instance"

    def __post_init__(self) -> None:
        self.trunk()

    def trunk(self) -> GeneratorConfig:
        """The same for the residual blocks, which pad and normalise as pix2pixHD's."""
        return GeneratorConfig(
            size=self.size,
            n_down=self.n_down,
            width=self.width,
            n_blocks=self.n_blocks,
            padding="reflect",
            norm=self.norm,
            decoder_norm="instance",
        )


class GlobalGenerator(nn.Module):
    """Conv 7, halvings, residual blocks, transposed convolutions, conv 7, tanh."""

    def __init__(self, config: GlobalGeneratorConfig) -> None:
        super().__init__()
        self.config = config

        def block(convolve: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
            norm = instance_norm(convolve.out_channels, config.norm)
            return [convolve, norm, nn.ReLU(inplace=True)]

        channels = config.width
        layers = block(convolution(6, channels, 7, padding="reflect"))
        for _ in range(config.n_down):
            layers += block(convolution(channels, 2 * channels, 3, stride=2, padding="zero"))
            channels *= 2
        layers += [ResidualBlock(channels, config.trunk()) for _ in range(config.n_blocks)]
        for _ in range(config.n_down):
            layers += block(
                nn.ConvTranspose2d(
                    channels, channels // 2, 3, stride=2, padding=1, output_padding=1
                )
            )
            channels //= 2
        self.body = nn.Sequential(*layers)
        self.head = convolution(channels, 3, 7, padding="reflect")
        initialise(self)

    def forward(self, identity: Tensor, pose: Tensor) -> Tensor:
        """The picture for two pictures, all float [N, 3, S, S] in [-1, 1].

        Raises:
            ValueError: Pictures of another shape than the configured one.
        """
        side = self.config.size
        for pictures in (identity, pose):
            if pictures.ndim != 4 or tuple(pictures.shape[1:]) != (3, side, side):
                raise ValueError(
                    f"pictures are {tuple(pictures.shape)}, this generator takes "
                    f"[N, 3, {side}, {side}]"
                )
        feature: Tensor = self.body(torch.cat([identity, pose], dim=1))
        # As in our decoder: half precision has too few levels near -1 and 1.
        with torch.autocast(feature.device.type, enabled=False):
            return torch.tanh(self.head(feature.to(self.head.weight.dtype)))
