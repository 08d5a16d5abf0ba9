"""FactorVAE against its formulas. ``python -m tests.methods.test_factor_vae`` keeps its losses."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from idpose_core.methods.factor_vae import (
    DEFAULTS,
    FactorVAE,
    FactorVAEConfig,
    FactorVAESettings,
    build_swapper,
    discriminator_loss,
    kl_of_dimensions,
    permute_dims,
    reconstruction_loss,
    sample,
    total_correlation,
)
from idpose_core.models.factor_vae import (
    Code,
    TotalCorrelationDiscriminator,
    VariationalAutoencoder,
    to_unit,
)
from idpose_core.models.generator import GeneratorConfig
from tests.methods.baselines import FOLDER, PIXELS, STEPS, float64, kept_losses, step
from tests.methods.worlds import Triplets, batch

GENERATOR = GeneratorConfig(size=16, n_down=1, width=4, n_blocks=1)
SMALL = FactorVAESettings(dimensions=3, width=4, discriminator_width=8)


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    with float64():
        yield


def small(settings: FactorVAESettings = SMALL) -> FactorVAE:
    return FactorVAE(FactorVAEConfig(GENERATOR, settings), PIXELS, clips=5)


def pictures(count: int = 6, key: int = 7) -> Triplets:
    return replace(batch(count, torch.float64), key=key)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def optimisers(method: FactorVAE, rate: float) -> dict[str, torch.optim.Adam]:
    return {
        side: torch.optim.Adam(
            network.parameters(),
            lr=rate * method.optimisations[side].rate,
            betas=method.optimisations[side].betas or (0.5, 0.999),
        )
        for side, network in method.networks.items()
    }


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Networks


def test_the_networks_are_those_of_the_published_implementation() -> None:
    vae = VariationalAutoencoder()
    kinds = [
        (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        for m in vae.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert kinds == [
        ("Conv2d", 3, 32, 4, 2),
        ("Conv2d", 32, 32, 4, 2),
        ("Conv2d", 32, 64, 4, 2),
        ("Conv2d", 64, 64, 4, 2),
        ("Conv2d", 64, 256, 4, 1),
        ("Conv2d", 256, 20, 1, 1),
        ("Conv2d", 10, 256, 1, 1),
        ("ConvTranspose2d", 256, 64, 4, 1),
        ("ConvTranspose2d", 64, 64, 4, 2),
        ("ConvTranspose2d", 64, 32, 4, 2),
        ("ConvTranspose2d", 32, 32, 4, 2),
        ("ConvTranspose2d", 32, 3, 4, 2),
    ]
    assert parameters(vae) == 383_956 + 381_379
    judge = TotalCorrelationDiscriminator()
    assert [m.out_features for m in judge.modules() if isinstance(m, nn.Linear)] == [
        1000, 1000, 1000, 1000, 1000, 2,
    ]  # fmt: skip
    assert parameters(judge) == 11_000 + 4 * 1_001_000 + 2_002


@pytest.mark.parametrize(("size", "halvings"), [(8, 1), (16, 2), (32, 3), (64, 4), (128, 5)])
def test_other_sizes_are_halved_more_or_less_often(size: int, halvings: int) -> None:
    vae = VariationalAutoencoder(size, 3, 4)
    strides = [m.stride[0] for m in vae.encoder if isinstance(m, nn.Conv2d)]
    assert strides == [2] * halvings + [1, 1]
    seen = torch.rand(2, 3, size, size) * 2 - 1
    code = vae.encode(seen)
    assert code.mean.shape == code.log_variance.shape == (2, 3)
    assert vae.decode(code.mean).shape == seen.shape
    assert torch.equal(vae(seen), vae.decode(code.mean).sigmoid() * 2 - 1)


@pytest.mark.parametrize("size", [0, 4, 6, 24, 48, 100])
def test_sizes_that_do_not_end_at_four_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="cannot be halved to 4"):
        VariationalAutoencoder(size)


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes \[N, 3, 16, 16\]"):
        small().vae.encode(torch.zeros(2, 3, 8, 8))


def test_initial_weights() -> None:
    torch.manual_seed(3)
    for network in (VariationalAutoencoder(), TotalCorrelationDiscriminator()):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                assert float(module.bias.detach().abs().max()) == 0
                if module.weight.numel() > 10_000:
                    assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_the_published_network_is_built_from_the_configuration_alone() -> None:
    method = small()
    again = build_swapper(method.config)
    again.load_state_dict(method.networks[method.averaged].state_dict())
    seen = pictures().id
    assert torch.equal(again(seen), method.vae(seen))


@pytest.mark.parametrize(
    "settings",
    [
        {"dimensions": 0}, {"width": 0}, {"discriminator_width": 0}, {"gamma": -1.0},
        {"gamma": float("nan")}, {"discriminator_rate": 0.0},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings)).split("_")[-1]):
        FactorVAESettings(**settings)  # type: ignore[arg-type]


# Formulas


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    code = Code(torch.randn(5, 3), torch.randn(5, 3))
    spread = (code.log_variance / 2).exp()
    expected = kl_divergence(Normal(code.mean, spread), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_of_dimensions(code), expected.mean(0))
    nothing = Code(torch.zeros(2, 3), torch.zeros(2, 3))
    assert torch.equal(kl_of_dimensions(nothing), torch.zeros(3))


def test_the_reconstruction_is_summed_over_values_and_averaged_over_pictures() -> None:
    logits, wanted = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    share = logits.sigmoid()
    by_value = -(wanted * share.log() + (1 - wanted) * (1 - share).log())
    torch.testing.assert_close(reconstruction_loss(logits, wanted), by_value.sum() / 2)


def test_samples_have_the_mean_and_variance_of_the_code() -> None:
    code = Code(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]]))
    many = Code(*(part.expand(20_000, 2) for part in code))
    drawn = sample(many, noise())
    torch.testing.assert_close(drawn.mean(0), code.mean[0], atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.var(0).log(), code.log_variance[0], atol=0.05, rtol=0)
    assert torch.equal(drawn, sample(many, noise()))


def test_samples_pass_the_gradient_on() -> None:
    code = Code(torch.randn(4, 3).requires_grad_(), torch.randn(4, 3).requires_grad_())
    assert torch.autograd.gradcheck(lambda m, v: sample(Code(m, v), noise(1)), tuple(code))


def test_shuffling_keeps_every_dimension_and_breaks_their_bond() -> None:
    one = torch.randn(4000, 1)
    z = torch.cat([one, one, -one], dim=1)
    shuffled = permute_dims(z, noise())
    assert torch.equal(shuffled.sort(0).values, z.sort(0).values)
    bonds = torch.corrcoef(shuffled.T) - torch.eye(3)
    assert float(bonds.abs().max()) < 0.05
    assert torch.equal(shuffled, permute_dims(z, noise()))
    assert not torch.equal(shuffled, permute_dims(z, noise(1)))


def test_the_density_ratio_of_a_perfect_discriminator_is_the_total_correlation() -> None:
    """Two normal numbers of correlation r have a total correlation of -log(1 - r^2) / 2."""
    r, count = 0.8, 200_000
    spread = torch.tensor([[1.0, r], [r, 1.0]])
    joint = torch.distributions.MultivariateNormal(torch.zeros(2), spread)
    torch.manual_seed(0)
    z = joint.sample((count,))
    apart = Normal(0.0, 1.0).log_prob(z).sum(1)
    logits = torch.stack([joint.log_prob(z), apart], dim=1)
    expected = -0.5 * torch.log(torch.tensor(1 - r**2))
    torch.testing.assert_close(total_correlation(logits), expected, atol=0.01, rtol=0)


def test_the_discriminator_is_told_that_codes_are_class_0_and_shuffled_ones_class_1() -> None:
    together, apart = torch.randn(4, 2), torch.randn(3, 2)
    p, q = together.softmax(1)[:, 0], apart.softmax(1)[:, 1]
    expected = -0.5 * (p.log().mean() + q.log().mean())
    torch.testing.assert_close(discriminator_loss(together, apart), expected)


# One step


def test_the_losses_are_those_of_the_paper() -> None:
    method, of = small(), pictures(6)
    nn.init.normal_(method.discriminator.layers[0].weight)  # far from undecided
    updates = method.updates(of)
    found = next(updates)
    assert (found.side, method.averaged) == ("vae", "vae")

    draws = noise(of.key)
    first, second = (of.id[:3] + 1) / 2, of.id[3:]
    stats = method.vae.encoder(first).flatten(1)
    mean, log_variance = stats[:, :3], stats[:, 3:]
    z = mean + torch.randn(3, 3, generator=draws) * (log_variance / 2).exp()
    logits = method.vae.decoder(z[:, :, None, None])
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, first, reduction="sum") / 3
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
    judged = method.discriminator(z)
    correlation = (judged[:, :1] - judged[:, 1:]).mean()
    torch.testing.assert_close(found.losses.parts["L_rec"], entropy)
    torch.testing.assert_close(found.losses.parts["L_kl"], divergence)
    torch.testing.assert_close(found.losses.parts["L_tc"], correlation)
    total = entropy + divergence + 6.4 * correlation
    torch.testing.assert_close(found.losses.total, total)
    # The gradients as well: what is data and what is not shows only there.
    own = list(method.vae.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found.losses.total, own, retain_graph=True),
        torch.autograd.grad(total, own),
    )

    with torch.no_grad():  # as the loop: the second batch sees a VAE that has moved
        for parameter in own:
            parameter.add_(0.01)
    code = method.vae.encode(second)
    other = sample(code, draws)
    orders = [torch.randperm(3, generator=draws) for _ in range(3)]
    shuffled = torch.stack([other[order, j] for j, order in enumerate(orders)], dim=1)
    judged, apart = (method.discriminator(x.detach()) for x in (z, shuffled))
    zeros, ones = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)
    cross = nn.functional.cross_entropy
    found = next(updates)
    assert found.side == "discriminator"
    expected = 0.5 * (cross(judged, zeros) + cross(apart, ones))
    torch.testing.assert_close(found.losses.total, expected)
    assert next(updates, None) is None


def test_neither_side_reaches_the_other() -> None:
    method = small()
    before = {side: copy.deepcopy(net.state_dict()) for side, net in method.networks.items()}
    for update in method.updates(pictures()):
        for network in method.networks.values():
            network.zero_grad(set_to_none=True)
        update.losses.total.backward()
        for side, network in method.networks.items():
            has = [parameter.grad is not None for parameter in network.parameters()]
            assert all(has) if side == update.side else not any(has)
    assert all(p.requires_grad for net in method.networks.values() for p in net.parameters())
    for side, network in method.networks.items():
        assert all(torch.equal(v, before[side][k]) for k, v in network.state_dict().items())


def test_the_halves_of_a_batch_have_their_own_parts() -> None:
    seen: list[Tensor] = []
    method, of = small(), pictures(7)
    method.vae.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    list(method.updates(of))
    assert torch.equal(seen[0], to_unit(of.id[:3])) and torch.equal(seen[1], to_unit(of.id[3:]))
    assert all(float(part.min()) >= 0 and float(part.max()) <= 1 for part in seen)


def test_a_batch_that_has_no_two_halves_is_refused() -> None:
    with pytest.raises(ValueError, match="4 rows a batch or more, not 3"):
        next(small().updates(pictures(3)))


def test_all_noise_comes_from_the_key_of_the_batch() -> None:
    def losses(key: int) -> list[float]:
        torch.manual_seed(0)
        method, of = small(), pictures(6, key)
        torch.rand(key)  # whatever else was drawn
        return [float(update.losses.total.detach()) for update in method.updates(of)]

    assert losses(5) == losses(5)
    assert losses(6) != losses(5)


def test_a_key_may_be_any_word_of_64_bits() -> None:
    list(small().updates(pictures(4, 2**64 - 1)))


def test_what_is_measured() -> None:
    method = small()
    assert method.measured() == {}

    def decided(z: Tensor) -> Tensor:  # takes the first dimension for a verdict
        return torch.stack([z[:, 0], -z[:, 0]], dim=1)

    method.discriminator.forward = decided  # type: ignore[method-assign, assignment]
    vae, _ = method.updates(pictures())
    method.discriminator_losses(
        torch.tensor([[1.0], [1.0], [-1.0], [1.0]]), torch.tensor([[-1.0], [1.0]])
    )
    found = method.measured()
    assert found["discriminator/accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    kl = [found[f"kl/{place}"] for place in range(3)]
    assert sum(kl) == pytest.approx(float(vae.losses.parts["L_kl"].detach()))


def test_in_half_precision_losses_are_still_float32() -> None:
    torch.set_default_dtype(torch.float32)
    method, of = small(), batch(6)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [part for u in method.updates(of) for part in u.losses.parts.values()]
    assert {part.dtype for part in losses} == {torch.float32}


# Training


def test_published_rates_and_momenta() -> None:
    found = small().optimisations
    assert found["vae"].betas == (0.9, 0.999) and found["vae"].rate == 1
    assert found["discriminator"].betas == (0.5, 0.9) and found["discriminator"].rate == 1
    slow = small(replace(SMALL, discriminator_rate=0.1)).optimisations
    assert slow["discriminator"].rate == 0.1 and slow["vae"].rate == 1
    assert FactorVAESettings() == FactorVAESettings(10, 6.4, 32, 1000, 1.0)
    assert DEFAULTS["training"]["jitter"] == 0 and DEFAULTS["training"]["learning_rate"] == 1e-4


@pytest.mark.parametrize(("gamma", "least", "most"), [(0.0, 0.91, 0.92), (6.4, 0.0, 0.4)])
def test_the_penalty_takes_the_bond_out_of_a_code(gamma: float, least: float, most: float) -> None:
    """Both sides in turn, on a code whose two dimensions nearly say the same."""
    method = small(replace(SMALL, dimensions=2, discriminator_width=32))
    for layer in method.discriminator.layers[::2]:
        nn.init.kaiming_normal_(layer.weight)
    mix = nn.Parameter(torch.tensor([[1.0, 0.0], [0.9, 0.4]]))
    encoder = torch.optim.Adam([mix], lr=5e-3)
    judge = torch.optim.Adam(method.discriminator.parameters(), lr=5e-3)
    for key in range(300):
        draws = noise(key)
        z, other = (torch.randn(128, 2, generator=draws) @ mix.T for _ in range(2))
        encoder.zero_grad()
        (gamma * total_correlation(method.discriminator(z))).backward()
        encoder.step()
        judge.zero_grad()
        method.discriminator_losses(z, permute_dims(other, draws)).total.backward()
        judge.step()
    with torch.no_grad():
        bond = nn.functional.cosine_similarity(mix[0], mix[1], dim=0).abs()
    assert least <= float(bond) <= most


def first_losses() -> list[dict[str, float]]:
    """Of a small VAE on random pictures, with its own rates, step by step."""
    with float64():
        torch.manual_seed(1)
        method = small()
        for network in method.networks.values():  # N(0, 0.02) says next to nothing at first
            for weights in network.parameters():
                if weights.ndim > 1:
                    nn.init.kaiming_normal_(weights)
        sides = optimisers(method, 1e-3)
        return [step(method, sides, pictures(6, key)) for key in range(STEPS)]


def test_the_first_losses_are_as_ever() -> None:
    kept, found = kept_losses("factor_vae"), first_losses()
    assert len(found) == len(kept) == STEPS
    for ours, theirs in zip(found, kept, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


if __name__ == "__main__":
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(first_losses(), indent=1)
    (FOLDER / "factor_vae.json").write_text(text + "\n", "utf-8")
