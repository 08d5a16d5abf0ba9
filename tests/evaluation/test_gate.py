"""The gate decides by intervals: known rows, and rounds of models whose true gain is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from idpose_core.evaluation.gate import GateConfig, decide
from idpose_core.evaluation.intervals import estimate

CHALLENGER, CHAMPION = "cars@new", "cars@old"
OBJECTS, TRIPLETS, ROUNDS = 42, 200, 400
# Half widths of the intervals of copy-attention less identity-pose on 500 triplets of 42 objects
# (docs/results/comparison-cars.json), by which the spread of the objects is chosen.
HALF_WIDTHS = {
    "lpips-st-alex-masked": 0.0085, "pixel-l1": 0.0013, "chroma-error-masked": 0.006,
    "id-score-small": 0.008, "azimuth-hit-32": 0.05, "azimuth-opposite-32": 0.038,
}  # fmt: skip


def row(metric: str, value: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {
        "model": CHALLENGER, "against": CHAMPION, "metric": metric, "value": value,
        "ci_low": low, "ci_high": high,
    }  # fmt: skip


def verdict(*rows: dict[str, Any], **rules: dict[str, float]) -> tuple[str, list[str]]:
    found = decide(rows, CHALLENGER, CHAMPION, GateConfig(**rules))
    return found.decision, found.reasons


def test_less_is_better_unless_the_metric_says_otherwise() -> None:
    rules = {"better": {"lpips-a": 0.01, "id-score-a": 0.01}, "not_worse": {}}
    lpips, score = row("lpips-a", -0.03, -0.04, -0.02), row("id-score-a", 0.03, 0.02, 0.04)
    assert verdict(lpips, score, **rules) == ("promoted", [])
    assert verdict(row("lpips-a", 0.03, 0.02, 0.04), score, **rules)[0] == "refused"
    assert verdict(lpips, row("id-score-a", -0.03, -0.04, -0.02), **rules)[0] == "refused"


@pytest.mark.parametrize(
    ("low", "decision"), [(0.0101, "promoted"), (0.01, "refused"), (0.0099, "refused")]
)
def test_the_lower_end_has_to_lie_above_the_margin(low: float, decision: str) -> None:
    found = verdict(row("id-score-a", 0.05, low, 0.09), better={"id-score-*": 0.01}, not_worse={})
    assert found[0] == decision


def test_not_worse_has_to_be_shown() -> None:
    rules = {"better": {"id-score-a": 0.01}, "not_worse": {"azimuth-hit*": 0.1}}
    gain = row("id-score-a", 0.05, 0.02, 0.08)
    assert verdict(gain, row("azimuth-hit-64", -0.02, -0.09, 0.05), **rules)[0] == "promoted"
    wide = verdict(gain, row("azimuth-hit-64", 0.02, -0.11, 0.15), **rules)
    assert wide[0] == "refused" and "azimuth-hit-64 +0.0200" in wide[1][0]
    assert verdict(gain, **rules)[0] == "promoted"  # a limit holds where there is such a metric


def test_nothing_is_decided_without_an_interval_or_without_the_metric() -> None:
    rules: dict[str, dict[str, float]] = {"better": {"id-score-*": 0.01}, "not_worse": {}}
    assert verdict(row("id-score-a", 0.5, None, None), **rules)[0] == "undecided"
    assert verdict(row("lpips-a", -0.5, -0.6, -0.4), **rules) == (
        "undecided", ["id-score-* was not measured"],
    )  # fmt: skip
    other = {**row("id-score-a", 0.5, 0.4, 0.6), "against": "cars@another"}
    assert verdict(other, **rules)[0] == "undecided"


def simulated(gains: dict[str, float], gate: GateConfig, seed: int) -> int:
    """How many of the rounds are promoted, where the true gains are these.

    Triplets of an object's ID picture with another's pose picture: each object moves all of its
    triplets by an offset of its own, and each triplet has noise.
    """
    draws = np.random.default_rng(seed)
    promoted = 0
    for number in range(ROUNDS):
        objects = np.stack([draws.integers(OBJECTS, size=TRIPLETS) for _ in range(2)])
        rows = []
        for metric, half in HALF_WIDTHS.items():
            spread = half / 1.96 * np.sqrt(OBJECTS / 2)
            offsets = draws.normal(0, spread, (2, OBJECTS))
            noise = draws.normal(0, spread, TRIPLETS)
            sign = 1 if metric.startswith(("id-", "azimuth-hit")) else -1
            truth = sign * gains.get(metric, 0.0)
            values = truth + offsets[0][objects[0]] + offsets[1][objects[1]] + noise
            found = estimate(values, objects, resamples=200, seed=number)
            rows.append(row(metric, found.value, found.low, found.high))
        promoted += decide(rows, CHALLENGER, CHAMPION, gate).decision == "promoted"
    return promoted


def test_equal_models_are_hardly_ever_promoted() -> None:
    assert simulated({}, GateConfig(), seed=0) <= 16


def test_even_without_a_margin_equal_models_are_promoted_at_the_rate_of_the_interval() -> None:
    gate = GateConfig(better={"lpips-*-masked": 0.0})
    assert 1 <= simulated({}, gate, seed=1) <= 16


def test_a_gain_of_twice_the_margin_is_found() -> None:
    margin = GateConfig().better["lpips-*-masked"]
    assert simulated({"lpips-st-alex-masked": 2 * margin}, GateConfig(), seed=2) >= 0.9 * ROUNDS


def test_a_gain_is_not_bought_with_another_metric() -> None:
    gains = {"lpips-st-alex-masked": 0.04, "azimuth-hit-32": -0.15}
    assert simulated(gains, GateConfig(), seed=3) <= 16
