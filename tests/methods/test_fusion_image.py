"""FusionImage against its formulas, written down once more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from idpose_core.methods.fusion_image import FusionImageSettings, build_swapper, min_patch
from tests.methods.baselines import (
    first_losses,
    float64,
    kept_losses,
    reached,
    small_fusion_image,
    triplets,
)


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    with float64():
        yield


# Min-patch


def test_the_least_of_each_square_is_taken() -> None:
    judged = torch.ones(2, 1, 19, 19)
    judged[0, 0, 0, 0] = -3  # first square
    judged[0, 0, 7, 8] = 0.5  # second of the upper row, which begins at 8
    judged[0, 0, 15, 15] = 0.25  # last corner that is looked at
    judged[0, 0, 18, 18] = -9  # left over
    found = min_patch(judged, 8)
    assert found.shape == (2, 1, 2, 2)
    assert found[0, 0].tolist() == [[-3, 0.5], [1, 0.25]]
    assert found[1, 0].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(("side", "left"), [(7, 1), (8, 1), (11, 1), (16, 2), (1, 1)])
def test_small_maps_are_one_square(side: int, left: int) -> None:
    judged = torch.rand(3, 1, side, side)
    found = min_patch(judged, 8)
    assert found.shape == (3, 1, left, left)
    if side <= 8:
        assert torch.equal(found.flatten(), judged.amin((1, 2, 3)))


def test_the_gradient_reaches_the_least_patch_alone() -> None:
    judged = torch.rand(1, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(min_patch(judged, 8).sum(), judged)
    assert gradient.flatten().argmax() == judged.flatten().argmin()
    assert gradient.sum() == gradient.max() == 1


# The losses


def l1(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()


@pytest.mark.parametrize("detach", [False, True])
def test_the_losses_are_those_of_the_paper(detach: bool) -> None:
    method, of = small_fusion_image(detach=detach), triplets(2)
    discriminator, generator = method.updates(of)
    assert (discriminator.side, generator.side) == ("discriminator", "generator")

    g, judge = method.generator, method.discriminator.judge
    x, y = of.id, of.id.flip(0)  # of two rows of two videos the other one
    fused = g(x, y)
    real, fake = judge(x, of.target).maps, judge(x, fused).maps
    whole = sum((m - 1).square().mean() for m in real) + sum(m.square().mean() for m in fake)
    torch.testing.assert_close(discriminator.losses.total, 0.5 * whole)

    # Maps of 16 x 16 pictures are 5 x 5 and 4 x 4: one square each.
    assert [m.shape[-1] for m in fake] == [5, 4]
    held = fused.detach() if detach else fused
    expected = {
        "L_I": sum((m.amin((2, 3)) - 1).square().mean() for m in fake),
        "L_S1": l1(of.target, g(x, of.target)),
        "L_S2a": l1(y, g(y, held)),
        "L_S2b": l1(held, g(held, y)),
    }
    for name, part in generator.losses.parts.items():
        torch.testing.assert_close(part, expected[name])
    shapes = expected["L_S1"] + expected["L_S2a"] + expected["L_S2b"]
    torch.testing.assert_close(generator.losses.total, expected["L_I"] + 10 * shapes)

    # The gradients as well: what is data and what is not shows only there.
    parameters = list(g.parameters())
    found = torch.autograd.grad(generator.losses.total, parameters)
    wanted = torch.autograd.grad(expected["L_I"] + 10 * shapes, parameters)
    torch.testing.assert_close(found, wanted)


def test_the_cycles_pull_at_the_fused_picture_unless_it_is_data() -> None:
    of = triplets()
    for detach in (False, True):
        *_, generator = small_fusion_image(detach=detach).updates(of)
        assert generator.output is not None
        for name in ("L_S2a", "L_S2b"):
            (gradient,) = torch.autograd.grad(
                generator.losses.parts[name],
                generator.output,
                retain_graph=True,
                allow_unused=True,
            )
            assert (gradient is None) is detach


def test_maps_are_pooled_for_the_generator_and_whole_for_the_discriminator() -> None:
    of = triplets()
    torch.manual_seed(2)
    pooled = list(small_fusion_image().updates(of))
    torch.manual_seed(2)
    whole = list(small_fusion_image(min_patch=1).updates(of))
    assert pooled[0].losses.total == whole[0].losses.total
    assert pooled[1].losses.parts["L_I"] > whole[1].losses.parts["L_I"]


def test_the_shape_comes_from_another_video_and_the_target_is_none_of_it() -> None:
    method = small_fusion_image()
    of = replace(triplets(6), video=torch.tensor([4, 4, 1, 1, 4, 0]))
    seen: list[list[Tensor]] = []
    passes = method.generator.passes

    def spied(pictures, pairs):  # type: ignore[no-untyped-def]
        seen.append(list(pictures))
        assert tuple(pairs) == (((0, 1), (0, 2)) if len(seen) == 1 else ((0, 1), (1, 0)))
        return passes(pictures, pairs)

    method.generator.passes = spied  # type: ignore[method-assign]
    list(method.updates(of))
    (x, same, y), (again, _) = seen
    assert torch.equal(x, of.id) and torch.equal(same, of.target) and torch.equal(again, y)
    rows = [next(n for n, one in enumerate(of.id) if torch.equal(one, picture)) for picture in y]
    assert sorted(rows) == list(range(6))
    assert bool((of.video[rows] != of.video).all())


def test_a_single_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"raise training\.batch_size"):
        list(small_fusion_image().updates(triplets(1)))


def test_neither_pose_nor_mismatch_is_used() -> None:
    of = triplets()
    nothing = torch.full_like(of.pose, torch.nan)
    method = small_fusion_image()
    for update in method.updates(replace(of, pose=nothing, mismatch=nothing)):
        assert bool(update.losses.total.isfinite())


def test_each_side_learns_from_its_own_losses_alone() -> None:
    assert reached(small_fusion_image(), triplets()) == [
        ("discriminator", {"discriminator"}, {"discriminator"}),
        ("generator", {"generator"}, {"generator"}),
    ]


# What is published, and settings


def test_the_swapper_is_the_averaged_side() -> None:
    method, of = small_fusion_image(), triplets()
    network = build_swapper(method.config)
    network.load_state_dict(method.networks[method.averaged].state_dict())
    torch.testing.assert_close(network(of.id, of.pose), method.generator(of.id, of.pose))


@pytest.mark.parametrize("change", [{"l1": -1.0}, {"adversarial": -0.1}, {"min_patch": 0}])
def test_wrong_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"negative|at least"):
        FusionImageSettings(**change)  # type: ignore[arg-type]


def test_the_first_steps_have_their_known_losses() -> None:
    found, kept = first_losses("fusion_image"), kept_losses("fusion_image")
    assert len(found) == len(kept) == 20
    for now, then in zip(found, kept, strict=True):
        assert now == pytest.approx(then, rel=1e-6)
