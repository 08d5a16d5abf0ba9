from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from idpose_core.evaluation.intervals import (
    FEWEST,
    Jackknife,
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


def dyads(
    objects: int, spread: tuple[float, float], draws: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Values that depend on both objects of a row; most objects serve as both."""
    as_id, as_pose = (size * draws.normal(size=objects) for size in spread)
    one = draws.integers(objects, size=300)
    two = (one + 1 + draws.integers(objects - 1, size=300)) % objects
    return as_id[one] + as_pose[two] + 0.3 * draws.normal(size=300), np.stack([one, two])


@pytest.mark.parametrize("spread", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_intervals_cover_where_values_depend_on_two_objects(spread: tuple[float, float]) -> None:
    draws = np.random.default_rng(0)
    covered = {"both": 0, "first": 0}
    for run in range(300):
        values, objects = dyads(24, spread, draws)
        for name, units in (("both", objects), ("first", objects[0])):
            found = estimate(values, units, resamples=400, seed=run)
            assert found.low is not None and found.high is not None
            covered[name] += found.low <= 0 <= found.high
    assert covered["both"] / 300 == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 300))
    if spread[1]:  # as a copy of the pose picture does
        assert covered["first"] / 300 < 0.9


@pytest.mark.parametrize(("share", "units"), [(0.02, 24), (0.02, 42), (0.95, 16), (0.3, 12)])
@pytest.mark.parametrize("together", [True, False])
def test_intervals_of_shares_cover_at_least_at_their_rate(
    share: float, units: int, together: bool
) -> None:
    """Whether all rows of an object agree or each is for itself."""
    draws = np.random.default_rng(0)
    covered = 0
    for run in range(300):
        drawn = draws.random(units if together else 6 * units) < share
        values = np.repeat(drawn, 6) if together else drawn
        found = estimate(values, np.repeat(np.arange(units), 6), resamples=400, seed=run)
        assert found.low is not None and found.high is not None
        assert 0 <= found.low <= found.value <= found.high <= 1
        covered += found.low <= share <= found.high
    # The exact interval covers more often than it says; draws alone cover 0.37 of the first.
    assert covered / 300 >= 0.93


def test_a_share_covers_where_few_objects_behave_otherwise() -> None:
    """Of a hundred objects three hit half of the time, the others hardly ever."""
    draws = np.random.default_rng(0)
    covered = 0
    for run in range(300):
        rates = np.where(draws.random(42) < 0.03, 0.5, 0.001)
        values = draws.random(42 * 60) < np.repeat(rates, 60)
        found = estimate(values, np.repeat(np.arange(42), 60), resamples=300, seed=run)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0.03 * 0.5 + 0.97 * 0.001 <= found.high
    assert covered / 300 >= 0.93


def test_one_hit_is_no_surer_than_none() -> None:
    none = np.zeros(4200, bool)
    one = none.copy()
    one[7] = True
    groups = np.repeat(np.arange(42), 100)
    assert estimate(one, groups).high == pytest.approx(estimate(none, groups).high)


def test_a_share_on_which_all_agree_has_the_interval_of_its_objects() -> None:
    none = estimate(np.zeros(600, bool), np.repeat(np.arange(30), 20))
    assert none.value == none.low == 0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 30))
    every = estimate(np.ones(600, bool), np.repeat(np.arange(30), 20))
    assert every.value == every.high == 1
    assert every.low == pytest.approx(0.025 ** (1 / 30))


def test_independent_rows_have_the_exact_binomial_interval() -> None:
    """Rows that are objects of their own: by the package that others use."""
    from scipy.stats import binomtest

    values = np.arange(200) < 30
    found = estimate(values, np.arange(200), resamples=20_000)
    exact = binomtest(30, 200).proportion_ci(0.95, "exact")
    assert exact.high > 1 - 0.025 ** (1 / 200)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.004)


def test_a_jackknife_of_means_has_the_interval_of_student() -> None:
    values = np.random.default_rng(5).normal(size=12)
    left = (values.sum() - values) / 11
    found = Jackknife(float(values.mean()), (left,), 12, 12).estimate()
    reach = t.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12)
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach))
    twice = Jackknife(float(values.mean()), (left, left), 12, 12).estimate()
    assert twice.high == pytest.approx(values.mean() + 2**0.5 * reach)
    other = Jackknife(1.0, (left,), 12, 12)
    same = other.minus(other).estimate()
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert Jackknife(1.0, (left[:4],), 12, 4).estimate().low is None


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
