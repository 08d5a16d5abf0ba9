"""Pix2pixHD against its formulas, written down once more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idpose_core.methods.pix2pixhd import (
    DEFAULTS,
    Pix2pixHD,
    Pix2pixHDConfig,
    Pix2pixHDSettings,
    build_swapper,
    loss_features,
)
from idpose_core.models.discriminators import Discriminator, Judgement
from idpose_core.models.generator import GeneratorConfig
from idpose_core.models.global_generator import GlobalGenerator, GlobalGeneratorConfig
from idpose_core.models.perceptual import PerceptualConfig
from tests.methods.baselines import (
    PIXELS,
    adam,
    first_losses,
    float64,
    kept_losses,
    reached,
    small_pix2pixhd,
    step,
    triplets,
)


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    with float64():
        yield


# The generator


@pytest.mark.parametrize(("n_down", "millions"), [(4, 182.5), (3, 45.6)])
def test_the_generator_has_as_many_parameters_as_the_references(
    n_down: int, millions: float
) -> None:
    with torch.device("meta"):
        network = GlobalGenerator(GlobalGeneratorConfig(n_down=n_down))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


def test_the_generator_is_layer_by_layer_the_references() -> None:
    network = GlobalGenerator(GlobalGeneratorConfig(16, width=4, n_down=2, n_blocks=1))
    x = torch.rand(2, 6, 16, 16) * 2 - 1
    conv7, _, _, down1, _, _, down2, _, _, block, up1, _, _, up2, _, _ = network.body

    def normed(y: Tensor) -> Tensor:
        mean, spread = y.mean((2, 3), keepdim=True), y.var((2, 3), unbiased=False, keepdim=True)
        return (y - mean) / (spread + 1e-5).sqrt()

    def padded(y: Tensor, by: int) -> Tensor:
        return nn.functional.pad(y, (by, by, by, by), "reflect")

    f = nn.functional
    y = normed(f.conv2d(padded(x, 3), conv7.weight, conv7.bias)).relu()
    for down in (down1, down2):
        y = normed(f.conv2d(y, down.weight, down.bias, stride=2, padding=1)).relu()
    first, second = (m for m in block.modules() if isinstance(m, nn.Conv2d))
    inner = normed(f.conv2d(padded(y, 1), first.weight, first.bias)).relu()
    y = y + normed(f.conv2d(padded(inner, 1), second.weight, second.bias))
    for up in (up1, up2):
        y = f.conv_transpose2d(y, up.weight, up.bias, stride=2, padding=1, output_padding=1)
        y = normed(y).relu()
    expected = f.conv2d(padded(y, 3), network.head.weight, network.head.bias).tanh()
    torch.testing.assert_close(network(x[:, :3], x[:, 3:]), expected)


def test_transposed_convolutions_begin_like_the_others() -> None:
    network = GlobalGenerator(GlobalGeneratorConfig(16, width=32, n_down=2, n_blocks=1))
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    deviations = [float(m.weight.detach().std()) for m in network.modules() if isinstance(m, kinds)]
    assert len(deviations) == 8
    assert deviations == pytest.approx([0.02] * 8, rel=0.05)


def test_both_implementations_of_the_norm_have_the_same_weights_and_function() -> None:
    config = GlobalGeneratorConfig(16, width=4, n_down=2, n_blocks=1)
    one, other = GlobalGenerator(config), GlobalGenerator(replace(config, norm="group"))
    other.load_state_dict(one.state_dict())
    x = torch.rand(2, 2, 3, 16, 16)
    torch.testing.assert_close(one(*x), other(*x))


def test_impossible_generators_and_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="halved"):
        Pix2pixHDConfig(GeneratorConfig(size=16, n_down=1), pix2pixhd=Pix2pixHDSettings(n_down=4))
    with pytest.raises(ValueError, match="width"):
        GlobalGeneratorConfig(width=0)
    with pytest.raises(ValueError, match="norm"):
        GlobalGeneratorConfig(norm="batch")
    network = GlobalGenerator(GlobalGeneratorConfig(16, width=4, n_down=1, n_blocks=0))
    with pytest.raises(ValueError, match=r"\[N, 3, 16, 16\]"):
        network(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 8, 16))


# The losses


def judged_by_hand(network: Discriminator, x: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
    """The maps after each activation and the last map, of both scales."""
    features, maps = [], []
    for scale in network.scales:
        y, seen = x, []
        for layer in scale.features:
            y = nn.functional.leaky_relu(y, 0.2) if isinstance(layer, nn.LeakyReLU) else layer(y)
            if isinstance(layer, nn.LeakyReLU):
                seen.append(y)
        features.append(seen)
        maps.append(scale.judge(y))
        x = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    return features, maps


def test_the_losses_are_those_of_the_reference() -> None:
    method, of = small_pix2pixhd(), triplets(3)
    generator, discriminator = method.updates(of)

    fake = method.generator(of.id, of.pose)
    on_fake = judged_by_hand(method.discriminator, torch.cat([of.id, of.pose, fake], 1))
    on_real = judged_by_hand(method.discriminator, torch.cat([of.id, of.pose, of.target], 1))
    believed = sum((m - 1).square().mean() for m in on_fake[1])
    matching = sum(
        1 / 2 * 4 / (3 + 1) * (a - b).abs().mean()
        for scale in zip(on_fake[0], on_real[0], strict=True)
        for a, b in zip(*scale, strict=True)
    )
    pixels = (fake - of.target).abs().mean()
    parts = generator.losses.parts
    assert (generator.side, discriminator.side) == ("generator", "discriminator")
    torch.testing.assert_close(parts["L_gan"], believed)
    torch.testing.assert_close(parts["L_features"], matching)
    torch.testing.assert_close(parts["L_perceptual"], pixels)
    torch.testing.assert_close(generator.losses.total, believed + 10 * matching + 10 * pixels)

    right = sum((m - 1).square().mean() for m in on_real[1])
    wrong = sum(m.square().mean() for m in on_fake[1])
    torch.testing.assert_close(discriminator.losses.total, 0.5 * (right + wrong))
    assert generator.output is not None and torch.equal(generator.output, fake)


def test_feature_matching_by_hand() -> None:
    def features(*values: float) -> Judgement:
        maps = [torch.full((2, 3, 4, 4), float(value)) for value in values]
        return Judgement([], None, [maps[:4], maps[4:]])

    found = loss_features(features(1, 2, 3, 4, 5, 6, 7, 8), features(0, 0, 0, 0, 5, 6, 7, 0))
    assert float(found) == pytest.approx((1 + 2 + 3 + 4) / 2 + 8 / 2)
    with pytest.raises(ValueError, match="with features"):
        loss_features(Judgement([], None), features(1, 1, 1, 1))


def test_targets_of_feature_matching_are_data() -> None:
    x, y = (torch.rand(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    loss_features(Judgement([], None, [[x]]), Judgement([], None, [[y]])).backward()
    assert x.grad is not None and y.grad is None


def test_trust_weighs_the_perceptual_loss_alone() -> None:
    method, of = small_pix2pixhd(), triplets(2)
    weighed = next(method.updates(replace(of, weight=torch.tensor([2.0, 0.0])))).losses.parts
    plain = next(method.updates(of)).losses.parts
    first = (method.generator(of.id, of.pose)[0] - of.target[0]).abs().mean()
    torch.testing.assert_close(weighed["L_perceptual"], first)
    assert all(weighed[name] == plain[name] for name in ("L_gan", "L_features"))


# Who learns from what


def test_each_side_learns_from_its_own_losses_alone() -> None:
    assert reached(small_pix2pixhd(), triplets()) == [
        ("generator", {"generator"}, {"generator"}),
        ("discriminator", {"discriminator"}, {"discriminator"}),
    ]


def test_the_discriminator_judges_what_was_made_before_the_generator_moved() -> None:
    method, of = small_pix2pixhd(), triplets()
    before = [float(update.losses.total.detach()) for update in method.updates(of)]
    found = step(method, adam(method, DEFAULTS["training"]), of)
    assert found["D_gan"] == before[1]
    assert float(next(method.updates(of)).losses.total.detach()) != before[0]


def test_the_discriminator_sees_id_pose_and_picture_in_this_order() -> None:
    method, of = small_pix2pixhd(), triplets()
    seen: list[Tensor] = []
    method.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    updates = list(method.updates(of))
    fake = updates[0].output
    assert fake is not None
    expected = [of.target, fake, fake]
    assert len(seen) == 3
    for x, third in zip(seen, expected, strict=True):
        assert torch.equal(x, torch.cat([of.id, of.pose, third.detach()], 1))


# What is published, and settings


def test_the_swapper_is_the_averaged_side() -> None:
    method, of = small_pix2pixhd(), triplets()
    network = build_swapper(method.config)
    network.load_state_dict(method.networks[method.averaged].state_dict())
    torch.testing.assert_close(network(of.id, of.pose), method.generator(of.id, of.pose))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Pix2pixHDSettings(feature_matching=-1)
    with pytest.raises(ValueError, match="the distance is"):
        Pix2pixHD(Pix2pixHDConfig(perceptual=PerceptualConfig("st-alex")), PIXELS, clips=5)
    assert PerceptualConfig(**DEFAULTS["perceptual"]) == Pix2pixHDConfig().perceptual


def test_the_first_steps_have_their_known_losses() -> None:
    found, kept = first_losses("pix2pixhd"), kept_losses("pix2pixhd")
    assert len(found) == len(kept) == 20
    for now, then in zip(found, kept, strict=True):
        assert now == pytest.approx(then, rel=1e-6)


@pytest.mark.parametrize("name", ["feature_matching", "perceptual"])
def test_weights_of_the_settings_are_used(name: str) -> None:
    settings: dict[str, Any] = {name: 3.0}
    weights = next(small_pix2pixhd(**settings).updates(triplets())).losses.weights
    part = {"feature_matching": "L_features", "perceptual": "L_perceptual"}[name]
    assert weights == {"L_gan": 1.0, "L_features": 10.0, "L_perceptual": 10.0, part: 3.0}
