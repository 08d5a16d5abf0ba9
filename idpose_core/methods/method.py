"""What a method is to the training loop: networks with their sides, and the updates of one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from idpose_core.methods.batches import TripletBatch
from idpose_core.methods.losses import Losses


@dataclass(frozen=True)
class Optimisation:
    """How one side is optimised with Adam, beside what the training says.

    Attributes:
        rate: Times the learning rate of the training.
        betas: Of Adam; None takes those of the training.
    """

    rate: float = 1.0
    betas: tuple[float, float] | None = None


@dataclass(frozen=True)
class Update:
    """One update of one side: its parameters follow the gradient of these losses.

    Attributes:
        side: Key of ``Method.networks``.
        losses: What it minimises.
        output: The generated pictures that the losses came from, where it is to be measured how
            hard each loss pulls at them; None where it is not.
        measure: What else is worth a look now and then.
    """

    side: str
    losses: Losses
    output: Tensor | None = None
    measure: Callable[[], dict[str, float]] | None = None


class Method(Protocol):
    """A way to train: one small file each, and the loop knows none of them.

    Attributes:
        networks: The sides. Each is moved, optimised on its own and saved under its name.
        averaged: The side whose moving average is published. Its forward takes ID and pose pictures
            ``[N, 3, S, S]`` in [-1, 1] and gives pictures of the same shape, if it swaps at all.
        optimisations: Of the sides that depart from the training's.
        compiled: The modules that are called as such: torch.compile may take them.
    """

    @property
    def networks(self) -> Mapping[str, nn.Module]: ...  # noqa: D102
    @property
    def averaged(self) -> str: ...  # noqa: D102
    @property
    def optimisations(self) -> Mapping[str, Optimisation]: ...  # noqa: D102
    @property
    def compiled(self) -> Sequence[nn.Module]: ...  # noqa: D102

    def updates(self, batch: TripletBatch) -> Iterator[Update]:
        """The updates of one step, in their order.

        The loop updates a side before it asks for the next one: what comes later sees networks
        that have moved, and must keep their gradients away from other sides itself.
        """
        ...
