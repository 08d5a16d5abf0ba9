"""The processes of one training: who they are, and what they tell each other.

``torchrun`` starts them and says in the environment who each one is. Gradients are averaged after
the backward pass, by hand: the method calls the networks' parts one by one, several times a step,
which DistributedDataParallel's one ``forward`` does not know.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class World:
    """The processes of a training, and which one this is.

    Attributes:
        rank: This process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in place."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        told = torch.tensor(float(flag), device=device)
        dist.all_reduce(told)
        return bool(told > 0)

    def told(self, value: ValueT | None) -> ValueT:
        """What the leading process holds, in every process."""
        held: list[ValueT | None] = [value]
        if self.size > 1:
            dist.broadcast_object_list(held)  # a pickle, from this training's own processes
        assert held[0] is not None
        return held[0]

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The processes that ``torchrun`` started together, or this one alone.

    Raises:
        ValueError: The environment names some of them and not the others.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {size} and {', '.join(missing)} not set: start with torchrun"
        )
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
