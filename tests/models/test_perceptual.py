"""The perceptual distance by hand, its trunks from files, and where its gradient goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from idpose_core.models.perceptual import (
    LAYER_WEIGHTS,
    VGG19_ENDS,
    PerceptualConfig,
    PerceptualDistance,
    Vgg19Features,
    load_perceptual,
)
from idpose_core.models.shift_tolerant_vgg16 import ShiftTolerantVgg16
from idpose_core.pose.shift_tolerant import ShiftTolerantAlexNet
from storage.digests import file_sha256


class Ladder(nn.Module):
    """Five maps which are the picture times 1, 2, 4, 8 and 16: known distances."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.dropout(self.gain * x * 2**power) for power in range(5)]


def pictures(side: int = 32) -> tuple[Tensor, Tensor]:
    x, y = torch.rand(2, 2, 3, side, side) * 2 - 1
    return x.clone(), y.clone()


def test_the_sum_over_the_layers_by_hand() -> None:
    assert LAYER_WEIGHTS == (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)
    distance = PerceptualDistance(PerceptualConfig(), Ladder())
    x, y = pictures(8)
    # 1/32 + 2/16 + 4/8 + 8/4 + 16 times the pixel distance.
    expected = (1 / 32 + 2 / 16 + 4 / 8 + 8 / 4 + 16) * (x - y).abs().mean()
    torch.testing.assert_close(distance(x, y), expected)
    with_pixels = PerceptualDistance(PerceptualConfig(pixel_l1_weight=1.0), Ladder())
    torch.testing.assert_close(with_pixels(x, y), expected + (x - y).abs().mean())
    assert distance(x, x) == 0


def test_the_gradient_reaches_the_generated_picture_alone() -> None:
    distance = PerceptualDistance(PerceptualConfig(pixel_l1_weight=1.0), Ladder())
    x, y = (picture.requires_grad_() for picture in pictures(8))
    distance(x, y).backward()
    assert x.grad is not None
    assert y.grad is None
    assert distance.trunk is not None
    assert all(p.grad is None and not p.requires_grad for p in distance.parameters())


def test_the_trunk_stays_in_evaluation_mode() -> None:
    distance = PerceptualDistance(PerceptualConfig(), Ladder())
    model = nn.ModuleList([distance]).train()
    assert not any(module.training for module in model[0].modules())
    x, y = pictures(8)
    assert distance(x, y) == distance(x, y)


def test_sums_are_float32_or_better() -> None:
    distance = load_perceptual(PerceptualConfig("pixel-l1"))
    x, y = pictures(8)
    assert distance(x.bfloat16(), y.bfloat16()).dtype == torch.float32
    assert distance(x.double(), y.double()).dtype == torch.float64
    torch.testing.assert_close(distance(x, y), (x - y).abs().mean())
    assert distance.weights_sha256 is None


def test_vgg19_is_cut_behind_the_first_relu_of_each_block() -> None:
    from torchvision.models import vgg19

    with torch.device("meta"):
        whole = vgg19(weights=None, init_weights=False)
        ours = Vgg19Features()
        assert VGG19_ENDS == (2, 7, 12, 21, 30)
        # Every cut lies behind a ReLU whose convolution is the first one after a pool.
        for end in VGG19_ENDS:
            assert isinstance(whole.features[end - 1], nn.ReLU)
            assert end == 2 or isinstance(whole.features[end - 3], nn.MaxPool2d)
        shapes = {key: value.shape for key, value in whole.state_dict().items()}
    assert all(shapes[key] == value.shape for key, value in ours.state_dict().items())
    assert str(ours.features) == str(whole.features[:30])


@pytest.mark.parametrize("vgg_input", ["imagenet", "raw"])
def test_vgg19_maps_are_those_of_torchvision(vgg_input: Any) -> None:
    network = Vgg19Features(vgg_input)
    x, _ = pictures(16)
    with torch.no_grad():
        maps = network(x)
        y = x
        if vgg_input == "imagenet":
            mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
            std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
            y = ((x + 1) / 2 - mean) / std
        for end, found in zip(VGG19_ENDS, maps, strict=True):
            torch.testing.assert_close(found, network.features[:end](y), rtol=1e-4, atol=1e-5)
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512, 512]


def trunk_file(kind: str, folder: Path) -> Path:
    """Weights of this network, small random numbers, as one's own file."""
    networks = {
        "vgg19": Vgg19Features,
        "st-vgg16": ShiftTolerantVgg16,
        "st-alex": ShiftTolerantAlexNet,
    }
    file = folder / f"{kind}.safetensors"
    save_file(networks[kind]().state_dict(), file)
    return file


@pytest.mark.parametrize("kind", ["vgg19", "st-vgg16", "st-alex"])
def test_every_trunk_loads_from_its_file_and_is_differentiable(kind: Any, tmp_path: Path) -> None:
    file = trunk_file(kind, tmp_path)
    distance = load_perceptual(PerceptualConfig(kind), file)
    assert distance.config.kind == kind
    assert distance.weights_sha256 == file_sha256(file)
    x, y = pictures()
    x.requires_grad_()
    distance(x, y).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert distance(x, x) == 0
    assert not any(p.requires_grad for p in distance.parameters())


def test_st_vgg16_is_compared_where_vgg19_is(tmp_path: Path) -> None:
    distance = load_perceptual(PerceptualConfig("st-vgg16"), trunk_file("st-vgg16", tmp_path))
    network = distance.trunk.network  # type: ignore[union-attr]
    x, _ = pictures()
    firsts = [block[0] for block in network(x)]
    assert all(torch.equal(a, b) for a, b in zip(distance.trunk(x), firsts, strict=True))


def test_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    other = trunk_file("st-alex", tmp_path)
    for kind in ("vgg19", "st-vgg16"):
        with pytest.raises(ValueError, match=rf"distance {kind}: .*st-alex\.safetensors: not"):
            load_perceptual(PerceptualConfig(kind), other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no weights file"):
        load_perceptual(PerceptualConfig("st-alex"), tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="needs its weights file"):
        load_perceptual()
    with pytest.raises(ValueError, match="'vgg19', 'st-vgg16'"):
        PerceptualConfig("lpips")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="vgg_input"):
        Vgg19Features("bgr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        PerceptualConfig(pixel_l1_weight=-1.0)


def test_pictures_of_different_shapes_are_refused() -> None:
    x, y = pictures(8)
    with pytest.raises(ValueError, match="against"):
        load_perceptual(PerceptualConfig("pixel-l1"))(x, y[:1])
