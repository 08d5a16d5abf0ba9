from __future__ import annotations

import numpy as np
import pytest

from idpose_core.evaluation import distributions
from idpose_core.evaluation.distributions import kernel_distance, precision_recall
from idpose_core.evaluation.intervals import Estimate


def features(n: int, seed: int, *, shift: float = 0.0, dimensions: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dimensions)) + shift


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return float((a @ b / len(a) + 1) ** 3)


def plain_kid(x: np.ndarray, y: np.ndarray, objects: np.ndarray) -> float:
    """By loops, from the definition: pairs of rows that share no object."""
    shown = [set(column) for column in np.atleast_2d(objects).T]
    n = len(x)
    pairs = [(i, j) for i in range(n) for j in range(n) if not shown[i] & shown[j]]
    terms = [
        kernel(x[i], x[j]) + kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(x[j], y[i])
        for i, j in pairs
    ]
    return float(np.mean(terms))


def usual_kid(x: np.ndarray, y: np.ndarray) -> float:
    """Every output with every target."""

    def kernels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    same, n = kernels(x, x) + kernels(y, y), len(x)
    return float((same.sum() - np.trace(same)) / (n * (n - 1)) - 2 * kernels(x, y).mean())


def kid(x: np.ndarray, y: np.ndarray, objects: np.ndarray) -> Estimate:
    found = kernel_distance(x, y, objects)
    assert found is not None
    return found.estimate()


def test_kid_from_its_definition() -> None:
    x, y = features(30, 0), features(30, 1, shift=0.4)
    for objects in (np.arange(30), np.arange(30) % 7, np.stack([np.arange(30) % 7, 9 - ROLES])):
        assert kid(x, y, objects).value == pytest.approx(plain_kid(x, y, objects), rel=1e-10)


ROLES = np.arange(30) // 4


def test_kid_of_unpaired_rows_equals_torch_fidelity() -> None:
    """Its subsets are of all pictures here, so each of them gives the same value.

    It compares each generated picture with every real one, its own target too; ours does not.
    """
    from torch import from_numpy
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = features(50, 0), features(50, 1, shift=0.4)
    theirs = kid_features_to_metric(
        from_numpy(x), from_numpy(y), kid_subsets=2, kid_subset_size=50, kid_degree=3,
        kid_gamma=None, kid_coef0=1, rng_seed=0, verbose=False,
    )["kernel_inception_distance_mean"]  # fmt: skip
    crossed = np.array([[kernel(a, b) for b in y] for a in x])
    without = (crossed.sum() - np.trace(crossed)) / (50 * 49)
    expected = theirs + 2 * crossed.mean() - 2 * without
    assert kid(x, y, np.arange(50)).value == pytest.approx(expected, rel=1e-9)


def test_kid_of_equal_distributions_is_zero_on_average() -> None:
    values = [kid(features(40, s), features(40, 1000 + s), np.arange(40)).value for s in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5


@pytest.mark.parametrize("way", ["fresh", "own", "copy-id", "copy-pose"])
def test_kid_of_triplets_is_zero_on_average(way: str) -> None:
    """Where outputs have the distribution of the targets.

    Though targets are repeated, rows share objects, and copies are targets of other rows.
    """
    values, usual = [], []
    for seed in range(100):
        draws = np.random.default_rng(seed)
        objects, views, dimensions = 12, 3, 8
        middle = draws.normal(size=(objects, 1, dimensions))
        pool = middle + 0.5 * draws.normal(size=(objects, views, dimensions))
        own = np.repeat(np.arange(objects), 2 * views)
        other = (own + 1 + draws.integers(objects - 1, size=len(own))) % objects
        view = draws.integers(views, size=len(own))
        made = {
            "fresh": draws.normal(size=(len(own), dimensions)) * 1.25**0.5,
            "own": middle[own, 0] + 0.5 * draws.normal(size=(len(own), dimensions)),
            "copy-id": pool[own, view],
            "copy-pose": pool[other, view],
        }[way]
        targets = np.tile(pool, (1, 2, 1)).reshape(-1, dimensions)
        values.append(kid(made, targets, np.stack([own, other])).value)
        usual.append(usual_kid(made, targets))
    assert abs(np.mean(values)) < 4 * np.std(values) / 100**0.5
    # 0.63, -0.14, -0.27 and -0.16
    assert abs(np.mean(usual)) > 10 * np.std(usual) / 100**0.5


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(33, 0), features(33, 1)
    groups = np.arange(33) % 7
    whole = kid(x, y, groups), precision_recall(x, y)
    monkeypatch.setattr(distributions, "_ROWS_AT_ONCE", 5)
    parts = kid(x, y, groups), precision_recall(x, y)
    assert parts[0].value == pytest.approx(whole[0].value, rel=1e-12)
    assert parts[0].low == pytest.approx(whole[0].low, rel=1e-9)
    assert np.array_equal(parts[1].precise, whole[1].precise)


@pytest.mark.parametrize("roles", [1, 2])
def test_the_jackknife_leaves_out_whole_objects(roles: int) -> None:
    x, y = features(24, 0), features(24, 1, shift=0.3)
    own = np.repeat(np.arange(6), 4)
    groups = np.stack([own, (own + 1 + np.arange(24) % 3) % 6])[:roles]
    found = kid(x, y, groups)
    kept = [(groups != g).all(0) for g in range(6)]
    without = np.array([plain_kid(x[k], y[k], groups[:, k]) for k in kept])
    deviation = np.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum())
    # 2.5706 is the 97.5 % point of Student's t with 5 degrees of freedom.
    assert found.low == pytest.approx(found.value - 2.570582 * deviation, rel=1e-6)
    assert found.identities == 6


def test_kids_interval_covers_the_truth() -> None:
    """Against the mean of many draws, which is the truth of the unbiased estimator."""
    values = []
    for seed in range(150):
        x, y = features(60, seed, dimensions=4), features(60, 5000 + seed, shift=0.5, dimensions=4)
        values.append(kid(x, y, np.arange(60)))
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
    assert kernel_distance(features(1, 0), features(1, 1), np.arange(1)) is None
    assert kernel_distance(features(3, 0), features(3, 1), np.array([[0, 1, 0], [1, 2, 2]])) is None
    with pytest.raises(ValueError, match="pairs"):
        kernel_distance(features(3, 0), features(4, 1), np.arange(3))
    with pytest.raises(ValueError, match="must be more pictures"):
        precision_recall(features(3, 0), features(9, 1))
    one = np.repeat(features(1, 0), 9, axis=0)  # as a mean picture is
    assert not precision_recall(one, features(9, 1)).recalled.any()
    assert precision_recall(one, one).precise.all()
