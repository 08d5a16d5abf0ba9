"""How sure it is that a pose picture faces as its target does: a small logistic model.

An embedder that reads directions leaves traces of its doubt: short readings, readings that
disagree, neighbours beside the chosen one that face elsewhere and are nearly as similar, frames of
one clip that are read differently. The model weighs them; it is fitted on pairs whose truth is
known (``fit_trust``) and travels as a small file of named coefficients.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from idpose_core.pose.directions import angle_between, azimuth_of, beside_in_clip
from idpose_core.pose.neighbours import Neighbours
from idpose_core.pose.space import Float32, Float64, Texts

FEATURES = (
    "target_front",  # |front score| of the target's reading, 0..1
    "pose_front",  # the same of the pose picture's
    "target_length",  # length of (cosine, sine) of the target's reading, about 0..1
    "pose_length",  # the same of the pose picture's
    "angle",  # between the two directions, in half turns, 0..1
    "front_agreement",  # product of the front scores, -1..1
    "similarity",  # cosine of the pose features
    "margin",  # similarity less that of the best neighbour which faces elsewhere
    "mutual",  # 1 where the target is among the nearest of the pose picture, else 0
    "target_steadiness",  # cosine of the angle to the frames beside it in its clip; 0 without any
    "pose_steadiness",  # the same of the pose picture
)
"""What is known of a pair, in the order of the last axis of features."""

CONTEXT = 50
"""Neighbours of each crop that the features are computed from, whatever `triplets.top_k` is."""

_SIGNS = np.array([-1.0 if name == "angle" else 1.0 for name in FEATURES])
_ELSEWHERE_DEG = 90.0  # a clearly different direction
_MUTUAL = 5  # the target is looked for among so many neighbours of the pose picture
_RIDGE = 1e-3
_MOST_STEPS = 100


@dataclass(frozen=True)
class TrustModel:
    """P(right) = 1 / (1 + exp(-(intercept + sum of coefficient * feature))).

    Attributes:
        intercept: of the sum.
        coefficients: by the name of the feature, all of ``FEATURES``.

    Raises:
        ValueError: other names than ``FEATURES``, or a number that is not finite.
    """

    intercept: float
    coefficients: Mapping[str, float]

    def __post_init__(self) -> None:
        if set(self.coefficients) != set(FEATURES):
            different = sorted(set(self.coefficients) ^ set(FEATURES))
            raise ValueError(f"a model of trust has other features: {', '.join(different)}")
        if not np.isfinite([self.intercept, *self.coefficients.values()]).all():
            raise ValueError("a model of trust has a number that is not finite")

    def probability(self, features: Float64) -> Float32:
        """Probability that the pose picture is right, float32 [...] of features [..., F].

        NaN where a feature is.
        """
        weights = np.asarray([self.coefficients[name] for name in FEATURES], np.float64)
        # Not `@`: how BLAS adds up depends on the number of rows.
        found: Float32 = _logistic(self.intercept + np.sum(features * weights, axis=-1)).astype(
            np.float32
        )
        return found

    def to_json(self) -> str:
        """The model as text; ``from_json`` gives an equal one."""
        plain = {"intercept": self.intercept, "coefficients": dict(self.coefficients)}
        return json.dumps(plain, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrustModel:
        """Read ``to_json``.

        Raises:
            ValueError: the text is no model of trust.
        """
        try:
            plain = json.loads(text)
            coefficients = {str(k): float(v) for k, v in plain["coefficients"].items()}
            return cls(float(plain["intercept"]), coefficients)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a model of trust: {error}") from error


@functools.cache
def shipped_trust(reader: str) -> TrustModel | None:
    """The model that idpose brings along for a reader of directions; None where it brings none.

    Args:
        reader: ``car-view`` or ``azimuth``: how sure each is means something else.

    Raises:
        ValueError: the file is damaged.
    """
    path = Path(__file__).parents[1] / "weights" / "shipped" / "pair-trust.json"
    models = json.loads(path.read_text("utf-8"))
    return TrustModel.from_json(json.dumps(models[reader])) if reader in models else None


def steadiness(
    readings: Float32, crop_ids: Texts, clip_ids: Texts, timestamps: npt.NDArray[np.int64]
) -> Float64:
    """How well each crop's direction agrees with the frames beside it: float64 [N], -1..1.

    The cosine of the angle between its reading and the sum of those of the two crops before and
    after it in its clip; 0 where one of the two has no direction.

    Args:
        readings: float32 [N, 3], NaN where nothing is read.
        crop_ids: the N crop ids.
        clip_ids: the N clip ids.
        timestamps: int64 [N], in milliseconds.
    """
    own = np.nan_to_num(readings[:, 1:].astype(np.float64), nan=0.0)
    beside = beside_in_clip(own, crop_ids, clip_ids, timestamps)
    apart = angle_between(azimuth_of(own), azimuth_of(beside))
    return np.nan_to_num(np.cos(np.radians(apart)), nan=0.0)


def pair_features(readings: Float32, steady: Float64, nearest: Neighbours, top_k: int) -> Float64:
    """What is known of each crop, as a target, with each of its `top_k` nearest neighbours.

    Args:
        readings: float32 [N, 3], (front score, cosine, sine); NaN where nothing is read.
        steady: float64 [N], see ``steadiness``.
        nearest: neighbours of the same rows, of a search for ``CONTEXT`` without `mutual` and
            `min_similarity`.
        top_k: at most as many as there are in `nearest`.

    Returns:
        float64 [N, top_k, F], in the order of ``FEATURES``; NaN where there is no neighbour, or
        nothing is read of one of the two.
    """
    assert top_k <= nearest.indices.shape[1]
    some = nearest.indices >= 0
    azimuth = azimuth_of(readings[:, 1:])
    front = readings[:, 0].astype(np.float64)
    length = np.hypot(*readings[:, 1:].astype(np.float64).T)
    apart = angle_between(azimuth[:, None], azimuth[nearest.indices])
    similarity = nearest.similarity.astype(np.float64)
    # What faces elsewhere and is not among those found is less similar than the last of them.
    last = np.min(np.where(some, similarity, np.inf), axis=1)
    rival = np.max(np.where(some & (apart >= _ELSEWHERE_DEG), similarity, -np.inf), axis=1)
    rival = np.where(np.isneginf(rival), last, rival)

    target, pose = np.arange(len(readings))[:, None], nearest.indices[:, :top_k]
    mutual = np.any(nearest.indices[pose][..., :_MUTUAL] == target[..., None], axis=2)
    columns = {
        "target_front": np.abs(front[target]),
        "pose_front": np.abs(front[pose]),
        "target_length": length[target],
        "pose_length": length[pose],
        "angle": apart[:, :top_k] / 180.0,
        "front_agreement": front[target] * front[pose],
        "similarity": similarity[:, :top_k],
        "margin": similarity[:, :top_k] - rival[:, None],
        "mutual": mutual.astype(np.float64),
        "target_steadiness": steady[target],
        "pose_steadiness": steady[pose],
    }
    found = np.stack([np.broadcast_to(columns[name], pose.shape) for name in FEATURES], axis=-1)
    found[~some[:, :top_k] | np.isnan(found).any(axis=-1)] = np.nan
    return found


def fit_trust(
    features: Float64,
    right: npt.NDArray[np.bool_],
    weights: Float64 | None = None,
    *,
    ridge: float = _RIDGE,
    monotone: bool = True,
) -> TrustModel:
    """Fit the model by ridge-regularised logistic regression: Newton steps, no random numbers.

    Minimises the weighted mean of -log P(what is true) + ridge / 2 * (sum of squares of the
    coefficients of the standardised features); the intercept is not held down.

    Args:
        features: float64 [P, F], in the order of ``FEATURES``, all finite.
        right: bool [P], whether the pose picture faces as the target does.
        weights: float64 [P], positive, such as one over the clip's number of pairs; None = equal.
        ridge: the strength of the regularisation, above 0.
        monotone: no sign of certainty lowers the trust, and no angle raises it: a feature that
            would is left out, the one that does so most first, until none does. Such coefficients
            serve the world that was fitted, and mislead in another.

    Raises:
        ValueError: shapes that do not agree, numbers that are not finite, weights or a ridge that
            are not positive, or pairs that are all right or all wrong.
    """
    count = len(features)
    weights = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if features.shape != (count, len(FEATURES)) or not right.shape == weights.shape == (count,):
        raise ValueError(f"features {features.shape}, right {right.shape}, weights {weights.shape}")
    if not np.isfinite(features).all() or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError("features must be finite and weights positive")
    if not ridge > 0:
        raise ValueError(f"ridge must be positive, not {ridge}")
    if len(np.unique(right)) != 2:
        raise ValueError("pairs that are all right, or all wrong, teach nothing")
    weights = weights / weights.sum()
    mean = weights @ features
    deviation = np.sqrt(weights @ (features - mean) ** 2)
    deviation[deviation < 1e-12] = 1.0  # a feature that never changes gets no coefficient
    design = np.concatenate([np.ones((count, 1)), (features - mean) / deviation], axis=1)
    kept = np.ones(len(FEATURES), np.bool_)
    while True:
        columns = np.flatnonzero(np.append(True, kept))
        solution = _newton(design[:, columns], right.astype(np.float64), weights, ridge)
        signed = solution[1:] * _SIGNS[kept]
        if not monotone or (signed >= 0).all():
            break
        kept[np.flatnonzero(kept)[signed.argmin()]] = False
    coefficients = np.zeros(len(FEATURES))
    coefficients[kept] = solution[1:]
    coefficients = coefficients / deviation
    return TrustModel(
        float(solution[0] - coefficients @ mean),
        dict(zip(FEATURES, coefficients.tolist(), strict=True)),
    )


def precision_over_coverage(
    trust: Float32,
    right: npt.NDArray[np.bool_],
    *,
    coverages: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
) -> list[dict[str, float]]:
    """How often the most trusted pairs are right: the price of asking for more.

    Args:
        trust: float32 [P], none NaN.
        right: bool [P].
        coverages: shares of the pairs, 0 to 1.

    Returns:
        For each coverage `coverage` as it came out (pairs of one trust stay together), `pairs`,
        `min_trust` that keeps just these, and `precision`. Nothing for no pairs.
    """
    if not len(trust):
        return []
    descending = np.sort(trust)[::-1]
    rows = []
    for coverage in coverages:
        least = descending[max(1, int(np.ceil(coverage * len(trust) - 1e-9))) - 1]
        kept = trust >= least
        rows.append(
            {
                "coverage": float(kept.mean()),
                "pairs": int(kept.sum()),
                "min_trust": float(least),
                "precision": float(right[kept].mean()),
            }
        )
    return rows


def _newton(design: Float64, right: Float64, weights: Float64, ridge: float) -> Float64:
    """The minimum of the regularised loss; float64 [1 + F], the intercept first."""
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 0.0

    def loss(solution: Float64) -> float:
        scores = design @ solution
        misfit = np.logaddexp(0.0, scores) - right * scores
        return float(weights @ misfit + 0.5 * np.sum(penalty * solution**2))

    solution = np.zeros(design.shape[1])
    now = loss(solution)
    for _ in range(_MOST_STEPS):
        chance = _logistic(design @ solution)
        slope = design.T @ (weights * (chance - right)) + penalty * solution
        curvature = (design.T * (weights * chance * (1.0 - chance))) @ design + np.diag(penalty)
        # Where everything is told apart the intercept's own curvature vanishes.
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(solution)), slope)
        size = 1.0
        while (then := loss(solution - size * step)) >= now and size > 1e-6:
            size /= 2
        if then >= now:
            break
        solution, gained, now = solution - size * step, now - then, then
        if gained <= 1e-14:
            break
    return solution


def _logistic(scores: Float64) -> Float64:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * scores)))
