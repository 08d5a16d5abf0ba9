"""The generator against the table of the architecture, and what its encoders cannot see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from idpose_core.models.generator import PRESETS, Generator, GeneratorConfig
from idpose_core.models.layers import instance_norm, layer_norm

SMALL = GeneratorConfig(size=32, n_down=2, width=8, n_blocks=1)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_meta(config: GeneratorConfig) -> Generator:
    with torch.device("meta"):
        return Generator(config)


def pictures(count: int = 2, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side) * 2 - 1


def smooth_pictures() -> Tensor:
    """Little contrast between neighbours, so that the norm's epsilon counts most."""
    return functional.interpolate(pictures(2, 8), size=32, mode="bicubic")


def test_the_default_has_the_parameters_of_the_table() -> None:
    generator = on_meta(PRESETS["128"])
    assert round(parameters(generator.id_encoder) / 1e6, 3) == 0.392
    assert round(parameters(generator.pose_encoder) / 1e6, 3) == 0.392
    # 18 convolutions of the trunk, three on the way up, the head: 44.035 million.
    ups = [(512, 256, 9), (256, 128, 9), (128, 64, 9), (64, 3, 49)]
    by_hand = 18 * (512 * 512 * 9 + 512) + sum(i * o * k + o for i, o, k in ups)
    assert parameters(generator.decoder) == by_hand == 44_034_691
    assert round(parameters(on_meta(PRESETS["small"])) / 1e6, 1) == 7.7


@pytest.mark.parametrize(("preset", "side"), [("128", 16), ("64", 8)])
def test_the_default_has_the_shapes_of_the_table(preset: str, side: int) -> None:
    generator = Generator(replace(PRESETS[preset], n_blocks=0))  # blocks change no shape
    size = generator.config.size
    with torch.no_grad():
        x = pictures(1, size)
        identity, pose = generator.encode_identity(x), generator.encode_pose(x)
        decoded = generator.decode(identity, pose)
    assert identity.shape == pose.shape == (1, 256, side, side)
    assert decoded.picture.shape == (1, 3, size, size)
    assert decoded.feature.shape == (1, 64, size, size)
    assert generator.config.feature_channels == 64


def test_the_layers_stand_in_the_order_of_the_paper() -> None:
    def names(module: nn.Module) -> list[str]:
        return [type(m).__name__ for m in module.modules() if not list(m.children())]

    generator = Generator(SMALL)
    assert names(generator.id_encoder) == ["Convolution", "ReLU"] * 3
    assert names(generator.pose_encoder) == ["Convolution", "InstanceNorm2d", "ReLU"] * 3
    block = ["Convolution", "InstanceNorm2d", "ReLU", "Convolution", "InstanceNorm2d"]
    ups = ["Upsample", "Convolution", "InstanceNorm2d", "ReLU"] * 2
    # The trunk's first layer takes the concatenated codes as they are: a convolution, no norm.
    assert names(generator.decoder) == [*block, *ups, "Convolution"]


def test_weights_before_norms_are_drawn_as_pix2pixhd_does() -> None:
    generator = Generator(replace(SMALL, width=16))
    normed = (*generator.pose_encoder.modules(), *generator.decoder.modules())
    weights = [m.weight.flatten() for m in normed if isinstance(m, nn.Conv2d)]
    deviation = torch.cat(weights).std().item()
    assert deviation == pytest.approx(0.02, rel=0.01)
    norms = [m for m in generator.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert all(not list(norm.parameters()) and not list(norm.buffers()) for norm in norms)


def test_the_identity_reaches_the_picture_from_the_first_step_on() -> None:
    """With pix2pixHD's weights in the encoder without norms it does so ten thousand times less."""
    torch.manual_seed(0)
    generator = Generator(PRESETS["small"])
    pictures = torch.nn.functional.interpolate(torch.rand(6, 3, 4, 4) * 2 - 1, 64, mode="bicubic")
    with torch.no_grad():
        made = torch.stack([generator(one.expand(6, -1, -1, -1), pictures) for one in pictures])
    by_identity, by_pose = float(made.var(0).mean()), float(made.var(1).mean())
    assert 0.05 < by_identity / by_pose < 20


def deviation(encode: Callable[[Tensor], Any], x: Tensor, changed: Tensor) -> float:
    """Largest change of the code in units of the code's own deviation."""
    before, after = encode(x), encode(changed)
    return float((before - after).abs().max() / before.std())


@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_the_pose_encoder_sees_neither_gain_nor_offsets(norm: Any, padding: Any) -> None:
    """Tolerance: 0.005 deviations for a gain of 0.6, all of it the norm's epsilon of 1e-5.

    Measured: 0.0025 on smooth pictures, 0.0005 on noise; offsets alone leave 1e-12. It holds at
    the border as well: the first convolution reflects, and what the later, zero padded ones see
    is normalised already.
    """
    generator = Generator(replace(SMALL, norm=norm, padding=padding)).double()
    x = smooth_pictures().double()
    offsets = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64).view(1, 3, 1, 1)
    with torch.no_grad():
        assert deviation(generator.encode_pose, x, x + offsets) < 1e-9
        assert deviation(generator.encode_pose, x, 0.6 * x + offsets) < 0.005
        for changed in (x + offsets, 0.6 * x):
            assert deviation(generator.encode_identity, x, changed) > 0.05


def test_without_epsilon_a_gain_changes_nothing_at_all() -> None:
    generator = Generator(SMALL).double()
    for module in generator.pose_encoder:
        if isinstance(module, nn.InstanceNorm2d):
            module.eps = 0.0
    x = pictures().double()
    with torch.no_grad():
        assert deviation(generator.encode_pose, x, 0.6 * x + 0.3) < 1e-9


def test_the_identity_code_keeps_its_statistics_into_the_trunk() -> None:
    """A norm after the concatenation would erase what a gain of the identity code says."""
    generator = Generator(SMALL)
    identity, pose = generator.encode_identity(pictures()), generator.encode_pose(pictures())
    with torch.no_grad():
        plain = generator.decode(identity, pose).picture
        louder = generator.decode(3 * identity, pose).picture
    assert (plain - louder).abs().max() > 0.01


def test_both_norms_are_one_function_with_one_set_of_weights() -> None:
    x = torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(instance_norm(5, "instance")(x), instance_norm(5, "group")(x))
    generator = Generator(SMALL)
    grouped = Generator(replace(SMALL, norm="group"))
    grouped.load_state_dict(generator.state_dict())
    i, p = pictures(), pictures()
    torch.testing.assert_close(generator(i, p), grouped(i, p), rtol=1e-4, atol=1e-5)


def test_group_norm_keeps_channels_last() -> None:
    generator = Generator(replace(SMALL, norm="group", padding="zero"))
    generator.to(memory_format=torch.channels_last)
    x = pictures().contiguous(memory_format=torch.channels_last)
    code = generator.encode_pose(x)
    assert code.is_contiguous(memory_format=torch.channels_last)


def test_a_picture_does_not_depend_on_its_company() -> None:
    generator = Generator(SMALL).double()
    i, p = pictures(3).double(), pictures(3).double()
    torch.testing.assert_close(generator(i, p)[1:2], generator(i[1:2], p[1:2]))


def test_picture_and_feature_are_float32_under_autocast() -> None:
    generator = Generator(SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = generator.encode_pose(pictures())
        decoded = generator.decode(code, code)
    assert decoded.picture.dtype == decoded.feature.dtype == torch.float32
    assert decoded.picture.abs().max() <= 1
    assert decoded.feature.min() >= 0


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_every_parameter_has_a_part_in_the_picture(upsample: Any) -> None:
    generator = Generator(replace(SMALL, upsample=upsample))
    generator(pictures(), pictures()).square().sum().backward()
    weights = [p for name, p in generator.named_parameters() if name.endswith("weight")]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in weights)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 30},
        {"size": 4},
        {"n_down": 0},
        {"width": 0},
        {"n_blocks": -1},
        {"upsample": "cubic"},
        {"padding": "same"},
        {"norm": "batch"},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(SMALL, **change)


def test_pictures_of_another_size_are_refused() -> None:
    generator = Generator(SMALL)
    with pytest.raises(ValueError, match=r"\[N, 3, 32, 32\]"):
        generator(pictures(), pictures(side=64))
    with pytest.raises(ValueError, match=r"\[N, 3, 32, 32\]"):
        generator.encode_identity(torch.zeros(3, 32, 32))


def test_the_layer_norm_of_the_decoder_keeps_how_strong_a_feature_is() -> None:
    """One of a map's channels three times as strong: the instance norm gives what it gave."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    stronger = x.clone()
    stronger[:, 3] *= 3

    def gain(norm: nn.Module) -> float:
        with torch.no_grad():
            made, before = norm.double()(stronger)[:, 3], norm(x)[:, 3]
        return float(made.std() / before.std())

    assert gain(instance_norm(16, "group")) == pytest.approx(1, abs=1e-4)
    assert gain(layer_norm(16)) > 2
    decoder = Generator(replace(SMALL, decoder_norm="layer")).decoder
    norms = [m for m in decoder.modules() if isinstance(m, nn.GroupNorm)]
    assert [m.num_groups for m in norms] == [1, 1, 1, 1]  # two of the trunk, two above
