"""The model of trust: known answers, a second implementation of the fit, and the curve."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.pose.neighbours import Neighbours
from idpose_core.pose.trust import (
    FEATURES,
    TrustModel,
    fit_trust,
    pair_features,
    precision_over_coverage,
    steadiness,
)

COUNT = len(FEATURES)


def example(seed: int, pairs: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(pairs, COUNT)) * rng.uniform(0.1, 5, COUNT) + rng.normal(size=COUNT)
    slopes = rng.normal(size=COUNT) / features.std(axis=0)
    scores = (features - features.mean(axis=0)) @ slopes + 0.5
    right = rng.random(pairs) < 1 / (1 + np.exp(-scores))
    return features, right, rng.uniform(0.1, 2, pairs)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_the_fit_is_the_minimum_that_another_solver_finds(seed: int) -> None:
    features, right, weights = example(seed)
    ridge = 0.01
    model = fit_trust(features, right, weights, ridge=ridge)
    share = weights / weights.sum()
    mean = share @ features
    deviation = np.sqrt(share @ (features - mean) ** 2)
    scaled = (features - mean) / deviation

    def loss(solution: np.ndarray) -> float:
        scores = solution[0] + scaled @ solution[1:]
        misfit = np.logaddexp(0, np.where(right, -scores, scores))
        return float(share @ misfit + ridge / 2 * np.sum(solution[1:] ** 2))

    slopes = np.asarray([model.coefficients[name] for name in FEATURES])
    ours = np.concatenate([[model.intercept + slopes @ mean], slopes * deviation])
    # Of the features that are left in.
    left = np.flatnonzero(np.append(True, slopes != 0))

    def loss_of_those(part: np.ndarray) -> float:
        solution = np.zeros(COUNT + 1)
        solution[left] = part
        return loss(solution)

    other = scipy.optimize.minimize(loss_of_those, np.zeros(len(left)), tol=1e-12).x
    np.testing.assert_allclose(ours[left], other, atol=2e-4)
    assert loss(ours) <= loss_of_those(other) + 1e-12


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_no_sign_of_certainty_lowers_the_trust(seed: int) -> None:
    features, right, weights = example(seed)
    coefficients = fit_trust(features, right, weights).coefficients
    assert coefficients["angle"] <= 0
    assert all(value >= 0 for name, value in coefficients.items() if name != "angle")
    assert any(coefficients.values())


def test_the_fit_does_not_depend_on_the_order_nor_on_the_scale_of_the_weights() -> None:
    features, right, weights = example(3)
    first = fit_trust(features, right, weights)
    mixed = np.random.default_rng(0).permutation(len(right))
    again = fit_trust(features[mixed], right[mixed], 7 * weights[mixed])
    twice = fit_trust(np.tile(features, (2, 1)), np.tile(right, 2), np.tile(weights, 2))
    for other in (again, twice):
        np.testing.assert_allclose(
            [other.intercept, *other.coefficients.values()],
            [first.intercept, *first.coefficients.values()],
            rtol=1e-7,
        )
    assert fit_trust(features, right, weights).to_json() == first.to_json()


def test_what_tells_everything_apart_is_held_down_by_the_ridge() -> None:
    features = np.zeros((20, COUNT))
    features[:10, 0] = 1.0
    model = fit_trust(features, np.arange(20) < 10)
    found = model.probability(features)
    assert found.dtype == np.float32
    assert np.all(found[:10] > 0.95) and np.all(found[10:] < 0.05)
    assert all(model.coefficients[name] == 0 for name in FEATURES[1:])  # they never change


def test_a_probability_does_not_depend_on_its_company() -> None:
    features, right, _ = example(1)
    model = fit_trust(features, right)
    whole = model.probability(features)
    alone = np.concatenate([model.probability(row[None]) for row in features])
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(whole, model.probability(features[:, None])[:, 0])
    slopes = np.asarray([model.coefficients[name] for name in FEATURES])
    expected = 1 / (1 + np.exp(-(model.intercept + features @ slopes)))
    np.testing.assert_allclose(whole, expected, rtol=1e-5)
    features[0, 3] = np.nan
    assert np.isnan(model.probability(features)).tolist() == [True] + [False] * 299


def test_a_model_survives_its_file() -> None:
    features, right, _ = example(2)
    model = fit_trust(features, right)
    again = TrustModel.from_json(model.to_json())
    assert again == model
    np.testing.assert_array_equal(again.probability(features), model.probability(features))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"intercept": 0, "coefficients": {"angle": 1}}', '{"intercept": 0}',
     TrustModel(0.0, dict.fromkeys(FEATURES, 1.0)).to_json().replace("0.0", "NaN"),
     '{"intercept": null, "coefficients": []}'],
)  # fmt: skip
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="model of trust"):
        TrustModel.from_json(text)


def test_what_cannot_be_fitted_is_refused() -> None:
    features, right, weights = example(0)
    wrong = [
        (features[:, 1:], right, weights, "features"),
        (features, right[1:], weights, "right"),
        (features, right, weights[1:], "weights"),
        (np.where(features > 1, np.nan, features), right, weights, "finite"),
        (features, right, 0 * weights, "positive"),
        (features, np.ones_like(right), weights, "teach nothing"),
        (features[:0], right[:0], weights[:0], "teach nothing"),
    ]
    for bad, by, weighed, message in wrong:
        with pytest.raises(ValueError, match=message):
            fit_trust(bad, by, weighed)
    with pytest.raises(ValueError, match="ridge"):
        fit_trust(features, right, weights, ridge=0)


def test_features_of_a_small_world_worked_out_by_hand() -> None:
    # 0 faces front, 1 nearly so, 2 rear and unsure, 3 is not read, 4 has no neighbour.
    half = np.sqrt(0.5)
    readings = np.asarray(
        [[0.9, 1, 0], [0.8, half, half], [-0.5, -0.5, 0], [np.nan] * 3, [0.1, 0, 1]], np.float32
    )
    indices = np.asarray([[1, 2, 3], [2, 0, 3], [0, 1, -1], [0, 1, 2], [-1] * 3], np.int32)
    similarity = np.where(indices < 0, np.nan, np.asarray([0.9, 0.7, 0.4])).astype(np.float32)
    steady = np.asarray([1, 0.5, -1, 0, 0.25])
    found = pair_features(readings, steady, Neighbours(indices, similarity), 2)
    assert found.shape == (5, 2, COUNT)
    first = dict(zip(FEATURES, found[0, 0], strict=True))
    assert first == pytest.approx(
        {
            "target_front": 0.9, "pose_front": 0.8, "target_length": 1, "pose_length": 1,
            "angle": 45 / 180, "front_agreement": 0.72, "similarity": 0.9,
            "margin": 0.9 - 0.7,  # the best that faces elsewhere is 2
            "mutual": 1, "target_steadiness": 1, "pose_steadiness": 0.5,
        },
        rel=1e-6,
    )  # fmt: skip
    second = dict(zip(FEATURES, found[0, 1], strict=True))
    assert second["angle"] == pytest.approx(1) and second["margin"] == pytest.approx(0, abs=1e-6)
    assert second["front_agreement"] == pytest.approx(-0.45)
    # 2's neighbours both face elsewhere; 3 is not read; 4 has none; nobody has 3 as neighbour here.
    assert dict(zip(FEATURES, found[2, 1], strict=True))["margin"] == pytest.approx(-0.2)
    assert np.isnan(found[3:]).all() and not np.isnan(found[:3]).any()


def test_without_a_rival_the_last_one_found_bounds_the_margin() -> None:
    readings = np.asarray([[1, 1, 0]] * 4, np.float32)
    indices = np.asarray([[1, 2, 3]] + [[-1] * 3] * 3, np.int32)
    similarity = np.where(indices < 0, np.nan, np.asarray([0.9, 0.7, 0.4])).astype(np.float32)
    found = pair_features(readings, np.zeros(4), Neighbours(indices, similarity), 3)[0]
    np.testing.assert_allclose(found[:, FEATURES.index("margin")], [0.5, 0.3, 0], atol=1e-6)
    assert not found[:, FEATURES.index("mutual")].any()


def test_steadiness_is_agreement_with_the_frames_beside() -> None:
    readings = np.asarray([[1, 1, 0], [-1, -1, 0], [1, 1, 0], [0, 0, 1], [np.nan] * 3], np.float32)
    found = steadiness(readings, list("abcde"), list("ccced"), np.asarray([0, 1, 2, 0, 0]) * 1000)
    # a has b and c beside it, which cancel out; b has two against it; d and e are alone.
    np.testing.assert_allclose(found, [0, -1, 0, 0, 0], atol=1e-9)


def test_precision_over_coverage_of_four_pairs() -> None:
    trust = np.asarray([0.9, 0.2, 0.6, 0.6], np.float32)
    right = np.asarray([True, False, True, False])
    rows = precision_over_coverage(trust, right, coverages=(0.25, 0.5, 1.0))
    assert [row["pairs"] for row in rows] == [1, 3, 4]  # pairs of one trust stay together
    assert [row["coverage"] for row in rows] == [0.25, 0.75, 1.0]
    assert [row["precision"] for row in rows] == pytest.approx([1, 2 / 3, 0.5])
    assert [row["min_trust"] for row in rows] == pytest.approx([0.9, 0.6, 0.2])
    assert precision_over_coverage(trust[:0], right[:0]) == []


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=50))
def test_the_least_trust_of_a_row_keeps_just_its_pairs(found: list[tuple[float, bool]]) -> None:
    trust = np.asarray([pair[0] for pair in found], np.float32)
    right = np.asarray([pair[1] for pair in found])
    rows = precision_over_coverage(trust, right)
    assert rows[-1]["coverage"] == 1 and rows[-1]["precision"] == pytest.approx(right.mean())
    for asked, row in zip(np.arange(1, 11) / 10, rows, strict=True):
        kept = trust >= np.float32(row["min_trust"])
        assert kept.sum() == row["pairs"] and row["coverage"] >= asked - 1e-9
        assert row["precision"] == pytest.approx(right[kept].mean())


@given(st.integers(0, 10**6))
def test_features_do_not_depend_on_the_order_of_the_crops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, width = 12, 4
    readings = rng.normal(size=(count, 3)).astype(np.float32)
    readings[rng.random(count) < 0.2] = np.nan
    ids = np.asarray([f"{i:02d}" for i in range(count)])
    clips, times = rng.integers(0, 4, count).astype(np.str_), rng.integers(0, 3, count) * 1000
    indices = np.stack([rng.permutation(count)[:width] for _ in range(count)]).astype(np.int32)
    similarity = -np.sort(-rng.random((count, width)), axis=1).astype(np.float32)
    found = pair_features(
        readings, steadiness(readings, ids, clips, times), Neighbours(indices, similarity), 3
    )
    mixed = rng.permutation(count)
    place = np.argsort(mixed).astype(np.int32)
    again = pair_features(
        readings[mixed],
        steadiness(readings[mixed], ids[mixed], clips[mixed], times[mixed]),
        Neighbours(place[indices[mixed]], similarity[mixed]),
        3,
    )
    np.testing.assert_array_equal(again, found[mixed])
