from __future__ import annotations

import numpy as np
import pytest

from idpose_core.evaluation import distributions
from idpose_core.evaluation.distributions import kernel_distance, precision_recall


def features(n: int, seed: int, *, shift: float = 0.0, dimensions: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dimensions)) + shift


def plain_kid(x: np.ndarray, y: np.ndarray) -> float:
    """By loops, from the definition."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n = len(x)
    pairs = [(i, j) for i in range(n) for j in range(n)]
    same = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / (n * (n - 1))
    return same - 2 * sum(k(x[i], y[j]) for i, j in pairs) / n**2


def test_kid_from_its_definition() -> None:
    x, y = features(30, 0), features(30, 1, shift=0.4)
    found = kernel_distance(x, y, np.arange(30))
    assert found.value == pytest.approx(plain_kid(x, y), rel=1e-10)


def test_kid_equals_torch_fidelity() -> None:
    """Its subsets are of all pictures here, so each of them gives the same value."""
    from torch import from_numpy
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = features(50, 0), features(50, 1, shift=0.4)
    theirs = kid_features_to_metric(
        from_numpy(x), from_numpy(y), kid_subsets=2, kid_subset_size=50, kid_degree=3,
        kid_gamma=None, kid_coef0=1, rng_seed=0, verbose=False,
    )["kernel_inception_distance_mean"]  # fmt: skip
    assert kernel_distance(x, y, np.arange(50)).value == pytest.approx(theirs, rel=1e-9)


def test_kid_of_equal_distributions_is_zero_on_average() -> None:
    values = [
        kernel_distance(features(40, s), features(40, 1000 + s), np.arange(40)).value
        for s in range(200)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(33, 0), features(33, 1)
    groups = np.arange(33) % 7
    whole = kernel_distance(x, y, groups), precision_recall(x, y)
    monkeypatch.setattr(distributions, "_ROWS_AT_ONCE", 5)
    parts = kernel_distance(x, y, groups), precision_recall(x, y)
    assert parts[0].value == pytest.approx(whole[0].value, rel=1e-12)
    assert parts[0].low == pytest.approx(whole[0].low, rel=1e-9)
    assert np.array_equal(parts[1].precise, whole[1].precise)


def test_the_jackknife_leaves_out_whole_identities() -> None:
    x, y = features(24, 0), features(24, 1, shift=0.3)
    groups = np.repeat(np.arange(6), 4)
    found = kernel_distance(x, y, groups)
    without = np.array([plain_kid(x[groups != g], y[groups != g]) for g in range(6)])
    deviation = np.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum())
    # 2.5706 is the 97.5 % point of Student's t with 5 degrees of freedom.
    assert found.low == pytest.approx(found.value - 2.570582 * deviation, rel=1e-6)
    assert found.identities == 6


def test_kids_interval_covers_the_truth() -> None:
    """Against the mean of many draws, which is the truth of the unbiased estimator."""
    values = []
    for seed in range(150):
        x, y = features(60, seed, dimensions=4), features(60, 5000 + seed, shift=0.5, dimensions=4)
        values.append(kernel_distance(x, y, np.arange(60)))
    truth = np.mean([v.value for v in values])
    covered = np.mean([v.low <= truth <= v.high for v in values])  # type: ignore[operator]
    assert 0.85 <= covered <= 0.99


def test_precision_and_recall_of_known_sets() -> None:
    """Points on a line, one apart: a radius with one neighbour is 1."""
    real = np.arange(5.0)[:, None]
    generated = np.array([[0.5], [3.5], [4.9], [20.0], [21.0]])
    found = precision_recall(generated, real, neighbours=1)
    assert found.precise.tolist() == [True, True, True, False, False]
    # Radii of the generated points: 3, 1.4, 1.4, 1, 1.
    assert found.recalled.tolist() == [True, True, True, True, True]
    far = precision_recall(real + 100, real, neighbours=1)
    assert not far.precise.any() and not far.recalled.any()


def test_precision_and_recall_equal_torch_fidelity() -> None:
    from torch import from_numpy
    from torch_fidelity.metric_prc import prc_features_to_metric

    x, y = features(60, 0), features(60, 1, shift=0.5)
    theirs = prc_features_to_metric(
        from_numpy(x), from_numpy(y), prc_neighborhood=3, prc_batch_size=1000, verbose=False
    )
    ours = precision_recall(x, y)
    assert ours.precise.mean() == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours.recalled.mean() == pytest.approx(theirs["recall"], abs=1e-6)
    assert ours.precise.mean() != ours.recalled.mean()


@pytest.mark.parametrize("times", [2, 4, 8])
def test_pictures_that_occur_several_times_change_no_precision(times: int) -> None:
    x, y = features(60, 0), features(60, 1)
    once, often = precision_recall(x, y), precision_recall(x, np.repeat(y, times, axis=0))
    assert once.precise.mean() > 0.5
    assert np.array_equal(once.precise, often.precise)
    assert np.array_equal(np.repeat(once.recalled, times), often.recalled)


def test_too_few_pictures() -> None:
    with pytest.raises(ValueError, match="two rows"):
        kernel_distance(features(1, 0), features(1, 1), np.arange(1))
    with pytest.raises(ValueError, match="paired"):
        kernel_distance(features(3, 0), features(4, 1), np.arange(3))
    with pytest.raises(ValueError, match="must be more pictures"):
        precision_recall(features(3, 0), features(9, 1))
    one = np.repeat(features(1, 0), 9, axis=0)  # as a mean picture is
    assert not precision_recall(one, features(9, 1)).recalled.any()
    assert precision_recall(one, one).precise.all()
