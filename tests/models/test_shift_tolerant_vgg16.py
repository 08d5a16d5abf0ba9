"""The shift-tolerant VGG16 against the published package's output, and what it refuses to load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from idpose_core.models.shift_tolerant_vgg16 import ShiftTolerantVgg16, convert_published
from idpose_core.pose.shift_tolerant import BlurPool
from idpose_core.weights import find_weights
from idpose_core.weights.fitting import check_fits
from idpose_core.weights.tensors import read_tensors

# Sums over |x| of the blocks' last maps which the package stlpips-pytorch 0.0.2 itself gave for
# the picture of `ramps` (its modules imported, weights of its wheel; equal to ours bit for bit).
PACKAGE_SUMS: dict[int, tuple[float, ...]] = {
    32: (7447.321881, 2462.097097, 5010.206697, 5577.244532, 26010.773529),
    64: (26594.797166, 4756.350342, 5088.244099, 4683.665289, 24329.175173),
    160: (151532.933672, 17616.499728, 15698.448293, 98954.04692, 192535.322036),
}
# First convolutions of the blocks in the published list of layers, and the blurs before them.
PLACES = {0: (0, 2), 1: (6, 8), 2: (12, 14, 16), 3: (20, 22, 24), 4: (28, 30, 32)}
BLURS = {"2.5": 64, "3.11": 128, "4.19": 256, "5.27": 512}


def ramps(size: int) -> Tensor:
    """A picture without randomness, [1, 3, size, size] in [-1, 1]."""
    grid = torch.arange(size, dtype=torch.float32) / (size - 1)
    x, y = grid[None, :].expand(size, size), grid[:, None].expand(size, size)
    planes = [torch.sin(20 * x * y), torch.cos(14 * x + 3 * y), 2 * ((x + y) % 0.25) * 4 - 1]
    return torch.stack(planes)[None]


def published(network: ShiftTolerantVgg16) -> dict[str, Tensor]:
    """The tensors under the names and with the extras of the published file."""
    own = network.state_dict()
    tensors = {}
    for block, places in PLACES.items():
        for index, place in enumerate(places):
            for kind in ("weight", "bias"):
                source = f"blocks.{block}.{index}.{kind}"
                tensors[f"net.slice{block + 1}.{place}.{kind}"] = own[source]
    for place, channels in BLURS.items():
        tensors[f"net.slice{place}.filt"] = BlurPool().kernel.expand(channels, 1, 3, 3)
    for index, channels in enumerate((64, 128, 256, 512, 512)):
        tensors[f"lin{index}.model.1.weight"] = torch.ones(1, channels, 1, 1)
    return tensors


@pytest.fixture(scope="module")
def network() -> ShiftTolerantVgg16:
    return ShiftTolerantVgg16()


def test_published_names_load_and_fit_the_store(
    network: ShiftTolerantVgg16, tmp_path: Path
) -> None:
    tensors = published(network)
    file = tmp_path / "vgg.pth"
    torch.save({key: value.contiguous() for key, value in tensors.items()}, file)
    check_fits("st-vgg16", file)  # what `idpose weights import st-vgg16` asks of a file
    converted = convert_published(read_tensors(file))
    own = network.state_dict()
    assert converted.keys() == own.keys()
    assert all(torch.equal(converted[key], own[key]) for key in own)
    assert convert_published(own).keys() == own.keys()


def test_the_pool_keeps_every_pixel_and_the_blur_halves(network: ShiftTolerantVgg16) -> None:
    with torch.no_grad():
        maps = network(ramps(32))
    assert [len(block) for block in maps] == [2, 2, 3, 3, 3]
    assert [block[0].shape[-1] for block in maps] == [32, 17, 9, 5, 3]
    assert [block[0].shape[1] for block in maps] == [64, 128, 256, 512, 512]
    assert all(float(m.min()) >= 0 for block in maps for m in block)


def test_plain_networks_and_gaps_are_refused(network: ShiftTolerantVgg16) -> None:
    tensors = published(network)
    plain = {key: value for key, value in tensors.items() if not key.endswith("filt")}
    with pytest.raises(ValueError, match=r"slice2\.5\.filt is missing .a plain VGG16"):
        convert_published(plain)
    box = torch.full((64, 1, 3, 3), 1 / 9)
    with pytest.raises(ValueError, match="1 2 1"):
        convert_published(tensors | {"net.slice2.5.filt": box})
    with pytest.raises(ValueError, match=r"blocks\.2\.1\.weight is"):
        convert_published(tensors | {"net.slice3.14.weight": torch.zeros(256, 256, 1, 1)})
    with pytest.raises(ValueError, match=r"slice5\.32\.bias is missing"):
        convert_published({k: v for k, v in tensors.items() if k != "net.slice5.32.bias"})


@pytest.mark.parametrize("size", [32, 64, 160])
def test_equal_to_the_package(size: int) -> None:
    """Needs the published weights in $IDPOSE_ROOT (`idpose weights fetch st-vgg16`)."""
    root = os.environ.get("IDPOSE_ROOT")
    if not root:
        pytest.skip("IDPOSE_ROOT is not set: the weights of st-vgg16 are not at hand")
    try:
        weights = find_weights("st-vgg16", Path(root))
    except ValueError as error:
        pytest.skip(str(error))
    network = ShiftTolerantVgg16().eval()
    network.load_state_dict(convert_published(read_tensors(weights)))
    with torch.no_grad():
        sums = [float(block[-1].double().abs().sum()) for block in network(ramps(size))]
    assert sums == pytest.approx(PACKAGE_SUMS[size], rel=1e-6)
