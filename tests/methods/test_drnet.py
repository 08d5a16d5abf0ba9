"""DrNet against its formulas, written down once more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from idpose_core.methods.drnet import DrNetConfig, DrNetSettings, build_swapper
from idpose_core.models.generator import GeneratorConfig
from idpose_core.models.scene_discriminator import SceneDiscriminator
from tests.methods.baselines import (
    first_losses,
    float64,
    kept_losses,
    reached,
    small_drnet,
    triplets,
)


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    with float64():
        yield


def told_by_hand(scene: SceneDiscriminator, one: Tensor, other: Tensor) -> Tensor:
    """The probability of being of one video."""
    x = torch.cat([one.mean((2, 3)), other.mean((2, 3))], 1)
    first, second, third = (layer for layer in scene.layers if isinstance(layer, nn.Linear))
    x = (x @ first.weight.T + first.bias).clamp(min=0)
    x = (x @ second.weight.T + second.bias).clamp(min=0)
    return 1 / (1 + (-(x @ third.weight.T + third.bias)).exp()).squeeze(1)


def test_the_losses_are_those_of_the_paper() -> None:
    method, of = small_drnet(beta=0.5), triplets(2)
    for layer in method.scene.layers:  # far from undecided
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight)
    scene, generator = method.updates(of)
    assert (scene.side, generator.side) == ("scene", "generator")

    g = method.generator
    pose1, pose2 = g.encode_pose(of.id), g.encode_pose(of.target)
    # The first row stays with its own target, the second meets the other one of two.
    p = told_by_hand(method.scene, pose1.detach(), pose2.detach()[[0, 0]])
    expected = -(p[0].log() + (1 - p[1]).log()) / 2
    torch.testing.assert_close(scene.losses.total, expected)

    content1, content2 = g.encode_identity(of.id), g.encode_identity(of.target)
    similarity = (content1 - content2.detach()).square().mean()
    again = g.decode(content1, pose2).picture
    reconstruction = (again - of.target).square().mean()
    p = told_by_hand(method.scene, pose2, pose1.detach())
    confused = -(0.5 * p.log() + 0.5 * (1 - p).log()).mean()
    parts = generator.losses.parts
    torch.testing.assert_close(parts["L_similarity"], similarity)
    torch.testing.assert_close(parts["L_reconstruction"], reconstruction)
    torch.testing.assert_close(parts["L_scene"], confused)
    total = similarity + reconstruction + 0.5 * confused
    torch.testing.assert_close(generator.losses.total, total)
    assert generator.output is not None
    torch.testing.assert_close(generator.output, again)

    # The gradients as well: what is data and what is not shows only there.
    parameters = list(g.parameters())
    found = torch.autograd.grad(generator.losses.total, parameters)
    torch.testing.assert_close(found, torch.autograd.grad(total, parameters))


class TellsRows(nn.Module):
    """A perfect C for codes that are filled with the number of their video."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        same = (one == other).flatten(1).all(1)
        return torch.where(same, 30.0, -30.0)


def test_same_is_one_and_different_is_zero() -> None:
    method = small_drnet()
    method.scene = TellsRows()  # type: ignore[assignment]
    codes = torch.arange(4, dtype=torch.float64)[:, None, None, None].expand(4, 8, 8, 8)
    same = torch.tensor([True, True, False, False])
    losses = method.scene_losses(codes, codes[[0, 1, 3, 2]], same)
    assert float(losses.total) < 1e-12
    assert method.measured() == {"scene/accuracy": 1.0}
    losses = method.scene_losses(codes, codes, same)
    assert float(losses.total) == pytest.approx(30 * 2 / 4)
    assert method.measured() == {"scene/accuracy": 0.5}


def test_different_pairs_are_of_different_videos() -> None:
    method = small_drnet()
    of = replace(triplets(6), video=torch.tensor([4, 4, 1, 1, 4, 0]))
    seen: list[tuple[Tensor, Tensor]] = []
    method.scene.register_forward_pre_hook(lambda _, given: seen.append(given))
    list(method.updates(of))
    pose1, pose2 = method.generator.encode_pose(of.id), method.generator.encode_pose(of.target)
    (one, other), (adversarial, again) = seen
    assert torch.equal(one, pose1) and torch.equal(other[:3], pose2[:3])
    rows = [next(n for n, x in enumerate(pose2) if torch.equal(x, code)) for code in other[3:]]
    assert bool((of.video[rows] != of.video[3:]).all())
    assert torch.equal(adversarial, pose2) and torch.equal(again, pose1)


def test_pairs_of_one_video_are_never_called_different() -> None:
    method = small_drnet()
    method.scene = TellsRows()  # type: ignore[assignment]
    scene = next(method.updates(replace(triplets(2), video=torch.tensor([3, 3]))))
    # Their pictures differ, so that this C denies both pairs, at a loss of 30 each.
    assert float(scene.losses.total) == pytest.approx(30)


def test_a_single_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"raise training\.batch_size"):
        list(small_drnet().updates(triplets(1)))


def test_an_undecided_discriminator_is_what_the_pose_encoder_wants() -> None:
    method = small_drnet()
    for parameter in method.scene.parameters():
        nn.init.zeros_(parameter)
    *_, generator = method.updates(triplets())
    assert float(generator.losses.parts["L_scene"]) == pytest.approx(math.log(2))
    poses = list(method.generator.pose_encoder.parameters())
    gradients = torch.autograd.grad(generator.losses.parts["L_scene"], poses)
    assert not any(bool(gradient.any()) for gradient in gradients)


def test_each_side_learns_from_its_own_losses_alone() -> None:
    assert reached(small_drnet(), triplets()) == [
        ("scene", {"scene"}, {"scene"}),
        ("generator", {"generator"}, {"generator"}),
    ]


def test_neither_pose_nor_mismatch_is_used() -> None:
    of = triplets()
    nothing = torch.full_like(of.pose, torch.nan)
    for update in small_drnet().updates(replace(of, pose=nothing, mismatch=nothing)):
        assert bool(update.losses.total.isfinite())


def test_the_discriminator_is_a_small_network_on_two_means() -> None:
    network = SceneDiscriminator(256, 100)
    expected = (512 * 100 + 100) + (100 * 100 + 100) + (100 + 1)
    assert sum(p.numel() for p in network.parameters()) == expected
    one, other = torch.rand(2, 3, 256, 4, 4)
    logits = network(one, other)
    assert logits.shape == (3,)
    torch.testing.assert_close(network(one.flip(2, 3), other), logits)
    assert not torch.allclose(network(other, one), logits)


# What is published, and settings


def test_the_swapper_takes_identity_and_pose_from_their_pictures() -> None:
    method, of = small_drnet(), triplets()
    network = build_swapper(method.config)
    network.load_state_dict(method.networks[method.averaged].state_dict())
    g = method.generator
    made = g.decode(g.encode_identity(of.id), g.encode_pose(of.pose)).picture
    torch.testing.assert_close(network(of.id, of.pose), made)
    assert method.measured() == {}


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        DrNetSettings(beta=-1)
    with pytest.raises(ValueError, match="at least 1"):
        DrNetSettings(hidden=0)
    with pytest.raises(ValueError, match="copy_at"):
        DrNetConfig(GeneratorConfig(copy_at=(32,)))


def test_the_first_steps_have_their_known_losses() -> None:
    found, kept = first_losses("drnet"), kept_losses("drnet")
    assert len(found) == len(kept) == 20
    for now, then in zip(found, kept, strict=True):
        assert now == pytest.approx(then, rel=1e-6)
