"""Pixel verification: every generated pixel is traced back to the identity picture.

Section 3.3 of the paper, equations 5 and 6. The P x P matrix of affinities (1 GB a picture at
128 x 128) never exists: a fused attention kernel goes through it by blocks. Choices where the
paper is silent are in ``docs/decisions/pixel-verification.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from idpose_core.models.layers import at_least_float32, check_choice
from storage.errors import ToldError

Affinity = Literal["dot", "cosine"]
Gradient = Literal["full", "stop_affinity", "stop_keys"]
Precision = Literal["float32", "float16"]

_TEMPERATURES = {"dot": 1.0, "cosine": 0.05}
# The kernels that never hold the matrix of affinities, by type of device.
_FUSED = {"cpu": SDPBackend.FLASH_ATTENTION, "cuda": SDPBackend.EFFICIENT_ATTENTION}
_NO_KERNEL = ("No available kernel", "No viable backend")  # the two messages of torch
_COSINE_FLOOR = 1e-6  # a feature of zeros has no direction, and must have no endless gradient


class NoFusedAttentionError(ToldError):
    """Pixel verification would need P x P memory here."""


@dataclass(frozen=True)
class PixelVerificationConfig:
    """What the paper leaves open about the matrix W.

    Attributes:
        affinity: Of two features: ``dot`` product as it is, or ``cosine``.
        temperature: Divides the affinity before the softmax; None is 1 for ``dot`` and 0.05 for
            ``cosine``. A cosine at 1, or a dot product over the usual root of the channels, would
            make every aligned pixel the mean colour.
        gradient: ``full``: through W to both pictures' features, and to the generated picture.
            ``stop_keys``: not to the features of the identity picture. ``stop_affinity``: to the
            generated picture alone, as in MatchTrans (STMN), which the paper relates it to.
        precision: Of the operands, outside of autocast in either case; the softmax has float32.
            ``float16`` is for CUDA (largest error measured with it 0.005; bfloat16 0.024). None is
            ``float16`` where autocast on CUDA has brought the features to half precision already,
            and ``float32`` elsewhere.
        stride: Side of the squares of pixels that are verified as one, by their means; 2 is 16
            times fewer products. 1 as in the paper.

    Raises:
        ValueError: An unknown choice; a temperature that is not positive.
    """

    affinity: Affinity = "dot"
    temperature: float | None = None
    gradient: Gradient = "full"
    precision: Precision | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        check_choice("affinity", self.affinity, Affinity)
        check_choice("gradient", self.gradient, Gradient)
        if self.precision is not None:
            check_choice("precision", self.precision, Precision)
        if self.stride < 1:
            raise ValueError(f"the stride is at least 1, not {self.stride}")
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"the temperature must be positive, not {self.temperature}")

    @property
    def scale(self) -> float:
        """Factor of the affinity in the softmax."""
        return 1.0 / (self.temperature or _TEMPERATURES[self.affinity])


DEFAULT = PixelVerificationConfig()


class PixelVerification(NamedTuple):
    """The loss and what shows whether to believe it.

    Attributes:
        loss: L_pv, float [].
        aligned: I'_id, the identity picture aligned to the generated one, float [B, 3, H, W];
            smaller by the stride.
        row_sum_error: Largest distance of a row sum of W from 1, float []; about 1e-6 in float32.
    """

    loss: Tensor
    aligned: Tensor
    row_sum_error: Tensor


class Statistics(NamedTuple):
    """How W spreads, as numbers.

    Attributes:
        row_entropy: Mean entropy of the rows in nats: 0 where each pixel has one source, ln P
            where it has all of them.
        effective_keys: exp of it, the number of pixels that a generated pixel is mixed of.
        largest_column_mass: Largest sum of a column, in rows: 1 where each pixel is used once,
            the number of rows where one pixel (a hub) explains the whole picture.
    """

    row_entropy: float
    effective_keys: float
    largest_column_mass: float


def verify_pixels(
    generated: Tensor,
    queries: Tensor,
    keys: Tensor,
    identity: Tensor,
    config: PixelVerificationConfig = DEFAULT,
) -> PixelVerification:
    """L_pv = mean |I'_id - I_g|, equation 6, in O(P) memory.

    Args:
        generated: I_g, float [B, 3, H, W], decoded with ``queries``.
        queries: Decoder feature of the pass (I_id, I_pose), float [B, F, H, W].
        keys: Decoder feature of the pass (I_id, I_id), float [B, F, H, W]: the one pass whose
            grid is aligned with I_id.
        identity: I_id as the encoders saw it, float [B, 3, H, W]. It is data: no gradient.
        config: What the paper leaves open.

    Raises:
        NoFusedAttentionError: No fused kernel takes these tensors on this device.
        ValueError: Shapes that do not belong together.
    """
    if config.stride > 1:
        generated, queries, keys, identity = (
            F.avg_pool2d(at_least_float32(maps), config.stride)
            for maps in (generated, queries, keys, identity)
        )
    aligned, row_sum = align(queries, keys, identity, config)
    if generated.shape != aligned.shape:
        raise ValueError(
            f"the generated picture is {tuple(generated.shape)}, its features give "
            f"{tuple(aligned.shape)}"
        )
    loss = (aligned - at_least_float32(generated)).abs().mean()
    return PixelVerification(loss, aligned, (row_sum.detach() - 1).abs().amax())


def align(
    queries: Tensor,
    keys: Tensor,
    identity: Tensor,
    config: PixelVerificationConfig = DEFAULT,
) -> tuple[Tensor, Tensor]:
    """I'_id(i) = sum_j W(i, j) I_id(j), equation 5, and the row sums of W as computed.

    Args:
        queries: As in :func:`verify_pixels`; its height and width are those of the result.
        keys: As in :func:`verify_pixels`.
        identity: float [B, 3, h, w] on the grid of ``keys``.
        config: What the paper leaves open.

    Returns:
        The aligned picture float [B, 3, H, W] and the row sums float [B, H, W].

    Raises:
        NoFusedAttentionError: No fused kernel takes these tensors on this device.
        ValueError: Shapes that do not belong together.
    """
    _check_shapes(queries, keys, identity)
    device = queries.device.type
    if device not in _FUSED:
        raise NoFusedAttentionError(f"no fused attention kernel is known for device {device}")
    q, k = _operands(queries, keys, config)
    with torch.autocast(device, enabled=False):
        v = _pixels(identity.detach().to(q.dtype))
        # The row sums come free: a fourth channel of ones is mixed along with the three colours.
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
        # A compiler may take a kernel apart into the operations that it fuses: not this one. Said
        # here, for the compiler takes seconds to import, and who only generates needs none.
        attend = torch.compiler.disable(_attend)  # type: ignore[no-untyped-call]
        mixed: Tensor = attend(q, k, v, config.scale)
    shape = (queries.shape[0], *queries.shape[2:], 4)
    mixed = at_least_float32(mixed).reshape(shape).permute(0, 3, 1, 2)
    return mixed[:, :3], mixed[:, 3]


@torch.no_grad()
def measure(
    queries: Tensor,
    keys: Tensor,
    config: PixelVerificationConfig = DEFAULT,
    *,
    block: int = 256,
) -> Statistics:
    """Entropy of the rows of W and its heaviest column, a block of rows at a time.

    As much work as one forward pass of :func:`align`: meant for every hundredth step, and a few
    pictures of the batch. With several pictures, entropies are averaged and the largest mass is
    taken.

    Args:
        queries: As in :func:`verify_pixels`.
        keys: As in :func:`verify_pixels`.
        config: What the paper leaves open; another affinity than the trained one may be asked
            about.
        block: Rows at a time; memory is ``block`` times P.

    Raises:
        ValueError: Features of different width or batch.
    """
    _check_shapes(queries, keys, None)
    q, k = _operands(queries, keys, config)
    with torch.autocast(queries.device.type, enabled=False):
        # Accumulated in place: small tensors kept from every block would split the memory that
        # the next block could have had, and the whole would grow to P x P all the same.
        entropy = q.new_zeros((), dtype=torch.float64)
        masses = q.new_zeros(k.shape[:2], dtype=torch.float64)
        for rows, columns, mass in zip(q, k, masses, strict=True):
            for log_weights in _log_weights(rows, columns, config.scale, block):
                weights = log_weights.exp()
                mass += weights.sum(dim=0)
                entropy -= weights.mul_(log_weights).sum()
    mean = float(entropy) / (q.shape[0] * q.shape[1])
    return Statistics(mean, math.exp(mean), float(masses.max()))


def _log_weights(rows: Tensor, columns: Tensor, scale: float, block: int) -> Iterator[Tensor]:
    for start in range(0, len(rows), block):
        affinities = at_least_float32(rows[start : start + block] @ columns.T)
        yield torch.log_softmax(affinities.mul_(scale), dim=1)


def _check_shapes(queries: Tensor, keys: Tensor, identity: Tensor | None) -> None:
    if queries.ndim != 4 or keys.ndim != 4 or queries.shape[:2] != keys.shape[:2]:
        raise ValueError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)} are not features of "
            "the same pictures"
        )
    if identity is not None and identity.shape != (keys.shape[0], 3, *keys.shape[2:]):
        raise ValueError(
            f"the identity picture is {tuple(identity.shape)}, not on the grid of the keys "
            f"{tuple(keys.shape)}"
        )


def _operands(
    queries: Tensor, keys: Tensor, config: PixelVerificationConfig
) -> tuple[Tensor, Tensor]:
    """Queries and keys [B, P, F], detached as configured, for a plain dot product."""
    half = config.precision == "float16" or (
        config.precision is None and queries.is_cuda and torch.is_autocast_enabled("cuda")
    )
    if config.gradient == "stop_affinity":
        queries = queries.detach()
    if config.gradient in ("stop_affinity", "stop_keys"):
        keys = keys.detach()
    q, k = _pixels(at_least_float32(queries)), _pixels(at_least_float32(keys))
    if config.affinity == "cosine":
        q, k = _directions(q), _directions(k)
    return (q.half(), k.half()) if half else (q, k)


def _directions(x: Tensor) -> Tensor:
    return x * (x.square().sum(dim=-1, keepdim=True) + _COSINE_FLOOR).rsqrt()


def _pixels(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, P, C]; no copy where the memory format is channels_last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1]).contiguous()


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale q k^T) v for [B, P, .] tensors, by a kernel that never holds P x P numbers.

    The kernel is named, and torch refuses rather than falls back where it cannot run: its own
    choice for a value of three channels is the P x P path, without a word. The CPU's kernel wants
    q, k and v of one width; CUDA's wants widths that are multiples of 4 (float32) or 8 (half).
    Zeros are put beside the channels, which changes no product.
    """
    if q.device.type == "cuda":
        step = 4 if q.element_size() == 4 else 8
        width, value_width = -(-q.shape[-1] // step) * step, step
    else:
        width = value_width = max(q.shape[-1], v.shape[-1])
    channels = v.shape[-1]
    q, k = (F.pad(x, (0, width - x.shape[-1]))[:, None] for x in (q, k))
    v = F.pad(v, (0, value_width - channels))[:, None]
    try:
        with sdpa_kernel([_FUSED[q.device.type]]):
            mixed = F.scaled_dot_product_attention(q, k, v, scale=scale)
    except RuntimeError as error:
        if not any(message in str(error) for message in _NO_KERNEL):
            raise
        raise NoFusedAttentionError(
            f"no fused attention kernel takes {q.dtype} features of {width} channels on "
            f"{q.device}; the plain one would hold {q.shape[2]} x {k.shape[2]} numbers a picture"
        ) from error
    return mixed[:, 0, :, :channels]
