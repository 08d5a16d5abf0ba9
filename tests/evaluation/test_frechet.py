"""The Fréchet distance against the two packages that others use, and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from idpose_core.evaluation.frechet import few_samples, frechet_distance, gaussian


def samples(n: int, dimensions: int, seed: int, *, shift: float = 0.0) -> NDArray[np.float64]:
    """Correlated, skewed and far from white, as features are."""
    draws = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / dimensions**0.5
    scales = np.geomspace(3.0, 0.01, dimensions)
    return np.abs(draws.normal(size=(n, dimensions)) * scales) @ mixing + shift


def distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return frechet_distance(gaussian(x), gaussian(y))


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.5])
def test_it_equals_pytorch_fid_and_torch_fidelity(shift: float) -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch import from_numpy
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = samples(600, 96, 0), 1.1 * samples(500, 96, 1, shift=shift)
    ours = distance(x, y)
    moments = [(s.mean(0), np.cov(s, rowvar=False)) for s in (x, y)]
    theirs = calculate_frechet_distance(*moments[0], *moments[1])
    statistics = [fid_features_to_statistics(from_numpy(s)) for s in (x, y)]
    fidelity = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours == pytest.approx(fidelity, rel=1e-6)


def test_equal_sets_have_no_distance() -> None:
    x = samples(300, 64, 0)
    assert distance(x, x) < 1e-6 * np.trace(np.cov(x, rowvar=False))
    assert distance(x, x[np.random.default_rng(1).permutation(len(x))]) < 1e-6


def test_a_shift_adds_its_squared_length() -> None:
    x, y = samples(300, 32, 0), samples(400, 32, 1)
    move = np.random.default_rng(5).normal(size=32)
    plain = np.trace(np.cov(y, rowvar=False))
    assert distance(x, x + move) == pytest.approx(move @ move, rel=1e-6)
    centred = y + (x.mean(0) - y.mean(0))
    gain = distance(x, centred + move) - distance(x, centred)
    assert gain == pytest.approx(move @ move, abs=1e-8 * plain + 1e-9)


def test_commuting_covariances_have_a_closed_form() -> None:
    """Axis-parallel Gaussians: the sum of (s - t)^2 over the axes."""
    corners = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    one, two = corners * np.array([1.0, 2, 3]), corners * np.array([4.0, 2, 1])
    unit = 2 / 5  # variance of a column of ``corners``, divided by n - 1
    expected = unit * ((1 - 4) ** 2 + 0 + (3 - 1) ** 2)
    assert distance(one, two) == pytest.approx(expected, rel=1e-12)


def test_singular_covariances_are_exact_and_carry_a_warning() -> None:
    """Of fewer samples than dimensions: by the singular values of the centred samples."""
    x, y = samples(20, 64, 0), samples(25, 64, 1)
    a, b = (s - s.mean(0) for s in (x, y))
    roots = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt(19 * 24)
    expected = (
        ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() / 19 + (b**2).sum() / 24 - 2 * roots
    )
    assert distance(x, y) == pytest.approx(expected, rel=1e-6)
    warning = few_samples(gaussian(x), gaussian(y))
    assert warning is not None and "20 different samples for 64 dimensions" in warning
    assert few_samples(gaussian(samples(65, 64, 0)), gaussian(samples(70, 64, 1))) is None


def test_repeated_samples_are_no_more_samples() -> None:
    often = gaussian(np.repeat(samples(20, 64, 0), 40, axis=0))
    warning = few_samples(often, gaussian(samples(800, 64, 1)))
    assert warning is not None and "20 different samples" in warning


def test_it_is_symmetric() -> None:
    x, y = samples(200, 24, 0), samples(150, 24, 1, shift=0.1)
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-9)


def test_sets_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="two samples"):
        gaussian(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="finite"):
        gaussian(np.full((3, 4), np.nan))
    with pytest.raises(ValueError, match="4 against 5 dimensions"):
        frechet_distance(gaussian(np.zeros((3, 4))), gaussian(np.zeros((3, 5))))
