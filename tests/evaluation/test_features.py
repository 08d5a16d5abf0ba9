"""Features against pytorch-fid's own network and its own way from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from idpose_core.evaluation.features import FeatureNetwork, extract, load_features
from idpose_core.pose.rotnet import initialise
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


@pytest.fixture(scope="module")
def lite2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A weights file with random numbers, and the package's network with the same."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite2").eval()
    initialise(network, torch.Generator().manual_seed(0))  # its own start leaves 1e-8 of a picture
    path = tmp_path_factory.mktemp("lite2") / "lite2.safetensors"
    save_file(network.state_dict(), path)
    return path, network


@pytest.mark.parametrize("side", [64, 260, 400])
def test_efficientnet_lite2(lite2: tuple[Path, nn.Module], side: int) -> None:
    """Its classes come from the mean that we take as the feature, of pictures as it learned."""
    path, network = lite2
    pictures = noise(2, side)
    found = extract(load_features("efficientnet-lite2", path), pictures)
    assert found.shape == (2, 1280)
    sampled = np.stack([bilinear(picture, 260) for picture in pictures])
    with torch.no_grad():
        classes = network(torch.from_numpy((sampled - 127) / 128).permute(0, 3, 1, 2).float())
        ours = network._fc(torch.from_numpy(found).float())
    assert (classes[0] - classes[1]).std() > 0.01
    # Another normalisation or way of sampling is off by 0.3 and more, the last bits by 0.001.
    rtol, atol = (1e-4, 1e-4) if side == 260 else (0.0, 0.01)
    torch.testing.assert_close(ours, classes, rtol=rtol, atol=atol)


def bilinear(picture: np.ndarray, side: int) -> np.ndarray:
    """Between the four pixels about each place, their centres at halves; none are averaged."""
    places = (np.arange(side) + 0.5) * len(picture) / side - 0.5
    places = np.clip(places, 0, len(picture) - 1)
    low = np.minimum(places.astype(int), len(picture) - 2)
    share = places - low
    rows = (1 - share)[:, None, None] * picture[low] + share[:, None, None] * picture[low + 1]
    return (1 - share)[:, None] * rows[:, low] + share[:, None] * rows[:, low + 1]


def test_a_pictures_feature_depends_on_no_other_picture(lite2: tuple[Path, nn.Module]) -> None:
    """Within the last bits, since convolutions choose their algorithm by the batch's size."""
    features = load_features("efficientnet-lite2", lite2[0])
    pictures = noise(5, 64)
    together = extract(features, pictures)
    assert np.ptp(together, axis=0).max() > 0.01
    tolerance = 1e-5 * np.abs(together).max()
    for batch_size in (1, 2):
        alone = extract(features, pictures[::-1].copy(), batch_size=batch_size)[::-1]
        np.testing.assert_allclose(alone, together, rtol=0, atol=tolerance)


def test_what_cannot_be_measured(tmp_path: Path, inception: tuple[Path, nn.Module]) -> None:
    means = FeatureNetwork("means", Means(), 3)
    with pytest.raises(ValueError, match="no pictures"):
        extract(means, noise(0, 8))
    with pytest.raises(ValueError, match="uint8"):
        extract(means, noise(1, 8).astype(np.float32))
    with pytest.raises(ValueError, match="no features 'dino'"):
        load_features("dino", inception[0])
    with pytest.raises(ValueError, match="does not hold the network of efficientnet-lite2"):
        load_features("efficientnet-lite2", inception[0])
