"""LPIPS, version 0.1 (Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018).

Feature maps of a trunk are normalised along their channels, their squared differences weighted by
learned heads and averaged over the picture, the layers summed. ``lpips-alex-v0.1`` and
``lpips-vgg-v0.1`` equal the package ``lpips``, which carries the heads, over torchvision's ImageNet
trunks; ``lpips-st-alex`` and ``lpips-st-vgg16`` are the shift-tolerant variants of Ghildyal and Liu
(ECCV 2022), which are other metrics and carry their own names.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from idpose_core.evaluation.pictures import Pictures, distinct, to_network
from idpose_core.models.shift_tolerant_vgg16 import ShiftTolerantVgg16
from idpose_core.models.shift_tolerant_vgg16 import convert_published as convert_vgg16
from idpose_core.pose.shift_tolerant import LpipsScaling, ShiftTolerantAlexNet
from idpose_core.pose.shift_tolerant import convert_published as convert_alexnet
from idpose_core.weights.tensors import read_tensors

LPIPS_NETWORKS = {
    "lpips-alex-v0.1": "alexnet",
    "lpips-vgg-v0.1": "vgg16",
    "lpips-st-alex": "st-alex",
    "lpips-st-vgg16": "st-vgg16",
}
"""Name of the metric and of its trunk's weights (``idpose weights list``)."""

_ENDS = {"alexnet": (2, 5, 8, 10, 12), "vgg16": (4, 9, 16, 23, 30)}
_EPSILON = 1e-10


class Lpips(nn.Module):
    """The distance over a trunk.

    Args:
        trunk: From pictures [N, 3, H, W] in [-1, 1] to feature maps.
        heads: One non-negative weight a channel for each map.

    Raises:
        ValueError: A head has negative weights.
    """

    def __init__(self, trunk: nn.Module, heads: Sequence[Tensor]) -> None:
        super().__init__()
        if any(bool((head < 0).any()) for head in heads):
            raise ValueError("the heads of LPIPS are not negative")
        self.trunk = trunk
        for number, head in enumerate(heads):
            self.register_buffer(f"head{number}", head.reshape(1, -1, 1, 1))
        self._layers = len(heads)
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances [N] of pictures [N, 3, H, W] in [-1, 1]."""
        return self.between(self.trunk(x), self.trunk(y))

    def between(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
        """Distances [N] of the trunk's feature maps [N, C, h, w], one a layer."""
        total = x[0].new_zeros(len(x[0]))
        for number, (a, b) in enumerate(zip(x, y, strict=True)):
            weighted = self.get_buffer(f"head{number}") * (_unit(a) - _unit(b)) ** 2
            total = total + weighted.sum(1).mean((1, 2))
        return total


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.pow(2).sum(1, keepdim=True).sqrt() + _EPSILON)


def load_lpips(name: str, weights: Path) -> Lpips:
    """The metric of this name.

    Args:
        name: Of ``LPIPS_NETWORKS``.
        weights: Of its trunk, as ``find_weights(LPIPS_NETWORKS[name], root)`` gives them.

    Raises:
        ValueError: An unknown name; weights that are damaged or of another network.
    """
    if name not in LPIPS_NETWORKS:
        raise ValueError(f"no metric {name!r}; there are {', '.join(LPIPS_NETWORKS)}")
    tensors = read_tensors(weights)
    network = LPIPS_NETWORKS[name]
    try:
        if network in _ENDS:
            return Lpips(_ImageNetTrunk(network, tensors), _package_heads(network))
        heads = [tensors[f"lin{number}.model.1.weight"] for number in range(5)]
        return Lpips(_shift_tolerant(network, tensors), heads)
    except (KeyError, RuntimeError, ValueError) as error:
        cause = str(error).splitlines()[-1].strip()
        raise ValueError(f"{name}: {weights} does not hold {network} ({cause})") from error


def lpips_distances(
    metric: Lpips,
    generated: Pictures,
    others: Pictures,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> NDArray[np.float64]:
    """Distances of pairs of pictures.

    Args:
        metric: Of :func:`load_lpips`.
        generated: uint8 [N, R, R, 3], or [M, N, R, R, 3] where M methods made pictures for the
            same triplets. Equal pairs are computed once, and in a batch each different picture.
        others: uint8 [N, R, R, 3], or [K, N, R, R, 3]: targets, and the inputs beside them.
        device: Where it is computed.
        batch_size: Pairs at a time.

    Returns:
        [N], [M, N], [K, N] or [K, M, N].

    Raises:
        ValueError: Different shapes.
    """
    if generated.shape[-4:] != others.shape[-4:]:
        raise ValueError(f"{generated.shape} against {others.shape}: not pairs of pictures")
    metric = metric.to(device)
    one = others.shape[-4:]
    pictures, found = distinct(*others.reshape(-1, *one), *generated.reshape(-1, *one))
    count = len(others) if others.ndim == 5 else 1
    aims, seen = np.stack(found[:count])[:, None], np.stack(found[count:])[None]
    every = np.stack(np.broadcast_arrays(aims, seen), axis=-1)  # [K, M, N, 2]
    # All of a triplet together, triplets by target: so a batch has few different pictures.
    order = np.argsort(aims[0, 0], kind="stable")
    rows = every[:, :, order].transpose(2, 0, 1, 3).reshape(-1, 2)
    pairs, first, place = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    turn = np.argsort(first)
    distances = np.empty(len(pairs))
    with torch.no_grad():
        # A picture stands in K pairs, so the trunk sees fewer at once than there are pairs.
        for at in range(0, len(turn), count * batch_size):
            now = turn[at : at + count * batch_size]
            used, where = np.unique(pairs[now], return_inverse=True)
            maps = metric.trunk(to_network(pictures[used], device))
            for start in range(0, len(now), batch_size):
                aim, made = where.reshape(-1, 2)[start : start + batch_size].T
                between = metric.between([m[made] for m in maps], [m[aim] for m in maps])
                distances[now[start : start + batch_size]] = between.double().cpu().numpy()
    by_triplet = np.empty((len(order), count, seen.shape[1]))
    by_triplet[order] = distances[place.reshape(-1)].reshape(by_triplet.shape)
    return by_triplet.transpose(1, 2, 0).reshape(others.shape[:-4] + generated.shape[:-3])


def copy_index(
    to_target: NDArray[np.float64], to_input: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Whether an output is the target or a copy of an input: (t - i) / (t + i) in [-1, 1].

    -1 is the target, +1 the input; 0 is as far from either, and also an output that is both.

    Args:
        to_target: t, the distances of outputs from their targets.
        to_input: i, those from the ID or the pose picture, of the same shape.
    """
    both = to_target + to_input
    out = np.zeros_like(both)
    return np.divide(to_target - to_input, both, out=out, where=both > 0)


class _ImageNetTrunk(nn.Module):
    """torchvision's AlexNet or VGG16 up to the last ReLU that LPIPS looks at."""

    def __init__(self, network: str, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        from torchvision import models

        built = models.alexnet(weights=None) if network == "alexnet" else models.vgg16(weights=None)
        self._ends = _ENDS[network]
        self.features = built.features[: self._ends[-1]]
        own = {f"features.{name}" for name in self.features.state_dict()}
        self.features.load_state_dict(
            {name.removeprefix("features."): tensors[name] for name in sorted(own)}
        )
        self.scaling = LpipsScaling()

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.scaling(x)
        maps: list[Tensor] = []
        start = 0
        for end in self._ends:
            x = self.features[start:end](x)
            # The next layer may work in place.
            maps.append(x.clone())
            start = end
        return maps


class _LastOfBlocks(nn.Module):
    """relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""

    def __init__(self, network: ShiftTolerantVgg16) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return [block[-1] for block in self.network(x)]


def _shift_tolerant(network: str, tensors: Mapping[str, Any]) -> nn.Module:
    if network == "st-alex":
        alexnet = ShiftTolerantAlexNet()
        alexnet.load_state_dict(convert_alexnet(tensors))
        return alexnet
    vgg16 = ShiftTolerantVgg16()
    vgg16.load_state_dict(convert_vgg16(tensors))
    return _LastOfBlocks(vgg16)


def _package_heads(network: str) -> list[Tensor]:
    """The heads that the package ``lpips`` carries; its own code is not run."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        raise ValueError("the heads come in the package lpips: pip install lpips")
    file = {"alexnet": "alex.pth", "vgg16": "vgg.pth"}[network]
    tensors = read_tensors(Path(spec.origin).parent / "weights/v0.1" / file)
    return [tensors[f"lin{number}.model.1.weight"] for number in range(5)]
