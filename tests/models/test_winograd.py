"""Convolutions by Winograd's filtering against torch's own, in float64 and float32."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from idpose_core.models import winograd
from idpose_core.models.layers import Convolution, Padding, convolution


@given(
    count=st.integers(1, 3),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    height=st.integers(2, 6).map(lambda n: 2 * n),
    width=st.integers(2, 6).map(lambda n: 2 * n),
    seed=st.integers(0, 2**32),
)
def test_output_and_gradients_are_those_of_the_direct_sum(
    count: int, inputs: int, outputs: int, height: int, width: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, inputs, height, width, generator=draw, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, 3, 3, generator=draw, dtype=torch.float64)
    x.requires_grad_()
    weight.requires_grad_()
    direct, ours = F.conv2d(x, weight), winograd.convolve(x, weight)
    torch.testing.assert_close(ours, direct, rtol=0, atol=1e-12)
    gradient = torch.randn(direct.shape, generator=draw, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(ours, (x, weight), gradient),
        torch.autograd.grad(direct, (x, weight), gradient),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


def test_a_gradient_that_nobody_asked_for_is_not_made() -> None:
    x, weight = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(3, 2, 3, 3)
    winograd.convolve(x, weight).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and weight.grad is None


@pytest.mark.parametrize("shape", [(5, 4), (4, 7), (2, 4), (4, 0)])
def test_sides_that_no_tiles_fill_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="even sides of 4 and more"):
        winograd.convolve(torch.zeros(1, 1, *shape), torch.zeros(1, 1, 3, 3))


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("size", [(8, 8), (5, 8), (4, 7), (3, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_wide_layer_is_as_near_to_float64_as_the_direct_way(
    padding: Padding, size: tuple[int, int], layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    torch.manual_seed(0)
    layer = convolution(256, 256, 3, padding=padding).to(memory_format=layout)  # type: ignore[call-overload]
    x = torch.randn(2, 256, *size).contiguous(memory_format=layout)
    assert winograd.pays(x, layer.weight)
    truth = _outputs(_in_float64(layer, padding), x.double())
    ours = _outputs(layer, x)
    monkeypatch.setattr(winograd, "pays", lambda *_: False)
    direct = _outputs(layer, x)
    for mine, theirs, exact in zip(ours, direct, truth, strict=True):
        assert mine.shape == exact.shape
        assert _error(mine, exact) <= max(2 * _error(theirs, exact), 1e-6)


def _in_float64(layer: Convolution, padding: Padding) -> Convolution:
    exact = convolution(256, 256, 3, padding=padding).double()
    exact.load_state_dict(layer.state_dict())
    return exact


def _outputs(layer: Convolution, x: Tensor) -> list[Tensor]:
    """Output and all gradients."""
    x = x.clone().requires_grad_()
    convolved = layer(x)
    gradient = torch.randn(convolved.shape, generator=torch.Generator().manual_seed(1))
    wanted = (x, *layer.parameters())
    return [
        convolved.detach(),
        *torch.autograd.grad(convolved, wanted, gradient.to(convolved.dtype)),
    ]


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())


def test_only_wide_layers_of_float32_on_a_cpu_go_this_way() -> None:
    wide, narrow = torch.zeros(256, 256, 3, 3), torch.zeros(128, 128, 3, 3)
    x = torch.zeros(1, 256, 8, 8)
    assert winograd.pays(x, wide)
    assert not winograd.pays(x[:, :128], narrow)
    assert not winograd.pays(x, torch.zeros(256, 256, 5, 5))
    assert not winograd.pays(x.double(), wide.double())
    assert not winograd.pays(x.to("meta"), wide.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.pays(x, wide)


def test_strides_stay_with_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "convolve", None)
    layer = convolution(256, 256, 3, stride=2, padding="zero")
    assert layer(torch.zeros(1, 256, 8, 8)).shape == (1, 256, 4, 4)
