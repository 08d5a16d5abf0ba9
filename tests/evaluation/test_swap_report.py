"""The whole way: a published model and a dataset, by the command."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from idpose_core.evaluation.generators import load_subject
from idpose_core.evaluation.swap_report import main
from idpose_core.evaluation.views import read_views
from idpose_core.models.generator import Generator, GeneratorConfig
from idpose_core.stages.crop import decode_png
from idpose_core.training.published import ModelError, promote, publish_model
from storage.errors import DatasetError
from storage.objects import Store
from tests.training.worlds import commit_world, encode

TINY = GeneratorConfig(size=32, n_down=2, width=4, n_blocks=1)


def publish(store: Store, config: dict[str, object], generator: Generator) -> str:
    model = publish_model(
        store, "cars-small", generator.state_dict(), config=config, dataset=("cars", "1"),
        metrics={}, code_version="1", trained_on={}, licences={},
    )  # fmt: skip
    return model.version


def test_views_of_a_dataset(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dataset = commit_world(store, azimuths=True)
    views = read_views(store, dataset, "test")
    assert len(views) == 16 and len(views.names) == 4
    assert views.source == f"{dataset}:test"
    for row, name in enumerate(views.identity):
        second = int(views.azimuth_deg[row] / 90)
        expected = decode_png(encode(f"{views.names[name]}-{second}"))
        assert np.array_equal(views.pictures[row], expected)


def test_a_dataset_without_azimuths_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(DatasetError, match="no crops with a known azimuth"):
        read_views(store, commit_world(store), "test")


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "root")
    commit_world(store, train_videos=2, azimuths=True)
    version = publish(store, {"generator": asdict(TINY), "steps": 7}, Generator(TINY))
    promote(store, "cars-small", version)
    out = tmp_path / "out"
    words = ["cars-small", "cars", "--root", str(tmp_path / "root"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["swap_report", *words, "--judge-steps", "2"])
    main()
    rows = json.loads((out / "swaps.json").read_text("utf-8"))["rows"]
    assert {row["model"] for row in rows} == {f"cars-small@{version}", None}
    assert {row["dataset"] for row in rows} == {"cars"}
    assert len({(row["method"], row["metric"]) for row in rows}) == len(rows)
    assert rows[0]["command"] == (
        "python -m idpose_core.evaluation.swap_report cars-small cars --judge-steps 2"
    )
    assert sorted(path.name for path in out.glob("*.png")) == [
        "swaps-copy-id.png", "swaps-copy-pose.png", "swaps-identity-pose.png",
        "swaps-mean-picture.png", "swaps-oracle-frame.png",
    ]  # fmt: skip
    assert "copy-pose" in capsys.readouterr().out


def test_a_published_model_generates_what_it_did(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = Generator(TINY)
    version = publish(store, {"generator": asdict(TINY)}, made)
    subject = load_subject(store, f"cars-small@{version}")
    loaded = subject.generator
    assert loaded.config == TINY and not loaded.training and subject.name == f"cars-small@{version}"
    assert all(
        np.array_equal(value.numpy(), loaded.state_dict()[name].numpy())
        for name, value in made.state_dict().items()
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "does not say what its generator is"),
        ({"generator": {"depth": 3}}, "does not say what its generator is"),
        ({"generator": {**asdict(TINY), "width": 8}}, "not of the generator that it names"),
    ],
)
def test_models_that_cannot_be_used(
    tmp_path: Path, config: dict[str, object], message: str
) -> None:
    store = Store(tmp_path)
    version = publish(store, config, Generator(TINY))
    with pytest.raises(ModelError, match=message):
        load_subject(store, f"cars-small@{version}")
