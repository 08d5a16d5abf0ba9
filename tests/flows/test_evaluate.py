"""The commands evaluate, freeze and table, the whole way."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.evaluate import evaluate_model, find_model
from idpose_core.models.generator import Generator, GeneratorConfig
from idpose_core.training.published import ModelError, promote, publish_model
from storage.datasets import read_manifest
from storage.errors import DatasetError
from storage.objects import Store
from tests.evaluation.test_sets import world
from tests.flows.builds import run

TINY = GeneratorConfig(size=32, n_down=2, width=4, n_blocks=1)


def publish(store: Store, dataset: str, steps: int = 5, run_id: str | None = None) -> str:
    name, _, version = dataset.partition("@")
    config = {
        "generator": asdict(TINY), "steps": steps, "perceptual": {"kind": "st-vgg16"},
        "training": {"method": "identity-pose"}, **({"run": run_id} if run_id else {}),
    }  # fmt: skip
    model = publish_model(
        store, f"{name}-identity-pose", Generator(TINY).state_dict(), config=config,
        dataset=(name, version), metrics={}, code_version="1", licences={},
    )  # fmt: skip
    return f"{model.name}@{model.version}"


def test_evaluate_then_table(tmp_path: Path) -> None:
    store, dataset = world(tmp_path / "root")
    model = publish(store, dataset, run_id="0123456789ab")
    promote(store, *model.split("@"))
    root = ["--root", str(tmp_path / "root")]
    shown = run(
        ["evaluate", "cars-identity-pose", *root, "--triplets", "30", "--training-steps", "2",
         "--json"]
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout.splitlines()[-1])
    assert found["model"] == model
    assert found["path"].startswith("runs/0123456789ab/evaluation/")
    assert found["evaluation_set"] == dataset.replace("@", "-")
    assert "weights" in found["left_out"]["lpips-alex-v0.1"]
    written = json.loads(store.read(found["path"]))["rows"]
    assert written == found["rows"]
    metrics = {row["metric"] for row in written if row["method"] == "identity-pose"}
    assert {"pixel-l1", "id-score-small", "pose-score-small", "azimuth-hit"} <= metrics
    assert any(path.endswith("-swaps.png") for path in store.list("runs"))

    table = run(["table", *root])
    assert table.returncode == 0, table.stderr
    assert f"cars@{dataset.partition('@')[2]} | ours | {model}" in table.stdout
    assert "id-score-small, 30" in table.stdout
    wrong = run(["table", *root, "--format", "html"])
    assert wrong.returncode == 1 and "md, csv or json" in wrong.stderr


def test_a_run_names_its_longest_trained_model(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    document = {"dataset": dataset, "config": {"training": {"method": "identity-pose"}}}
    store.publish("runs/abc/config.json", json.dumps(document).encode())
    with pytest.raises(ModelError, match="run abc has published no model yet"):
        find_model(store, "abc")
    publish(store, dataset, 5, "abc")
    longest = publish(store, dataset, 9, "abc")
    publish(store, dataset, 99, "other")
    found = find_model(store, "abc")
    assert f"{found.name}@{found.version}" == longest
    assert find_model(store, longest).version == found.version


def test_freeze(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    root = ["--root", str(tmp_path)]
    shown = run(["freeze", "cars", "--name", "mine", "--triplets", "7", *root, "--json"])
    assert shown.returncode == 0, shown.stderr
    info = json.loads(shown.stdout.splitlines()[-1])
    assert info["triplets"] == 7 and info["review"] == {"auto": 7, "reviewed": 0}
    other = run(["freeze", "cars", "--name", "mine", "--triplets", "8", *root])
    assert other.returncode == 1 and "never changed" in other.stderr
    assert read_manifest(store, dataset)["name"] == "cars"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "none"], "no version of model 'none' is promoted"),
        (["evaluate", "cars-identity-pose@x"], "no model cars-identity-pose@x"),
        (["freeze", "none"], "no dataset 'none'"),
    ],
)
def test_what_is_not_there(tmp_path: Path, words: list[str], message: str) -> None:
    shown = run([*words, "--root", str(tmp_path)])
    assert shown.returncode == 1 and message in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_missing_set_and_metric(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    model = publish(store, dataset)
    with pytest.raises(DatasetError, match="no evaluation set 'x'"):
        evaluate_model(str(tmp_path), model, evaluation_set="x", device="cpu")
