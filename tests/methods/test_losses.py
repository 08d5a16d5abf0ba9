"""Each loss on numbers small enough to add up by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from idpose_core.methods.losses import (
    Losses,
    gradient_norms,
    loss_aux,
    loss_dis1,
    loss_dis2,
    loss_pair,
    loss_pair_discriminator,
    loss_real,
    loss_real_discriminator,
)
from idpose_core.models.discriminators import Judgement
from idpose_core.models.perceptual import PerceptualConfig, load_perceptual


def judged(first: float, second: float) -> Judgement:
    """Two scales of different size, the same number everywhere."""
    return Judgement([torch.full((2, 1, 5, 5), first), torch.full((2, 1, 3, 3), second)], None)


def by_sum(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).sum()


def test_disentanglement_by_hand() -> None:
    one = torch.ones(1)
    assert loss_dis1(by_sum, generated=5 * one, target=2 * one) == 3
    both = [(one, 4 * one), (10 * one, 30 * one)]
    assert loss_dis2(by_sum, both) == (4 - 1) + (30 - 10)
    assert loss_dis2(by_sum, both[:1]) == 2 * (4 - 1)  # the one stands for both
    with pytest.raises(ValueError, match="without a pass"):
        loss_dis2(by_sum, [])


def test_least_squares_are_added_over_scales_and_halved_for_discriminators() -> None:
    real, fake, other = judged(0.8, 0.5), judged(0.3, -0.2), judged(0.1, 0.4)
    assert loss_real("lsgan", fake).item() == pytest.approx(0.7**2 + 1.2**2)
    assert loss_pair("lsgan", fake).item() == pytest.approx(0.7**2 + 1.2**2)
    on_real, on_fake, on_other = 0.2**2 + 0.5**2, 0.3**2 + 0.2**2, 0.1**2 + 0.4**2
    found = loss_real_discriminator("lsgan", real, fake).item()
    assert found == pytest.approx(0.5 * (on_real + on_fake))
    found = loss_pair_discriminator("lsgan", real, fake, other).item()
    assert found == pytest.approx(0.5 * (on_real + 0.5 * (on_fake + on_other)))


def test_hinge_is_the_mean_over_scales_and_is_not_halved() -> None:
    real, fake, other = judged(1.8, 0.5), judged(-0.3, -2.0), judged(0.5, -0.5)
    assert loss_real("hinge", fake).item() == pytest.approx((0.3 + 2.0) / 2)
    on_real, on_fake, on_other = (0 + 0.5) / 2, (0.7 + 0) / 2, (1.5 + 0.5) / 2
    found = loss_real_discriminator("hinge", real, fake).item()
    assert found == pytest.approx(on_real + on_fake)
    found = loss_pair_discriminator("hinge", real, fake, other).item()
    assert found == pytest.approx(on_real + 0.5 * (on_fake + on_other))


def test_aux_is_the_cross_entropy_of_the_clip() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    found = loss_aux(Judgement([], logits), torch.tensor([1, 0])).item()
    second = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert found == pytest.approx((math.log(3) + second) / 2)
    with pytest.raises(ValueError, match="auxiliary head"):
        loss_aux(Judgement([], None), torch.tensor([1]))


def test_the_total_and_the_norms_have_the_weights() -> None:
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    y = torch.tensor(1.0, requires_grad=True)
    losses = Losses(
        {"a": x.square().sum(), "b": x.sum(), "c": 5 * y}, {"a": 2.0, "b": 0.5, "c": 1.0, "d": 9.0}
    )
    assert losses.total.item() == 2 * 25 + 0.5 * 7 + 5
    norms = gradient_norms(losses, x)
    assert norms == pytest.approx({"a": 2 * 10.0, "b": 0.5 * math.sqrt(2), "c": 0.0})
    assert x.grad is None
    losses.total.backward()  # the graph is still there
    with pytest.raises(ValueError, match="no losses"):
        _ = Losses({}, {}).total


def test_a_weight_counts_each_triplet_of_l1_dis() -> None:
    distance = load_perceptual(PerceptualConfig("pixel-l1"))
    generated, target = torch.rand(2, 3, 3, 8, 8)
    each = (generated - target).abs().mean((1, 2, 3))
    weight = torch.tensor([0.5, 0.0, 2.5])
    torch.testing.assert_close(
        loss_dis1(distance, generated, target, weight), (weight * each).mean()
    )
    torch.testing.assert_close(loss_dis1(distance, generated, target), each.mean())
    torch.testing.assert_close(loss_dis1(distance, generated, target, torch.ones(3)), each.mean())
