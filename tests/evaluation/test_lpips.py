"""LPIPS against the package, and the shift-tolerant variants against their package's output."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from idpose_core.evaluation.lpips import (
    LPIPS_NETWORKS,
    Lpips,
    copy_index,
    load_lpips,
    lpips_distances,
)
from idpose_core.evaluation.pictures import to_network
from idpose_core.weights import find_weights
from tests.pose.test_shift_tolerant import ramps

PACKAGES = {"lpips-alex-v0.1": "alex", "lpips-vgg-v0.1": "vgg"}
# Distances of ``ramps`` from itself mirrored and scaled by 0.8, as the package stlpips-pytorch
# 0.0.2 gives them with the weights of its wheel.
SHIFT_TOLERANT = {
    "lpips-st-alex": {64: 0.39357906579971313, 160: 0.48441991209983826},
    "lpips-st-vgg16": {64: 0.5459538698196411, 160: 0.673884928226471},
}


def trunk_file(folder: Path, network: str) -> Path:
    """Weights of torchvision's network with small random numbers, as a downloaded file."""
    from torchvision import models

    torch.manual_seed(3)
    built = models.get_model(network, weights=None)
    tensors = {k: v for k, v in built.state_dict().items() if k.startswith("features.")}
    path = folder / f"{network}.safetensors"
    save_file(tensors, path)
    return path


def noise(count: int, side: int, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return draws.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", PACKAGES)
def test_it_equals_the_package(name: str, tmp_path: Path) -> None:
    import lpips

    path = trunk_file(tmp_path, LPIPS_NETWORKS[name])
    package = lpips.LPIPS(net=PACKAGES[name], pnet_rand=True, verbose=False)
    from safetensors.torch import load_file

    for key, value in load_file(path).items():
        place = key.removeprefix("features.")
        for number in range(1, 6):
            part = getattr(package.net, f"slice{number}")
            own = dict(part.named_parameters())
            if place in own:
                own[place].data.copy_(value)
    x, y = noise(3, 64, 0), noise(3, 64, 1)
    with torch.no_grad():
        theirs = package(to_network(x), to_network(y)).flatten().double().numpy()
    ours = lpips_distances(load_lpips(name, path), x, y, batch_size=2)
    assert theirs.min() > 1e-4
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SHIFT_TOLERANT)
def test_it_equals_the_shift_tolerant_package(name: str) -> None:
    try:
        weights = find_weights(
            LPIPS_NETWORKS[name], Path(os.environ.get("IDPOSE_ROOT", "idpose-data"))
        )
    except ValueError:
        pytest.skip(f"needs the published weights: idpose weights fetch {LPIPS_NETWORKS[name]}")
    metric = load_lpips(name, weights)
    for size, expected in SHIFT_TOLERANT[name].items():
        x = ramps(size)
        with torch.no_grad():
            assert float(metric(x, 0.8 * x.flip(3))) == pytest.approx(expected, abs=2e-6)
            assert float(metric(x, x)) == 0


class Edges(nn.Module):
    """Two channels: the picture's first one, and a constant."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.stack([x[:, 0], torch.ones_like(x[:, 0])], 1)]


def test_the_distance_by_hand() -> None:
    """Unit vectors (0, 1) and (1, 1) / sqrt 2 with the weights 2 and 3."""
    metric = Lpips(Edges(), [torch.tensor([2.0, 3.0])])
    x, y = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    expected = 2 * 0.5 + 3 * (1 - 0.5**0.5) ** 2
    assert float(metric(x, y)) == pytest.approx(expected, rel=1e-6)
    half = x.clone()
    half[..., :2] = 1
    assert float(metric(half, y)) == pytest.approx(expected / 2, rel=1e-6)


def test_batches_and_order_change_nothing() -> None:
    metric = Lpips(Edges(), [torch.tensor([2.0, 3.0])])
    x, y = noise(7, 8, 0), noise(7, 8, 1)
    whole = lpips_distances(metric, x, y)
    np.testing.assert_allclose(lpips_distances(metric, x, y, batch_size=2), whole, rtol=1e-6)
    np.testing.assert_allclose(lpips_distances(metric, x[::-1], y[::-1]), whole[::-1], rtol=1e-6)


def test_several_methods_at_once_are_each_alone() -> None:
    metric = Lpips(Edges(), [torch.tensor([2.0, 3.0])])
    methods, targets = np.stack([noise(7, 8, 0), noise(7, 8, 2)]), noise(7, 8, 1)
    together = lpips_distances(metric, methods, targets, batch_size=3)
    alone = [lpips_distances(metric, pictures, targets) for pictures in methods]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_equal_pairs_are_computed_once() -> None:
    class Counting(Edges):
        seen = 0

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            self.seen += len(x)
            return super().forward(x)

    trunk = Counting()
    metric = Lpips(trunk, [torch.tensor([2.0, 3.0])])
    targets, made = noise(3, 8, 0)[[0, 1, 0, 2]], noise(4, 8, 1)
    one_picture = np.broadcast_to(made[0], targets.shape)
    methods = np.stack([made, one_picture, targets])
    found = lpips_distances(metric, methods, targets, batch_size=100)
    assert trunk.seen == 3 + 4
    for row, pictures in zip(found, methods, strict=True):
        alone = [
            lpips_distances(metric, p[None], t[None])[0]
            for p, t in zip(pictures, targets, strict=True)
        ]
        np.testing.assert_allclose(row, alone, rtol=1e-6)
    assert (found[2] == 0).all()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_several_others_at_once_are_each_alone(batch_size: int) -> None:
    metric = Lpips(Edges(), [torch.tensor([2.0, 3.0])])
    others = noise(12, 8, 1).reshape(3, 4, 8, 8, 3)
    others[:, 2] = others[:, 0]
    methods = np.stack([noise(4, 8, 0), others[1]])
    found = lpips_distances(metric, methods, others, batch_size=batch_size)
    alone = [[lpips_distances(metric, one, other) for one in methods] for other in others]
    np.testing.assert_allclose(found, alone, rtol=1e-6)
    assert (found[1, 1] == 0).all() and found[0, 1].all()
    single = lpips_distances(metric, methods[0], others, batch_size=batch_size)
    assert np.array_equal(single, found[:, 0])


def test_the_copy_index_by_hand() -> None:
    to_target, to_input = np.array([0.0, 3.0, 1.0, 2.0, 0.0]), np.array([2.0, 0.0, 3.0, 2.0, 0.0])
    assert copy_index(to_target, to_input).tolist() == [-1, 1, -0.5, 0, 0]


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    metric = Lpips(Edges(), [torch.tensor([2.0, 3.0])])
    with pytest.raises(ValueError, match="not pairs"):
        lpips_distances(metric, noise(2, 8, 0), noise(3, 8, 1))
    with pytest.raises(ValueError, match="not negative"):
        Lpips(Edges(), [torch.tensor([2.0, -3.0])])
    with pytest.raises(ValueError, match="no metric 'lpips'"):
        load_lpips("lpips", tmp_path / "x.pth")
    with pytest.raises(ValueError, match="there is no weights file"):
        load_lpips("lpips-alex-v0.1", tmp_path / "x.pth")
    other = trunk_file(tmp_path, "alexnet")
    for name in ("lpips-vgg-v0.1", "lpips-st-alex"):
        with pytest.raises(ValueError, match=f"does not hold {LPIPS_NETWORKS[name]}"):
            load_lpips(name, other)
