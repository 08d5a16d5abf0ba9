"""One training step, and the state that it changes.

A step is the paper's alternation: the discriminators on what the generator has just made, then
the generator with the discriminators as they are now, then its moving average. The passes and
losses are the method's (``idpose_core.methods.identity_pose``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from idpose_core.methods.identity_pose import IdentityPose
from idpose_core.methods.losses import Losses, gradient_norms
from idpose_core.models.generator import Generator
from idpose_core.models.perceptual import PerceptualDistance
from idpose_core.training.augmentation import Batch
from idpose_core.training.averaging import MovingAverage
from idpose_core.training.config import TrainingConfig
from idpose_core.training.processes import World
from storage.errors import ToldError


class NonFiniteLossError(ToldError):
    """A loss became NaN or infinite; the message names the step and the losses."""


class Trainer:
    """Networks, optimisers and moving average of one training.

    Initial weights are a function of the configuration's seed. Every process of a training holds
    the same state; each sees its share of the batch, and gradients are averaged over all.

    Args:
        config: The whole configuration.
        perceptual: The distance d, loaded for it.
        clips: Number of training clips.
        device: Where to compute.
        world: The processes of this training.
        compiled: Let torch compile the networks.

    Attributes:
        method: Networks and losses.
        average: Moving average of the generator.
        step: Number of finished steps.
    """

    def __init__(
        self,
        config: TrainingConfig,
        perceptual: PerceptualDistance,
        *,
        clips: int,
        device: torch.device,
        world: World | None = None,
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(config.seed)
        training = config.training
        self.device = device
        self.step = 0
        self._world = world or World()
        self._precision = precision_of(config, device)
        self.method = IdentityPose(config.method(), perceptual.to(device), clips=clips)
        # Channels last is what the group norm keeps and the plain instance norm would undo.
        self._format = (
            torch.channels_last if config.generator.norm == "group" else torch.contiguous_format
        )
        for network in (self.method.generator, self.method.discriminators):
            network.to(device, memory_format=self._format)  # type: ignore[call-overload]
        self.average: MovingAverage[Generator] = MovingAverage(
            self.method.generator, training.average
        )
        self._optimisers = {
            name: torch.optim.Adam(
                network.parameters(), lr=training.learning_rate, betas=training.betas
            )
            for name, network in self._trained().items()
        }
        # The first step with a loss that is not finite, kept on the device: asking every step
        # would make the device wait.
        self._bad_step = torch.full((), -1, device=device)
        self._bad_losses: list[str] = []
        self._bad_mask = torch.zeros(0, dtype=torch.bool, device=device)
        if compiled:
            self._compile()

    def train_step(
        self, batch: Batch, *, measure: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """One step of discriminators and generator.

        Args:
            batch: This process's share of the batch.
            measure: Measure the gradient norms of the generator's losses at its output, and how
                the pixel verification spreads; costs about half a step.

        Returns:
            The losses of both sides by name, float [] on the device; and what was measured.
        """
        # The backward pass of a compiled part can be run once only; measuring runs it again.
        with torch.compiler.set_stance("force_eager" if measure else "default"):
            return self._step(self._laid_out(batch), measure)

    def _step(self, batch: Batch, measure: bool) -> tuple[dict[str, Tensor], dict[str, float]]:
        with self._autocast():
            generated = self.method.generate(batch)
            judged = self.method.discriminator_losses(batch, generated)
        if judged.parts:
            self._update("discriminators", judged)
        with self._autocast():
            losses = self.method.generator_losses(batch, generated)
        measured = {}
        if measure:
            norms = gradient_norms(losses, generated.decoded.picture)
            measured = {f"gradient/{name}": norm for name, norm in norms.items()}
            spread = self.method.measure_pixels(generated)
            if spread is not None and losses.row_sum_error is not None:
                measured |= {f"pixels/{k}": v for k, v in spread._asdict().items()}
                measured["pixels/row_sum_error"] = float(losses.row_sum_error)
        self._update("generator", losses)
        self.average.update(self.method.generator)
        parts = {k: v.detach() for k, v in {**judged.parts, **losses.parts}.items()}
        self._remember_bad(parts)
        self.step += 1
        return parts, measured

    def machine(self) -> dict[str, str]:
        """What it is computed on: weights differ in their last bits from one to another."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        precision = str(self._precision).removeprefix("torch.")
        return {"device": name, "precision": precision, "torch": torch.__version__}

    @torch.no_grad()
    def generate(self, identity: Tensor, pose: Tensor) -> Tensor:
        """Pictures of the moving average, float [N, 3, S, S] in [-1, 1], as are its inputs."""
        with self._autocast():
            made: Tensor = self.average.network(self._placed(identity), self._placed(pose))
        return made

    @torch.no_grad()
    def distance(self, identity: Tensor, pose: Tensor, target: Tensor) -> float:
        """d(I_target, I_g) with the moving average: how far held-out triplets are from learnt."""
        with self._autocast():
            made = self.average.network(self._placed(identity), self._placed(pose))
            return float(self.method.perceptual(made, self._placed(target)))

    def check_finite(self) -> None:
        """See that all losses since the start were finite, and that all weights are.

        All processes call it at the same step.

        Raises:
            NonFiniteLossError: They were not, here or in another process.
        """
        step = int(self._bad_step)
        networks = (*self._trained().values(), self.average.network)
        norms = torch._foreach_norm([p.detach() for net in networks for p in net.parameters()])
        whole = bool(torch.isfinite(torch.stack(norms)).all())
        if not self._world.any(step >= 0 or not whole, self.device):
            return
        bad = [n for n, b in zip(self._bad_losses, self._bad_mask.tolist(), strict=True) if b]
        what = f"step {step}: {', '.join(bad)}" if step >= 0 else f"weights by step {self.step}"
        raise NonFiniteLossError(f"{what} became NaN or infinite")

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, beside the data."""
        return {
            "step": self.step,
            "average": self.average.state_dict(),
            "networks": {name: network.state_dict() for name, network in self._trained().items()},
            "optimisers": {name: o.state_dict() for name, o in self._optimisers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.step = state["step"]
        self.average.load_state_dict(state["average"])
        for name, network in self._trained().items():
            network.load_state_dict(state["networks"][name])
            self._optimisers[name].load_state_dict(state["optimisers"][name])

    def _trained(self) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {"generator": self.method.generator}
        if len(self.method.discriminators):
            networks["discriminators"] = self.method.discriminators
        return networks

    def _update(self, side: str, losses: Losses) -> None:
        optimiser = self._optimisers[side]
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        parameters = self._trained()[side].parameters()
        self._world.average([p.grad for p in parameters if p.grad is not None])
        optimiser.step()

    def _remember_bad(self, parts: Mapping[str, Tensor]) -> None:
        mask = torch.stack([~torch.isfinite(part) for part in parts.values()])
        if not self._bad_losses:
            self._bad_losses, self._bad_mask = list(parts), torch.zeros_like(mask)
        first = mask.any() & (self._bad_step < 0)
        self._bad_step = torch.where(first, self.step + 1, self._bad_step)
        self._bad_mask = torch.where(first, mask, self._bad_mask)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self._precision == torch.bfloat16
        )

    def _placed(self, pictures: Tensor) -> Tensor:
        return pictures.to(self.device).contiguous(memory_format=self._format)

    def _laid_out(self, batch: Batch) -> Batch:
        id_, pose, target, mismatch = map(
            self._placed, (batch.id, batch.pose, batch.target, batch.mismatch)
        )
        return replace(batch, id=id_, pose=pose, target=target, mismatch=mismatch)

    def _compile(self) -> None:
        """In place, so that names of weights stay; the average was copied before."""
        generator = self.method.generator
        for part in (generator.id_encoder, generator.pose_encoder, generator.decoder):
            part.compile()
        for discriminator in self.method.discriminators.values():
            discriminator.compile()
        if self.method.perceptual.trunk is not None:
            self.method.perceptual.trunk.compile()


def precision_of(config: TrainingConfig, device: torch.device) -> torch.dtype:
    """What the convolutions compute in on this device."""
    named = config.training.precision
    if named is not None:
        return torch.bfloat16 if named == "bfloat16" else torch.float32
    has = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has else torch.float32
