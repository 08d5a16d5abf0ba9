"""`idpose train` and `idpose models`, through the command line of this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from storage.objects import Store
from tests.training.tiny import set_options
from tests.training.worlds import commit_world


def idpose(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root with a dataset and two versions of one model, of which the first serves."""
    folder = str(tmp_path_factory.mktemp("models"))
    commit_world(Store(folder))
    for steps in (1, 2):
        done = idpose(
            "train", "cars", "--root", folder, "--json", *set_options(training__steps=steps)
        )
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["steps"] == steps and found["resumed_from"] == steps - 1
    return folder


def listed(root: str) -> dict[str, object]:
    done = idpose("models", "list", "--root", root, "--json")
    assert done.exit_code == 0
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_first_serves_until_another_is_promoted_and_comes_back(root: str) -> None:
    found = listed(root)
    models = found["models"]
    assert isinstance(models, list) and len(models) == 2
    by_steps = {model["config"]["steps"]: model["version"] for model in models}
    assert found["champions"] == {"cars-identity-pose": by_steps[1]}
    name = "cars-identity-pose"
    assert idpose("models", "promote", f"{name}@{by_steps[2]}", "--root", root).exit_code == 0
    assert listed(root)["champions"] == {name: by_steps[2]}
    shown = idpose("models", "show", name, "--root", root)
    assert f"version: {by_steps[2]}" in shown.stdout and "steps: 2" in shown.stdout
    assert idpose("models", "rollback", name, "--root", root).exit_code == 0
    assert listed(root)["champions"] == {name: by_steps[1]}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("models", "promote", "cars-identity-pose@000000000000"), 1, "published are cars-"),
        (("models", "show", "nothing"), 1, "published are none"),
        (("models", "promote", "cars-identity-pose"), 1, "name the version to promote"),
        (("train", "cars", "--method", "ours"), 2, "no method 'ours'"),
        (("train", "cars", "--set", "generator.sise=64"), 2, "nearest known key is 'generator.siz"),
        (("train", "nothing"), 1, "no dataset 'nothing'"),
        (("train", "cars", "--set", "run.device=cuda:7"), 1, "cuda:7"),
        (("train", "cars", "--set", "run.device=gpu"), 1, "auto, cpu, cuda or cuda:N"),
        (("train", "cars", "--config", "missing.yaml"), 2, "cannot read missing.yaml"),
    ],
)
def test_what_goes_wrong_is_told_in_one_message(
    words: tuple[str, ...], code: int, message: str, root: str, capfd: pytest.CaptureFixture[str]
) -> None:
    needs_weights = words[0] == "train" and "--method" not in words
    options = ("--set", "perceptual.kind=pixel-l1") if needs_weights else ()
    done = idpose(*words, *options, "--root", root)
    assert done.exit_code == code
    assert message in done.output and "Traceback" not in done.output


def test_an_ablation_by_its_name_is_a_model_of_its_own(tmp_path: Path) -> None:
    commit_world(Store(tmp_path))
    words = ["train", "cars", "--method", "without-pv", "--root", str(tmp_path), "--json"]
    done = idpose(*words, *set_options(training__steps=1))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["model"].startswith("cars-without-pv@")
