"""The frozen splits."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from importlib.resources import files

import pytest

from idpose_core.datasets.rendered.families import family
from idpose_core.datasets.rendered.splits import SPLITS, drawn_splits, models_of, split_of


def frozen() -> list[tuple[str, int, str]]:
    text = files("idpose_core.datasets.rendered").joinpath("splits.csv").read_text()
    return [(r["kind"], int(r["model"]), r["split"]) for r in csv.DictReader(io.StringIO(text))]


def test_the_file_holds_what_its_tool_prints() -> None:
    assert frozen() == drawn_splits()
    tool = [sys.executable, "-m", "idpose_core.datasets.rendered.splits"]
    printed = subprocess.run(tool, capture_output=True, check=True, text=True).stdout
    text = files("idpose_core.datasets.rendered").joinpath("splits.csv").read_text()
    assert printed == text


def test_splits_are_disjoint_complete_and_of_the_papers_sizes() -> None:
    for kind, sizes in {"car": [100, 41, 42], "chair": [1184, 209]}.items():
        members = [models_of(kind, split) for split in SPLITS[kind]]
        assert [len(m) for m in members] == sizes
        everyone = [model for group in members for model in group]
        assert sorted(everyone) == list(range(family(kind).models))
        for split, group in zip(SPLITS[kind], members, strict=True):
            assert {split_of(kind, model) for model in group} == {split}


@pytest.mark.parametrize("limit", [20, 100, 400, 1393])
def test_any_number_of_chairs_is_split_85_to_15(limit: int) -> None:
    assert len(models_of("chair", "test", limit=limit)) == round(0.15 * limit)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models_of("boat", "train"), "no kind 'boat'; there are car, chair"),
        (lambda: models_of("chair", "validation"), "no split 'validation' of chairs"),
        (lambda: models_of("car", "train", limit=0), "1 to 183"),
        (lambda: models_of("car", "train", limit=184), "1 to 183"),
        (lambda: split_of("car", 183), "no car 183: the models are 0 to 182"),
        (lambda: split_of("chair", -1), "no chair -1"),
    ],
)
def test_what_does_not_exist_is_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
