"""One training step, and the state that it changes.

A step is the updates that the method asks for, one after the other, then the moving average of
what it publishes. Passes, losses and sides are the method's (``idpose_core.methods``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from idpose_core.methods.losses import gradient_norms
from idpose_core.methods.method import Method, Optimisation, Update
from idpose_core.methods.registry import METHODS
from idpose_core.models.layers import at_least_float32
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
        perceptual: The distance d.
        average: Moving average of what the method publishes.
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
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every step has the same shapes
        self.perceptual = perceptual.to(device)
        build = METHODS[training.method].build
        self.method: Method = build(config.method(), self.perceptual, clips=clips)
        # Channels last is what the group norm keeps and the plain instance norm would undo.
        self._format = (
            torch.channels_last if config.generator.norm == "group" else torch.contiguous_format
        )
        self._networks = dict(self.method.networks)
        for network in self._networks.values():
            network.to(device, memory_format=self._format)  # type: ignore[call-overload]
        self._averaged = self._networks[self.method.averaged]
        self.average: MovingAverage[nn.Module] = MovingAverage(self._averaged, training.average)
        self._training = training
        self._optimisers = {
            name: self._optimiser(network, self.method.optimisations.get(name, Optimisation()))
            for name, network in self._networks.items()
        }
        # For each set of losses the first step in which one was not finite, and which; kept on the
        # device: asking every step would make the device wait.
        self._bad: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        if compiled:
            self._compile()

    def train_step(
        self, batch: Batch, *, measure: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The updates of one step.

        Args:
            batch: This process's share of the batch.
            measure: Measure the gradient norms of the losses at the generated pictures, and what
                the method measures; costs about half a step.

        Returns:
            The losses of all sides by name, float [] on the device; and what was measured.
        """
        # The backward pass of a compiled part can be run once only; measuring runs it again.
        with torch.compiler.set_stance("force_eager" if measure else "default"):
            return self._step(self._laid_out(batch), measure)

    def _step(self, batch: Batch, measure: bool) -> tuple[dict[str, Tensor], dict[str, float]]:
        self._set_rates()
        parts: dict[str, Tensor] = {}
        measured: dict[str, float] = {}
        updates = self.method.updates(batch)
        while (update := self._next(updates)) is not None:
            if measure and update.output is not None:
                norms = gradient_norms(update.losses, update.output)
                measured |= {f"gradient/{name}": norm for name, norm in norms.items()}
            if measure and update.measure is not None:
                measured |= update.measure()
            self._update(update)
            parts |= {name: part.detach() for name, part in update.losses.parts.items()}
        self.average.update(self._averaged)
        self._remember_bad(parts)
        self.step += 1
        return parts, measured

    def _next(self, updates: Iterator[Update]) -> Update | None:
        with self._autocast():
            return next(updates, None)

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
    def distances(self, identity: Tensor, pose: Tensor, target: Tensor) -> dict[str, float]:
        """How far the moving average is from targets that it was not trained on.

        Returns:
            ``d``: the distance of the run's own loss; and, the same for all runs, ``pixel_l1``:
            mean |I_g - I_t|, and ``chroma``: mean distance of R - G and (R + G) / 2 - B, which
            brightness and shape leave alone; both with channels in [0, 1].
        """
        aim = self._placed(target)
        with self._autocast():
            made = self.average.network(self._placed(identity), self._placed(pose))
            own = float(self.perceptual(made, aim))
        apart = (at_least_float32(made) - aim) / 2
        red, green, blue = apart.unbind(1)
        chroma = torch.stack([red - green, (red + green) / 2 - blue])
        return {
            "d": own,
            "pixel_l1": float(apart.abs().mean()),
            "chroma": float(chroma.norm(dim=0).mean()),
        }

    def check_finite(self) -> None:
        """See that all losses since the start were finite, and that all weights are.

        All processes call it at the same step.

        Raises:
            NonFiniteLossError: They were not, here or in another process.
        """
        first = [(int(step), names, mask) for names, (step, mask) in self._bad.items()]
        step, names, mask = min(
            (one for one in first if one[0] >= 0), key=lambda one: one[0], default=(-1, (), None)
        )
        networks = (*self._networks.values(), self.average.network)
        norms = torch._foreach_norm([p.detach() for net in networks for p in net.parameters()])
        whole = bool(torch.isfinite(torch.stack(norms)).all())
        if not self._world.any(step >= 0 or not whole, self.device):
            return
        bad = [] if mask is None else [n for n, b in zip(names, mask.tolist(), strict=True) if b]
        what = f"step {step}: {', '.join(bad)}" if bad else f"weights by step {self.step}"
        raise NonFiniteLossError(f"{what} became NaN or infinite")

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with the weights of a published model: the network and its average.

        The other networks and the optimisers begin afresh.

        Raises:
            RuntimeError: They are of another network.
        """
        self._averaged.load_state_dict(weights)
        self.average.network.load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, beside the data."""
        return {
            "step": self.step,
            "average": self.average.state_dict(),
            "networks": {name: network.state_dict() for name, network in self._networks.items()},
            "optimisers": {name: o.state_dict() for name, o in self._optimisers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.step = state["step"]
        self.average.load_state_dict(state["average"])
        for name, network in self._networks.items():
            network.load_state_dict(state["networks"][name])
            self._optimisers[name].load_state_dict(state["optimisers"][name])

    def _optimiser(self, network: nn.Module, asked: Optimisation) -> torch.optim.Adam:
        training = self._training
        rate, betas = training.learning_rate * asked.rate, asked.betas or training.betas
        adam = torch.optim.Adam(
            network.parameters(), lr=rate, betas=betas, fused=self.device.type == "cuda"
        )
        for group in adam.param_groups:
            group["full_rate"] = rate
        return adam

    def _set_rates(self) -> None:
        """Constant, then falling in a line to 0 at the last step (pix2pixHD, per epoch)."""
        training = self._training
        if training.decay_from == 1:
            return
        done = min(1.0, self.step / training.steps)
        factor = min(1.0, (1 - done) / (1 - training.decay_from))
        for optimiser in self._optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group["full_rate"] * factor

    def _update(self, update: Update) -> None:
        optimiser = self._optimisers[update.side]
        optimiser.zero_grad(set_to_none=True)
        update.losses.total.backward()  # type: ignore[no-untyped-call]
        parameters = self._networks[update.side].parameters()
        self._world.average([p.grad for p in parameters if p.grad is not None])
        optimiser.step()

    def _remember_bad(self, parts: Mapping[str, Tensor]) -> None:
        mask = torch.stack([~torch.isfinite(part) for part in parts.values()])
        step, before = self._bad.get(
            tuple(parts), (torch.full((), -1, device=mask.device), torch.zeros_like(mask))
        )
        first = mask.any() & (step < 0)
        self._bad[tuple(parts)] = (
            torch.where(first, self.step + 1, step),
            torch.where(first, mask, before),
        )

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
        for part in self.method.compiled:
            part.compile()


def precision_of(config: TrainingConfig, device: torch.device) -> torch.dtype:
    """What the convolutions compute in on this device."""
    named = config.training.precision
    if named is not None:
        return torch.bfloat16 if named == "bfloat16" else torch.float32
    has = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has else torch.float32
