"""ID score and pose score (paper, section 4.3): networks trained with a triplet margin loss.

The loss is max(f(x1).f(y) - f(x1).f(x2) + m, 0) over unit features f. For the ID score x1 and x2
are of one clip and y of another video; for the pose score x1 and x2 are of one azimuth bin but of
different objects, and y of another bin. A score is the mean sigmoid of the affinity of two
pictures, so it lies in [0.2689, 0.7311], and equal pictures have 0.7311.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.evaluation.judges import SIDE, JudgeNetwork
from idpose_core.evaluation.pictures import Pictures, distinct, to_network
from idpose_core.instances.arrays import single_thread
from idpose_core.pose.rotnet import IMAGENET_MEAN, IMAGENET_STD
from idpose_core.training.augmentation import Augmentation, at_training_scale, crop

ScoreKind = Literal["resnet50", "small"]
Groups = NDArray[np.int64]
_MASK_GREY = 127


@dataclass(frozen=True)
class ScoreTraining:
    """How a score's network is trained.

    Attributes:
        kind: ``resnet50``, from ImageNet's weights, as the paper; ``small``, a small network from
            nothing, where those weights cannot be had, under its own name.
        margin: m. The paper does not say which.
        steps: Updates, AdamW with a cosine schedule.
        batch_size: Triplets in a batch.
        learning_rate: The highest.
        strength: Of the colour jitter: shared by x1, x2 and y for identity, where colour tells;
            independent for pose, where it must not.
        shared_jitter: Whether it is shared.
        side: Of the network's input.
        seed: Of weights, triplets and augmentation.
    """

    kind: ScoreKind = "small"
    margin: float = 0.3
    steps: int = 1500
    batch_size: int = 24
    learning_rate: float = 2e-3
    strength: float = 0.4
    shared_jitter: bool = True
    side: int = SIDE
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.side) < 1 or not self.learning_rate > 0:
            raise ValueError(f"steps, batch, side and learning rate are positive: {self}")
        if not 0 < self.margin <= 2:
            raise ValueError(f"the margin lies in (0, 2], not {self.margin}")


ID_SMALL = ScoreTraining()
POSE_SMALL = replace(ID_SMALL, shared_jitter=False)
ID_RESNET50 = replace(ID_SMALL, kind="resnet50", learning_rate=1e-4, side=224)
POSE_RESNET50 = replace(ID_RESNET50, shared_jitter=False)


class ScoreNetwork(nn.Module):
    """f: pictures float [N, 3, side, side] in [-1, 1] to unit features [N, D].

    Args:
        kind: See :class:`ScoreTraining`.
        imagenet: The weights that ``resnet50`` starts from; None leaves random ones.

    Raises:
        ValueError: Weights of another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: ScoreKind, imagenet: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.trunk: nn.Module
        if kind == "small":
            self.trunk = JudgeNetwork(128, 24)
        else:
            from torchvision.models import resnet50

            self.trunk = resnet50(weights=None)
            if imagenet is not None:
                try:
                    self.trunk.load_state_dict(dict(imagenet))
                except RuntimeError as error:
                    cause = str(error).splitlines()[-1].strip()
                    raise ValueError(f"not the weights of ResNet-50: {cause}") from error
            self.trunk.fc = nn.Identity()
        # In [-1, 1] instead of [0, 1].
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("mean", (2 * mean - 1).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", (2 * std).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Unit features."""
        return F.normalize(self.trunk((x - self.mean) / self.std), dim=1)


@dataclass(frozen=True, eq=False)
class TripletRule:
    """What x1, x2 and y of a training triplet have in common.

    Attributes:
        same: int64 [N]; x1 and x2 agree in it.
        apart: int64 [N]; x1 and x2 differ in it.
        away: int64 [N]; y differs from x1 in it.
    """

    same: Groups
    apart: Groups
    away: Groups

    @staticmethod
    def identity(clip: Groups, video: Groups) -> TripletRule:
        """Two pictures of a clip against one of another video."""
        return TripletRule(clip, np.arange(len(clip)), video)

    @staticmethod
    def pose(azimuth_deg: NDArray[np.float64], identity: Groups, bins: int = 16) -> TripletRule:
        """Two objects in one azimuth bin against a picture of another bin."""
        return TripletRule(azimuth_bin(azimuth_deg, bins), identity, azimuth_bin(azimuth_deg, bins))

    def draw(self, count: int, draws: np.random.Generator) -> Groups:
        """Rows int64 [3, count] of x1, x2, y; every possible x1 equally likely.

        Raises:
            ValueError: No triplet is possible.
        """
        found: list[tuple[int, int, int]] = []
        for _ in range(100 * count):
            one = int(draws.integers(len(self.same)))
            alike = np.flatnonzero((self.same == self.same[one]) & (self.apart != self.apart[one]))
            other = np.flatnonzero(self.away != self.away[one])
            if len(alike) and len(other):
                found.append((one, int(draws.choice(alike)), int(draws.choice(other))))
                if len(found) == count:
                    return np.array(found, np.int64).T
        raise ValueError(
            "no training triplets: two pictures that belong together and one that does not are "
            "needed"
        )


def azimuth_bin(azimuth_deg: NDArray[np.float64], bins: int = 16) -> Groups:
    """The bin of each azimuth; bin 0 is centred on the front.

    Raises:
        ValueError: An azimuth is not finite, or fewer than two bins.
    """
    if bins < 2 or not np.isfinite(azimuth_deg).all():
        raise ValueError("bins are two or more, of known azimuths")
    return np.asarray(np.floor(azimuth_deg / (360 / bins) + 0.5), np.int64) % bins


def triplet_margin_loss(x1: Tensor, x2: Tensor, y: Tensor, margin: float) -> Tensor:
    """Mean of max(f(x1).f(y) - f(x1).f(x2) + m, 0) over unit features [N, D]."""
    return ((x1 * y).sum(1) - (x1 * x2).sum(1) + margin).clamp(min=0).mean()


def train_score(
    pictures: Pictures,
    rule: TripletRule,
    training: ScoreTraining,
    *,
    imagenet: Mapping[str, Any] | None = None,
    device: str = "cpu",
    report: Callable[[int, float], None] | None = None,
) -> ScoreNetwork:
    """Train f on pictures of the training split. Equal arguments give equal weights (CPU).

    Args:
        pictures: uint8 [N, H, W, 3].
        rule: Which pictures belong together.
        training: See :class:`ScoreTraining`.
        imagenet: Weights to start ``resnet50`` from.
        device: Where it is trained, and left.
        report: Called with the step and the loss.

    Raises:
        ValueError: No triplet can be formed, or the weights are of another network.
    """
    draws = np.random.default_rng([training.seed, 1])
    augment = Augmentation(training.side, training.seed, strength=training.strength)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = ScoreNetwork(training.kind, imagenet).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate)
    network.train()
    with single_thread(device):
        for step in range(training.steps):
            rate = 0.5 * (1 + math.cos(math.pi * step / training.steps))
            optimizer.param_groups[0]["lr"] = training.learning_rate * rate
            rows = rule.draw(training.batch_size, draws)
            seen = _augmented(pictures, rows, augment, step, training, device)
            x1, x2, y = network(seen).chunk(3)
            loss = triplet_margin_loss(x1, x2, y, training.margin)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if report is not None:
                report(step, float(loss.detach()))
    return network.eval()


@torch.no_grad()
def affinity_scores(
    network: ScoreNetwork,
    ones: Sequence[Pictures],
    two: Pictures,
    *,
    side: int = SIDE,
    batch_size: int = 64,
) -> list[NDArray[np.float64]]:
    """The sigmoid of the affinity [N] of pairs of pictures uint8 [N, R, R, 3], list by list.

    Args:
        network: f.
        ones: Lists of pictures, each of which is compared with the same others.
        two: These.
        side: Of the network's input.
        batch_size: Pictures at once.

    Raises:
        ValueError: Different shapes.
    """
    for one in ones:
        if one.shape != two.shape:
            raise ValueError(f"{one.shape} against {two.shape}: not pairs of pictures")
    device = next(network.parameters()).device
    different, (own, *others) = distinct(two, *ones)
    features = torch.cat([
        network(_resized(to_network(different[at : at + batch_size], device), side)).double().cpu()
        for at in range(0, len(different), batch_size)
    ])  # fmt: skip
    return [
        torch.sigmoid((features[other] * features[own]).sum(1).clamp(-1, 1)).numpy()
        for other in others
    ]


def real_pairs(rule: TripletRule, count: int, seed: int = 0) -> tuple[Groups, Groups]:
    """Rows of real pairs: int64 [2, count] that belong together and [2, count] that do not.

    Their scores are the ceiling and the floor of a score.

    Raises:
        ValueError: There are no such pairs.
    """
    x1, x2, y = rule.draw(count, np.random.default_rng([seed, 2]))
    return np.stack([x1, x2]), np.stack([x1, y])


def masked(pictures: Pictures, masks: NDArray[np.bool_]) -> Pictures:
    """Pictures uint8 [N, R, R, 3] with grey where masks bool [N, R, R] are not set.

    Raises:
        ValueError: Different shapes.
    """
    if pictures.shape[:3] != masks.shape:
        raise ValueError(f"pictures {pictures.shape} with masks {masks.shape}")
    return np.where(masks[..., None], pictures, np.uint8(_MASK_GREY))


def _augmented(
    pictures: Pictures,
    rows: Groups,
    augment: Augmentation,
    step: int,
    training: ScoreTraining,
    device: str,
) -> Tensor:
    """x1, x2 and y behind one another, float [3 B, 3, side, side] in [-1, 1]."""
    batch = rows.shape[1]
    chosen = torch.tensor(np.ascontiguousarray(pictures[rows.ravel()]))
    scaled = at_training_scale(chosen[None], training.side, device)[0]
    slots = np.arange(3 * batch)
    drawn = augment.draw(step, slots)
    seen = crop(scaled, drawn.id_offset, training.side)
    jitter = augment.draw(step, slots % batch if training.shared_jitter else slots).pose_jitter
    return jitter(seen) * 2 - 1


def _resized(pictures: Tensor, side: int) -> Tensor:
    if pictures.shape[-1] == side:
        return pictures
    return F.interpolate(
        pictures, (side, side), mode="bilinear", align_corners=False, antialias=True
    )
