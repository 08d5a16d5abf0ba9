"""The paper's method: one iteration's passes through the networks, and the losses of both sides.

An iteration is: ``generate``; a step of the discriminators on ``discriminator_losses``; a step of
the generator on ``generator_losses``, with the same pictures and the discriminators as they are
now (the paper's alternation). Nothing here steps, moves or saves: that is the training loop's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from idpose_core.methods.batches import TripletBatch
from idpose_core.methods.losses import (
    Losses,
    frozen,
    loss_aux,
    loss_dis1,
    loss_dis2,
    loss_pair,
    loss_pair_discriminator,
    loss_real,
    loss_real_discriminator,
)
from idpose_core.methods.method import Optimisation, Update
from idpose_core.models.discriminators import (
    DiscriminatorConfig,
    PairDiscriminator,
    RealDiscriminator,
)
from idpose_core.models.generator import PRESETS as GENERATORS
from idpose_core.models.generator import Decoded, Generator, GeneratorConfig
from idpose_core.models.perceptual import PerceptualConfig, PerceptualDistance
from idpose_core.models.pixel_verification import (
    PixelVerificationConfig,
    Statistics,
    measure,
    verify_pixels,
)

VERSION = 4
"""To be raised when the same configuration comes to make other weights: it names runs, and a
checkpoint of another version is refused. 2: the identity encoder begins after He et al.; 3: last
bits, by Winograd's filtering on CPUs; 4: a run is named by what departs from the defaults."""


@dataclass(frozen=True)
class Terms:
    """Which losses take part. L1_dis always does.

    Attributes:
        dis2: L2_dis, the two reconstructions.
        pv: L_pv, pixel verification.
        real: L_real with D_real.
        pair: L_pair with D_pair.
        aux: L_aux, on D_real.

    Raises:
        ValueError: ``aux`` without ``real``, whose network carries its head.
    """

    dis2: bool = True
    pv: bool = True
    real: bool = True
    pair: bool = True
    aux: bool = True

    def __post_init__(self) -> None:
        if self.aux and not self.real:
            raise ValueError("L_aux is a head of D_real: without L_real there is no L_aux")


ABLATIONS = {
    "full": Terms(),
    "without-pv": Terms(pv=False),
    "without-pv-and-dis2": Terms(pv=False, dis2=False),
    "d-real": Terms(pair=False, aux=False),
    "d-real-aux": Terms(pair=False),
    "d-real-pair": Terms(aux=False),
    "no-adversary": Terms(real=False, pair=False, aux=False),
}
"""The rows of the paper's Table 2, which remove one loss after the other (its "w/o L2_dis" is
without L_pv as well), and its choices of discriminator."""


@dataclass(frozen=True)
class Weights:
    """The lambdas of equation 7, all 1 in the paper.

    Attributes:
        dis: Of L_dis.
        pv: Of L_pv.
        aux: Of L_aux.
        gan: Of L_GAN.
        dis2: Of L2_dis within L_dis.

    Raises:
        ValueError: A negative weight.
    """

    dis: float = 1.0
    pv: float = 1.0
    aux: float = 1.0
    gan: float = 1.0
    dis2: float = 1.0

    def __post_init__(self) -> None:
        if not all(weight >= 0 for weight in asdict(self).values()):
            raise ValueError(f"weights cannot be negative: {self}")


@dataclass(frozen=True)
class IdentityPoseConfig:
    """The method from end to end, except for data and optimisation.

    Attributes:
        generator, discriminator, pixel_verification, perceptual: Of the parts.
        terms: Which losses take part; ``ABLATIONS`` has the paper's.
        weights: How much they count.
        aux_on_fakes: The head is trained on generated pictures too, as in AC-GAN; else on real
            ones alone.
        one_again: Of the two reconstructions of L2_dis one a step, drawn at random, at twice its
            weight: the same loss on average for a third less of the decoder's work.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    pixel_verification: PixelVerificationConfig = field(default_factory=PixelVerificationConfig)
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    terms: Terms = field(default_factory=Terms)
    weights: Weights = field(default_factory=Weights)
    aux_on_fakes: bool = False
    one_again: bool = False

    def active_terms(self) -> Terms:
        """The terms without those that weigh nothing, which are not computed."""
        terms, weights = self.terms, self.weights
        aux = terms.aux and weights.aux > 0
        return Terms(
            dis2=terms.dis2 and weights.dis > 0 and weights.dis2 > 0,
            pv=terms.pv and weights.pv > 0,
            real=terms.real and (weights.gan > 0 or aux),
            pair=terms.pair and weights.gan > 0,
            aux=aux,
        )


PRESETS = {
    "128": IdentityPoseConfig(GENERATORS["128"]),
    "64": IdentityPoseConfig(GENERATORS["64"]),
    "paper": IdentityPoseConfig(
        replace(GENERATORS["small"], decoder_norm="instance"),
        DiscriminatorConfig(width=32, norm="group"),
        perceptual=PerceptualConfig("st-vgg16"),
    ),
    "small": IdentityPoseConfig(
        GENERATORS["small"],
        DiscriminatorConfig(width=32, norm="group"),
        PixelVerificationConfig("cosine", 0.02, stride=2),
        PerceptualConfig("st-vgg16", pixel_l1_weight=1.0, layers=3),
        weights=Weights(gan=0.03, aux=0.03),
        one_again=True,
    ),
}
"""YTBB and synthetic pictures as in the paper; its losses over a network for 64 x 64 on two CPU
cores; and the same losses, balanced for as few steps (docs/decisions/small-recipe.md)."""


COPY_DEFAULTS: dict[str, Any] = {
    "generator": {"copy_at": [2, 1]},
    "weights": {"pv": 0, "gan": 0, "aux": 0, "dis2": 0.3},
    "one_again": True,
    "perceptual": {"kind": "pixel-l1"},
}
"""What ``copy-attention`` sets: the decoder looks for its counterparts in the identity picture, in
the place of the loss that asks for it (docs/decisions/copy-attention.md)."""


@dataclass(frozen=True)
class Generated:
    """The pictures of one iteration, all out of one pass of the decoder.

    Attributes:
        decoded: All passes one after the other, [2B or 3B or B, ...].
        output: I_g = G(E_i(I_id), E_p(I_pose)), float [B, 3, S, S] in [-1, 1].
        output_feature: Its last decoder feature: the queries of the pixel verification.
        identity_again: G(E_i(I_id), E_p(I_id)); None where L2_dis does not ask for it.
        identity_feature: Its last decoder feature: the keys of the pixel verification.
        pose_again: G(E_i(I_pose), E_p(I_pose)); None where L2_dis does not ask for it.
    """

    decoded: Decoded
    output: Tensor
    output_feature: Tensor
    identity_again: Tensor | None = None
    identity_feature: Tensor | None = None
    pose_again: Tensor | None = None


@dataclass(frozen=True)
class GeneratorLosses(Losses):
    """The generator's losses.

    Attributes:
        aligned: I'_id of the pixel verification, float [B, 3, S, S], for sample grids; None
            without L_pv.
        row_sum_error: How far a row of W was from a sum of 1, float []; about 1e-6, and anything
            else says that the kernel is wrong. None without L_pv.
    """

    aligned: Tensor | None = None
    row_sum_error: Tensor | None = None


class IdentityPose:
    """Networks and losses of the paper's method.

    Args:
        config: What it consists of.
        perceptual: The distance d, loaded for ``config.perceptual``.
        clips: Number of training clips, the classes of L_aux. Clips of other splits are none.

    Attributes:
        generator: The generator. It, and the discriminators, are plain modules: move, compile,
            optimise and save them as such. Processes that share a batch average gradients
            themselves: the networks' parts are called one by one, not through one ``forward``.
        discriminators: ``real`` and ``pair``, as far as the terms need them.
        perceptual: As given. It is not learnt and belongs to no checkpoint.
        terms: Which losses take part: those of the configuration that weigh something.

    Raises:
        ValueError: The distance is of another configuration; L_aux without a clip.
    """

    averaged = "generator"
    optimisations: Mapping[str, Optimisation] = {}

    def __init__(
        self, config: IdentityPoseConfig, perceptual: PerceptualDistance, *, clips: int
    ) -> None:
        terms = config.active_terms()
        if perceptual.config != config.perceptual:
            raise ValueError(f"the distance is {perceptual.config}, not {config.perceptual}")
        if terms.aux and clips < 1:
            raise ValueError("L_aux needs training clips")
        self.config = config
        self.terms = terms
        self.perceptual = perceptual
        self.generator = Generator(config.generator)
        self.discriminators = nn.ModuleDict()
        if terms.real:
            heads = clips if terms.aux else 0
            self.discriminators["real"] = RealDiscriminator(config.discriminator, clips=heads)
        if terms.pair:
            self.discriminators["pair"] = PairDiscriminator(config.discriminator)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Both sides; one where there is no adversary."""
        sides: dict[str, nn.Module] = {"generator": self.generator}
        if len(self.discriminators):
            sides["discriminators"] = self.discriminators
        return sides

    @property
    def compiled(self) -> list[nn.Module]:
        """The parts that are called as such."""
        generator = self.generator
        parts = [generator.id_encoder, generator.pose_encoder, generator.decoder]
        trunk = self.perceptual.trunk
        return [*parts, *self.discriminators.values(), *([] if trunk is None else [trunk])]

    def updates(self, batch: TripletBatch) -> Iterator[Update]:
        """First the discriminators, then the generator."""
        generated = self.generate(batch)
        judged = self.discriminator_losses(batch, generated)
        if judged.parts:
            yield Update("discriminators", judged)
        losses = self.generator_losses(batch, generated)

        def measure() -> dict[str, float]:
            spread = self.measure_pixels(generated)
            if spread is None or losses.row_sum_error is None:
                return {}
            found = {f"pixels/{name}": value for name, value in spread._asdict().items()}
            return {**found, "pixels/row_sum_error": float(losses.row_sum_error)}

        yield Update("generator", losses, generated.decoded.picture, measure)

    def generate(self, batch: TripletBatch) -> Generated:
        """The passes that the losses need: at most four encodes and one decode of 3B.

        A pass into L2_dis or into the keys of L_pv alone is left out where that loss is.
        """
        terms = self.terms
        again = [0, 1] if terms.dis2 else []  # of (I_id, I_pose)
        if self.config.one_again and terms.dis2:
            again = [batch.key % 2]
        pairs = [(0, 1), *((n, n) for n in sorted({*again, *([0] if terms.pv else [])}))]
        decoded = self.generator.passes((batch.id, batch.pose), pairs)
        pictures, features = (
            dict(zip(pairs, part.chunk(len(pairs)), strict=True)) for part in decoded
        )
        return Generated(
            decoded,
            output=pictures[0, 1],
            output_feature=features[0, 1],
            identity_again=pictures.get((0, 0)) if 0 in again else None,
            identity_feature=features.get((0, 0)),
            pose_again=pictures.get((1, 1)),
        )

    def discriminator_losses(self, batch: TripletBatch, generated: Generated) -> Losses:
        """What the discriminators minimise, equation 7 from their side.

        ``D_real``, ``D_pair`` and ``D_aux``, as far as the terms have them. The generated picture
        is data here: no gradient reaches the generator.
        """
        config, terms, kind = self.config, self.terms, self.config.discriminator.loss
        fake = generated.output.detach()
        parts: dict[str, Tensor] = {}
        if terms.real:
            judge = self.discriminators["real"]
            on_target, on_fake = judge(batch.target), judge(fake)
            parts["D_real"] = loss_real_discriminator(kind, on_target, on_fake)
            if terms.aux:
                parts["D_aux"] = loss_aux(on_target, batch.clip)
                if config.aux_on_fakes:
                    parts["D_aux"] = parts["D_aux"] + loss_aux(on_fake, batch.clip)
        if terms.pair:
            pair = self._pair()
            parts["D_pair"] = loss_pair_discriminator(
                kind,
                positive=pair.judge(batch.id, batch.target),
                generated=pair.judge(batch.id, fake),
                mismatch=pair.judge(batch.id, batch.mismatch),
            )
        gan, aux = config.weights.gan, config.weights.aux
        return Losses(parts, {"D_real": gan, "D_pair": gan, "D_aux": aux})

    def generator_losses(self, batch: TripletBatch, generated: Generated) -> GeneratorLosses:
        """What the generator minimises, equation 7 from its side.

        ``L1_dis``, ``L2_dis``, ``L_pv``, ``L_aux``, ``L_real`` and ``L_pair``, as far as the terms
        have them. The discriminators judge, and receive no gradient.
        """
        terms, kind = self.terms, self.config.discriminator.loss
        output = generated.output
        parts = {"L1_dis": loss_dis1(self.perceptual, output, batch.target, batch.weight)}
        if terms.dis2:
            again = (batch.id, generated.identity_again), (batch.pose, generated.pose_again)
            parts["L2_dis"] = loss_dis2(
                self.perceptual, [(one, made) for one, made in again if made is not None]
            )
        verified = None
        if terms.pv:
            verified = verify_pixels(
                output,
                generated.output_feature,
                _present(generated.identity_feature),
                batch.id,
                self.config.pixel_verification,
            )
            parts["L_pv"] = verified.loss
        with frozen(self.discriminators):
            if terms.real:
                judgement = self.discriminators["real"](output)
                parts["L_real"] = loss_real(kind, judgement)
                if terms.aux:
                    parts["L_aux"] = loss_aux(judgement, batch.clip)
            if terms.pair:
                parts["L_pair"] = loss_pair(kind, self._pair().judge(batch.id, output))
        weights = self.config.weights
        return GeneratorLosses(
            parts,
            {
                "L1_dis": weights.dis,
                "L2_dis": weights.dis * weights.dis2,
                "L_pv": weights.pv,
                "L_aux": weights.aux,
                **dict.fromkeys(("L_real", "L_pair"), weights.gan),
            },
            aligned=None if verified is None else verified.aligned.detach(),
            row_sum_error=None if verified is None else verified.row_sum_error,
        )

    def measure_pixels(self, generated: Generated, pictures: int = 1) -> Statistics | None:
        """Entropy and hubs of the pixel verification over the first pictures; None without it."""
        if not self.terms.pv:
            return None
        queries, keys = generated.output_feature, _present(generated.identity_feature)
        return measure(queries[:pictures], keys[:pictures], self.config.pixel_verification)

    def _pair(self) -> PairDiscriminator:
        pair = self.discriminators["pair"]
        assert isinstance(pair, PairDiscriminator)
        return pair


def _present(tensor: Tensor | None) -> Tensor:
    """A pass that these losses need.

    Raises:
        ValueError: It was made with other terms, and lacks the pass.
    """
    if tensor is None:
        raise ValueError("these pictures were generated without a pass that the losses need")
    return tensor


def build_swapper(config: IdentityPoseConfig) -> Generator:
    """The network that is published, without its weights."""
    return Generator(config.generator)
