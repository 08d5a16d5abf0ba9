"""The batch of a step is a function of the step alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.training.sampling import Rows, Sampler, random_words

SIZES = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))
SEEDS = st.integers(0, 2**64 - 1)


def test_known_answer() -> None:
    """Another order would be another training: a run could not go on where it stopped."""
    sampler = Sampler(10, 4, seed=7)
    assert [sampler.batch(step).tolist() for step in range(3)] == KNOWN
    assert random_words(7, "order", 0, 0, count=1).tolist() == [KNOWN_WORD]


KNOWN = [[3, 9, 1, 6], [2, 5, 4, 8], [0, 7, 5, 4]]
KNOWN_WORD = 16278639771243212573


@given(SIZES, SEEDS, st.integers(0, 200))
def test_going_on_at_a_step_is_never_having_stopped(
    sizes: tuple[int, int], seed: int, step: int
) -> None:
    rows, batch = sizes
    straight = Sampler(rows, batch, seed)
    for earlier in range(max(0, step - 3), step):
        straight.batch(earlier)
    assert np.array_equal(straight.batch(step), Sampler(rows, batch, seed).batch(step))


@given(SIZES, SEEDS)
def test_each_epoch_visits_each_row_once(sizes: tuple[int, int], seed: int) -> None:
    rows, batch = sizes
    sampler = Sampler(rows, batch, seed)
    visited = np.concatenate([sampler.batch(step) for step in range(3 * -(-rows // batch) + 3)])
    for epoch in range(3):
        assert sorted(visited[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(st.integers(1, 4), st.integers(1, 5), SEEDS, st.integers(0, 50))
def test_ranks_partition_the_batch(world: int, share: int, seed: int, step: int) -> None:
    whole = Sampler(30, world * share, seed)
    parts = [Sampler(30, world * share, seed, rank, world).share(step) for rank in range(world)]
    assert np.array_equal(np.concatenate([rows for rows, _ in parts]), whole.batch(step))
    slots = np.concatenate([slots for _, slots in parts])
    assert slots.tolist() == list(range(world * share))


def test_seeds_and_epochs_differ() -> None:
    orders = [tuple(Sampler(50, 50, seed).batch(epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_an_epoch_can_be_resampled() -> None:
    def resample(epoch: int) -> Rows:
        return np.arange(10) + 100 * epoch

    sampler = Sampler(10, 4, seed=1, resample=resample)
    visited = np.concatenate([sampler.batch(step) for step in range(5)])
    assert sorted(visited[:10]) == list(range(10))
    assert sorted(visited[10:]) == list(range(100, 110))
    with pytest.raises(ValueError, match="epoch 0 was resampled"):
        Sampler(11, 4, seed=1, resample=resample).batch(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0), "no triplets"),
        ((5, 6, 0), "batch of 6 is larger than the 5 triplets"),
        ((5, 0, 0), "at least one"),
        ((5, 3, 0, 0, 2), "cannot be shared equally by 2"),
        ((5, 4, 0, 2, 2), "rank 2"),
    ],
)
def test_what_cannot_be_dealt_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampler(*arguments)


def test_steps_are_counted_from_zero() -> None:
    with pytest.raises(ValueError, match="from 0"):
        Sampler(5, 2, 0).batch(-1)
