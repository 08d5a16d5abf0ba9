"""Augmentation (paper, section 4, and method.md, section 5): colour jitter and random crops.

Which pictures share what is the point of it:

| picture | colour jitter | crop |
|---|---|---|
| ID | A | its own |
| target | A: colour is identity | B |
| pose | its own: teaches E_p to ignore colour | B: place is part of the pose |
| mismatch, the pose picture as D_pair's wrong partner | A, else D_pair reads jitter | B |

Every draw is a pure function of (seed, step, place in the batch), whatever the device, the number
of processes or what was drawn before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from idpose_core.training.data import RawBatch
from idpose_core.training.sampling import Rows, random_words

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision
_PIVOT = 0.5  # contrast turns around one grey: around its own mean, a shared draw would differ
# What a picture is blended with: (share of its own grey, constant level).
_BLENDS = ((0.0, 0.0), (0.0, _PIVOT), (1.0, 0.0))  # brightness, contrast, saturation
_ORDERS = tuple(permutations(range(len(_BLENDS))))


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Attributes:
        id, pose, target: RGB float32 ``[B, 3, R, R]`` in [-1, 1].
        mismatch: The pose picture with the ID picture's jitter: D_pair's real wrong partner.
        clip: Class of the clip of ID and target, int64 ``[B]``; -1 outside of training.
        pose_clip: Class of the pose picture's clip, int64 ``[B]``.
        video: Code of the video of ID and target, int64 ``[B]``, on the CPU.
        key: A random word, a function of seed, step and the place of the first row.
        weight: How much each triplet counts in L1_dis, float32 ``[B]``; None = 1 each.
    """

    id: Tensor
    pose: Tensor
    target: Tensor
    mismatch: Tensor
    clip: Tensor
    pose_clip: Tensor
    video: Tensor
    key: int = 0
    weight: Tensor | None = None


@dataclass(frozen=True)
class Jitter:
    """Three blends for each picture, in the order in which they are applied.

    One is ``x <- clip(factor * x + (1 - factor) * (own * grey(x) + level), 0, 1)``.

    Attributes:
        blends: float32 ``[3, 3, B]``: place in the order; factor, own, level; picture.
    """

    blends: Tensor

    def __call__(self, pictures: Tensor) -> Tensor:
        """Jitter pictures ``[B, 3, H, W]`` in [0, 1]."""
        red, green, blue = _LUMA
        for factor, own, level in self.blends.to(pictures.device)[..., None, None, None]:
            grey = red * pictures[:, :1] + green * pictures[:, 1:2] + blue * pictures[:, 2:]
            pictures = (factor * pictures + (1 - factor) * (own * grey + level)).clamp(0, 1)
        return pictures


@dataclass(frozen=True)
class Draws:
    """What was drawn for the rows of a batch.

    Attributes:
        id_jitter: Jitter of ID, target and mismatch.
        pose_jitter: Jitter of the pose picture.
        id_offset: Top and left of the ID picture's crop, int64 ``[B, 2]``.
        offset: The same of target and pose.
        flip: Whether all pictures of the row are mirrored, bool ``[B]``.
    """

    id_jitter: Jitter
    pose_jitter: Jitter
    id_offset: Tensor
    offset: Tensor
    flip: Tensor

    def on(self, device: torch.device | str) -> Draws:
        """The same on a device, without waiting for what it still computes."""

        def placed(tensor: Tensor) -> Tensor:
            pinned = tensor.pin_memory() if torch.device(device).type == "cuda" else tensor
            return pinned.to(device, non_blocking=True)

        return Draws(
            id_jitter=Jitter(placed(self.id_jitter.blends)),
            pose_jitter=Jitter(placed(self.pose_jitter.blends)),
            id_offset=placed(self.id_offset),
            offset=placed(self.offset),
            flip=placed(self.flip),
        )


@dataclass(frozen=True)
class Augmentation:
    """From stored pictures to what a training step sees, on the training device.

    float [0, 1], resize to :func:`training_scale`, crop, mirror, jitter, [-1, 1]: in this order.

    Args:
        size: R, height and width of the pictures of a batch.
        seed: In [0, 2^64).
        strength: Jitter factors lie in [1 - strength, 1 + strength].
        flip: Mirror half of the rows, all their pictures together. Off, because a mirrored
            car is another identity (its text, its driver's side).
    """

    size: int
    seed: int
    strength: float = 0.4
    flip: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"pictures have at least one pixel, not {self.size}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the strength of the jitter lies in [0, 1], not {self.strength}")

    def __call__(self, raw: RawBatch, device: torch.device | str = "cpu") -> Batch:
        """Augment a batch as its step and the places of its rows say."""
        draws = self.draw(raw.step, raw.slots).on(device)
        id_, pose, target = at_training_scale(raw.pictures, self.size, device)
        id_ = crop(id_, draws.id_offset, self.size)
        pose = crop(pose, draws.offset, self.size)
        target = crop(target, draws.offset, self.size)
        if self.flip:
            mirrored = draws.flip.view(-1, 1, 1, 1)
            id_, pose, target = (torch.where(mirrored, x.flip(3), x) for x in (id_, pose, target))
        return _batch(
            raw,
            _to_network(draws.id_jitter(id_)),
            _to_network(draws.pose_jitter(pose)),
            _to_network(draws.id_jitter(target)),
            mismatch=_to_network(draws.id_jitter(pose)),
            key=int(random_words(self.seed, "batch", raw.step, int(raw.slots[0]), count=1)[0]),
        )

    def draw(self, step: int, slots: Rows) -> Draws:
        """The draws of rows, on the CPU; each depends on (seed, step, slot) alone."""
        words = np.stack(
            [
                random_words(self.seed, "augmentation", step, int(slot), count=_DRAWS)
                for slot in slots
            ]
        )
        uniform = (words >> np.uint64(11)) * 2.0**-53  # [0, 1), as numpy's own doubles
        room = training_scale(self.size) - self.size + 1
        offsets = torch.from_numpy((uniform[:, 8:12] * room).astype(np.int64))
        return Draws(
            id_jitter=self._jitter(uniform[:, 0:4]),
            pose_jitter=self._jitter(uniform[:, 4:8]),
            id_offset=offsets[:, 0:2],
            offset=offsets[:, 2:4],
            flip=torch.from_numpy(uniform[:, 12] < 0.5),
        )

    def _jitter(self, uniform: NDArray[np.floating[Any]]) -> Jitter:
        """Factors and order of the three blends from uniform ``[B, 4]``."""
        factors = 1 + self.strength * (2 * uniform[:, :3] - 1)
        order = np.array(_ORDERS)[(uniform[:, 3] * len(_ORDERS)).astype(np.int64)]
        factor = np.take_along_axis(factors, order, axis=1)
        own, level = np.moveaxis(np.array(_BLENDS)[order], -1, 0)
        blends = np.stack([factor.T, own.T, level.T], axis=1)
        return Jitter(torch.from_numpy(blends.astype(np.float32)))


_DRAWS = 13  # two jitters of four, two offsets of two, the mirror


def training_scale(size: int) -> int:
    """Height and width from which R x R is cropped: 143 for 128, 72 for 64."""
    return math.ceil(1.117 * size)


def centre_crop(pictures: Tensor, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Pictures for evaluation: no jitter, the middle of the picture at the training scale.

    Args:
        pictures: uint8 ``[B, H, W, 3]``.
        size: R.
        device: Where to compute and leave the result.

    Returns:
        float32 ``[B, 3, R, R]`` in [-1, 1].
    """
    scaled = at_training_scale(pictures[None], size, device)[0]
    margin = (training_scale(size) - size) // 2
    return _to_network(scaled[:, :, margin : margin + size, margin : margin + size])


def evaluation_batch(raw: RawBatch, size: int, device: torch.device | str = "cpu") -> Batch:
    """A batch without augmentation; its mismatch is the pose picture."""
    id_, pose, target = (centre_crop(pictures, size, device) for pictures in raw.pictures)
    return _batch(raw, id_, pose, target, mismatch=pose)


def _batch(
    raw: RawBatch, id_: Tensor, pose: Tensor, target: Tensor, mismatch: Tensor, key: int = 0
) -> Batch:
    clip, pose_clip = (x.to(id_.device, non_blocking=True) for x in (raw.clip, raw.pose_clip))
    weight = None if raw.weight is None else raw.weight.to(id_.device, non_blocking=True)
    return Batch(id_, pose, target, mismatch, clip, pose_clip, raw.video, key, weight)


def at_training_scale(pictures: Tensor, size: int, device: torch.device | str) -> Tensor:
    """uint8 ``[K, B, H, W, 3]`` to float32 ``[K, B, 3, S, S]`` in [0, 1]."""
    if pictures.dtype != torch.uint8 or pictures.ndim != 5 or pictures.shape[-1] != 3:
        raise ValueError(
            f"pictures are uint8 [K, B, H, W, 3], not {pictures.dtype} {list(pictures.shape)}"
        )
    scale = training_scale(size)
    flat = pictures.to(device, non_blocking=True).flatten(0, 1).permute(0, 3, 1, 2)
    values = flat.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if values.shape[2:] != (scale, scale):
        values = interpolate(
            values, (scale, scale), mode="bilinear", align_corners=False, antialias=True
        ).clamp_(0, 1)
    return values.view(*pictures.shape[:2], 3, scale, scale)


def crop(pictures: Tensor, offset: Tensor, size: int) -> Tensor:
    """``[B, C, size, size]`` of ``[B, C, H, W]``, each from its own top and left ``[B, 2]``."""
    batch, channels = pictures.shape[:2]
    within = offset.to(pictures.device)[:, :, None] + torch.arange(size, device=pictures.device)
    rows = within[:, 0].view(batch, 1, size, 1).expand(-1, channels, -1, pictures.shape[3])
    columns = within[:, 1].view(batch, 1, 1, size).expand(-1, channels, size, -1)
    return pictures.gather(2, rows).gather(3, columns)


def _to_network(pictures: Tensor) -> Tensor:
    return pictures * 2 - 1
