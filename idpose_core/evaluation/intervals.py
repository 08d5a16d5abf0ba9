"""How sure: intervals by bootstrap over identities.

Values that share an identity are not independent, so whole identities are drawn again (method.md,
section 8). Methods are compared by their differences on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Callable[[Values], float]
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The statistic of all rows.
        low, high: Its interval; None where there are fewer than two identities.
        n: Rows.
        identities: Independent units among them.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    identities: int


def mean(values: Values) -> float:
    """The mean, as a statistic."""
    return float(np.mean(values))


def median(values: Values) -> float:
    """The median, as a statistic."""
    return float(np.median(values))


def estimate(
    values: NDArray[Any],
    identities: NDArray[Any],
    statistic: Statistic = mean,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic with its percentile bootstrap interval over identities.

    Args:
        values: [N], one a row.
        identities: [N], which rows belong together.
        statistic: Of values [n].
        confidence: Share of the intervals that should cover the truth.
        resamples: Draws.
        seed: Of the draws.

    Raises:
        ValueError: No values, values that are not finite, or another number of identities.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers) or len(numbers) != len(identities):
        raise ValueError(f"{numbers.shape} values for {len(identities)} rows with an identity")
    if not np.isfinite(numbers).all():
        raise ValueError("a value is not finite")
    _, group = np.unique(identities, return_inverse=True)
    members = [numbers[group == unit] for unit in range(group.max() + 1)]
    value = statistic(numbers)
    if len(members) < 2:
        return Estimate(value, None, None, len(numbers), len(members))
    drawn = np.random.default_rng(seed).integers(len(members), size=(resamples, len(members)))
    if statistic is mean:
        sums, sizes = np.array([m.sum() for m in members]), np.array([len(m) for m in members])
        found = sums[drawn].sum(1) / sizes[drawn].sum(1)
    else:
        found = np.array([statistic(np.concatenate([members[u] for u in row])) for row in drawn])
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, (tail, 1 - tail))
    return Estimate(value, float(low), float(high), len(numbers), len(members))


def paired_difference(
    ours: NDArray[Any], theirs: NDArray[Any], identities: NDArray[Any], *, seed: int = 0
) -> Estimate:
    """Mean of ``ours - theirs`` on the same rows, with its interval.

    Raises:
        ValueError: As :func:`estimate`, or different numbers of rows.
    """
    if np.shape(ours) != np.shape(theirs):
        raise ValueError(f"{np.shape(ours)} rows against {np.shape(theirs)}: not the same rows")
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    return estimate(differences, identities, seed=seed)
