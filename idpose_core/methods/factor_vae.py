"""FactorVAE, the baseline of figure 11: a VAE whose dimensions are made independent.

Kim and Mnih, "Disentangling by Factorising" (2018), algorithm 2, as the published implementation
1Konny/FactorVAE (``solver.py``, ``ops.py``) has it. It sees single pictures, so it cannot be asked
for one identity in another pose: whether a dimension has come to mean pose is looked at afterwards,
by ``idpose_core.evaluation.traversal``.

The VAE minimises ``L_rec + L_kl + gamma * L_tc``. L_tc is the total correlation of q(z) as the
discriminator sees it, the mean of log q(z) - log of the product of its marginals. The discriminator
learns to tell codes from codes whose dimensions were shuffled over the batch.

Differences from the published implementation: the discriminator learns from the code in a forward
pass of its own (there it shares the VAE's graph, which torch refuses once the VAE has been
updated); pictures are drawn as the ID pictures of triplets, hence not uniformly, and are cropped at
random like those of all methods here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.methods.batches import TripletBatch
from idpose_core.methods.losses import Losses, frozen
from idpose_core.methods.method import Optimisation, Update
from idpose_core.models.factor_vae import (
    Code,
    TotalCorrelationDiscriminator,
    VariationalAutoencoder,
    to_unit,
)
from idpose_core.models.generator import GeneratorConfig
from idpose_core.models.perceptual import PerceptualDistance

FEWEST_ROWS = 4
"""Of a batch: shuffling the dimensions of a half needs two rows."""

DEFAULTS: dict[str, Any] = {
    "training": {
        "batch_size": 64,
        "learning_rate": 1e-4,
        # Colour is a factor of the data to be found, and the paper knows no jitter here.
        "jitter": 0.0,
        # As published; bfloat16 wins nothing in networks as small as these.
        "precision": "float32",
    }
}
"""What differs from the other methods. A batch of 64 is 32 pictures for the VAE and 32 for the
shuffled codes; the published implementation draws 64 for each, which is a batch of 128 here."""


@dataclass(frozen=True)
class FactorVAESettings:
    """Of 1Konny/FactorVAE's ``main.py``, where not said otherwise.

    Attributes:
        dimensions: Length of the code z.
        gamma: Weight of the total correlation. 3.2 in the published script for 3D Chairs;
            disentanglement_lib tries 10 to 100.
        width: Channels of the VAE's first maps; the others are multiples of it.
        discriminator_width: Of its hidden layers.
        discriminator_rate: Times the learning rate. 0.1 in the published scripts for 3D Chairs
            and CelebA.

    Raises:
        ValueError: A setting that no network or loss can have.
    """

    dimensions: int = 10
    gamma: float = 6.4
    width: int = 32
    discriminator_width: int = 1000
    discriminator_rate: float = 1.0

    def __post_init__(self) -> None:
        if min(self.dimensions, self.width, self.discriminator_width) < 1:
            raise ValueError(f"dimensions and widths must be at least 1: {self}")
        if not self.gamma >= 0 or not self.discriminator_rate > 0:
            raise ValueError(f"gamma cannot be negative, and the rate must be positive: {self}")


@dataclass(frozen=True)
class FactorVAEConfig:
    """The method from end to end, except for data and optimisation.

    Attributes:
        generator: Only its ``size`` counts: the side of the pictures, 4 times a power of two.
        factor_vae: All else.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    factor_vae: FactorVAESettings = field(default_factory=FactorVAESettings)


class FactorVAE:
    """Networks, losses and updates of FactorVAE; see ``Method``.

    Args:
        config: What it consists of.
        perceptual: Not used.
        clips: Not used.

    Attributes:
        vae: Encoder and decoder, the side ``vae``.
        discriminator: The side ``discriminator``.
    """

    averaged = "vae"

    def __init__(
        self, config: FactorVAEConfig, perceptual: PerceptualDistance, *, clips: int
    ) -> None:
        settings = config.factor_vae
        self.config = config
        self.vae = build_swapper(config)
        self.discriminator = TotalCorrelationDiscriminator(
            settings.dimensions, settings.discriminator_width
        )
        self.networks: Mapping[str, nn.Module] = {
            "vae": self.vae,
            "discriminator": self.discriminator,
        }
        self.optimisations: Mapping[str, Optimisation] = {
            "vae": Optimisation(betas=(0.9, 0.999)),
            "discriminator": Optimisation(rate=settings.discriminator_rate, betas=(0.5, 0.9)),
        }
        self._seen: dict[str, Tensor] = {}

    @property
    def compiled(self) -> Sequence[nn.Module]:
        """Encoder, decoder and discriminator."""
        return self.vae.encoder, self.vae.decoder, self.discriminator

    def updates(self, batch: TripletBatch) -> Iterator[Update]:
        """The VAE on the first half of the ID pictures; then the discriminator.

        The shuffled codes shall be of a second batch, independent of the first one. The second half
        of the rows is such a batch, because rows come in random order. As in algorithm 2 it is
        encoded by the VAE as it has just become. All noise is a function of ``batch.key``.

        Raises:
            ValueError: Fewer than ``FEWEST_ROWS`` rows.
        """
        rows = len(batch.id)
        if rows < FEWEST_ROWS:
            raise ValueError(
                f"FactorVAE needs {FEWEST_ROWS} rows a batch or more, not {rows}: half of them "
                "train the VAE, and the codes of the others are shuffled"
            )
        first, second = batch.id[: rows // 2], batch.id[rows // 2 :]
        noise = torch.Generator().manual_seed(batch.key)

        code = self.vae.encode(first)
        z = sample(code, noise)
        yield Update("vae", self.vae_losses(first, code, z))

        with torch.no_grad():
            shuffled = permute_dims(sample(self.vae.encode(second), noise), noise)
        losses = self.discriminator_losses(z, shuffled)
        yield Update("discriminator", losses, measure=self.measured)

    def vae_losses(self, pictures: Tensor, code: Code, z: Tensor) -> Losses:
        """What the VAE minimises; the discriminator judges, and receives no gradient.

        Args:
            pictures: ``[N, 3, S, S]`` in [-1, 1].
            code: Of these pictures.
            z: A draw from it, ``[N, Z]``.
        """
        with frozen(self.discriminator):
            judged = self.discriminator(z)
        kl = kl_of_dimensions(code)
        self._seen["kl"] = kl.detach()
        parts = {
            "L_rec": reconstruction_loss(self.vae.decode(z), to_unit(pictures)),
            "L_kl": kl.sum(),
            "L_tc": total_correlation(judged),
        }
        return Losses(parts, {"L_rec": 1.0, "L_kl": 1.0, "L_tc": self.config.factor_vae.gamma})

    def discriminator_losses(self, z: Tensor, shuffled: Tensor) -> Losses:
        """What the discriminator minimises. Codes are data here: no gradient reaches the encoder.

        Args:
            z: Codes, ``[N, Z]``.
            shuffled: Other codes, each dimension shuffled over the batch, ``[M, Z]``.
        """
        together = self.discriminator(z.detach())
        apart = self.discriminator(shuffled.detach())
        right = (together[:, 0] > together[:, 1]).float().mean()
        right_apart = (apart[:, 0] <= apart[:, 1]).float().mean()
        self._seen["accuracy"] = ((right + right_apart) / 2).detach()
        return Losses({"D_tc": discriminator_loss(together, apart)}, {"D_tc": 1.0})

    def measured(self) -> dict[str, float]:
        """Share of codes that the discriminator tells right, and the KL of every dimension.

        A dimension whose KL is about 0 carries nothing.
        """
        if not self._seen:
            return {}
        kl = {f"kl/{place}": value for place, value in enumerate(self._seen["kl"].tolist())}
        return {"discriminator/accuracy": float(self._seen["accuracy"]), **kl}


def build_swapper(config: FactorVAEConfig) -> VariationalAutoencoder:
    """The network whose average is published. It swaps nothing: it encodes and decodes."""
    settings = config.factor_vae
    return VariationalAutoencoder(config.generator.size, settings.dimensions, settings.width)


def sample(code: Code, noise: torch.Generator) -> Tensor:
    """A draw from q(z|x), float [N, Z], differentiable in the code (reparametrisation).

    Args:
        code: Of N pictures.
        noise: On the CPU, so that it gives the same numbers for every device.
    """
    mean, log_variance = code
    epsilon = torch.randn(mean.shape, generator=noise, dtype=mean.dtype).to(mean.device)
    return mean + epsilon * (0.5 * log_variance).exp()


def permute_dims(z: Tensor, noise: torch.Generator) -> Tensor:
    """Codes [N, Z] with each dimension shuffled over the batch on its own.

    A draw from (about) the product of the marginals of q(z): every dimension keeps its values.
    """
    orders = [torch.randperm(len(z), generator=noise) for _ in range(z.shape[1])]
    return z.gather(0, torch.stack(orders, dim=1).to(z.device))


def reconstruction_loss(logits: Tensor, pictures: Tensor) -> Tensor:
    """Binary cross-entropy, summed over the values of a picture, mean over the batch, float [].

    Args:
        logits: ``[N, 3, S, S]``.
        pictures: In [0, 1], the same shape.
    """
    total = F.binary_cross_entropy_with_logits(logits, pictures.to(logits.dtype), reduction="sum")
    return total / len(pictures)


def kl_of_dimensions(code: Code) -> Tensor:
    """KL(q(z|x) || N(0, 1)) of every dimension, mean over the batch, float [Z], in nats."""
    mean, log_variance = code
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(0)


def total_correlation(logits: Tensor) -> Tensor:
    """Mean of log q(z) - log of the product of q(z_j), by the density ratio trick, float [].

    Args:
        logits: Of the discriminator, [N, 2].
    """
    return (logits[:, 0] - logits[:, 1]).mean()


def discriminator_loss(together: Tensor, apart: Tensor) -> Tensor:
    """Half the sum of two cross-entropies, float [].

    Args:
        together: Logits of codes [N, 2], of class 0.
        apart: Logits of shuffled codes [M, 2], of class 1.
    """
    zeros = torch.zeros(len(together), dtype=torch.int64, device=together.device)
    ones = torch.ones(len(apart), dtype=torch.int64, device=apart.device)
    entropies = F.cross_entropy(together, zeros) + F.cross_entropy(apart, ones)
    return 0.5 * entropies
