"""FusionImage, a baseline of section 4: cycles alone, without a target of another pose.

Joo, Kim and Kim, "Generating a Fusion Image: One's Identity and Another's Shape" (CVPR 2018), by
the ports taki0112/FusionGAN-Tensorflow and abreheret/FusionGAN. As in the paper of this repository
generator and D_pair are ours, and only the losses are the other's. In its words x gives the
identity and y the shape; x^ is another picture of x's identity:

    L_I   = ||1 - D(x, x^)||^2 + ||D(x, G(x, y))||^2   D; the generator: ||1 - minpool D(x, G)||^2
    L_S1  = |y - G(x, y)|                              where x and y share their identity
    L_S2a = |y - G(y, G(x, y))|,  L_S2b = |G(x, y) - G(G(x, y), y)|        where they do not

Here x is I_id, x^ is I_target, which is also the y of L_S1, and the y of all else is the ID picture
of another row and video. The pose picture is not used, and no picture is a target for (x, y).

The ports differ. taki0112's, which is followed, makes both kinds of pairs in each step: D moves,
then the generator on the sum of all losses, in which gradients pass through G(x, y) wherever it
stands. abreheret's steps after L_I, after L_S2 with G(x, y) as data, and after L_S1.

It is expected to collapse; section 4.1 shows that it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.methods.batches import TripletBatch, derangement
from idpose_core.methods.losses import Losses, frozen, loss_pair, loss_real_discriminator
from idpose_core.methods.method import Optimisation, Update
from idpose_core.models.discriminators import DiscriminatorConfig, PairDiscriminator
from idpose_core.models.generator import Generator, GeneratorConfig
from idpose_core.models.perceptual import PerceptualDistance

DEFAULTS: dict[str, Any] = {"training": {"learning_rate": 2e-4, "betas": [0.5, 0.999]}}
"""taki0112's ``main.py``, for both sides (abreheret's has 1e-4, and 3e-4 for D)."""


@dataclass(frozen=True)
class FusionImageSettings:
    """What is FusionImage's own; taki0112's ``main.py``, but for what is said.

    Attributes:
        l1: Weight of L_S1, L_S2a and L_S2b each. The other port's is 1.
        adversarial: Weight of the generator's L_I. The code of that port multiplies it by another
            64, the patches of a pool, which neither its options nor the other port have.
        min_patch: Side and stride of the pool, in patches.
        detach: G(x, y) is data in L_S2a and L_S2b, as in abreheret's port.

    Raises:
        ValueError: A negative weight, a pool of nothing.
    """

    l1: float = 10.0
    adversarial: float = 1.0
    min_patch: int = 8
    detach: bool = False

    def __post_init__(self) -> None:
        if not min(self.l1, self.adversarial) >= 0:
            raise ValueError(f"weights cannot be negative: {self}")
        if self.min_patch < 1:
            raise ValueError(f"min_patch must be at least 1, not {self.min_patch}")


@dataclass(frozen=True)
class FusionImageConfig:
    """The method from end to end, except for data and optimisation.

    Attributes:
        generator, discriminator: Of the networks, which are ours.
        fusion_image: All else.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    fusion_image: FusionImageSettings = field(default_factory=FusionImageSettings)


def build_swapper(config: FusionImageConfig) -> Generator:
    """The network that is published, with new weights."""
    return Generator(config.generator)


class FusionImage:
    """Networks and losses of FusionImage; see ``Method``.

    Args:
        config: What it consists of.
        perceptual, clips: Not used.
    """

    averaged = "generator"
    optimisations: Mapping[str, Optimisation] = {}

    def __init__(
        self, config: FusionImageConfig, perceptual: PerceptualDistance, *, clips: int
    ) -> None:
        self.config = config
        self.generator = build_swapper(config)
        self.discriminator = PairDiscriminator(config.discriminator)
        self.networks: Mapping[str, nn.Module] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
        }

    @property
    def compiled(self) -> list[nn.Module]:
        """The parts that are called as such."""
        generator = self.generator
        parts = [generator.id_encoder, generator.pose_encoder, generator.decoder]
        return [*parts, self.discriminator]

    def updates(self, batch: TripletBatch) -> Iterator[Update]:
        """First D_pair, then the generator.

        Raises:
            ValueError: The batch is a single row.
        """
        other = batch.id[derangement(batch.video, batch.key).to(batch.id.device)]
        made = self.generator.passes((batch.id, batch.target, other), ((0, 1), (0, 2))).picture
        same, fused = made.chunk(2)
        yield Update("discriminator", self.discriminator_losses(batch, fused))
        yield Update("generator", self.generator_losses(batch, other, same, fused), made)

    def discriminator_losses(self, batch: TripletBatch, fused: Tensor) -> Losses:
        """``D_pair`` on whole maps: half of L_I; the scale of a loss means nothing to Adam."""
        judge = self.discriminator.judge
        on_pair, on_fused = judge(batch.id, batch.target), judge(batch.id, fused.detach())
        kind = self.config.discriminator.loss
        return Losses({"D_pair": loss_real_discriminator(kind, on_pair, on_fused)}, {"D_pair": 1.0})

    def generator_losses(
        self, batch: TripletBatch, other: Tensor, same: Tensor, fused: Tensor
    ) -> Losses:
        """``L_I``, ``L_S1``, ``L_S2a`` and ``L_S2b``; D_pair receives no gradient.

        Args:
            batch: x and x^ of the paper: ID pictures and targets.
            other: y, ID pictures of other videos, ``[B, 3, S, S]``.
            same: G(x, x^).
            fused: G(x, y).
        """
        own = self.config.fusion_image
        held = fused.detach() if own.detach else fused
        back, again = self.generator.passes((other, held), ((0, 1), (1, 0))).picture.chunk(2)
        with frozen(self.discriminator):
            judged = self.discriminator.judge(batch.id, fused)
        worst = judged._replace(maps=[min_patch(one, own.min_patch) for one in judged.maps])
        parts = {
            "L_I": loss_pair(self.config.discriminator.loss, worst),
            "L_S1": F.l1_loss(same, batch.target),
            "L_S2a": F.l1_loss(back, other),
            "L_S2b": F.l1_loss(again, held),
        }
        return Losses(parts, {**dict.fromkeys(parts, own.l1), "L_I": own.adversarial})


def min_patch(judged: Tensor, size: int) -> Tensor:
    """The least believed patch of each square of ``size`` x ``size``: ``[N, 1, h, w]`` to fewer.

    As in the reference what is left over at the lower and right border is not looked at: of 19 x 19
    patches by 8 there come 2 x 2. A map that is smaller than a square is one square.
    """
    sides = min(size, judged.shape[2]), min(size, judged.shape[3])
    return -F.max_pool2d(-judged, sides, stride=sides)
