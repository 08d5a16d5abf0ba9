"""Which triplets are in the batch of a step: a pure function, so that a step is all that resumes.

The rows of an epoch are visited in an order drawn from (seed, epoch); the batches of a training
are consecutive pieces of these orders, one epoch behind the other, none dropped. Nothing is
remembered between steps (as in EDM2, which reseeds from seed, rank and samples seen).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Sampler:
    """Deals rows to steps, and the batch of a step to the processes of one training.

    Args:
        rows: Number of rows of an epoch, N.
        batch_size: Rows of a step, over all processes together, B.
        seed: In [0, 2^64).
        rank, world: This process and how many there are; B is a multiple of ``world``.
        resample: Chooses the N rows of an epoch anew, from the number of the epoch; without it
            every epoch has the rows 0 ... N-1, each once.

    Raises:
        ValueError: There are no rows, a batch is larger than the rows, or cannot be shared.
    """

    rows: int
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    resample: Callable[[int], Rows] | None = None

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError("there are no triplets to train on")
        if self.batch_size < 1:
            raise ValueError(f"a batch has at least one triplet, not {self.batch_size}")
        if self.batch_size > self.rows:
            raise ValueError(
                f"a batch of {self.batch_size} is larger than the {self.rows} triplets: "
                "lower training.batch_size or build more triplets"
            )
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is not one of {self.world} processes")
        if self.batch_size % self.world:
            raise ValueError(
                f"a batch of {self.batch_size} cannot be shared equally by {self.world} processes"
            )

    def batch(self, step: int) -> Rows:
        """The rows of the whole batch of a step (counted from 0), ``[B]``."""
        if step < 0:
            raise ValueError(f"steps are counted from 0, not {step}")
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, within = np.divmod(places, self.rows)
        return np.concatenate(
            [_order(self, int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)]
        )

    def share(self, step: int) -> tuple[Rows, Rows]:
        """This process's part of the batch: its rows, and their places in the batch, ``[B/W]``.

        The parts of all ranks, one behind the other, are the batch. The places seed the
        augmentation, so that it does not depend on the number of processes.
        """
        size = self.batch_size // self.world
        slots = np.arange(self.rank * size, (self.rank + 1) * size)
        return self.batch(step)[slots], slots

    def epoch(self, step: int) -> int:
        """The epoch in which a step begins."""
        return step * self.batch_size // self.rows


@lru_cache(maxsize=4)
def _order(sampler: Sampler, epoch: int) -> Rows:
    rows = np.arange(sampler.rows)
    if sampler.resample is not None:
        rows = np.asarray(sampler.resample(epoch), dtype=np.int64)
        if rows.shape != (sampler.rows,):
            raise ValueError(
                f"epoch {epoch} was resampled to {rows.shape} rows, not ({sampler.rows},)"
            )
    keys = random_words(sampler.seed, "order", epoch, 0, count=sampler.rows)
    return rows[np.argsort(keys, kind="stable")]


_STREAMS = {"order": 1, "augmentation": 2, "batch": 3}


def random_words(
    seed: int, stream: str, major: int, minor: int, *, count: int
) -> NDArray[np.uint64]:
    """64 random bits ``count`` times, a pure function of all arguments.

    Philox (Salmon et al. 2011) is a function of key and counter. numpy promises that a bit
    generator's words stay what they are; the distributions on top of it may change.

    Args:
        seed: In [0, 2^64).
        stream: ``order``, ``augmentation`` or ``batch``.
        major: Such as the step or the epoch.
        minor: Such as the place in the batch.
        count: How many.
    """
    key = seed | _STREAMS[stream] << 64
    generator = np.random.Philox(key=key, counter=minor << 64 | major << 128)
    words: NDArray[np.uint64] = generator.random_raw(count)
    return words
