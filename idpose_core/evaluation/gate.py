"""Whether a new model may take the place of the one that serves, by paired intervals alone.

Both are measured on the same frozen triplets. The difference of each metric has an interval by
bootstrap over objects (``idpose_core.evaluation.intervals``). A challenger is promoted if

- in each metric that it has to be better in, the interval of its gain lies above the margin, and
- in each metric that it must not be worse in, the interval of its gain lies above minus the limit:
  it is shown not to be worse by more (a test of non-inferiority), not merely not seen to be.

Where objects are too few for intervals, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field

from idpose_core.settings import Section

Decision = Literal["promoted", "refused", "undecided"]
HIGHER_IS_BETTER = (
    "id-score-*", "pose-score-*", "swap-score-*", "azimuth-hit*", "identity-first*",
    "precision-*", "recall-*",
)  # fmt: skip
"""Of all other metrics less is better."""


class GateConfig(Section):
    """When a challenger is promoted. Keys are names of metrics, ``*`` stands for any letters."""

    better: dict[str, float] = Field(
        {"lpips-*-masked": 0.02},
        min_length=1,
        description="Metric: margin above which the interval of the gain has to lie, in each",
    )
    not_worse: dict[str, float] = Field(
        {
            "pixel-l1": 0.01,
            "chroma-error-*": 0.02,
            "id-score-*": 0.03,
            "azimuth-hit*": 0.12,
            "azimuth-opposite*": 0.12,
        },
        description="Metric: by how much it must be shown not to be worse, where it is measured",
    )


@dataclass(frozen=True)
class Gain:
    """How much better the challenger is in one metric; negative where it is worse.

    Attributes:
        metric: Its name.
        value, low, high: The gain with its interval; no interval where objects are too few.
        needed: What ``low`` has to lie above.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    needed: float

    @property
    def holds(self) -> bool:
        """Whether what is needed is shown."""
        return self.low is not None and self.low > self.needed

    def __str__(self) -> str:
        interval = "no interval" if self.low is None else f"{self.low:+.4f} to {self.high:+.4f}"
        return f"{self.metric} {self.value:+.4f} ({interval}; above {self.needed:+.4f} is needed)"


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and why.

    Attributes:
        decision: ``promoted``, ``refused`` or ``undecided``.
        reasons: One sentence each; none where it is promoted.
        gains: Of all metrics that the gate looks at, those to be better in first.
    """

    decision: Decision
    reasons: list[str]
    gains: list[Gain]


def decide(
    rows: Iterable[Mapping[str, Any]], challenger: str, champion: str, gate: GateConfig
) -> Verdict:
    """Decide by the rows of one evaluation.

    Args:
        rows: In the form of docs/results; those that compare the two models count.
        challenger: ``name@version``, ``model`` of the rows.
        champion: Likewise, ``against``.
        gate: The rules.
    """
    compared = [
        row for row in rows if row.get("model") == challenger and row.get("against") == champion
    ]
    better = _gains(compared, gate.better, 1)
    not_worse = _gains(compared, gate.not_worse, -1)
    gains = [gain for found in (*better.values(), *not_worse.values()) for gain in found]
    missing = [f"{name} was not measured" for name, found in better.items() if not found]
    without = [f"too few objects for an interval of {g.metric}" for g in gains if g.low is None]
    if missing or without:
        return Verdict("undecided", [*missing, *without], gains)
    failed = [str(gain) for gain in gains if not gain.holds]
    return Verdict("refused" if failed else "promoted", failed, gains)


def _gains(
    rows: Sequence[Mapping[str, Any]], rules: Mapping[str, float], sign: int
) -> dict[str, list[Gain]]:
    """The gains by the rule that they fall under."""
    return {
        name: [_gain(row, sign * size) for row in rows if fnmatchcase(row["metric"], name)]
        for name, size in rules.items()
    }


def _gain(row: Mapping[str, Any], needed: float) -> Gain:
    """A row of differences as a gain: turned round where less is better."""
    value, low, high = row["value"], row["ci_low"], row["ci_high"]
    if any(fnmatchcase(row["metric"], name) for name in HIGHER_IS_BETTER):
        return Gain(row["metric"], value, low, high, needed)
    if low is not None:
        low, high = -high, -low
    return Gain(row["metric"], -value, low, high, needed)
