"""Every method trains, goes on and publishes by the same loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flows.train import train_dataset
from idpose_core.evaluation.generators import load_subject
from idpose_core.methods.registry import METHODS
from idpose_core.training.journal import read_metrics
from idpose_core.training.loop import Trained
from storage.objects import Store
from tests.training.tiny import SETTINGS
from tests.training.worlds import commit_world

TINY = {
    "pix2pixhd": {"pix2pixhd.width": 4, "pix2pixhd.n_blocks": 1, "pix2pixhd.n_down": 2},
    "factor-vae": {"factor_vae.width": 4, "factor_vae.discriminator_width": 8},
    "copy-attention": {"generator.copy_at": [2, 1]},
}


def trained(root: Path, method: str, **other: Any) -> Trained:
    keys = {**SETTINGS, **TINY.get(method, {}), "training.method": method, "training.steps": 4}
    done = train_dataset(str(root), "cars", {}, {**keys, **other}, say=lambda line: None)
    assert done is not None
    return done


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_training_that_stopped_goes_on_to_the_same_weights(method: str, tmp_path: Path) -> None:
    for name in ("whole", "halves"):
        commit_world(Store(tmp_path / name))
    whole = trained(tmp_path / "whole", method)
    assert trained(tmp_path / "halves", method, **{"run.samples": 8}).steps == 2
    again = trained(tmp_path / "halves", method)
    assert again.resumed_from == 2 and whole.model and again.model
    assert whole.model.version == again.model.version


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_it_publishes_can_be_used(method: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store)
    done = trained(tmp_path, method)
    assert done.model is not None
    subject = load_subject(store, done.model.name)
    assert subject.method == method and subject.size == 32
    rows = read_metrics(store, done.run)
    if method == "factor-vae":
        assert done.model.info["metrics"] == {}
        return
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        made = subject.generator(pictures, pictures.flip(0))
    assert made.shape == pictures.shape and bool((made.abs() <= 1).all())
    held_out = next(row for row in rows if "held_out/pixel_l1" in row)
    assert 0 < held_out["held_out/pixel_l1"] < 1 and 0 < held_out["held_out/chroma"] < 1
