"""The average of a generator's weights over its training, which is what is evaluated and published.

Model averaging as in StackGAN++ (Zhang et al. 2017; ``code/trainer.py`` of hanzhanggit/StackGAN-v2
averages parameters only), named by the paper in section 4.
"""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class MovingAverage(Generic[ModuleT]):
    """Exponential moving average of a network's parameters.

    ``average <- d * average + (1 - d) * parameter`` with ``d = min(limit, (1 + t) / (10 + t))``
    and t the updates before: a fixed 0.999 would still hold 90 % of the initial weights after 110
    steps. Buffers are copied, not averaged.

    Args:
        network: The network itself, not DistributedDataParallel around it.
        limit: The decay of a long training.

    Attributes:
        network: The average: a deep copy in eval mode, without gradients.
        updates: How many there were.
    """

    def __init__(self, network: ModuleT, limit: float = 0.999) -> None:
        if not 0 <= limit < 1:
            raise ValueError(f"a decay lies in [0, 1), not {limit}")
        self.network: ModuleT = copy.deepcopy(network).eval().requires_grad_(False)
        self.limit = limit
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step of the training in. The network is not changed."""
        mine, theirs = dict(self.network.named_parameters()), dict(network.named_parameters())
        if mine.keys() != theirs.keys():
            raise ValueError("this is not the network that is averaged: its parameters differ")
        torch._foreach_lerp_(
            list(mine.values()),
            [theirs[name].detach() for name in mine],
            1 - decay(self.updates, self.limit),
        )
        buffers = dict(network.named_buffers())
        for name, buffer in self.network.named_buffers():
            buffer.copy_(buffers[name])
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """``network`` (a state dict) and ``updates``."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises RuntimeError where it is of another network."""
        self.network.load_state_dict(state["network"])
        self.updates = int(state["updates"])


def decay(updates: int, limit: float = 0.999) -> float:
    """What the average keeps of itself after this many updates."""
    return min(limit, (1 + updates) / (10 + updates))
