"""What a training really pairs: the sharing rules of augmentation and discriminators, observed.

The rules (method.md, sections 2 and 5) are checked on what comes out of the augmentation, not on
what it says of itself: two charts are sent through it in the place of the pictures. One colour
everywhere shows the jitter and no crop; a ramp without jitter shows the crop (and the mirror).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idpose_core.training.augmentation import Augmentation, training_scale
from idpose_core.training.data import RawBatch, TripletData
from idpose_core.training.sampling import Rows, Sampler

PICTURES = ("id", "target", "pose", "mismatch")
SHARED_JITTER = (("id", "target"), ("id", "mismatch"))
OWN_JITTER = (("id", "pose"),)
SHARED_CROP = (("target", "pose"), ("target", "mismatch"))
OWN_CROP = (("id", "target"),)
_COLOUR = (200, 90, 40)

Pictures = dict[str, Tensor]


class ProtocolError(AssertionError):
    """A batch breaks the rules; the message names step, row and rule."""


@dataclass(frozen=True)
class PairLog:
    """What was paired and shared in the batch of one step.

    Attributes:
        step: The step.
        positives: (ID crop, target crop) of each row: D_pair's real pairs.
        mismatches: (ID crop, pose crop) of each row: D_pair's real wrong pairs.
        jitter: For each pair of pictures the rows in which both had the same jitter.
        crop: For each pair of pictures the rows in which both had the same crop.
    """

    step: int
    positives: tuple[tuple[str, str], ...]
    mismatches: tuple[tuple[str, str], ...]
    jitter: dict[tuple[str, str], tuple[int, ...]]
    crop: dict[tuple[str, str], tuple[int, ...]]


def log_pairs(
    data: TripletData, sampler: Sampler, augmentation: Augmentation, start: int, stop: int
) -> Iterator[PairLog]:
    """The pairs of each step, checked.

    Pictures that are drawn independently agree by chance now and then; the log says how often,
    and what is expected of that is for the reader to judge.

    That the crops are of the clips and videos that the rows name is checked when data is opened.

    Raises:
        ProtocolError: A positive pair is not two moments of one clip, a mismatch is not of another
            video, or pictures that must share their jitter or crop do not.
    """
    for step in range(start, stop):
        rows, slots = sampler.share(step)
        table = data.triplets.take(rows).to_pylist()
        for row in table:
            if row["id_ms"] == row["target_ms"] or row["id_crop"] == row["target_crop"]:
                raise ProtocolError(f"step {step}, {row['triplet_id']}: ID and target are one")
            if row["video_id"] == row["pose_video_id"]:
                raise ProtocolError(f"step {step}, {row['triplet_id']}: mismatch of one video")
        jitter, crop = _observe(augmentation, step, slots)
        log = PairLog(
            step=step,
            positives=tuple((row["id_crop"], row["target_crop"]) for row in table),
            mismatches=tuple((row["id_crop"], row["pose_crop"]) for row in table),
            jitter={pair: _agreeing(jitter, pair) for pair in (*SHARED_JITTER, *OWN_JITTER)},
            crop={pair: _agreeing(crop, pair) for pair in (*SHARED_CROP, *OWN_CROP)},
        )
        for what, found, rule in (
            ("jitter", log.jitter, SHARED_JITTER),
            ("crop", log.crop, SHARED_CROP),
        ):
            for pair in rule:
                if len(found[pair]) != len(rows):
                    raise ProtocolError(f"step {step}: {pair} do not share their {what}")
        yield log


def _observe(augmentation: Augmentation, step: int, slots: Rows) -> tuple[Pictures, Pictures]:
    """What the augmentation makes of the charts: where colours agree, and where places do."""
    side = training_scale(augmentation.size)
    colour = torch.tensor(_COLOUR, dtype=torch.uint8).expand(side, side, 3)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    ramp = torch.stack([row % 256, column % 256, torch.zeros_like(row)], -1).to(torch.uint8)
    jitter = _augmented(augmentation, colour, step, slots)
    crop = _augmented(replace(augmentation, strength=0.0), ramp, step, slots)
    return jitter, crop


def _augmented(augmentation: Augmentation, chart: Tensor, step: int, slots: Rows) -> Pictures:
    """The chart in the place of every picture of a batch."""
    pictures = chart.expand(3, len(slots), *chart.shape)
    none = torch.full((len(slots),), -1)
    batch = augmentation(RawBatch(step, slots, pictures, none, none, none))
    return {name: getattr(batch, name) for name in PICTURES}


def _agreeing(pictures: Pictures, pair: tuple[str, str]) -> tuple[int, ...]:
    """The rows in which both pictures of a pair came out the same."""
    first, second = (pictures[name].flatten(1) for name in pair)
    return tuple((first == second).all(1).nonzero().flatten().tolist())
