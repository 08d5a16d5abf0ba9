"""The pretext trainer: labels, learning, repeatability, and that its file is an embedder's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from idpose_core.pose.embedding import load_embedder
from idpose_core.pose.pretext import RotNetTraining, train_rotnet, turned


def upright_pictures(count: int, side: int = 64) -> NDArray[np.uint8]:
    """Bright above, dark below, with noise: which way is up can be told."""
    draws = np.random.default_rng(0)
    ramp = np.linspace(220, 30, side)[None, :, None, None]
    noise = draws.normal(0, 12, (count, side, side, 3))
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


def train(destination: Path, **changes: object) -> RotNetTraining:
    arguments: dict[str, object] = {
        "steps": 12,
        "batch_size": 4,
        "width": 0.125,
        "input_size": 96,
        "seed": 0,
    }
    return train_rotnet(upright_pictures(20), destination, **(arguments | changes))  # type: ignore[arg-type]


def test_turned_against_numpy() -> None:
    inputs = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4)
    copies, labels = turned(inputs)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for row, label in enumerate(labels.tolist()):
        expected = np.rot90(inputs[row % 2].numpy(), label, (1, 2))
        assert np.array_equal(copies[row].numpy(), expected)


def test_it_learns_which_way_is_up(tmp_path: Path) -> None:
    steps: list[int] = []
    trained = train(
        tmp_path / "w.safetensors", steps=30, on_step=lambda step, _: steps.append(step)
    )
    assert steps == list(range(1, 31))
    assert trained.held_out == 2
    assert trained.accuracy == 1.0  # chance is 0.25
    assert np.mean(trained.losses[-5:]) < 0.3 * np.mean(trained.losses[:3])


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first = train(tmp_path / "a.safetensors")
    torch.manual_seed(1)
    np.random.seed(1)  # the global state must not matter
    threads = torch.get_num_threads()
    again = train(tmp_path / "b.safetensors")
    assert first.sha256 == again.sha256
    assert first.losses == again.losses
    assert train(tmp_path / "c.safetensors", seed=1).sha256 != first.sha256
    assert torch.get_num_threads() == threads
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.safetensors",
        "b.safetensors",
        "c.safetensors",
    ]


def test_the_file_is_an_embedder_of_kind_rotnet(tmp_path: Path) -> None:
    trained = train(tmp_path / "w.safetensors")
    embedder = load_embedder("rotnet", trained.path, image_size=64, masked=False, silhouette=False)
    features = embedder.embed(upright_pictures(2), None)
    assert embedder.weights_sha256 == trained.sha256
    assert features.shape == (2, 32 * 13 * 13)
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"input_size": 64}, "at least 96"),
        ({"held_out_share": 0.0}, "between 0 and 1"),
        ({"held_out_share": 0.99}, "leaves no picture"),
        ({"width": -1.0}, "width"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "w.safetensors", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pictures", "name", "message"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), "w.safetensors", "uint8"),
        (np.zeros((4, 8, 9, 3), np.uint8), "w.safetensors", "square"),
        (np.zeros((1, 8, 8, 3), np.uint8), "w.safetensors", "at least 2"),
        (np.zeros((4, 8, 8, 3), np.uint8), "w.pth", "safetensors"),
    ],
)
def test_bad_input(tmp_path: Path, pictures: NDArray[np.uint8], name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_rotnet(pictures, tmp_path / name, steps=1)
