"""DrNet, a baseline of section 4: pose codes that do not give away the video.

Denton and Birodkar, "Unsupervised Learning of Disentangled Representations from Video" (NeurIPS
2017), by edenton/drnet (Lua) and edenton/drnet-py. As in the paper of this repository the encoders
and the decoder are ours. With two pictures x1, x2 of one clip, here I_id and I_target:

    |E_c(x1) - E_c(x2)|^2 + |Dec(E_c(x1), E_p(x2)) - x2|^2 + beta BCE(C(E_p(x2), E_p(x1)), 1/2)

with E_c(x2) and E_p(x1) as data. C learns with codes as data which pairs of pose codes are of one
video: 1 = the same. A step is the reference's: C moves, then encoders and decoder. The pose picture
is used in evaluation only: Dec(E_c(I_id), E_p(I_pose)).

Other than there: codes are maps, and C sees their means; pictures lie in [-1, 1] (there [0, 1]),
so that the reconstruction weighs four times as much; negatives come from other videos for sure
(drnet-py permutes at random, which leaves pairs of one video among them, and calls them 1, which is
Lua's label of the others); batches are as large as those of the other methods (there 100).

It is expected to copy the pose picture; section 4.1 shows that it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.methods.batches import TripletBatch, derangement
from idpose_core.methods.losses import Losses, frozen
from idpose_core.methods.method import Optimisation, Update
from idpose_core.models.generator import Generator, GeneratorConfig
from idpose_core.models.layers import at_least_float32
from idpose_core.models.perceptual import PerceptualDistance
from idpose_core.models.scene_discriminator import SceneDiscriminator

DEFAULTS: dict[str, Any] = {"training": {"learning_rate": 2e-3, "betas": [0.5, 0.999]}}
"""drnet-py's ``train_drnet.py``, for both sides."""


@dataclass(frozen=True)
class DrNetSettings:
    """What is DrNet's own; drnet-py's ``train_drnet.py``.

    Attributes:
        beta: Weight of the adversarial loss (``sd_weight``).
        hidden: Width of C's two hidden layers (``sd_nf``).

    Raises:
        ValueError: A negative weight, a layer of nothing.
    """

    beta: float = 1e-4
    hidden: int = 100

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise ValueError(f"beta cannot be negative: {self.beta}")
        if self.hidden < 1:
            raise ValueError(f"hidden must be at least 1, not {self.hidden}")


@dataclass(frozen=True)
class DrNetConfig:
    """The method from end to end, except for data and optimisation.

    Attributes:
        generator: Of the encoders and the decoder, which are ours.
        drnet: All else.

    Raises:
        ValueError: A decoder that copies from the ID picture: DrNet's sees codes.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    drnet: DrNetSettings = field(default_factory=DrNetSettings)

    def __post_init__(self) -> None:
        if self.generator.copy_at:
            raise ValueError("the decoder of DrNet sees codes alone: leave generator.copy_at empty")


def build_swapper(config: DrNetConfig) -> Generator:
    """The network that is published, with new weights."""
    return Generator(config.generator)


class DrNet:
    """Networks and losses of DrNet; see ``Method``.

    Args:
        config: What it consists of.
        perceptual, clips: Not used.
    """

    averaged = "generator"
    optimisations: Mapping[str, Optimisation] = {}

    def __init__(self, config: DrNetConfig, perceptual: PerceptualDistance, *, clips: int) -> None:
        self.config = config
        self.generator = build_swapper(config)
        self.scene = SceneDiscriminator(config.generator.code_channels, config.drnet.hidden)
        self.networks: Mapping[str, nn.Module] = {"generator": self.generator, "scene": self.scene}
        self._accuracy: Tensor | None = None

    @property
    def compiled(self) -> list[nn.Module]:
        """The parts that are called as such."""
        generator = self.generator
        return [generator.id_encoder, generator.pose_encoder, generator.decoder, self.scene]

    def updates(self, batch: TripletBatch) -> Iterator[Update]:
        """First C, then encoders and decoder.

        Raises:
            ValueError: The batch is a single row.
        """
        pose = self.generator.encode_pose(batch.target)
        with torch.no_grad():
            pose_of_id = self.generator.encode_pose(batch.id)
        rows = torch.arange(len(pose))
        met = torch.where(rows < len(rows) // 2, rows, derangement(batch.video, batch.key))
        same = (batch.video[met] == batch.video).to(pose.device)
        yield Update("scene", self.scene_losses(pose_of_id, pose[met.to(pose.device)], same))
        losses, output = self.generator_losses(batch, pose_of_id, pose)
        yield Update("generator", losses, output, self.measured)

    def scene_losses(self, one: Tensor, other: Tensor, same: Tensor) -> Losses:
        """``D_scene``: are both of one video?

        Args:
            one: Pose codes of x1, ``[B, C, s, s]``.
            other: Those of the pictures that x1 is paired with.
            same: Whether they are, bool [B].
        """
        logits = self.scene(one.detach(), other.detach())
        self._accuracy = ((logits > 0) == same).float().mean().detach()
        loss = F.binary_cross_entropy_with_logits(logits, same.to(logits.dtype))
        return Losses({"D_scene": loss}, {"D_scene": 1.0})

    def generator_losses(
        self, batch: TripletBatch, pose_of_id: Tensor, pose: Tensor
    ) -> tuple[Losses, Tensor]:
        """``L_similarity``, ``L_reconstruction`` and ``L_scene``; C receives no gradient.

        Args:
            batch: x1 and x2: ID pictures and targets.
            pose_of_id: E_p(x1), as data.
            pose: E_p(x2).

        Returns:
            The losses, and Dec(E_c(x1), E_p(x2)).
        """
        content = self.generator.encode_identity(batch.id)
        with torch.no_grad():
            aim = self.generator.encode_identity(batch.target)
        again = self.generator.decode(content, pose).picture
        with frozen(self.scene):
            logits = self.scene(pose, pose_of_id.detach())
        parts = {
            "L_similarity": F.mse_loss(at_least_float32(content), at_least_float32(aim)),
            "L_reconstruction": F.mse_loss(again, batch.target),
            "L_scene": F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.5)),
        }
        weights = {"L_similarity": 1.0, "L_reconstruction": 1.0, "L_scene": self.config.drnet.beta}
        return Losses(parts, weights), again

    def measured(self) -> dict[str, float]:
        """Share of the pairs of the last step that C told right: 0.5 = it knows nothing."""
        return {} if self._accuracy is None else {"scene/accuracy": float(self._accuracy)}
