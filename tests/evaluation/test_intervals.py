from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from idpose_core.evaluation.intervals import (
    FEWEST,
    estimate,
    expanded_tail,
    mean,
    median,
    paired_difference,
)


def test_the_value_is_the_statistic_of_all_rows() -> None:
    found = estimate(np.array([1.0, 2.0, 6.0, 3.0, 4.0, 5.0]), np.array([0, 0, 1, 2, 3, 4]))
    assert (found.value, found.n, found.identities) == (3.5, 6, 5)
    assert found.low is not None and found.high is not None
    assert 1.5 <= found.low < found.value < found.high <= 6


@pytest.mark.parametrize("units", [1, 2, 4])
def test_so_few_identities_have_no_interval(units: int) -> None:
    found = estimate(np.arange(8.0), np.arange(8) % units)
    assert (found.low, found.high, found.identities) == (None, None, units)


def test_the_tail_gives_a_gaussian_mean_the_width_of_students_t() -> None:
    for units in (5, 12, 40):
        # The draws' spread is the sample's with a divisor of n, not n - 1.
        spread = np.sqrt((units - 1) / units)
        assert -norm.ppf(expanded_tail(units)) * spread == pytest.approx(t.ppf(0.975, units - 1))


def test_the_short_cut_for_means_equals_the_general_way() -> None:
    draws = np.random.default_rng(3)
    values, groups = draws.normal(size=60), draws.integers(9, size=60)
    fast = estimate(values, groups, mean, resamples=300)
    slow = estimate(values, groups, lambda v: float(np.mean(v)), resamples=300)
    np.testing.assert_allclose([fast.low, fast.high], [slow.low, slow.high], rtol=1e-12)


@pytest.mark.parametrize(
    ("statistic", "units", "rate"),
    [(mean, 5, 0.92), (mean, 8, 0.94), (mean, 20, 0.95), (mean, 40, 0.95), (median, 40, 0.95)],
)
def test_intervals_cover_the_truth_at_their_rate(
    statistic: object, units: int, rate: float
) -> None:
    """Identities with their own offsets: rows are not independent, identities are."""
    draws = np.random.default_rng(0)
    covered = 0
    runs, rows = (1000 if units < 40 else 300), 6
    for run in range(runs):
        offsets = np.repeat(draws.normal(size=units), rows)
        values = offsets + 0.3 * draws.normal(size=units * rows)
        groups = np.repeat(np.arange(units), rows)
        found = estimate(values, groups, statistic, resamples=2000 if units < 40 else 300, seed=run)  # type: ignore[arg-type]
        assert found.low is not None and found.high is not None
        covered += found.low <= 0 <= found.high
    # Percentiles that are not expanded cover 0.84, 0.89, 0.92 and 0.94 of Gaussian means.
    assert covered / runs == pytest.approx(rate, abs=3 * np.sqrt(rate * (1 - rate) / runs))


def test_treating_rows_as_independent_would_not_cover() -> None:
    draws = np.random.default_rng(0)
    covered = 0
    for run in range(200):
        values = np.repeat(draws.normal(size=20), 12) + 0.1 * draws.normal(size=240)
        found = estimate(values, np.arange(240), resamples=200, seed=run)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0 <= found.high
    assert covered / 200 < 0.6


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    draws = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), 4)
    base = np.repeat(draws.normal(size=30), 4)
    ours, theirs = base + 0.1, base + 0.05 * draws.normal(size=120)
    found = paired_difference(ours, theirs, groups)
    assert found.low is not None and found.high is not None
    assert 0.05 < found.low < found.value < found.high < 0.15
    alone = estimate(ours, groups)
    assert alone.high is not None and alone.low is not None
    assert found.high - found.low < 0.2 * (alone.high - alone.low)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.integers(1, 6), st.randoms())
def test_order_of_rows_changes_nothing(values: list[float], units: int, shuffle: object) -> None:
    rows = np.array(values)
    groups = np.arange(len(rows)) % units
    order = np.random.default_rng(len(values)).permutation(len(rows))
    one = estimate(rows, groups, resamples=50)
    two = estimate(rows[order], groups[order], resamples=50)
    assert one.value == pytest.approx(two.value, abs=1e-9)
    assert (one.low is None) == (len(set(groups)) < FEWEST)
    if one.low is not None:
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-9)


@pytest.mark.parametrize(
    ("values", "groups"),
    [([], []), ([1.0, np.nan], [0, 1]), ([1.0, 2.0], [0]), ([[1.0], [2.0]], [0, 1])],
)
def test_bad_values_are_refused(values: list[float], groups: list[int]) -> None:
    with pytest.raises(ValueError):
        estimate(np.array(values), np.array(groups))


def test_other_rows_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="not the same rows"):
        paired_difference(np.zeros(3), np.zeros(4), np.arange(3))
