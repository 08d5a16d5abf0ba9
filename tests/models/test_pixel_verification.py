"""Pixel verification against the plain softmax in float64, and its memory in a child process."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from idpose_core.models import pixel_verification
from idpose_core.models.pixel_verification import (
    NoFusedAttentionError,
    PixelVerificationConfig,
    align,
    measure,
    verify_pixels,
)

COSINE = PixelVerificationConfig(affinity="cosine")


def inputs(batch: int = 2, channels: int = 8, side: int = 6) -> tuple[Tensor, ...]:
    """Generated picture, queries, keys, identity picture; features as after IN and ReLU."""
    features = torch.randn(2, batch, channels, side, side).relu()
    pictures = torch.rand(2, batch, 3, side, side) * 2 - 1
    return pictures[0].clone(), features[0].clone(), features[1].clone(), pictures[1].clone()


def flat(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def naive_matrix(queries: Tensor, keys: Tensor, config: PixelVerificationConfig) -> Tensor:
    """W in float64: each row a softmax over the pixels of the identity picture.

    The cosine has the floor of 1e-6 under the square of a norm: a feature of zeros has none.
    """
    q, k = flat(queries).double(), flat(keys).double()
    if config.affinity == "cosine":
        q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (q, k))
    temperature = config.temperature or {"dot": 1.0, "cosine": 0.05}[config.affinity]
    return torch.softmax(q @ k.transpose(1, 2) / temperature, dim=-1)


def naive_loss(
    generated: Tensor,
    queries: Tensor,
    keys: Tensor,
    identity: Tensor,
    config: PixelVerificationConfig,
) -> Tensor:
    aligned = naive_matrix(queries, keys, config) @ flat(identity).double()
    return (aligned - flat(generated).double()).abs().mean()


CONFIGS = [
    PixelVerificationConfig(),
    PixelVerificationConfig(temperature=4.0),
    COSINE,
    PixelVerificationConfig(affinity="cosine", temperature=0.02),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.affinity}-{c.temperature}")
@pytest.mark.parametrize("channels", [2, 8, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_the_plain_softmax(
    config: PixelVerificationConfig, channels: int, dtype: torch.dtype
) -> None:
    generated, queries, keys, identity = inputs(channels=channels)
    fast = [x.to(dtype, copy=True).requires_grad_() for x in (generated, queries, keys)]
    plain = [x.double().requires_grad_() for x in (generated, queries, keys)]
    found = verify_pixels(*fast, identity.to(dtype), config)
    expected = naive_loss(*plain, identity, config)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found.loss.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        flat(found.aligned).double(),
        naive_matrix(queries, keys, config) @ flat(identity).double(),
        rtol=tolerance,
        atol=tolerance,
    )
    found.loss.backward()
    expected.backward()
    for ours, theirs in zip(fast, plain, strict=True):
        largest = theirs.grad.abs().max()
        assert (ours.grad.double() - theirs.grad).abs().max() <= 5 * tolerance * largest


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.affinity}-{c.temperature}")
def test_rows_sum_to_one(config: PixelVerificationConfig) -> None:
    generated, queries, keys, identity = inputs()
    _, row_sums = align(queries, keys, identity, config)
    torch.testing.assert_close(row_sums, torch.ones(2, 6, 6), rtol=0, atol=1e-5)
    error = verify_pixels(generated, queries, keys, identity, config).row_sum_error
    assert error < 1e-5
    assert error == (row_sums - 1).abs().max()


def test_a_wrong_kernel_shows_in_the_row_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return torch.softmax(scale * q @ k.transpose(1, 2), dim=1) @ v  # over the columns

    monkeypatch.setattr(pixel_verification, "_attend", wrong)
    assert verify_pixels(*inputs()).row_sum_error > 0.1


def test_the_softmax_is_over_the_pixels_of_the_identity_picture() -> None:
    """One hot key: every generated pixel takes its colour. Over the columns it would not."""
    _, queries, keys, identity = inputs(batch=1)
    queries = queries + 0.5
    keys = torch.zeros_like(keys)
    keys[..., 2, 3] = 20.0
    aligned, _ = align(queries, keys, identity)
    torch.testing.assert_close(aligned, identity[..., 2:3, 3:4].expand_as(aligned))


def test_a_permutation_of_pixels_moves_the_result_with_the_queries_alone() -> None:
    _, queries, keys, identity = inputs()
    order = torch.randperm(36)

    def permuted(x: Tensor) -> Tensor:
        return x.flatten(2)[..., order].reshape(x.shape)

    aligned, _ = align(queries, keys, identity)
    same, _ = align(queries, permuted(keys), permuted(identity))
    torch.testing.assert_close(same, aligned)
    moved, _ = align(permuted(queries), keys, identity)
    torch.testing.assert_close(moved, permuted(aligned))


def test_an_exact_match_with_confident_features_gives_the_picture_back() -> None:
    """The pass (i, i) against itself: queries equal to keys, one direction a pixel."""
    identity = torch.rand(1, 3, 4, 4)
    feature = 10 * torch.eye(16).reshape(1, 16, 4, 4)
    aligned, _ = align(feature, feature, identity)
    torch.testing.assert_close(aligned, identity)


def test_the_default_is_the_dot_product_as_it_is() -> None:
    """Over the root of the channels, the default of torch's attention, W would spread."""
    _, queries, keys, identity = inputs(channels=64)
    assert PixelVerificationConfig().scale == 1.0
    assert COSINE.scale == pytest.approx(20.0)
    spread = PixelVerificationConfig(temperature=8.0)
    sharp = measure(queries, keys).effective_keys
    assert sharp < 0.5 * measure(queries, keys, spread).effective_keys
    assert not torch.allclose(
        align(queries, keys, identity)[0], align(queries, keys, identity, spread)[0], atol=0.01
    )


@pytest.mark.parametrize(
    ("gradient", "to_queries", "to_keys"),
    [("full", True, True), ("stop_keys", True, False), ("stop_affinity", False, False)],
)
def test_gradients_go_where_they_are_let(gradient: Any, to_queries: bool, to_keys: bool) -> None:
    generated, queries, keys, identity = (x.requires_grad_() for x in inputs())
    full = verify_pixels(generated, queries, keys, identity)
    found = verify_pixels(
        generated, queries, keys, identity, PixelVerificationConfig(gradient=gradient)
    )
    assert torch.equal(found.loss, full.loss)
    found.loss.backward()
    assert (queries.grad is not None) == to_queries
    assert (keys.grad is not None) == to_keys
    assert identity.grad is None  # values are data
    sign = (generated - found.aligned).sign() / generated.numel()
    torch.testing.assert_close(generated.grad, sign)


def test_grids_may_differ_between_the_pictures() -> None:
    _, queries, _, _ = inputs(side=4)
    _, _, keys, identity = inputs(side=6)
    aligned, row_sums = align(queries, keys, identity)
    assert aligned.shape == (2, 3, 4, 4)
    assert row_sums.shape == (2, 4, 4)
    expected = naive_matrix(queries, keys, PixelVerificationConfig()) @ flat(identity).double()
    torch.testing.assert_close(flat(aligned).double(), expected, rtol=1e-5, atol=1e-5)


def test_memory_formats_give_the_same() -> None:
    generated, queries, keys, identity = inputs()
    last = [
        x.contiguous(memory_format=torch.channels_last)
        for x in (generated, queries, keys, identity)
    ]
    torch.testing.assert_close(
        verify_pixels(*last).loss, verify_pixels(generated, queries, keys, identity).loss
    )


def test_autocast_does_not_reach_it() -> None:
    generated, queries, keys, identity = inputs(channels=32)
    plain = verify_pixels(generated, 3 * queries, keys, identity)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = verify_pixels(generated, 3 * queries, keys, identity)
        assert measure(queries, keys) == measure(queries, keys)
    assert cast.loss.dtype == cast.aligned.dtype == torch.float32
    assert torch.equal(cast.aligned, plain.aligned)


def test_half_features_are_widened_before_use() -> None:
    generated, queries, keys, identity = (x.bfloat16() for x in inputs())
    found = verify_pixels(generated, queries, keys, identity)
    wide = verify_pixels(*(x.float() for x in (generated, queries, keys, identity)))
    assert found.loss.dtype == torch.float32
    assert torch.equal(found.loss, wide.loss)


def test_float16_operands_are_an_option() -> None:
    generated, queries, keys, identity = inputs()
    half = verify_pixels(
        generated, queries, keys, identity, PixelVerificationConfig(precision="float16")
    )
    assert half.loss.dtype == torch.float32
    torch.testing.assert_close(half.aligned, align(queries, keys, identity)[0], rtol=0, atol=0.01)


def test_statistics_are_those_of_the_plain_matrix() -> None:
    _, queries, keys, _ = inputs(batch=3)
    for config in CONFIGS:
        matrix = naive_matrix(queries, keys, config)
        entropy = -(matrix * matrix.clamp_min(1e-300).log()).sum(dim=-1).mean().item()
        found = measure(queries, keys, config, block=7)
        assert found.row_entropy == pytest.approx(entropy, abs=1e-4)
        assert found.effective_keys == pytest.approx(math.exp(entropy), rel=1e-3)
        mass = matrix.sum(dim=1).max().item()
        assert found.largest_column_mass == pytest.approx(mass, rel=1e-4)
        whole = measure(queries, keys, config, block=1000)
        assert found == pytest.approx(whole, rel=1e-5)


def test_statistics_have_their_bounds() -> None:
    one_to_one = 30 * torch.eye(16).reshape(1, 16, 4, 4)
    assert measure(one_to_one, one_to_one) == pytest.approx((0.0, 1.0, 1.0), abs=1e-6)
    uniform = torch.zeros(1, 16, 4, 4)
    assert measure(uniform, uniform) == pytest.approx((math.log(16), 16.0, 1.0), rel=1e-6)
    hub = uniform.clone()
    hub[..., 0, 0] = 100.0
    assert measure(uniform + 1, hub) == pytest.approx((0.0, 1.0, 16.0), abs=1e-6)


def kernels(grad_fn: Any) -> set[str]:
    """Names of all steps back from here."""
    seen, ahead, names = set(), [grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.add(node.name())
            ahead.extend(following for following, _ in node.next_functions)
    return names


def test_the_fused_kernel_runs() -> None:
    generated, queries, keys, identity = (x.requires_grad_() for x in inputs())
    names = kernels(verify_pixels(generated, queries, keys, identity).loss.grad_fn)
    assert "ScaledDotProductFlashAttentionForCpuBackward0" in names
    assert not any("Softmax" in name or "Bmm" in name for name in names)


@pytest.mark.filterwarnings("ignore:.*[Ff]lash attention")
def test_where_no_fused_kernel_runs_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        # Values of three channels and no more: the case in which torch falls back by itself.
        patch.setattr(pixel_verification.F, "pad", lambda x, _: x)
        with pytest.raises(NoFusedAttentionError, match="36 x 36 numbers a picture"):
            verify_pixels(*inputs())
    with pytest.raises(NoFusedAttentionError, match="device meta"):
        align(*(x.to("meta") for x in inputs()[1:]))


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    generated, queries, keys, identity = inputs()
    with pytest.raises(ValueError, match="not on the grid"):
        align(queries, keys, identity[..., :5])
    with pytest.raises(ValueError, match="same pictures"):
        align(queries[:1], keys, identity)
    with pytest.raises(ValueError, match="same pictures"):
        measure(queries[:, :4], keys)
    with pytest.raises(ValueError, match="its features give"):
        verify_pixels(generated[..., :5], queries, keys, identity)


@pytest.mark.parametrize(
    "settings",
    [
        {"affinity": "l2"},
        {"gradient": "none"},
        {"precision": "bfloat16"},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        PixelVerificationConfig(**settings)


def test_a_feature_of_zeros_has_no_endless_gradient_under_the_cosine() -> None:
    generated, queries, keys, identity = inputs()
    queries = torch.zeros_like(queries).requires_grad_()
    verify_pixels(generated, queries, keys, identity, COSINE).loss.backward()
    assert queries.grad.isfinite().all()
    assert queries.grad.abs().max() < 1e3


MEMORY = """
import re, torch
from idpose_core.models.pixel_verification import measure, verify_pixels

def resident(kind):  # of this process alone, in MB; ru_maxrss would start at the parent's peak
    with open("/proc/self/status") as status:
        return int(re.search(kind + r":\\s+(\\d+)", status.read())[1]) / 1024

def run(side):
    pictures = torch.rand(2, 1, 3, side, side)
    features = torch.randn(2, 1, 64, side, side).relu().requires_grad_()
    verify_pixels(pictures[0], features[0], features[1], pictures[1]).loss.backward()
    measure(features[0], features[1], block=64)
    assert features.grad.isfinite().all()

torch.set_num_threads(1)
run(16)
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
before = resident("VmRSS")
run({side})
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_grows_with_p_not_with_its_square() -> None:
    """Growth of the peak at 128 x 128, forward, backward and statistics: measured 69 MB.

    The P x P matrix alone would be 1074.
    """
    code = MEMORY.replace("{side}", "128")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 500
