"""3 x 3 convolutions on CPUs by Winograd's filtering (Lavin and Gray, CVPR 2016: F(2x2, 3x3)).

The 2 x 2 outputs of a tile come from 16 products where the direct sum takes 36. Tiles of 4 x 4
inputs overlap by two; with B, G and A of the paper's section 4.1

    Y = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A

so that the sum over channels is 16 matrix products. The gradients are the same maps transposed.
It pays where channels are many beside pixels: there direct convolution is bound by arithmetic.
Measured in docs/decisions/winograd-on-cpus.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
# Products saved against bytes moved by the transforms, C O / (C + O): below, direct is faster.
_LEAST_WIDTH = 128


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether :func:`convolve` is the faster way for this convolution of stride 1.

    Args:
        x: float [N, C, H, W], not yet padded.
        weight: float [O, C, h, w].
    """
    outputs, inputs, *kernel = weight.shape
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and kernel == [3, 3]
        and inputs * outputs >= _LEAST_WIDTH * (inputs + outputs)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution (correlation) of a padded map with 3 x 3 kernels, stride 1, without a bias.

    Args:
        x: float [N, C, H + 2, W + 2], H and W even, at least 2.
        weight: float [O, C, 3, 3].

    Returns:
        float [N, O, H, W], channels last.

    Raises:
        ValueError: A side is odd or too small.
    """
    if any(side % 2 or side < 4 for side in x.shape[2:]):
        raise ValueError(f"padded maps have even sides of 4 and more, not {tuple(x.shape[2:])}")
    convolved: Tensor = _Convolution.apply(x, weight)
    return convolved


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        tiles = _tiles(x)
        products = torch.bmm(tiles.flatten(2, 4).flatten(0, 1), _kernels(weight).transpose(1, 2))
        products = products.view(*tiles.shape[:-1], -1)
        return _sum_output(_sum_output(products)).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        spread = _spread_output(_spread_output(gradient.permute(0, 2, 3, 1)))
        flat = spread.flatten(2, 4).flatten(0, 1)
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            tiles = torch.bmm(flat, _kernels(weight)).view(*spread.shape[:-1], -1)
            to_x = _add_tiles(_add_tiles(tiles)).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            # The tiles are four times the map: made again, not kept.
            kernels = torch.bmm(flat.transpose(1, 2), _tiles(x).flatten(2, 4).flatten(0, 1))
            of_taps = _kernel_matrix(weight).T @ kernels.flatten(1)
            to_weight = of_taps.view(3, 3, *weight.shape[:2]).permute(2, 3, 0, 1)
        return to_x, to_weight


def _kernel_matrix(weight: Tensor) -> Tensor:
    """G and G together: [16, 9]."""
    g = torch.tensor(_G, dtype=weight.dtype)
    return torch.kron(g, g)


def _kernels(weight: Tensor) -> Tensor:
    """G g G^T of every kernel: [O, C, 3, 3] to [16, O, C]."""
    taps = weight.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.matmul(_kernel_matrix(weight), taps).permute(1, 0, 2)


def _tiles(x: Tensor) -> Tensor:
    """B^T d B of every tile: [N, C, H + 2, W + 2] to [4, 4, N, H / 2, W / 2, C]."""
    return _cut_tiles(_cut_tiles(x.permute(0, 2, 3, 1)))


# What follows works along dimension 2 and puts, or takes, the place within a tile in front. Once
# for the columns of [N, H, W, C], which leaves [4, N, H, W / 2, C], and once more for its rows.


def _every_second(x: Tensor, start: int, count: int) -> Tensor:
    return x[:, :, start : start + 2 * count - 1 : 2]


def _cut_tiles(x: Tensor) -> Tensor:
    """B^T."""
    count = x.shape[2] // 2 - 1
    a, b, c, d = (_every_second(x, start, count) for start in range(4))
    tiles = x.new_empty((4, *a.shape))
    torch.sub(a, c, out=tiles[0])
    torch.add(b, c, out=tiles[1])
    torch.sub(c, b, out=tiles[2])
    torch.sub(b, d, out=tiles[3])
    return tiles


def _add_tiles(tiles: Tensor) -> Tensor:
    """B, where tiles overlap their sum."""
    p, q, r, s = tiles.unbind()
    count = p.shape[2]
    x = p.new_zeros((*p.shape[:2], 2 * count + 2, *p.shape[3:]))
    a, b, c, d = (_every_second(x, start, count) for start in range(4))
    a.copy_(p)
    torch.sub(q, r, out=b).add_(s)
    c.add_(q).add_(r).sub_(p)
    d.sub_(s)
    return x


def _sum_output(products: Tensor) -> Tensor:
    """A^T, with the two outputs of a tile side by side."""
    p, q, r, s = products.unbind()
    count = p.shape[2]
    output = p.new_empty((*p.shape[:2], 2 * count, *p.shape[3:]))
    even, odd = (_every_second(output, start, count) for start in range(2))
    torch.add(q, r, out=even).add_(p)
    torch.sub(q, r, out=odd).sub_(s)
    return output


def _spread_output(gradient: Tensor) -> Tensor:
    """A."""
    count = gradient.shape[2] // 2
    even, odd = (_every_second(gradient, start, count) for start in range(2))
    spread = gradient.new_empty((4, *even.shape))
    spread[0] = even
    torch.add(even, odd, out=spread[1])
    torch.sub(even, odd, out=spread[2])
    torch.neg(odd, out=spread[3])
    return spread
