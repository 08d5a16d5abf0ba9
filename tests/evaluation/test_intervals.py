from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.evaluation.intervals import estimate, mean, median, paired_difference


def test_the_value_is_the_statistic_of_all_rows() -> None:
    found = estimate(np.array([1.0, 2.0, 6.0]), np.array([0, 0, 1]))
    assert (found.value, found.n, found.identities) == (3.0, 3, 2)
    # Two units of means 1.5 and 6: the draws are both, the first twice, the second twice.
    assert (found.low, found.high) == (1.5, 6.0)


def test_one_identity_has_no_interval() -> None:
    found = estimate(np.array([1.0, 2.0]), np.array([7, 7]))
    assert (found.low, found.high, found.identities) == (None, None, 1)


def test_the_short_cut_for_means_equals_the_general_way() -> None:
    draws = np.random.default_rng(3)
    values, groups = draws.normal(size=60), draws.integers(9, size=60)
    fast = estimate(values, groups, mean, resamples=300)
    slow = estimate(values, groups, lambda v: float(np.mean(v)), resamples=300)
    np.testing.assert_allclose([fast.low, fast.high], [slow.low, slow.high], rtol=1e-12)


@pytest.mark.parametrize("statistic", [mean, median])
def test_intervals_cover_the_truth_at_their_rate(statistic: object) -> None:
    """Identities with their own offsets: rows are not independent, identities are."""
    draws = np.random.default_rng(0)
    covered = 0
    runs, units, rows = 300, 40, 6
    for run in range(runs):
        offsets = np.repeat(draws.normal(size=units), rows)
        values = offsets + 0.3 * draws.normal(size=units * rows)
        groups = np.repeat(np.arange(units), rows)
        found = estimate(values, groups, statistic, resamples=300, seed=run)  # type: ignore[arg-type]
        assert found.low is not None and found.high is not None
        covered += found.low <= 0 <= found.high
    # 0.95 less the known optimism of percentile intervals with 40 units; 3 sigma of 300 runs.
    assert 0.89 <= covered / runs <= 0.985


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
    for a, b in ((one.value, two.value), (one.low, two.low), (one.high, two.high)):
        assert a == pytest.approx(b, abs=1e-9)


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
