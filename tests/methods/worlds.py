"""Small methods and batches for the tests of methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from idpose_core.methods.identity_pose import IdentityPose, IdentityPoseConfig, Terms
from idpose_core.models.discriminators import DiscriminatorConfig
from idpose_core.models.generator import GeneratorConfig
from idpose_core.models.perceptual import PerceptualConfig, load_perceptual

CLIPS = 5
SMALL = IdentityPoseConfig(
    GeneratorConfig(size=16, n_down=1, width=4, n_blocks=1),
    DiscriminatorConfig(width=4),
    perceptual=PerceptualConfig("pixel-l1"),
)


@dataclass(frozen=True)
class Triplets:
    """Pictures that all differ, with the names that every batch has."""

    id: Tensor
    pose: Tensor
    target: Tensor
    mismatch: Tensor
    clip: Tensor
    video: Tensor
    key: int = 7
    weight: Tensor | None = None


def batch(count: int = 2, dtype: torch.dtype = torch.float32) -> Triplets:
    pictures = torch.rand(4, count, 3, 16, 16, dtype=dtype) * 2 - 1
    return Triplets(*pictures, torch.arange(count) % CLIPS, torch.arange(count))


def small(terms: Terms | None = None, **changes: Any) -> IdentityPose:
    config = replace(SMALL, terms=terms or Terms(), **changes)
    return IdentityPose(config, load_perceptual(config.perceptual), clips=CLIPS)


def in_float64(method: IdentityPose) -> IdentityPose:
    method.generator.double()
    method.discriminators.double()
    return method
