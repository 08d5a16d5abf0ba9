"""The shift-tolerant AlexNet, against plain loops and against the published package's output."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from idpose_core.pose.rotnet import random_rotnet
from idpose_core.pose.shift_tolerant import BlurPool, ShiftTolerantAlexNet, convert_published
from idpose_core.weights import find_weights
from idpose_core.weights.tensors import read_tensors

# Sums over |x| of the five maps which the package stlpips-pytorch 0.0.2 itself gave for the
# picture of `ramps` (its modules imported, weights of its wheel; equal to ours bit for bit).
PACKAGE_SUMS: dict[int, tuple[float, ...]] = {
    64: (21700.108232, 4549.969720, 558.084779, 141.497967, 40.211720),
    160: (135944.440371, 28191.038535, 4296.694730, 1254.248144, 733.702216),
    224: (260032.390780, 54376.047397, 9193.463974, 2390.895846, 1412.813689),
}


def ramps(size: int) -> torch.Tensor:
    """A picture without randomness, [1, 3, size, size] in [-1, 1]."""
    grid = torch.arange(size, dtype=torch.float32) / (size - 1)
    x, y = grid[None, :].expand(size, size), grid[:, None].expand(size, size)
    planes = [torch.sin(20 * x * y), torch.cos(14 * x + 3 * y), 2 * ((x + y) % 0.25) * 4 - 1]
    return torch.stack(planes)[None]


def published(network: ShiftTolerantAlexNet) -> dict[str, torch.Tensor]:
    """The tensors under the names and with the extras of the published file."""
    places = {"conv1": "1.0", "conv2": "2.5", "conv3": "3.9", "conv4": "4.11", "conv5": "5.13"}
    tensors = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for layer, place in places.items():
        for kind in ("weight", "bias"):
            tensors[f"net.slice{place}.{kind}"] = network.state_dict()[f"{layer}.{kind}"]
    for place, channels in (("1.1", 64), ("2.4", 64), ("3.8", 192)):
        tensors[f"net.slice{place}.filt"] = BlurPool().kernel.expand(channels, 1, 3, 3)
    tensors["lin0.model.1.weight"] = torch.ones(1, 64, 1, 1)
    return tensors


@pytest.mark.parametrize("size", [5, 8, 13])
def test_blur_pool_against_loops(size: int) -> None:
    x = torch.rand(1, 2, size, size, generator=torch.Generator().manual_seed(0))
    out = BlurPool()(x)[0].numpy()
    padded = np.pad(x[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    side = (size + 1) // 2 + 1
    assert out.shape == (2, side, side)
    for channel in range(2):
        for row in range(side):
            for column in range(side):
                part = padded[channel, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                assert out[channel, row, column] == pytest.approx((part * kernel).sum(), abs=1e-6)


def test_shapes() -> None:
    with torch.no_grad():
        shapes = [tuple(f.shape[1:]) for f in ShiftTolerantAlexNet()(torch.zeros(1, 3, 160, 160))]
    assert shapes == [(64, 78, 78), (192, 39, 39), (384, 20, 20), (256, 20, 20), (256, 20, 20)]


def test_conversion_keeps_every_tensor() -> None:
    network = ShiftTolerantAlexNet()
    for tensors in (published(network), network.state_dict()):
        converted = convert_published(tensors)
        assert set(converted) == set(network.state_dict())
        for name, value in network.state_dict().items():
            assert torch.equal(converted[name], value)


def test_a_plain_alexnet_is_refused_although_its_shapes_fit() -> None:
    plain = {k: v for k, v in published(ShiftTolerantAlexNet()).items() if "filt" not in k}
    with pytest.raises(ValueError, match="blur kernel"):
        convert_published(plain)
    with pytest.raises(ValueError, match="blur kernel"):
        convert_published(random_rotnet(0).state_dict())


def test_other_kernels_shapes_and_gaps_are_refused() -> None:
    tensors = published(ShiftTolerantAlexNet())
    box = torch.full((64, 1, 3, 3), 1 / 9)
    with pytest.raises(ValueError, match="1 2 1"):
        convert_published(tensors | {"net.slice1.1.filt": box})
    with pytest.raises(ValueError, match=r"conv3\.weight is"):
        convert_published(tensors | {"net.slice3.9.weight": torch.zeros(384, 192, 1, 1)})
    with pytest.raises(ValueError, match=r"slice4\.11\.bias is missing"):
        convert_published({k: v for k, v in tensors.items() if k != "net.slice4.11.bias"})


@pytest.mark.parametrize("size", [64, 160, 224])
def test_equal_to_the_package(size: int) -> None:
    """Needs the published weights in $IDPOSE_ROOT (`idpose weights fetch st-alex`)."""
    root = os.environ.get("IDPOSE_ROOT")
    if not root:
        pytest.skip("IDPOSE_ROOT is not set: the weights of st-alex are not at hand")
    try:
        weights = find_weights("st-alex", Path(root))
    except ValueError as error:
        pytest.skip(str(error))
    network = ShiftTolerantAlexNet().eval()
    network.load_state_dict(convert_published(read_tensors(weights)))
    with torch.no_grad():
        sums = [float(f.double().abs().sum()) for f in network(ramps(size))]
    assert sums == pytest.approx(PACKAGE_SUMS[size], rel=1e-6)
