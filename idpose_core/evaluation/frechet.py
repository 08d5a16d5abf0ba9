"""The Fréchet distance of two sets of features: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

Over Inception's features it is the FID (Heusel et al., "GANs Trained by a Two Time-Scale Update
Rule Converge to a Local Nash Equilibrium", NeurIPS 2017).

The trace of the root comes from eigenvalues of a symmetric matrix, not from scipy's ``sqrtm``:
faster, without imaginary parts, and exact where a covariance is singular.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from idpose_core.evaluation.features import Features, without_repeats


@dataclass(frozen=True, eq=False)
class Gaussian:
    """What the distance looks at.

    Attributes:
        mean: float64 [D].
        covariance: float64 [D, D], divided by n - 1.
        n: Samples.
        different: Those that differ from one another.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    n: int
    different: int


def gaussian(features: Features) -> Gaussian:
    """Mean and covariance of features [N, D].

    Raises:
        ValueError: Fewer than two samples, or values that are not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"a covariance needs two samples or more, not {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite")
    values = np.asarray(features, np.float64)
    mean = values.mean(0)
    centred = values - mean
    covariance = centred.T @ centred / (len(values) - 1)
    return Gaussian(mean, covariance, len(values), len(without_repeats(values)))


def frechet_distance(one: Gaussian, two: Gaussian) -> float:
    """The squared distance of two Gaussians.

    Raises:
        ValueError: Different dimensions.
    """
    if one.mean.shape != two.mean.shape:
        raise ValueError(f"features of {len(one.mean)} against {len(two.mean)} dimensions")
    difference = one.mean - two.mean
    traces = np.trace(one.covariance) + np.trace(two.covariance)
    distance = difference @ difference + traces - 2 * _trace_of_root(one, two)
    return float(max(distance, 0.0))


def few_samples(one: Gaussian, two: Gaussian) -> str | None:
    """The warning that belongs into the result, or None: fewer samples than dimensions."""
    dimensions, fewest = len(one.mean), min(one.different, two.different)
    if fewest > dimensions:
        return None
    return (
        f"{fewest} different samples for {dimensions} dimensions: the covariance is singular, and "
        "the distance depends on the number of samples; compare at equal numbers only"
    )


def _trace_of_root(one: Gaussian, two: Gaussian) -> float:
    """The trace of (S1 S2)^(1/2), the eigenvalues of (R^T S2 R)^(1/2) with R R^T = S1."""
    inner = _root(one.covariance)
    inner = inner.T @ two.covariance @ inner
    eigenvalues = scipy.linalg.eigvalsh((inner + inner.T) / 2)
    return float(np.sqrt(np.clip(eigenvalues, 0, None)).sum())


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some R with R R^T = covariance: by Cholesky, or where that is singular by eigenvectors."""
    try:
        triangle: NDArray[np.float64] = scipy.linalg.cholesky(covariance, lower=True)
    except scipy.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)))
    return triangle
