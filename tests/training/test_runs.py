"""Runs: what their folder says of them, and which ones a training does not go on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.train import train_dataset
from idpose_core.evaluation.roles import RoleError
from idpose_core.methods.identity_pose import VERSION
from idpose_core.training import config
from storage.digests import digest
from storage.objects import Store
from tests.training.tiny import SETTINGS
from tests.training.worlds import commit_world


def train(root: Path, **other: Any) -> tuple[str, list[str]]:
    """Two steps, or as many as asked for. Returns the run's id and what was said."""
    keys = {name.replace("__", "."): value for name, value in other.items()}
    said: list[str] = []
    done = train_dataset(
        str(root), "cars", overrides=SETTINGS | {"training.steps": 2} | keys, say=said.append
    )
    assert done is not None
    return done.run, said


def test_a_new_version_of_the_method_says_which_run_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_world(Store(tmp_path))
    monkeypatch.setattr(config, "VERSION", VERSION - 1)
    before, said = train(tmp_path)
    assert not any("method version" in line for line in said)
    monkeypatch.undo()
    _, said = train(tmp_path, seed=1)
    assert not any("method version" in line for line in said)
    after, said = train(tmp_path)
    assert after != before
    told = f"run {before} of method version {VERSION - 1} is left; this one starts at step 0"
    assert told in said
    assert told not in train(tmp_path)[1]


def test_the_configuration_of_a_run_is_that_of_its_last_call(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store)
    steps, begun = [], []
    for wanted in (1, 2):
        path = f"runs/{train(tmp_path, training__steps=wanted)[0]}/config.json"
        content = json.loads(store.read(path))
        steps.append(content["config"]["training"]["steps"])
        begun.append(content["created_at"])
        if wanted == 1:
            content["created_at"] = begun[0] = "2026-01-01T00:00:00+00:00"
            store.replace(path, json.dumps(content).encode())
    assert steps == [1, 2] and begun[0] == begun[1]


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    """A checkpoint of the paper's networks is a gigabyte."""
    commit_world(Store(tmp_path))
    folder = tmp_path / "runs" / train(tmp_path, training__steps=1)[0] / "checkpoints"
    (folder / ".tmp-0123").write_bytes(b"half")
    before = sorted(folder.glob("*.safetensors"))
    train(tmp_path)
    assert before and not list(folder.glob(".tmp-*")) and set(before) < set(folder.iterdir())


def test_the_network_that_chose_the_triplets_is_no_loss(tmp_path: Path) -> None:
    """Training for days what no guard would let be measured helps no one."""
    commit_world(Store(tmp_path), embedder="st-vgg16")
    with pytest.raises(RoleError, match="st-vgg16 serves as retrieval and as training loss"):
        train(tmp_path, perceptual__kind="st-vgg16")
    assert not Store(tmp_path).list("runs")


def test_what_has_its_default_does_not_name_a_run() -> None:
    """So that runs keep their names when a setting comes that they do not use."""
    plain = config.resolve(default_preset="128")
    assert plain.identity() == {
        "training": {"method": "identity-pose"}, "seed": 0, "method_version": VERSION,
    }  # fmt: skip
    said = {"generator": {"width": 32}, "training": {"jitter": 0.4, "log_every": 7}}
    assert config.resolve(said, default_preset="128").identity() == plain.identity()
    for key, value in (("training.jitter", 0.0), ("generator.width", 31), ("seed", 1)):
        other = config.resolve(overrides={key: value}, default_preset="128")
        assert other.identity() != plain.identity()


def test_steps_name_a_run_whose_rate_falls_towards_the_last() -> None:
    def named(**settings: Any) -> str:
        overrides = {name.replace("__", "."): value for name, value in settings.items()}
        return digest(config.resolve(overrides=overrides, default_preset="64").identity())

    assert named(training__steps=7) == named()
    falling = named(training__decay_from=0.5)
    assert falling not in (named(), named(training__decay_from=0.5, training__steps=7))


def test_a_training_weighs_by_trust(tmp_path: Path) -> None:
    def halve(triplet: dict[str, Any]) -> None:
        triplet["trust"] = 0.5 if triplet["target_ms"] else 1.0

    commit_world(Store(tmp_path), change=halve)
    plain, weighed = train(tmp_path)[0], train(tmp_path, training__weigh_by_trust=True)[0]
    assert plain != weighed
    said = [Store(tmp_path).read(f"runs/{run}/metrics.jsonl") for run in (plain, weighed)]
    assert said[0] != said[1]
