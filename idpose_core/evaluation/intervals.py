"""How sure: intervals by bootstrap over identities.

Values that share an identity are not independent, so whole identities are drawn again (method.md,
section 8). Percentiles of the draws alone are too narrow where identities are few: they are taken
farther out, so that the interval of a mean of Gaussian identities has the width of Student's t
(Hesterberg, "What teachers should know about the bootstrap", 2015, section 4.1: the expanded
percentile interval). Methods are compared by their differences on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

Values = NDArray[np.float64]
Statistic = Callable[[Values], float]
RESAMPLES = 2000
FEWEST = 5
"""Identities below which no interval is given: no draw of so few reaches far enough."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The statistic of all rows.
        low, high: Its interval; None where there are fewer than ``FEWEST`` identities.
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
    """A statistic with its expanded percentile bootstrap interval over identities.

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
    if len(members) < FEWEST:
        return Estimate(value, None, None, len(numbers), len(members))
    drawn = np.random.default_rng(seed).integers(len(members), size=(resamples, len(members)))
    if statistic is mean:
        sums, sizes = np.array([m.sum() for m in members]), np.array([len(m) for m in members])
        found = sums[drawn].sum(1) / sizes[drawn].sum(1)
    else:
        found = np.array([statistic(np.concatenate([members[u] for u in row])) for row in drawn])
    tail = expanded_tail(len(members), confidence)
    low, high = np.quantile(found, (tail, 1 - tail))
    return Estimate(value, float(low), float(high), len(numbers), len(members))


def expanded_tail(units: int, confidence: float = 0.95) -> float:
    """Share of the draws on either side of the interval, less than ``(1 - confidence) / 2``.

    Args:
        units: Identities, at least 2.
        confidence: Share of the intervals that should cover the truth.
    """
    reach = t.ppf((1 + confidence) / 2, units - 1) * np.sqrt(units / (units - 1))
    return float(norm.cdf(-reach))


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
