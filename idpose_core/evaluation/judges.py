"""Judges with known truth: which way does the object in a picture face, and which object is it?

Two small networks, trained on real pictures whose answer is known, tell whether a generated
picture keeps the pose of one input and the identity of the other. They serve as nothing else:
neither retrieval nor loss. Each is first measured on real pictures that it has not seen; no
generated picture can be judged more surely than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.evaluation.intervals import Estimate, Objects, estimate, median
from idpose_core.evaluation.pictures import Pictures, distinct, to_network
from idpose_core.evaluation.views import LabelledViews
from idpose_core.instances.arrays import single_thread
from idpose_core.training.augmentation import (
    Augmentation,
    at_training_scale,
    crop,
    training_scale,
)

SIDE = 64
"""Every picture is brought to this side; a pose is visible at it, and a CPU can train on it."""

NEAR_DEG = 22.5
"""One of 16 steps around; a pose this near to the right one is a hit, one this near to the
opposite one is front taken for rear."""

Degrees = NDArray[np.float64]


@dataclass(frozen=True)
class JudgeTraining:
    """How a judge is trained; part of the key under which it is kept.

    Attributes:
        steps: Updates, AdamW with a cosine schedule.
        batch_size: Pictures in a batch.
        learning_rate: The highest.
        width: Channels of the first map.
        strength: Of the colour jitter, see ``Augmentation``.
        grey: Share of the pictures without colour.
        blur: Share of the batches that are blurred: generated pictures are softer than real ones,
            which must not change the answer.
        seed: Of weights, batches and augmentation.
    """

    steps: int = 1500
    batch_size: int = 48
    learning_rate: float = 3e-3
    width: int = 24
    strength: float = 0.4
    grey: float = 0.0
    blur: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.width) < 1 or not self.learning_rate > 0:
            raise ValueError(f"steps, batch size, width and learning rate are positive: {self}")
        if not (0 <= self.grey <= 1 and 0 <= self.blur <= 1):
            raise ValueError(f"grey and blur are shares in [0, 1]: {self}")


AZIMUTH = JudgeTraining(grey=0.3, strength=0.5)
"""Colour must not tell the azimuth: a third of the pictures come without."""
IDENTITY = JudgeTraining()
"""Colour is identity: only as much jitter as the generator's own training has."""


class JudgeNetwork(nn.Module):
    """Convolutions with batch norm that halve the picture five times, mean, one linear layer.

    Args:
        outputs: Of the linear layer.
        width: Channels of the first map, doubled with every further halving.
    """

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_block(3, width, stride=2)]
        channels = width
        for _ in range(3):
            layers += [*_block(channels, channels), *_block(channels, 2 * channels, stride=2)]
            channels *= 2
        layers += _block(channels, channels, stride=2)
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures float [N, 3, SIDE, SIDE] in [-1, 1] to [N, outputs]."""
        answer: Tensor = self.head(self.features(x).mean((2, 3)))
        return answer


def _block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


@dataclass(frozen=True, eq=False)
class AzimuthJudge:
    """Finds the azimuth of an object by regression of (cos, sin)."""

    network: JudgeNetwork

    def azimuth(self, pictures: Pictures) -> Degrees:
        """Azimuths [N] in [0, 360) of pictures uint8 [N, R, R, 3]."""
        cos, sin = _answers(self.network, pictures).T
        return np.asarray(np.degrees(np.arctan2(sin, cos)) % 360.0, np.float64)


@dataclass(frozen=True, eq=False)
class IdentityJudge:
    """Tells which of the known objects a picture shows.

    Attributes:
        names: Of the objects, in the order of the network's outputs.
    """

    network: JudgeNetwork
    names: tuple[str, ...]

    @property
    def chance(self) -> float:
        """Share of right answers of a judge that guesses."""
        return 1 / len(self.names)

    def rank(self, pictures: Pictures, identity: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place [N] of the right object among all, from 1; ties count against the picture.

        Args:
            pictures: uint8 [N, R, R, 3].
            identity: The right objects [N], indices into ``names``.
        """
        scores = _answers(self.network, pictures)
        own = np.take_along_axis(scores, identity[:, None], axis=1)
        return np.asarray((scores >= own).sum(1), np.int64)


def train_azimuth_judge(
    views: LabelledViews,
    training: JudgeTraining = AZIMUTH,
    *,
    device: str = "cpu",
    report: Callable[[int, float], None] | None = None,
) -> AzimuthJudge:
    """Train on views of training identities. Equal arguments give equal weights on a CPU.

    Args:
        views: With azimuths all around, of identities that will not be judged.
        training: See :class:`JudgeTraining`.
        device: Where it is trained, and left.
        report: Called with the step and the loss.

    Raises:
        ValueError: No views, or one without an azimuth.
    """
    if not len(views) or not np.isfinite(views.azimuth_deg).all():
        raise ValueError("the azimuth judge learns from views whose azimuth is known")
    angles = np.radians(views.azimuth_deg)
    aims = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1)).float()
    return AzimuthJudge(_trained(views.pictures, aims, 2, F.mse_loss, training, device, report))


def train_identity_judge(
    views: LabelledViews,
    training: JudgeTraining = IDENTITY,
    *,
    device: str = "cpu",
    report: Callable[[int, float], None] | None = None,
) -> IdentityJudge:
    """Train on views of the identities that will be judged. Equal arguments, equal weights (CPU).

    Raises:
        ValueError: Fewer than two identities, or one of them without a view.
    """
    missing = sorted(set(range(len(views.names))) - set(views.identity.tolist()))
    if len(views.names) < 2 or missing:
        lacking = f"none of {views.names[missing[0]]}" if missing else f"{len(views.names)} of them"
        raise ValueError(f"the identity judge needs views of two identities or more: {lacking}")
    aims = torch.from_numpy(views.identity)
    outputs = len(views.names)
    network = _trained(views.pictures, aims, outputs, F.cross_entropy, training, device, report)
    return IdentityJudge(network, views.names)


def azimuth_error(found: Degrees, true: Degrees) -> Degrees:
    """Angles in [0, 180] degrees between azimuths."""
    return np.abs((found - true + 180.0) % 360.0 - 180.0)


def verdicts(error: Degrees, rank: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What both judges say of each picture [N], by the name of the metric that is its mean.

    Args:
        error: [N] in degrees, see :func:`azimuth_error`.
        rank: [N], see :meth:`IdentityJudge.rank`.
    """
    return {
        "azimuth-hit": error <= NEAR_DEG,
        "azimuth-opposite": error >= 180 - NEAR_DEG,
        "identity-first": rank == 1,
        "identity-rank": rank,
    }


def judged(error: Degrees, rank: NDArray[np.int64], objects: Objects) -> dict[str, Estimate]:
    """What both judges say of pictures, in figures, with intervals by object.

    Args:
        error: [N] in degrees, see :func:`azimuth_error`.
        rank: [N], see :meth:`IdentityJudge.rank`.
        objects: [N] or [K, N], which objects a picture depends on.
    """
    return {
        "azimuth-error-median": estimate(error, objects, median),
        **{name: estimate(found, objects) for name, found in verdicts(error, rank).items()},
    }


def _trained(
    pictures: Pictures,
    aims: Tensor,
    outputs: int,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    training: JudgeTraining,
    device: str,
    report: Callable[[int, float], None] | None,
) -> JudgeNetwork:
    scaled = _at_training_scale(pictures)
    draws = np.random.default_rng([training.seed, 1])
    augment = Augmentation(SIDE, training.seed, strength=training.strength)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = JudgeNetwork(outputs, training.width).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate)
    network.train()
    with single_thread(device):
        for step in range(training.steps):
            rate = 0.5 * (1 + math.cos(math.pi * step / training.steps))
            optimizer.param_groups[0]["lr"] = training.learning_rate * rate
            rows = draws.integers(len(scaled), size=training.batch_size)
            chosen = scaled[rows].to(device).float() / 255
            seen = _augmented(chosen, augment, step, training, draws)
            loss = loss_of(network(seen), aims[rows].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if report is not None:
                report(step, float(loss.detach()))
    return network.eval()


def _augmented(
    pictures: Tensor,
    augment: Augmentation,
    step: int,
    training: JudgeTraining,
    draws: np.random.Generator,
) -> Tensor:
    """[B, 3, S, S] in [0, 1] at the training scale to what the network sees in this step."""
    drawn = augment.draw(step, np.arange(len(pictures)))
    seen = drawn.id_jitter(crop(pictures, drawn.id_offset, SIDE))
    grey = torch.from_numpy(draws.random(len(seen)) < training.grey).to(seen.device)
    seen = torch.where(grey.view(-1, 1, 1, 1), seen.mean(1, keepdim=True), seen)
    if draws.random() < training.blur:
        small = round(SIDE * draws.uniform(0.3, 0.9))
        seen = _resized(_resized(seen, small), SIDE)
    return seen * 2 - 1


def _at_training_scale(pictures: Pictures) -> Tensor:
    """uint8 [N, H, W, 3] to uint8 [N, 3, S, S]; kept in 8 bits, since all stay in memory."""
    scale = training_scale(SIDE)
    scaled = torch.empty((len(pictures), 3, scale, scale), dtype=torch.uint8)
    for at in range(0, len(pictures), 256):
        part = torch.from_numpy(np.ascontiguousarray(pictures[at : at + 256]))
        scaled[at : at + 256] = (at_training_scale(part[None], SIDE, "cpu")[0] * 255).round()
    return scaled


@torch.no_grad()
def _answers(network: JudgeNetwork, pictures: Pictures) -> NDArray[np.float64]:
    """float64 [N, outputs]; the same for a picture in whatever company."""
    device = network.head.weight.device
    different, (places,) = distinct(pictures)
    parts = []
    for at in range(0, len(different), 256):
        seen = to_network(different[at : at + 256], device)
        parts.append(network(_resized(seen, SIDE)).double().cpu().numpy())
    return np.concatenate(parts)[places]


def _resized(pictures: Tensor, side: int) -> Tensor:
    if pictures.shape[-1] == side and pictures.shape[-2] == side:
        return pictures
    return F.interpolate(
        pictures, (side, side), mode="bilinear", align_corners=False, antialias=True
    )
