"""Pix2pixHD, a baseline of section 4: one network from both pictures to the pseudo ground truth.

Wang et al., CVPR 2018, as NVIDIA/pix2pixHD has it (``models/pix2pixHD_model.py``, ``train.py``),
without label or instance maps: "we directly concatenate the ID and pose image over the channel
axis". A step is the reference's: all is computed with the networks as they are, then the generator
moves, then the discriminator.

Other than there: batches are as large as those of the other methods (there 1), L_perceptual weighs
the triplets where the training does, and the generator halves the picture 3 times (there 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from idpose_core.methods.batches import TripletBatch
from idpose_core.methods.losses import (
    Losses,
    frozen,
    loss_dis1,
    loss_real,
    loss_real_discriminator,
)
from idpose_core.methods.method import Optimisation, Update
from idpose_core.models.discriminators import Discriminator, DiscriminatorConfig, Judgement
from idpose_core.models.generator import GeneratorConfig
from idpose_core.models.global_generator import GlobalGenerator, GlobalGeneratorConfig
from idpose_core.models.layers import at_least_float32
from idpose_core.models.perceptual import PerceptualConfig, PerceptualDistance

DEFAULTS: dict[str, Any] = {
    # 100 epochs at the full rate, 100 in which it falls to 0.
    "training": {"learning_rate": 2e-4, "betas": [0.5, 0.999], "decay_from": 0.5},
    "perceptual": {"vgg_input": "raw", "pixel_l1_weight": 0, "layers": 5},
}
"""What the reference trains with, ``options/train_options.py``; its VGG sees [-1, 1],
all five layers count, and no pixels beside them."""


@dataclass(frozen=True)
class Pix2pixHDSettings:
    """What is pix2pixHD's own; ``options/*.py`` of the reference, but for ``n_down``.

    Attributes:
        feature_matching: Weight of L_features (``lambda_feat``).
        perceptual: Weight of L_perceptual (``lambda_feat`` as well). The paper's L1_dis is the
            same loss without that factor.
        width: Channels of the generator's first map (``ngf``).
        n_down: Times that it halves the picture: 4 in the reference, for 1024 x 512. With 3 the
            residual blocks of 128 x 128 pictures work at 16 x 16, as ours do, and not at 8 x 8.
        n_blocks: Residual blocks of the generator.

    Raises:
        ValueError: A negative weight.
    """

    feature_matching: float = 10.0
    perceptual: float = 10.0
    width: int = 64
    n_down: int = 3
    n_blocks: int = 9

    def __post_init__(self) -> None:
        if not min(self.feature_matching, self.perceptual) >= 0:
            raise ValueError(f"weights cannot be negative: {self}")


@dataclass(frozen=True)
class Pix2pixHDConfig:
    """The method from end to end, except for data and optimisation.

    Attributes:
        generator: Only its ``size`` and ``norm`` are used: the rest is in ``pix2pixhd``.
        discriminator: The reference's defaults are its own: width 64, two scales, least squares.
        perceptual: Of L_perceptual.
        pix2pixhd: All else.

    Raises:
        ValueError: A generator that cannot be.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    perceptual: PerceptualConfig = field(default_factory=lambda: PerceptualConfig(vgg_input="raw"))
    pix2pixhd: Pix2pixHDSettings = field(default_factory=Pix2pixHDSettings)

    def __post_init__(self) -> None:
        self.network()

    def network(self) -> GlobalGeneratorConfig:
        """The generator of these settings."""
        own = self.pix2pixhd
        return GlobalGeneratorConfig(
            self.generator.size, own.width, own.n_down, own.n_blocks, self.generator.norm
        )


def build_swapper(config: Pix2pixHDConfig) -> GlobalGenerator:
    """The network that is published, with new weights."""
    return GlobalGenerator(config.network())


class Pix2pixHD:
    """Networks and losses of pix2pixHD; see ``Method``.

    Args:
        config: What it consists of.
        perceptual: The distance d, loaded for ``config.perceptual``.
        clips: Not used.

    Raises:
        ValueError: The distance is of another configuration.
    """

    averaged = "generator"
    optimisations: Mapping[str, Optimisation] = {}

    def __init__(
        self, config: Pix2pixHDConfig, perceptual: PerceptualDistance, *, clips: int
    ) -> None:
        if perceptual.config != config.perceptual:
            raise ValueError(f"the distance is {perceptual.config}, not {config.perceptual}")
        self.config = config
        self.perceptual = perceptual
        self.generator = build_swapper(config)
        self.discriminator = Discriminator(9, config.discriminator)
        self.networks: Mapping[str, nn.Module] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
        }

    @property
    def compiled(self) -> list[nn.Module]:
        """Both networks, and the trunk of the distance."""
        trunk = self.perceptual.trunk
        return [self.generator, self.discriminator, *([] if trunk is None else [trunk])]

    def updates(self, batch: TripletBatch) -> Iterator[Update]:
        """First the generator, then the discriminator on the pictures from before that."""
        fake = self.generator(batch.id, batch.pose)
        on_real = self._judge(batch, batch.target)
        yield Update("generator", self.generator_losses(batch, fake, on_real), fake)
        yield Update("discriminator", self.discriminator_losses(batch, fake, on_real))

    def generator_losses(self, batch: TripletBatch, fake: Tensor, on_real: Judgement) -> Losses:
        """``L_gan``, ``L_features`` and ``L_perceptual``; the discriminator receives no gradient.

        Args:
            batch: The batch.
            fake: G(I_id, I_pose), ``[B, 3, S, S]``.
            on_real: What the discriminator says of the targets, as data.
        """
        with frozen(self.discriminator):
            on_fake = self._judge(batch, fake)
        parts = {
            "L_gan": loss_real(self.config.discriminator.loss, on_fake),
            "L_features": loss_features(on_fake, on_real),
            "L_perceptual": loss_dis1(self.perceptual, fake, batch.target, batch.weight),
        }
        own = self.config.pix2pixhd
        weights = {"L_gan": 1.0, "L_features": own.feature_matching, "L_perceptual": own.perceptual}
        return Losses(parts, weights)

    def discriminator_losses(self, batch: TripletBatch, fake: Tensor, on_real: Judgement) -> Losses:
        """``D_gan``, half of what it loses on targets and on generated pictures, as data."""
        on_fake = self._judge(batch, fake.detach())
        kind = self.config.discriminator.loss
        return Losses({"D_gan": loss_real_discriminator(kind, on_real, on_fake)}, {"D_gan": 1.0})

    def _judge(self, batch: TripletBatch, picture: Tensor) -> Judgement:
        judgement: Judgement = self.discriminator(
            torch.cat([batch.id, batch.pose, picture], dim=1), with_features=True
        )
        return judgement


def loss_features(generated: Judgement, real: Judgement) -> Tensor:
    """Feature matching: mean |difference| of the maps on the way, float [].

    Summed over the four maps of a scale (the reference's 4 / (n_layers + 1) is 1), mean over the
    scales. Gradients reach the generated pictures only.

    Args:
        generated: With features, of the generated pictures.
        real: With features, of their targets.

    Raises:
        ValueError: A judgement without features.
    """
    if generated.features is None or real.features is None:
        raise ValueError("feature matching needs judgements with features")
    scales: list[Tensor] = []
    for found, aims in zip(generated.features, real.features, strict=True):
        apart = [
            (at_least_float32(one) - at_least_float32(aim.detach())).abs().mean()
            for one, aim in zip(found, aims, strict=True)
        ]
        scales.append(4 / len(apart) * torch.stack(apart).sum())
    return torch.stack(scales).mean()
