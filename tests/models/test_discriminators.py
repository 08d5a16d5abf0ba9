"""The discriminators against the table of the architecture."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from idpose_core.models.discriminators import (
    Discriminator,
    DiscriminatorConfig,
    PairDiscriminator,
    RealDiscriminator,
)

SMALL = DiscriminatorConfig(width=4)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("size", "sides"), [(128, [19, 11]), (64, [11, 7])])
@pytest.mark.parametrize("inputs", [3, 6])
def test_maps_and_parameters_are_those_of_the_table(
    size: int, sides: list[int], inputs: int
) -> None:
    with torch.device("meta"):
        network = Discriminator(inputs, DiscriminatorConfig())
        maps, logits, _ = network(torch.empty(2, inputs, size, size))
    assert [tuple(m.shape) for m in maps] == [(2, 1, side, side) for side in sides]
    assert logits is None
    expected = {3: 2.765, 6: 2.768}[inputs]
    assert [round(parameters(s) / 1e6, 3) for s in network.scales] == [expected, expected]


def test_the_second_scale_judges_the_halved_picture_with_weights_of_its_own() -> None:
    network = RealDiscriminator(SMALL, clips=0)
    one = RealDiscriminator(replace(SMALL, scales=1), clips=0)
    one.scales[0].load_state_dict(network.scales[1].state_dict())
    x = torch.rand(2, 3, 32, 32)
    halved = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
    torch.testing.assert_close(network(x).maps[1], one(halved).maps[0])
    assert not torch.equal(network.scales[0].judge.weight, network.scales[1].judge.weight)
    assert len(one(x).maps) == 1
    # Without the padding in the count, a constant picture stays constant up to its border.
    torch.testing.assert_close(network.halve(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 4, 4))


def test_first_and_last_layer_have_no_norm() -> None:
    scale = RealDiscriminator(SMALL, clips=0).scales[0]
    kinds = [type(m).__name__ for m in scale.features]
    inner = ["Conv2d", "InstanceNorm2d", "LeakyReLU"]
    assert kinds == ["Conv2d", "LeakyReLU", *inner * 3]
    assert [m.stride[0] for m in scale.features if isinstance(m, nn.Conv2d)] == [2, 2, 2, 1]


def test_global_output_is_one_judgement_a_picture_and_scale() -> None:
    patch = RealDiscriminator(SMALL, clips=0)
    whole = RealDiscriminator(replace(SMALL, output="global"), clips=0)
    whole.load_state_dict(patch.state_dict())
    x = torch.rand(2, 3, 32, 32)
    for one, many in zip(whole(x).maps, patch(x).maps, strict=True):
        assert one.shape == (2, 1, 1, 1)
        torch.testing.assert_close(one, many.mean(dim=(2, 3), keepdim=True))


def test_the_auxiliary_head_averages_its_scales_and_starts_undecided() -> None:
    network = RealDiscriminator(DiscriminatorConfig(width=16), clips=40)
    x = torch.rand(8, 3, 64, 64) * 2 - 1
    logits = network(x).logits
    assert logits.shape == (8, 40)
    loss = F.cross_entropy(logits, torch.arange(8)).item()
    assert loss == pytest.approx(math.log(40), rel=0.05)

    heads = []
    picture = x
    for scale, head in zip(network.scales, network.heads, strict=True):
        heads.append(head(scale.features(picture).mean(dim=(2, 3))))
        picture = network.halve(picture)
    torch.testing.assert_close(logits, (heads[0] + heads[1]) / 2)


def test_only_d_real_can_have_the_auxiliary_head() -> None:
    pair = PairDiscriminator(SMALL)
    assert len(pair.heads) == 0
    assert not [m for m in pair.modules() if isinstance(m, nn.Linear)]
    assert pair.judge(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)).logits is None
    assert len(RealDiscriminator(SMALL, clips=7).heads) == 2


def test_d_pair_sees_both_pictures_in_their_order() -> None:
    pair = PairDiscriminator(SMALL)
    a, b = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    judged = pair.judge(a, b).maps[0]
    assert not torch.allclose(judged, pair.judge(b, a).maps[0])
    assert not torch.allclose(judged, pair.judge(a, a).maps[0])


def test_judgements_are_float32_under_autocast() -> None:
    network = RealDiscriminator(SMALL, clips=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps, logits, _ = network(torch.rand(2, 3, 32, 32))
    assert {m.dtype for m in maps} | {logits.dtype} == {torch.float32}


@pytest.mark.parametrize(
    "change",
    [{"width": 0}, {"scales": 3}, {"output": "pixel"}, {"loss": "wgan"}, {"norm": "batch"}],
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(SMALL, **change)
    with pytest.raises(ValueError, match="clips"):
        RealDiscriminator(SMALL, clips=-1)


def test_features_are_the_maps_after_each_activation_and_change_nothing() -> None:
    network = Discriminator(9, SMALL, clips=3)
    x = torch.rand(2, 9, 32, 32) * 2 - 1
    plain, asked = network(x), network(x, with_features=True)
    assert plain.features is None
    assert all(torch.equal(a, b) for a, b in zip(plain.maps, asked.maps, strict=True))
    assert torch.equal(plain.logits, asked.logits)
    channels = [[m.shape[1] for m in maps] for maps in asked.features]
    sides = [[m.shape[2] for m in maps] for maps in asked.features]
    assert channels == [[4, 8, 16, 32]] * 2
    assert sides == [[17, 9, 5, 6], [9, 5, 3, 4]]
    y = x
    for maps, scale, judged in zip(asked.features, network.scales, asked.maps, strict=True):
        first = F.leaky_relu(scale.features[0](y), 0.2)
        torch.testing.assert_close(maps[0], first)
        torch.testing.assert_close(maps[-1], scale.features(y))
        torch.testing.assert_close(judged, scale.judge(maps[-1]))
        y = network.halve(y)
