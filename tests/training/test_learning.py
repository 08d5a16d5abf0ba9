"""A small training learns: it overfits eight triplets of rendered cars."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from idpose_core.datasets.rendered.views import rendered_views
from idpose_core.methods.batches import check_batch
from idpose_core.models.perceptual import load_perceptual
from idpose_core.training.augmentation import Batch, centre_crop
from idpose_core.training.config import resolve
from idpose_core.training.trainer import Trainer

SETTINGS = {
    "training.preset": "small",
    "training.batch_size": 8,
    "training.learning_rate": 1e-3,
    "generator.size": 32,
    "generator.n_down": 2,
    "generator.n_blocks": 2,
    "generator.width": 8,
    "discriminator.width": 8,
    "perceptual.kind": "pixel-l1",
}


def eight_triplets() -> Batch:
    """Two views of each of eight cars, the pose picture from the next car in the target's view."""
    azimuths = [(45.0 * car, 45.0 * car + 90.0) for car in range(8)]
    id_, target, pose = [], [], []
    for car, (one, other) in enumerate(azimuths):
        for into, model, azimuth in (
            (id_, car, one), (target, car, other), (pose, (car + 1) % 8, other),
        ):  # fmt: skip
            [view] = rendered_views("car", [model], grid=[(azimuth, 10.0)], side=36, samples=4)
            into.append(view.image)
    pictures = [centre_crop(torch.from_numpy(np.stack(x)), 32) for x in (id_, pose, target)]
    clips = torch.arange(8)
    batch = Batch(*pictures, mismatch=pictures[1], clip=clips, pose_clip=(clips + 1) % 8)
    check_batch(batch, size=32, clips=8)
    return batch


@pytest.mark.slow
def test_eight_triplets_are_overfitted() -> None:
    config = resolve(overrides=SETTINGS)
    trainer = Trainer(
        config, load_perceptual(config.perceptual), clips=8, device=torch.device("cpu")
    )
    batch = eight_triplets()
    first = trainer.train_step(batch)[0]
    last = first
    for _ in range(499):
        last = trainer.train_step(batch)[0]
    trainer.check_finite()
    for name in ("L1_dis", "L2_dis"):
        assert float(last[name]) < 0.3 * float(first[name]), name
    # Nearer to the targets than either input and than their mean.
    made = trainer.generate(batch.id, batch.pose)
    wrong = float((made - batch.target).abs().mean())
    for other in (batch.id, batch.pose, batch.target.mean(0, keepdim=True).expand_as(made)):
        assert wrong < 0.8 * float((other - batch.target).abs().mean())
