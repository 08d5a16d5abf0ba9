"""Twelve weekly rounds, the whole way: builds, trainings, evaluations, and what serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.build_dataset import build_dataset
from flows.configs import find_config
from flows.progress import TerminalProgress
from flows.retrain import LocalSteps, RetrainConfig, Retrained, retrain
from flows.runners import Runner
from idpose_core.config import BuildConfig
from storage.datasets import DatasetError
from storage.objects import Store
from storage.versions import latest_version
from tests.flows.builds import InThisProcess
from tests.flows.quarter import (
    BAD,
    BETTER,
    MODEL,
    Quarter,
    champion,
    check_quarter,
    freeze_own_triplets,
    rounds,
    steps_of,
    weeks,
)

pytestmark = pytest.mark.slow


class InOneProcess(LocalSteps):
    def build(self, config: BuildConfig) -> str:
        runner: Runner = InThisProcess()
        done = build_dataset(config, self.root, runner, TerminalProgress())
        return done.committed.version


def round_of(quarter: Quarter, config: dict[str, Any]) -> Retrained:
    steps = InOneProcess(quarter.root, print)
    return retrain(quarter.root, RetrainConfig.model_validate(config), steps)


def test_a_quarter_of_weekly_rounds(tmp_path: Path) -> None:
    quarter = Quarter(tmp_path)
    config = RetrainConfig.model_validate(quarter.config(BAD))
    build = find_config(config.build, config.build_settings)
    version = InOneProcess(quarter.root, print).build(build)
    freeze_own_triplets(quarter.root, f"box-cars@{version}")
    decisions = {}
    for week, settings in weeks(quarter):
        done = round_of(quarter, settings)
        decisions[week] = done.decision
        print(week, done)
    assert decisions["the first"] == "first"
    assert decisions["nothing is new"] == "skipped"
    assert {d for week, d in decisions.items() if "bad challenger" in week} == {"refused"}
    assert decisions["a better one"] == "promoted"
    store = Store(quarter.root)
    serving = champion(store, MODEL)
    assert serving is not None and steps_of(quarter, serving) >= BETTER
    check_quarter(quarter)
    drifts = [entry["drift"] for entry in rounds(store, MODEL)]
    assert drifts[0] is None and all(d is None or 0 <= d <= 1 for d in drifts)

    # A source that is not mounted is not the latest version.
    latest = latest_version(store, "box-cars")
    quarter.vanish(*range(4, 30))
    with pytest.raises(DatasetError, match="see that the source is complete"):
        round_of(quarter, quarter.config(BETTER))
    assert latest_version(store, "box-cars") == latest and champion(store, MODEL) == serving
