"""The discriminators: D_real on one picture, D_pair on two (section 3.1), on two scales.

PatchGAN of pix2pixHD (NVIDIA/pix2pixHD, ``models/networks.py``): kernels of 4 with padding 2,
instance norm in all layers but first and last. Patches judge detail, and the second scale sees the
picture halved and so judges its whole shape. The weights of the scales are separate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from idpose_core.models.layers import (
    Norm,
    at_least_float32,
    check_choice,
    initialise,
    instance_norm,
)

Output = Literal["patch", "global"]
Adversarial = Literal["lsgan", "hinge"]


@dataclass(frozen=True)
class DiscriminatorConfig:
    """What the paper leaves open about either discriminator.

    Attributes:
        width: Channels of the first layer; they double three times.
        scales: 1 or 2: the picture, and the picture halved.
        output: ``patch`` judges every patch; ``global`` gives one judgement a picture and scale,
            the mean over its patches, taken before the loss.
        loss: Least squares (pix2pixHD) or hinge (SPADE), each with its own conventions: see
            ``idpose_core.methods.losses``.
        norm: Implementation of the instance norm; ``group`` for ``channels_last``.

    Raises:
        ValueError: A setting that no discriminator can have.
    """

    width: int = 64
    scales: int = 2
    output: Output = "patch"
    loss: Adversarial = "lsgan"
    norm: Norm = "instance"

    def __post_init__(self) -> None:
        check_choice("output", self.output, Output)
        check_choice("loss", self.loss, Adversarial)
        check_choice("norm", self.norm, Norm)
        check_choice("scales", self.scales, Literal[1, 2])
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")


class Judgement(NamedTuple):
    """What a discriminator says of N pictures or pairs.

    Attributes:
        maps: One float map a scale, [N, 1, h, w] (patch) or [N, 1, 1, 1] (global), high for
            real. For 128 x 128 pictures the maps are 19 x 19 and 11 x 11, for 64 x 64 11 x 11 and
            7 x 7.
        logits: Of the auxiliary task, float [N, clips]; None without an auxiliary head.
        features: The maps behind the activations of each scale, four float [N, C, h, w] from the
            picture on, for pix2pixHD's feature matching; None where they were not asked for.
    """

    maps: list[Tensor]
    logits: Tensor | None
    features: list[list[Tensor]] | None = None


class _Scale(nn.Module):
    """The PatchGAN of one scale: its maps behind activations, and the judging map on top of them.

    The last of the former is ``[N, 8 * width, h, w]``.
    """

    def __init__(self, inputs: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        outputs = config.width
        for layer in range(4):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=1 if layer == 3 else 2, padding=2))
            if layer > 0:
                layers.append(instance_norm(outputs, config.norm))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            inputs, outputs = outputs, 2 * outputs
        self.features = nn.Sequential(*layers)
        self.judge = nn.Conv2d(inputs, 1, 4, padding=2)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        features: list[Tensor] = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return features, self.judge(x)


class Discriminator(nn.Module):
    """A discriminator over one or two scales.

    Args:
        inputs: Channels: 3 for a picture, 6 for a pair of pictures, 9 for pix2pixHD's three.
        config: The rest.
        clips: Number of training clips of the auxiliary identity task, 0 for no such head. Only
            training clips are classes: the head is never used on others.

    Raises:
        ValueError: ``clips`` is negative.
    """

    def __init__(self, inputs: int, config: DiscriminatorConfig, *, clips: int = 0) -> None:
        super().__init__()
        if clips < 0:
            raise ValueError(f"the number of clips cannot be {clips}")
        self.config = config
        self.scales = nn.ModuleList(_Scale(inputs, config) for _ in range(config.scales))
        self.halve = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        initialise(self)
        heads = config.scales if clips else 0
        self.heads = nn.ModuleList(nn.Linear(8 * config.width, clips) for _ in range(heads))

    def forward(self, x: Tensor, *, with_features: bool = False) -> Judgement:
        """Judge ``[N, inputs, S, S]`` in [-1, 1]. The judgement is float32 even under autocast.

        Args:
            x: What is judged.
            with_features: Give the maps on the way as well, in the precision that they have.
        """
        maps: list[Tensor] = []
        pooled: list[Tensor] = []
        on_the_way: list[list[Tensor]] = []
        for index, scale in enumerate(self.scales):
            x = self.halve(x) if index else x
            features, judged = scale(x)
            judged = at_least_float32(judged)
            if self.config.output == "global":
                judged = judged.mean(dim=(2, 3), keepdim=True)
            maps.append(judged)
            pooled.append(features[-1].mean(dim=(2, 3)))
            on_the_way.append(features)
        asked = on_the_way if with_features else None
        if not self.heads:
            return Judgement(maps, None, asked)
        logits = [
            at_least_float32(head(mean)) for head, mean in zip(self.heads, pooled, strict=True)
        ]
        return Judgement(maps, torch.stack(logits).mean(dim=0), asked)


class RealDiscriminator(Discriminator):
    """D_real: is this picture real? With the auxiliary head: of which clip is it?

    Args:
        config: Width, scales, output.
        clips: Number of training clips, 0 for no auxiliary head.
    """

    def __init__(self, config: DiscriminatorConfig, *, clips: int) -> None:
        super().__init__(3, config, clips=clips)


class PairDiscriminator(Discriminator):
    """D_pair: do these two pictures show the same identity?

    Without an auxiliary head, which would read the class from the identity picture.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__(6, config)

    def judge(self, identity: Tensor, other: Tensor) -> Judgement:
        """Judge pairs of pictures ``[N, 3, S, S]`` in [-1, 1]; the order matters."""
        judgement: Judgement = self(torch.cat([identity, other], dim=1))
        return judgement
