"""Methods side by side: trained cell by cell, gone on with, measured on one set, drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.comparison import ComparisonConfig, compare, read_comparison
from idpose_core.settings import ConfigError
from idpose_core.stages.crop import decode_png
from tests.evaluation.test_sets import world
from tests.flows.builds import run
from tests.training.test_methods import TINY
from tests.training.tiny import SETTINGS

METHODS = ("copy-attention", "pix2pixhd", "factor-vae")


def comparison(dataset: str, **other: Any) -> ComparisonConfig:
    settings = {key: value for key, value in SETTINGS.items() if key != "training.steps"}
    cells = [{"method": method, "settings": TINY[method]} for method in METHODS]
    given = {
        "name": "toys", "dataset": dataset, "triplets": 12, "training_steps": 1, "cells": cells,
        "settings": {**settings, "training.steps": 4}, **other,
    }  # fmt: skip
    return ComparisonConfig.model_validate(given)


def test_all_cells_are_trained_measured_and_drawn(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    config = comparison(dataset)
    first = compare(str(tmp_path), config, methods=["pix2pixhd"], say=lambda line: None)
    assert len(first.models) == 1 and len(first.waiting) == 2 and first.folder is None
    lines: list[str] = []
    done = compare(str(tmp_path), config, say=lines.append)
    assert len(done.models) == 3 and done.waiting == [] and done.folder == "comparisons/toys"
    assert done.models[1] == first.models[0]  # not trained again

    rows = json.loads(store.read("comparisons/toys/rows.json"))["rows"]
    methods = {row["method"] for row in rows if row["metric"] == "pixel-l1"}
    assert {"copy-attention", "pix2pixhd", "copy-id", "oracle-frame"} <= methods
    assert "copy-attention - pix2pixhd" in methods and "factor-vae" not in methods
    assert {row["n"] for row in rows if row["metric"] == "pixel-l1"} == {12}
    table = store.read("comparisons/toys/table.md").decode()
    assert "copy-attention" in table and "pix2pixhd" in table
    drawn = decode_png(store.read("comparisons/toys/grid.png"))
    assert drawn.shape[0] == 5 * (32 + 4) - 4  # ID, pose, target and two methods


def test_a_file_that_is_no_comparison_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cells.yaml"
    file.write_text("{name: x, dataset: y, cells: [{method: pix2pix}]}")
    with pytest.raises(ConfigError, match="nearest known one is 'pix2pixhd'"):
        read_comparison(file)
    file.write_text("{name: x, dataset: y, cells: [{method: factor-vae}]}")
    with pytest.raises(ConfigError, match="nothing is measured"):
        read_comparison(file)
    file.write_text("{name: x, dataset: y, cells: [{method: pix2pix}]}")
    shown = run(["compare", str(file), "--root", str(tmp_path)])
    assert shown.returncode == 2 and "pix2pixhd" in shown.stderr


def test_the_comparison_of_the_docs_can_be_read() -> None:
    import flows.comparison

    folder = Path(flows.comparison.__file__).parent / "configs" / "comparisons"
    config = read_comparison(folder / "cars.yaml")
    assert [cell.method for cell in config.cells][:2] == ["copy-attention", "identity-pose"]
