"""How sure: intervals over objects.

Values that show one object are not independent, so whole objects are drawn again (method.md,
section 8). The value of a triplet depends on two objects, the ID picture's and the pose picture's,
and most objects serve as both: objects are drawn once, and a value counts as often as the product
of its two objects' draws (Davezies, D'Haultfoeuille and Guyonvarch, "Empirical process results for
exchangeable arrays", Annals of Statistics 2021). Percentiles of the draws alone are too narrow
where objects are few: they are taken farther out, so that the interval of a mean of Gaussian
objects has the width of Student's t (Hesterberg, "What teachers should know about the bootstrap",
2015, section 4.1: the expanded percentile interval).

Of what is either so or not, draws say nothing where nearly all agree: a share has the exact
binomial interval of as many samples as its variance is worth (Korn and Graubard, "Confidence
intervals for proportions with small expected number of positive counts estimated from survey
data", Survey Methodology 1998), and at least that of as many samples as there are objects, all of
which agree. What is no mean over rows is measured without one object after the other: the
jackknife. Methods are compared by their differences on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm, t

Values = NDArray[np.float64]
Objects = NDArray[np.int64]
"""[N], the object of each row, or [K, N], its K objects; equal numbers are one object."""
Statistic = Callable[[Values], float]
RESAMPLES = 2000
FEWEST = 5
"""Objects below which no interval is given: no draw of so few reaches far enough."""
_CELLS = 2_000_000  # of a block of draws


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The statistic of all rows.
        low, high: Its interval; None where there are fewer than ``FEWEST`` objects.
        n: Rows.
        identities: Different objects among them; of several roles that of the fewest.
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
    objects: Objects,
    statistic: Statistic = mean,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic with its interval over objects.

    Args:
        values: [N], one a row. A mean of bool values is a share and has a share's interval.
        objects: [N] or [K, N].
        statistic: Of values [n].
        confidence: Share of the intervals that should cover the truth.
        resamples: Draws.
        seed: Of the draws.

    Raises:
        ValueError: No values, values that are not finite, or another number of objects.
    """
    given = np.asarray(values)
    numbers, roles = given.astype(np.float64), np.atleast_2d(objects)
    if numbers.ndim != 1 or not len(numbers) or len(numbers) != roles.shape[1]:
        raise ValueError(f"{numbers.shape} values for {roles.shape[1]} rows with an object")
    if not np.isfinite(numbers).all():
        raise ValueError("a value is not finite")
    value, units = statistic(numbers), fewest_units(roles)
    low = high = None
    if units >= FEWEST:
        found = np.array(list(_drawn(numbers, roles, statistic, resamples, seed)))
        if statistic is mean and given.dtype == np.bool_:
            low, high = _share(value, float(found.var()), units, len(numbers), confidence)
        else:
            tail = expanded_tail(units, confidence)
            low, high = map(float, np.quantile(found, (tail, 1 - tail)))
    return Estimate(value, low, high, len(numbers), units)


def fewest_units(roles: Objects) -> int:
    """Number of different objects of [K, N], in the role that has the fewest."""
    return min(len(np.unique(role)) for role in roles)


def expanded_tail(units: int, confidence: float = 0.95) -> float:
    """Share of the draws on either side of the interval, less than ``(1 - confidence) / 2``.

    Args:
        units: Objects, at least 2.
        confidence: Share of the intervals that should cover the truth.
    """
    reach = t.ppf((1 + confidence) / 2, units - 1) * np.sqrt(units / (units - 1))
    return float(norm.cdf(-reach))


def paired_difference(
    ours: NDArray[Any], theirs: NDArray[Any], objects: Objects, *, seed: int = 0
) -> Estimate:
    """Mean of ``ours - theirs`` on the same rows, with its interval.

    Raises:
        ValueError: As :func:`estimate`, or different numbers of rows.
    """
    if np.shape(ours) != np.shape(theirs):
        raise ValueError(f"{np.shape(ours)} rows against {np.shape(theirs)}: not the same rows")
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    return estimate(differences, objects, seed=seed)


@dataclass(frozen=True, eq=False)
class Jackknife:
    """A number of all rows, and what it is without one unit after the other.

    Attributes:
        value: Of all.
        without: For each kind of unit the values [U] without one of them; kinds whose units vary
            independently of one another add their variances.
        n: Rows.
        units: Of the kind that has the fewest.
    """

    value: float
    without: tuple[Values, ...]
    n: int
    units: int

    def estimate(self) -> Estimate:
        """With an interval of Student's t, or with none where units are fewer than ``FEWEST``."""
        if self.units < FEWEST or not self.without:
            return Estimate(self.value, None, None, self.n, self.units)
        variance = sum((len(left) - 1) * float(left.var()) for left in self.without)
        reach = float(t.ppf(0.975, self.units - 1)) * variance**0.5
        return Estimate(self.value, self.value - reach, self.value + reach, self.n, self.units)

    def minus(self, other: Jackknife) -> Jackknife:
        """The difference of two numbers of the same rows and units."""
        without = tuple(a - b for a, b in zip(self.without, other.without, strict=True))
        return Jackknife(self.value - other.value, without, self.n, self.units)


def _drawn(
    values: Values, roles: Objects, statistic: Statistic, resamples: int, seed: int
) -> Iterator[float]:
    """The statistic of each draw; one that no row survives is left out."""
    _, number = np.unique(roles, return_inverse=True)
    number = number.reshape(roles.shape)
    objects = int(number.max()) + 1
    draws = np.random.default_rng(seed).multinomial(
        objects, np.full(objects, 1 / objects), resamples
    )
    # Rows of the same objects are drawn together.
    together, place = np.unique(number, axis=1, return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place)
    block = max(1, _CELLS // len(values))
    for at in range(0, resamples, block):
        times = draws[at : at + block, together].prod(1)
        times = times[times.any(1)]
        if statistic is mean:
            yield from (times @ sums / (times @ counts)).tolist()
        else:
            yield from (statistic(np.repeat(values, row[place])) for row in times)


def _share(
    share: float, variance: float, units: int, rows: int, confidence: float
) -> tuple[float, float]:
    """Korn and Graubard's interval of a share, never closer to 0 or 1 than its objects can tell.

    Args:
        share: In [0, 1].
        variance: Of the draws' shares.
        units: Objects; where all rows agree, they are the samples.
        rows: More samples than this there are never.
        confidence: Share of the intervals that should cover the truth.
    """
    tail = (1 - confidence) / 2
    samples = float(units)
    if variance > 0:
        narrow = norm.ppf(tail) / t.ppf(tail, units - 1)
        samples = share * (1 - share) / (variance * units / (units - 1)) * narrow**2
        samples = min(samples, float(rows))
    hits = samples * share
    low = float(beta.ppf(tail, hits, samples - hits + 1)) if share > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, samples - hits)) if share < 1 else 1.0
    # So many objects cannot tell that there are none of which all rows are otherwise.
    rare = 1 - tail ** (1 / units)
    return min(low, 1 - rare), max(high, rare)
