"""Rounds of retraining: what serves after each, whatever was new, planted, cut off or rolled back.

Data sets are committed without a build and gains are planted; trainings are real, and tiny.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows import retrain as retraining
from flows.retrain import InterruptedRoundError, LocalSteps, RetrainConfig, Retrained
from idpose_core.config import BuildConfig
from idpose_core.settings import ConfigError, with_overrides
from idpose_core.training.config import TrainingConfig
from idpose_core.training.published import (
    ModelError,
    champion,
    promote,
    promotions,
    read_model,
    rollback,
    rounds,
)
from storage.objects import Store
from tests.training.tiny import SETTINGS
from tests.training.worlds import commit_world

MODEL = "cars-identity-pose"
Interval = tuple[float | None, float | None]


@dataclass
class Planted:
    """The steps of a round in which the data, and what the evaluation finds, are given."""

    root: str
    videos: int = 4
    gain: Interval = (0.05, 0.07)
    evaluated: list[tuple[str, str, str]] = field(default_factory=list)
    trained: list[Mapping[str, Any]] = field(default_factory=list)

    def build(self, config: BuildConfig) -> str:
        dataset = commit_world(Store(self.root), train_videos=self.videos, azimuths=True)
        return dataset.partition("@")[2]

    def train(self, dataset: str, values: Mapping[str, Any]) -> str | None:
        self.trained.append(values)
        return LocalSteps(self.root, lambda line: None).train(dataset, values)

    def evaluate(self, challenger: str, champion: str, name: str, config: RetrainConfig) -> str:
        self.evaluated.append((challenger, champion, name))
        low, high = self.gain
        row = {
            "model": challenger, "against": champion, "metric": "id-score-small",
            "value": 0.5 * ((low or 0) + (high or 0)), "ci_low": low, "ci_high": high,
        }  # fmt: skip
        path = f"evaluation-sets/{name}/evaluation/planted-{len(self.evaluated)}.json"
        Store(self.root).publish(path, json.dumps({"rows": [row]}).encode())
        return path


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    (tmp_path / "cars.yaml").write_text("name: cars\nsource: {kind: folder, path: videos}\n")
    return Planted(str(tmp_path / "root"))


def round_of(planted: Planted, **settings: Any) -> Retrained:
    values: dict[str, Any] = {
        "build": str(Path(planted.root).parent / "cars.yaml"),
        "training_settings": {**SETTINGS, "training.steps": 1},
        "gate": {"better": {"id-score-*": 0.02}, "not_worse": {}},
        **settings,
    }
    config = RetrainConfig.model_validate(values)
    return retraining.retrain(planted.root, config, planted, lambda line: None)


def serving(planted: Planted) -> str | None:
    return champion(Store(planted.root), MODEL)


def test_the_best_model_serves_after_every_round(planted: Planted) -> None:
    first = round_of(planted)
    assert first.decision == "first" and first.challenger == f"{MODEL}@{serving(planted)}"
    assert round_of(planted).decision == "skipped" and len(planted.trained) == 1

    planted.videos = 5
    better = round_of(planted)
    assert better.decision == "promoted" and better.champion == first.challenger
    assert better.challenger == f"{MODEL}@{serving(planted)}"

    planted.videos, planted.gain = 6, (0.01, 0.05)
    refused = round_of(planted)
    assert refused.decision == "refused" and "id-score-small" in refused.reasons[0]
    assert f"{MODEL}@{serving(planted)}" == better.challenger
    kept = read_model(Store(planted.root), str(refused.challenger))
    assert kept.info["dataset"]["version"] == refused.dataset.partition("@")[2]

    planted.videos, planted.gain = 7, (None, None)
    assert round_of(planted).decision == "undecided"
    assert round_of(planted).decision == "skipped"
    assert f"{MODEL}@{serving(planted)}" == better.challenger
    log = rounds(Store(planted.root), MODEL)
    assert [one["decision"] for one in log] == ["first", "promoted", "refused", "undecided"]
    assert log[2]["gains"][0]["low"] == 0.01 and log[2]["path"] == refused.path


def test_both_are_measured_on_one_set_from_round_to_round(planted: Planted) -> None:
    for videos in (4, 5, 6):
        planted.videos = videos
        round_of(planted)
    sets = {name for _, _, name in planted.evaluated}
    assert len(planted.evaluated) == 2 and len(sets) == 1
    assert {entry["evaluation_set"] for entry in rounds(Store(planted.root), MODEL)} == sets


def test_a_promotion_that_was_cut_off_is_made_once(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_of(planted)
    planted.videos = 5
    with monkeypatch.context() as patch:
        patch.setattr(retraining, "promote", lambda *args, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            round_of(planted)
    assert len(promotions(Store(planted.root), MODEL)) == 1
    again = round_of(planted)
    assert again.decision == "promoted" and again.round == 2
    assert again.challenger == f"{MODEL}@{serving(planted)}"
    assert len(planted.trained) == 2 and len(planted.evaluated) == 1
    assert promotions(Store(planted.root), MODEL)[-1]["round"] == 2

    rollback(Store(planted.root), MODEL)
    assert round_of(planted).decision == "skipped"
    assert len(promotions(Store(planted.root), MODEL)) == 3


def test_a_champion_that_another_replaced_meanwhile_is_measured_against(planted: Planted) -> None:
    round_of(planted)
    store = Store(planted.root)
    old = serving(planted)
    other = LocalSteps(planted.root, lambda line: None).train(
        "cars", with_overrides(TrainingConfig, {}, {**SETTINGS, "seed": 7})
    )
    assert other is not None
    planted.videos = 5
    evaluate = planted.evaluate

    def promoted_meanwhile(*words: Any) -> str:
        promote(store, MODEL, other.partition("@")[2], "by hand")
        return evaluate(*words)

    planted.evaluate = promoted_meanwhile  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=f"{old} does not serve any more"):
        round_of(planted)
    assert f"{MODEL}@{serving(planted)}" == other
    planted.evaluate = evaluate  # type: ignore[method-assign]
    again = round_of(planted)
    assert again.decision == "promoted" and again.champion == other


def test_a_challenger_begins_with_the_champion_where_that_is_asked_for(planted: Planted) -> None:
    first = round_of(planted, start="champion")
    planted.videos = 5
    second = round_of(planted, start="champion")
    config = read_model(Store(planted.root), str(second.challenger)).info["config"]
    assert config["training"]["start"] == first.challenger
    assert round_of(planted, start="champion").decision == "skipped"


def test_a_training_that_was_stopped_ends_the_round_and_goes_on(planted: Planted) -> None:
    long = {**SETTINGS, "training.steps": 4, "run.samples": 4}
    with pytest.raises(InterruptedRoundError):
        round_of(planted, training_settings=long)
    assert rounds(Store(planted.root), MODEL) == [] and serving(planted) is None
    done = round_of(planted, training_settings={**long, "run.samples": None})
    assert done.decision == "first"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluation_set": "none"}, "evaluation_set: no set 'none'"),
        ({"method": "factor-vae"}, "'factor-vae' swaps nothing"),
        ({"method": "identity-pos"}, "the nearest is 'identity-pose'"),
        ({"training_settings": {"training.stepz": 3}}, "training.steps"),
        ({"build": "no-such-file.yaml"}, "neither a file nor one of"),
    ],
)
def test_what_cannot_work_is_said_before_the_build(
    planted: Planted, settings: dict[str, Any], message: str
) -> None:
    planted.build = lambda config: pytest.fail("built")  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=message):
        round_of(planted, **settings)
