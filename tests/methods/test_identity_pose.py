"""The method: which passes it makes, who learns from what, and what each switch removes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idpose_core.methods.identity_pose import (
    ABLATIONS,
    PRESETS,
    IdentityPose,
    IdentityPoseConfig,
    Terms,
    Weights,
)
from idpose_core.methods.losses import gradient_norms
from idpose_core.models.identity_attention import IdentityAttention
from idpose_core.models.perceptual import PerceptualConfig, load_perceptual
from idpose_core.models.pixel_verification import PixelVerificationConfig, verify_pixels
from tests.methods.baselines import (
    STEPS,
    first_losses,
    float64,
    kept_losses,
    small_copy_attention,
)
from tests.methods.worlds import CLIPS, SMALL, batch, in_float64, small


@contextmanager
def inputs_of(*modules: nn.Module) -> Iterator[list[list[Tensor]]]:
    """Positional inputs of every call of each module."""
    seen: list[list[Tensor]] = [[] for _ in modules]
    hooks = [
        module.register_forward_pre_hook(lambda _, args, to=to: to.append(args[0].detach()))
        for module, to in zip(modules, seen, strict=True)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def state(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(before: dict[str, Tensor], module: nn.Module) -> bool:
    after = module.state_dict()
    return all(torch.equal(before[name], after[name]) for name in after)


# Passes


@pytest.mark.parametrize(
    ("terms", "id_encodes", "pose_encodes", "decodes"),
    [
        (Terms(), 2, 2, 3),
        (Terms(pv=False), 2, 2, 3),
        (Terms(dis2=False), 1, 2, 2),  # the pass (i, i) still runs: it has the keys
        (Terms(dis2=False, pv=False), 1, 1, 1),
    ],
)
def test_one_iteration_is_four_encodes_and_one_decode(
    terms: Terms, id_encodes: int, pose_encodes: int, decodes: int
) -> None:
    method, triplets = small(terms), batch(2)
    parts = method.generator.id_encoder, method.generator.pose_encoder
    with inputs_of(*parts, method.generator.decoder) as (identity, pose, decoded):
        generated = method.generate(triplets)
        method.discriminator_losses(triplets, generated)
        method.generator_losses(triplets, generated)
    assert [len(calls) for calls in (identity, pose, decoded)] == [1, 1, 1]
    assert len(identity[0]) == 2 * id_encodes
    assert len(pose[0]) == 2 * pose_encodes
    assert len(decoded[0]) == 2 * decodes
    assert len(generated.decoded.picture) == 2 * decodes


def test_the_passes_are_those_of_the_paper() -> None:
    method, triplets = in_float64(small()), batch(2, torch.float64)
    g = method.generator
    with torch.no_grad():
        generated = method.generate(triplets)
        torch.testing.assert_close(generated.output, g(triplets.id, triplets.pose))
        torch.testing.assert_close(generated.identity_again, g(triplets.id, triplets.id))
        torch.testing.assert_close(generated.pose_again, g(triplets.pose, triplets.pose))
        again = g.decode(g.encode_identity(triplets.id), g.encode_pose(triplets.id))
        torch.testing.assert_close(generated.identity_feature, again.feature)
        first = g.decode(g.encode_identity(triplets.id), g.encode_pose(triplets.pose))
        torch.testing.assert_close(generated.output_feature, first.feature)


def test_losses_compare_what_the_equations_say() -> None:
    method, triplets = in_float64(small()), batch(2, torch.float64)
    generated = method.generate(triplets)
    losses = method.generator_losses(triplets, generated)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().mean()

    parts = losses.parts
    torch.testing.assert_close(parts["L1_dis"], distance(triplets.target, generated.output))
    torch.testing.assert_close(
        parts["L2_dis"],
        distance(triplets.id, generated.identity_again)
        + distance(triplets.pose, generated.pose_again),
    )
    verified = verify_pixels(
        generated.output, generated.output_feature, generated.identity_feature, triplets.id
    )
    torch.testing.assert_close(parts["L_pv"], verified.loss)
    torch.testing.assert_close(losses.aligned, verified.aligned)
    assert losses.row_sum_error < 1e-12
    real, pair = method.discriminators["real"], method.discriminators["pair"]
    judgement = real(generated.output)
    expected = sum((m - 1).square().mean() for m in judgement.maps)
    torch.testing.assert_close(parts["L_real"], expected)
    expected = nn.functional.cross_entropy(judgement.logits, triplets.clip)
    torch.testing.assert_close(parts["L_aux"], expected)
    expected = sum((m - 1).square().mean() for m in pair.judge(triplets.id, generated.output).maps)
    torch.testing.assert_close(parts["L_pair"], expected)


# Pairs of the discriminators


def test_pairs_are_target_generated_and_mismatch_and_never_the_id_picture_itself() -> None:
    method, triplets = small(), batch(3)
    generated = method.generate(triplets)
    with inputs_of(method.discriminators["pair"], method.discriminators["real"]) as (pair, real):
        method.discriminator_losses(triplets, generated)
        method.generator_losses(triplets, generated)
    firsts = [pictures[:, :3] for pictures in pair]
    seconds = [pictures[:, 3:] for pictures in pair]
    assert all(torch.equal(first, triplets.id) for first in firsts)
    expected = [triplets.target, generated.output, triplets.mismatch, generated.output]
    assert all(torch.equal(a, b) for a, b in zip(seconds, expected, strict=True))
    assert not any(torch.equal(second, triplets.id) for second in seconds)
    expected = [triplets.target, generated.output, generated.output]
    assert all(torch.equal(a, b) for a, b in zip(real, expected, strict=True))


def test_the_auxiliary_head_is_on_d_real_alone_and_has_training_clips_only() -> None:
    method = small()
    heads = {
        name: [m.out_features for m in network.modules() if isinstance(m, nn.Linear)]
        for name, network in method.discriminators.items()
    }
    assert heads == {"real": [CLIPS, CLIPS], "pair": []}
    without = small(ABLATIONS["d-real-pair"])
    assert not [m for m in without.discriminators.modules() if isinstance(m, nn.Linear)]


def test_the_head_learns_from_targets_and_from_fakes_only_as_an_option() -> None:
    triplets = batch(2)
    method = small()
    generated = method.generate(triplets)
    real = method.discriminators["real"]

    def entropy(pictures: Tensor) -> Tensor:
        return nn.functional.cross_entropy(real(pictures).logits, triplets.clip)

    found = method.discriminator_losses(triplets, generated).parts["D_aux"]
    torch.testing.assert_close(found, entropy(triplets.target))
    both = small(aux_on_fakes=True)
    both.discriminators.load_state_dict(method.discriminators.state_dict())
    found = both.discriminator_losses(triplets, generated).parts["D_aux"]
    expected = entropy(triplets.target) + entropy(generated.output)
    torch.testing.assert_close(found, expected)


def test_both_sides_minimise_the_auxiliary_loss() -> None:
    """A step along the gradient's descent lowers it, for the head and for the generator."""
    method, triplets = in_float64(small()), batch(4, torch.float64)
    for losses, key, network in (
        (method.discriminator_losses, "D_aux", method.discriminators),
        (method.generator_losses, "L_aux", method.generator),
    ):
        only = replace(method.config, weights=Weights(dis=0, pv=0, gan=0))
        method.config = only
        before = losses(triplets, method.generate(triplets))
        before.total.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
                    parameter.grad = None
        after = losses(triplets, method.generate(triplets))
        assert after.parts[key] < before.parts[key]


# Who learns


def test_a_step_of_one_side_leaves_the_other_bit_identical() -> None:
    method, triplets = small(), batch(2)
    generator, discriminators = method.generator, method.discriminators
    before_g, before_d = state(generator), state(discriminators)
    generated = method.generate(triplets)

    method.discriminator_losses(triplets, generated).total.backward()
    assert all(p.grad is None for p in generator.parameters())
    assert all(p.grad is not None for p in discriminators.parameters())
    torch.optim.Adam(discriminators.parameters(), lr=1e-2).step()
    assert same(before_g, generator)
    assert not same(before_d, discriminators)

    discriminators.zero_grad()
    before_d = state(discriminators)
    method.generator_losses(triplets, generated).total.backward()
    assert all(p.grad is None for p in discriminators.parameters())
    assert all(p.requires_grad for p in discriminators.parameters())
    assert all(p.grad is not None for p in generator.parameters())
    torch.optim.Adam(generator.parameters(), lr=1e-2).step()
    assert same(before_d, discriminators)
    assert not same(before_g, generator)


def test_frozen_parameters_stay_frozen() -> None:
    method, triplets = small(), batch(2)
    scale = method.discriminators["real"].scales[1].requires_grad_(False)
    method.generator_losses(triplets, method.generate(triplets))
    assert not any(p.requires_grad for p in scale.parameters())


def test_the_generator_is_judged_by_the_discriminators_as_they_are_now() -> None:
    method, triplets = small(), batch(2)
    generated = method.generate(triplets)
    before = method.generator_losses(triplets, generated).parts["L_real"]
    with torch.no_grad():
        for scale in method.discriminators["real"].scales:
            scale.judge.bias += 1.0
    assert method.generator_losses(triplets, generated).parts["L_real"] != before


def test_the_gradient_is_the_weighted_sum_of_the_parts() -> None:
    weights = Weights(dis=0.7, pv=1.3, aux=0.2, gan=2.5)
    method, triplets = in_float64(small(weights=weights)), batch(2, torch.float64)
    factors = {
        "L1_dis": 0.7,
        "L2_dis": 0.7,
        "L_pv": 1.3,
        "L_aux": 0.2,
        "L_real": 2.5,
        "L_pair": 2.5,
        "D_real": 2.5,
        "D_pair": 2.5,
        "D_aux": 0.2,
    }
    generated = method.generate(triplets)
    for network, losses in (
        (method.generator, method.generator_losses(triplets, generated)),
        (method.discriminators, method.discriminator_losses(triplets, generated)),
    ):
        parameters = list(network.parameters())

        def gradients(of: Tensor, at: list[nn.Parameter] = parameters) -> list[Tensor]:
            return list(
                torch.autograd.grad(
                    of, at, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            )

        total = gradients(losses.total)
        added = [torch.zeros_like(parameter) for parameter in parameters]
        for name, part in losses.parts.items():
            for to, gradient in zip(added, gradients(part), strict=True):
                to += factors[name] * gradient
        for ours, theirs in zip(total, added, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)
        assert any(gradient.abs().max() > 0 for gradient in total)


def test_all_weights_are_one_by_default() -> None:
    method, triplets = small(), batch(2)
    generated = method.generate(triplets)
    for losses in (method.generator_losses, method.discriminator_losses):
        found = losses(triplets, generated)
        torch.testing.assert_close(found.total, sum(found.parts.values()))


def test_gradient_norms_at_the_output() -> None:
    method, triplets = small(), batch(2)
    generated = method.generate(triplets)
    losses = method.generator_losses(triplets, generated)
    picture, feature = generated.decoded
    norms = gradient_norms(losses, picture)
    assert norms.keys() == losses.parts.keys()
    assert all(norm > 0 for norm in norms.values())
    # Mean absolute distance over n values: each pulls with 1/n, together with 1/sqrt(n).
    assert norms["L1_dis"] == pytest.approx(generated.output.numel() ** -0.5, rel=1e-5)
    stopped = small(pixel_verification=PixelVerificationConfig(gradient="stop_affinity"))
    stopped.generator.load_state_dict(method.generator.state_dict())
    again = stopped.generate(triplets)
    through_w = gradient_norms(losses, feature)["L_pv"]
    direct = gradient_norms(stopped.generator_losses(triplets, again), again.decoded.feature)
    assert through_w != pytest.approx(direct["L_pv"], rel=1e-3)
    losses.total.backward()


# Switches

ALL_PARTS = {"L1_dis", "L2_dis", "L_pv", "L_aux", "L_real", "L_pair"}
ALL_JUDGES = {"D_real", "D_pair", "D_aux"}
REMOVED: dict[str, tuple[set[str], set[str]]] = {
    "full": (set(), set()),
    "without-pv": ({"L_pv"}, set()),
    "without-pv-and-dis2": ({"L_pv", "L2_dis"}, set()),
    "d-real": ({"L_pair", "L_aux"}, {"D_pair", "D_aux"}),
    "d-real-aux": ({"L_pair"}, {"D_pair"}),
    "d-real-pair": ({"L_aux"}, {"D_aux"}),
    "no-adversary": ({"L_real", "L_pair", "L_aux"}, ALL_JUDGES),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_switch_removes_exactly_its_terms(name: str) -> None:
    triplets = batch(2)
    full, ablated = small(), small(ABLATIONS[name])
    ablated.generator.load_state_dict(full.generator.state_dict())
    ablated.discriminators.load_state_dict(full.discriminators.state_dict(), strict=False)
    gone_g, gone_d = REMOVED[name]
    for losses, everything, gone in (
        ("generator_losses", ALL_PARTS, gone_g),
        ("discriminator_losses", ALL_JUDGES, gone_d),
    ):
        whole = getattr(full, losses)(triplets, full.generate(triplets)).parts
        left = getattr(ablated, losses)(triplets, ablated.generate(triplets)).parts
        assert whole.keys() == everything
        assert left.keys() == everything - gone
        for part, value in left.items():  # and leaves the others what they were
            torch.testing.assert_close(value, whole[part], rtol=1e-4, atol=1e-5)


def test_without_pixel_verification_nothing_is_measured_or_aligned() -> None:
    triplets = batch(2)
    method = small(ABLATIONS["without-pv"])
    generated = method.generate(triplets)
    assert method.measure_pixels(generated) is None
    losses = method.generator_losses(triplets, generated)
    assert losses.aligned is None
    assert losses.row_sum_error is None
    measured = small().measure_pixels(generated)
    assert measured is not None
    assert 1 <= measured.effective_keys <= 256
    assert 1 <= measured.largest_column_mass <= 256


def test_without_an_adversary_there_is_nothing_to_train_on_that_side() -> None:
    method, triplets = small(ABLATIONS["no-adversary"]), batch(2)
    assert not list(method.discriminators.parameters())
    losses = method.discriminator_losses(triplets, method.generate(triplets))
    with pytest.raises(ValueError, match="nothing is to be trained"):
        _ = losses.total


@pytest.mark.parametrize("scales", [1, 2])
@pytest.mark.parametrize("output", ["patch", "global"])
@pytest.mark.parametrize("loss", ["lsgan", "hinge"])
def test_every_choice_of_discriminator_trains_both_sides(
    scales: int, output: Any, loss: Any
) -> None:
    config = replace(SMALL.discriminator, scales=scales, output=output, loss=loss)
    method, triplets = small(discriminator=config), batch(2)
    generated = method.generate(triplets)
    losses = method.discriminator_losses(triplets, generated)
    losses.total.backward()
    method.generator_losses(triplets, generated).total.backward()
    for network in (method.generator, method.discriminators):
        gradients = [p.grad for p in network.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)


# Devices, settings


def test_it_runs_under_autocast_and_channels_last() -> None:
    method, triplets = small(), batch(2)
    for network in (method.generator, method.discriminators):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        generated = method.generate(triplets)
        judged = method.discriminator_losses(triplets, generated)
        losses = method.generator_losses(triplets, generated)
    for found in (judged, losses):
        assert {part.dtype for part in found.parts.values()} == {torch.float32}
        assert found.total.isfinite()
        found.total.backward()
    assert losses.row_sum_error < 1e-5


def test_the_mean_over_two_processes_is_the_loss_of_the_whole_batch() -> None:
    method = in_float64(small())
    weight = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64)
    whole = replace(batch(4, torch.float64), weight=weight)
    halves = [
        replace(whole, **{k: v[part] for k, v in vars(whole).items() if isinstance(v, Tensor)})
        for part in (slice(0, 2), slice(2, 4))
    ]
    for losses in (method.generator_losses, method.discriminator_losses):
        all_at_once = losses(whole, method.generate(whole)).parts
        apart = [losses(half, method.generate(half)).parts for half in halves]
        for name, value in all_at_once.items():
            torch.testing.assert_close(value, (apart[0][name] + apart[1][name]) / 2)


def test_presets_are_the_papers_and_a_small_one() -> None:
    assert PRESETS["128"] == IdentityPoseConfig()
    assert PRESETS["128"].perceptual.kind == "vgg19"
    assert PRESETS["64"].generator.size == PRESETS["small"].generator.size == 64
    assert PRESETS["64"].terms == PRESETS["small"].terms == Terms()
    assert Weights() == Weights(1.0, 1.0, 1.0, 1.0)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="without L_real"):
        Terms(real=False)
    with pytest.raises(ValueError, match="negative"):
        Weights(pv=-1.0)
    distance = load_perceptual(PerceptualConfig("pixel-l1"))
    with pytest.raises(ValueError, match="needs training clips"):
        IdentityPose(SMALL, distance, clips=0)
    with pytest.raises(ValueError, match="the distance is"):
        IdentityPose(replace(SMALL, perceptual=PerceptualConfig()), distance, clips=CLIPS)


def test_pictures_of_other_terms_are_refused() -> None:
    triplets = batch(2)
    generated = small(ABLATIONS["without-pv-and-dis2"]).generate(triplets)
    with pytest.raises(ValueError, match="without a pass"):
        small().generator_losses(triplets, generated)


@pytest.mark.parametrize("name", ["identity_pose", "copy_attention"])
def test_the_first_losses_are_the_known_ones(name: str) -> None:
    found, kept = first_losses(name), kept_losses(name)
    assert len(found) == len(kept) == STEPS
    for losses, known in zip(found, kept, strict=True):
        assert losses == pytest.approx(known, rel=1e-6)


def test_a_recoloured_pose_picture_changes_nothing_that_is_copied() -> None:
    """It chooses where to copy from; the first norm takes gain and offset of a channel from it."""
    with float64():
        generator = small_copy_attention().generator
        pictures = batch(2, torch.float64)
        recoloured = pictures.pose * 0.5 + torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1)
        with torch.no_grad():
            plain, other = (generator(pictures.id, pose) for pose in (pictures.pose, recoloured))
    mixed = (pictures.pose * torch.tensor([1.0, 0.5, 0.5]).view(1, 3, 1, 1)).to(torch.float64)
    with torch.no_grad():
        shaded = generator(pictures.id, mixed)
    assert float((plain - other).abs().max()) < 1e-3 < float((plain - shaded).abs().max())


def test_the_output_copies_from_the_identity_picture() -> None:
    """With keys and queries of the same places alone, the pass (i, i) finds each place itself."""
    attention = IdentityAttention(8, 9, patch=2)
    with torch.no_grad():
        for layer in (attention.query, attention.key):
            layer.weight.zero_()
        torch.nn.init.orthogonal_(attention.place.weight[:16, :, 0, 0], gain=1e2)  # the first head
        maps = torch.eye(9).view(1, 9, 3, 3).expand(2, -1, -1, -1)  # every place is another one
        picture = torch.rand(2, 3, 6, 6) * 2 - 1
        _, copied = attention(torch.zeros(2, 8, 3, 3), maps, maps, maps, picture)
    torch.testing.assert_close(copied[:, :3], picture)
