from __future__ import annotations

import numpy as np
import pytest
import torch

from idpose_core.evaluation.pictures import (
    at_size,
    distinct,
    full_precision,
    generated,
    to_bytes,
    to_network,
)
from idpose_core.stages.crop import decode_png, encode_png
from idpose_core.training.augmentation import centre_crop


def noise(count: int, side: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_every_level_survives_the_way_to_the_network_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    assert np.array_equal(to_bytes(to_network(levels)), levels)


def test_values_are_rounded_not_cut() -> None:
    made = to_bytes(torch.tensor([-1.0, 1.0, 0.0, 0.9999]).view(1, 1, 2, 2).expand(1, 3, 2, 2))
    assert made[0, ..., 0].ravel().tolist() == [0, 255, 128, 255]


def test_tensors_and_files_are_the_same() -> None:
    made = to_bytes(torch.rand(3, 3, 8, 8) * 2 - 1)
    assert np.array_equal(np.stack([decode_png(encode_png(picture)) for picture in made]), made)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.2, -3.0])
def test_what_is_no_picture_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        to_bytes(torch.full((1, 3, 4, 4), value))


def test_a_model_sees_the_centre_at_the_training_scale() -> None:
    stored = noise(3, side=40)
    expected = centre_crop(torch.from_numpy(stored), 24)
    assert np.array_equal(at_size(stored, 24), to_bytes(expected))


def test_batches_change_nothing() -> None:
    ids, poses = noise(7), noise(7, seed=1)
    made = generated(lambda i, p: (i + p) / 2, ids, poses, batch_size=3)
    whole = generated(lambda i, p: (i + p) / 2, ids, poses, batch_size=100)
    assert np.array_equal(made, whole)
    assert np.abs(made.astype(int) - (ids.astype(int) + poses) / 2).max() <= 0.5


def test_each_different_picture_is_there_once() -> None:
    pictures = noise(4)
    lists = [pictures[[0, 1, 0]], np.broadcast_to(pictures[2], (5, 8, 8, 3)), pictures[[1, 3]]]
    found, places = distinct(*lists)
    assert np.array_equal(found, pictures)
    for place, given in zip(places, lists, strict=True):
        assert np.array_equal(found[place], given)


def test_measuring_is_without_tf32_and_leaves_the_settings_as_they_were() -> None:
    before = torch.backends.cudnn.allow_tf32
    with full_precision():
        assert not torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.allow_tf32 == before
    assert not torch.backends.cudnn.deterministic


def test_a_pair_has_two_pictures() -> None:
    with pytest.raises(ValueError, match="3 ID pictures but 2"):
        generated(lambda i, p: i, noise(3), noise(2))
