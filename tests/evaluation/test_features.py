"""Features against pytorch-fid's own network and its own way from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from idpose_core.evaluation.features import FeatureNetwork, extract, load_features
from idpose_core.stages.crop import encode_png
from tests.evaluation.inception import random_inception


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A weights file with random numbers, and pytorch-fid's network with the same."""
    tensors, theirs = random_inception()
    path = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    save_file(tensors, path)
    return path, theirs


def noise(count: int, side: int, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return draws.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_inception_gives_what_pytorch_fid_gives_from_files(
    inception: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    from pytorch_fid.fid_score import get_activations

    path, theirs = inception
    pictures = noise(3, 64)
    files = []
    for number, picture in enumerate(pictures):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(encode_png(picture))
    expected = get_activations(files, theirs, batch_size=3, num_workers=0)
    found = extract(load_features("inception", path), pictures, batch_size=2)
    assert found.shape == (3, 2048) and expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


class Means(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def test_batches_change_nothing() -> None:
    pictures = noise(5, 8)
    found = extract(FeatureNetwork("means", Means(), 3), pictures, batch_size=2)
    np.testing.assert_allclose(found, pictures.mean((1, 2)) / 255, atol=1e-6)
    whole = extract(FeatureNetwork("means", Means(), 3), pictures, batch_size=100)
    np.testing.assert_allclose(found, whole, atol=1e-7)


def test_efficientnet_lite0(tmp_path: Path) -> None:
    """Its classes come from the mean that we take as the feature."""
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = tmp_path / "lite0.safetensors"
    save_file(network.state_dict(), path)
    pictures = noise(2, 224)
    found = extract(load_features("efficientnet-lite0", path), pictures)
    planes = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    with torch.no_grad():
        classes = network((planes - mean) / std)
        ours = network._fc(torch.from_numpy(found).float())
    torch.testing.assert_close(ours, classes, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_measured(tmp_path: Path, inception: tuple[Path, nn.Module]) -> None:
    means = FeatureNetwork("means", Means(), 3)
    with pytest.raises(ValueError, match="no pictures"):
        extract(means, noise(0, 8))
    with pytest.raises(ValueError, match="uint8"):
        extract(means, noise(1, 8).astype(np.float32))
    with pytest.raises(ValueError, match="no features 'dino'"):
        load_features("dino", inception[0])
    with pytest.raises(ValueError, match="does not hold the network of efficientnet-lite0"):
        load_features("efficientnet-lite0", inception[0])
