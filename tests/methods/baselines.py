"""Small methods, who of them learns from what, and their first losses.

The first losses lie in ``tests/methods/golden``. Where a method changes on purpose, write them
again with ``python -m tests.methods.baselines``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from idpose_core.methods import drnet, fusion_image, identity_pose, pix2pixhd
from idpose_core.methods.method import Method
from idpose_core.models.discriminators import DiscriminatorConfig
from idpose_core.models.generator import GeneratorConfig
from idpose_core.models.perceptual import PerceptualConfig, load_perceptual
from tests.methods.worlds import Triplets, batch

FOLDER = Path(__file__).parent / "golden"
STEPS = 20
GENERATOR = GeneratorConfig(size=16, n_down=1, width=4, n_blocks=1)
DISCRIMINATOR = DiscriminatorConfig(width=4)
OURS = {"learning_rate": 1e-4, "betas": (0.5, 0.999)}
PIXELS = load_perceptual(PerceptualConfig("pixel-l1"))


def small_pix2pixhd(**settings: Any) -> pix2pixhd.Pix2pixHD:
    own = pix2pixhd.Pix2pixHDSettings(**{"width": 4, "n_down": 2, "n_blocks": 1, **settings})
    config = pix2pixhd.Pix2pixHDConfig(GENERATOR, DISCRIMINATOR, PIXELS.config, own)
    return pix2pixhd.Pix2pixHD(config, PIXELS, clips=5)


def small_fusion_image(**settings: Any) -> fusion_image.FusionImage:
    own = fusion_image.FusionImageSettings(**settings)
    config = fusion_image.FusionImageConfig(GENERATOR, DISCRIMINATOR, own)
    return fusion_image.FusionImage(config, PIXELS, clips=5)


def small_drnet(**settings: Any) -> drnet.DrNet:
    own = drnet.DrNetSettings(**{"hidden": 10, **settings})
    return drnet.DrNet(drnet.DrNetConfig(GENERATOR, own), PIXELS, clips=5)


def small_identity_pose(**of_generator: Any) -> identity_pose.IdentityPose:
    generator = replace(GENERATOR, **of_generator)
    config = identity_pose.IdentityPoseConfig(
        generator, DISCRIMINATOR, perceptual=PIXELS.config, one_again=bool(generator.copy_at)
    )
    return identity_pose.IdentityPose(config, PIXELS, clips=5)


def small_copy_attention() -> identity_pose.IdentityPose:
    return small_identity_pose(copy_at=(1, 0))


METHODS: dict[str, tuple[Callable[[], Method], dict[str, Any]]] = {
    "pix2pixhd": (small_pix2pixhd, pix2pixhd.DEFAULTS["training"]),
    "fusion_image": (small_fusion_image, fusion_image.DEFAULTS["training"]),
    "drnet": (small_drnet, drnet.DEFAULTS["training"]),
    "identity_pose": (small_identity_pose, OURS),
    "copy_attention": (small_copy_attention, OURS),
}


def triplets(count: int = 2) -> Triplets:
    """Of as many videos, in the default precision of torch."""
    return batch(count, torch.get_default_dtype())


@contextmanager
def float64() -> Iterator[None]:
    """Weights and pictures are drawn in float64: the same to the last bits on all machines."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def reached(method: Method, triplets: Triplets) -> list[tuple[str, set[str], set[str]]]:
    """For each update its side, the sides that it reaches, and those that it reaches entirely."""
    found = []
    for update in method.updates(triplets):
        for network in method.networks.values():
            network.zero_grad(set_to_none=True)
        update.losses.total.backward()
        has = {
            side: [parameter.grad is not None for parameter in network.parameters()]
            for side, network in method.networks.items()
        }
        some = {side for side, which in has.items() if any(which)}
        found.append((update.side, some, {side for side, which in has.items() if all(which)}))
    return found


def step(method: Method, optimisers: dict[str, torch.optim.Adam], of: Triplets) -> dict[str, float]:
    """One step of training, as the loop makes it, and its losses."""
    losses: dict[str, float] = {}
    for update in method.updates(of):
        optimisers[update.side].zero_grad()
        update.losses.total.backward()
        optimisers[update.side].step()
        losses |= {name: float(part.detach()) for name, part in update.losses.parts.items()}
    return losses


def adam(method: Method, training: dict[str, Any]) -> dict[str, torch.optim.Adam]:
    return {
        side: torch.optim.Adam(
            network.parameters(), lr=training["learning_rate"], betas=tuple(training["betas"])
        )
        for side, network in method.networks.items()
    }


def first_losses(name: str) -> list[dict[str, float]]:
    """Of a small method on random pictures, with its own rate, step by step."""
    make, training = METHODS[name]
    with float64():
        torch.manual_seed(1)
        method = make()
        optimisers = adam(method, training)
        return [step(method, optimisers, triplets(2)) for _ in range(STEPS)]


def kept_losses(name: str) -> list[dict[str, float]]:
    kept: list[dict[str, float]] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return kept


if __name__ == "__main__":
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for known in METHODS:
        text = json.dumps(first_losses(known), indent=1)
        (FOLDER / f"{known}.json").write_text(text + "\n", "utf-8")
