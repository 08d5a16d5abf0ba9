"""A training step against a plain transcription of the paper, and where its time goes.

    python -m tests.benchmarks.training_step [--preset 64] [--perceptual pixel-l1] [--batch 4]
        [--weights FILE] [--threads 2] [--passes 5] [--out docs/results/training-step.json]

The transcription takes the equations one by one: six encodes, three decodes, the P x P matrix of
the pixel verification, instance norms, no channels last, torch's own convolutions. Both start from
the same weights and see the same batch, threads and precision, in turn; the ratio is of the
medians. Their losses of the first step must agree. Peak memory is of one process for each, beyond
networks and optimisers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idpose_core.methods.identity_pose import IdentityPose
from idpose_core.methods.losses import Losses, loss_aux, loss_pair, loss_real
from idpose_core.models.layers import Convolution
from idpose_core.models.perceptual import load_perceptual
from idpose_core.training.augmentation import Batch
from idpose_core.training.averaging import MovingAverage
from idpose_core.training.config import TrainingConfig, resolve
from idpose_core.training.trainer import Trainer
from tests.models.measure_pixel_verification import resident

CLIPS = 100


class Plain:
    """The transcription: networks of the method, equations written out."""

    def __init__(self, config: TrainingConfig, perceptual: Any) -> None:
        torch.manual_seed(config.seed)
        self.method = IdentityPose(config.method(), perceptual, clips=CLIPS)
        self.average = MovingAverage(self.method.generator)
        rate, betas = config.training.learning_rate, config.training.betas
        self.optimisers = [
            torch.optim.Adam(network.parameters(), lr=rate, betas=betas)
            for network in (self.method.discriminators, self.method.generator)
        ]

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        method = self.method
        g, d, perceptual = method.generator, method.discriminators, method.perceptual
        output = g.decode(g.encode_identity(batch.id), g.encode_pose(batch.pose))
        identity = g.decode(g.encode_identity(batch.id), g.encode_pose(batch.id))
        pose = g.decode(g.encode_identity(batch.pose), g.encode_pose(batch.pose))

        fake = output.picture.detach()
        real, fake_judged = d["real"](batch.target), d["real"](fake)
        positive, mismatch, fake_pair = (
            d["pair"](torch.cat([batch.id, other], 1))
            for other in (batch.target, batch.mismatch, fake)
        )
        judged = {
            "D_real": 0.5 * (_squares(real.maps, 1) + _squares(fake_judged.maps, 0)),
            "D_aux": loss_aux(real, batch.clip),
            "D_pair": 0.5
            * (
                _squares(positive.maps, 1)
                + 0.5 * (_squares(fake_pair.maps, 0) + _squares(mismatch.maps, 0))
            ),
        }
        self._update(0, judged)

        queries, keys = (x.feature.flatten(2).transpose(1, 2) for x in (output, identity))
        weights = torch.softmax(queries @ keys.transpose(1, 2), dim=2)
        aligned = (weights @ batch.id.flatten(2).transpose(1, 2)).transpose(1, 2)
        seen = d["real"](output.picture)
        paired = d["pair"](torch.cat([batch.id, output.picture], 1))
        parts = {
            "L1_dis": perceptual(output.picture, batch.target),
            "L2_dis": perceptual(identity.picture, batch.id) + perceptual(pose.picture, batch.pose),
            "L_pv": (aligned.view_as(batch.id) - output.picture).abs().mean(),
            "L_real": loss_real("lsgan", seen),
            "L_aux": loss_aux(seen, batch.clip),
            "L_pair": loss_pair("lsgan", paired),
        }
        self._update(1, parts)
        self.average.update(g)
        return {name: part.detach() for name, part in {**judged, **parts}.items()}

    def _update(self, side: int, parts: dict[str, Tensor]) -> None:
        self.optimisers[side].zero_grad()
        Losses(parts, dict.fromkeys(parts, 1.0)).total.backward()  # type: ignore[no-untyped-call]
        self.optimisers[side].step()


def _squares(maps: list[Tensor], truth: float) -> Tensor:
    return torch.stack([(judged - truth).square().mean() for judged in maps]).sum()


def make(which: str, arguments: argparse.Namespace) -> tuple[Callable[[], dict[str, Tensor]], Any]:
    """A function that makes one step, and what it works on."""
    torch.set_num_threads(arguments.threads)
    settings = {
        "training.preset": arguments.preset,
        "training.batch_size": arguments.batch,
        "perceptual.kind": arguments.perceptual,
        "training.precision": "float32",
        "generator.padding": "reflect",
    }
    config = resolve(overrides=settings)
    if which == "plain":
        config = config.model_copy(
            update={
                "generator": replace(config.generator, norm="instance"),
                "discriminator": replace(config.discriminator, norm="instance"),
            }
        )
    perceptual = load_perceptual(config.perceptual, arguments.weights)
    batch = noise(arguments.batch, config.generator.size)
    if which == "plain":
        plain = Plain(config, perceptual)
        for network in (plain.method.generator, plain.method.discriminators, perceptual):
            for module in network.modules():
                if isinstance(module, Convolution):
                    module.__class__ = nn.Conv2d
        return lambda: plain.train_step(batch), plain
    trainer = Trainer(config, perceptual, clips=CLIPS, device=torch.device("cpu"))
    return lambda: trainer.train_step(batch)[0], trainer


def noise(count: int, size: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(4, count, 3, size, size, generator=generator) * 2 - 1
    clips = torch.randint(CLIPS, (2, count), generator=generator)
    return Batch(pictures[0], pictures[1], pictures[2], pictures[3], clips[0], clips[1])


def peak(which: str, arguments: argparse.Namespace) -> float:
    """MB that a step takes beyond networks and optimisers, in this fresh process."""
    step, _held = make(which, arguments)
    step()  # makes the optimisers' moments
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    step()
    return resident("VmHWM") - before


def time_parts(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of the parts of one step of ours, each the median of the passes."""
    _, trainer = make("ours", arguments)
    method = trainer.method
    batch = noise(arguments.batch, method.config.generator.size)
    found: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        made = work()
        found.setdefault(name, []).append(time.perf_counter() - began)
        return made

    for _ in range(arguments.passes):
        generated = timed("generate", lambda: method.generate(batch))
        judged = timed("judge", lambda made=generated: method.discriminator_losses(batch, made))
        timed("update D", lambda made=judged: trainer._update("discriminators", made))
        losses = timed("losses of G", lambda made=generated: method.generator_losses(batch, made))
        timed("update G", lambda made=losses: trainer._update("generator", made))
        timed("average", lambda: trainer.average.update(method.generator))
    return {name: statistics.median(times) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="64")
    parser.add_argument("--perceptual", default="pixel-l1")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--machine", default="2 cores")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    steps = {which: make(which, arguments)[0] for which in ("plain", "ours")}
    first = {which: step() for which, step in steps.items()}
    for name, value in first["plain"].items():
        torch.testing.assert_close(first["ours"][name], value, rtol=1e-3, atol=1e-4)
    times: dict[str, list[float]] = {which: [] for which in steps}
    for _ in range(arguments.passes):
        for which, step in steps.items():
            began = time.perf_counter()
            step()
            times[which].append(time.perf_counter() - began)
    median = {which: statistics.median(taken) for which, taken in times.items()}

    context = multiprocessing.get_context("spawn")
    memory = {}
    for which in steps:
        with context.Pool(1) as pool:
            memory[which] = pool.apply(peak, (which, arguments))
    parts = time_parts(arguments)
    values = {
        "step-time-ratio": median["plain"] / median["ours"],
        "peak-memory-ratio": memory["plain"] / memory["ours"],
        **{f"seconds-{which}": taken for which, taken in median.items()},
        **{f"megabytes-{which}": used for which, used in memory.items()},
        **{f"share-{name.replace(' ', '-')}": s / sum(parts.values()) for name, s in parts.items()},
    }
    for name, value in values.items():
        print(f"{name:24} {value:10.3f}")
    if arguments.out:
        command = "python -m tests.benchmarks.training_step " + " ".join(sys.argv[1:])
        rows = [
            {
                "dataset": "noise", "dataset_version": None, "method": "identity-pose",
                "model": f"{arguments.preset}, {arguments.perceptual}", "seed": 0, "metric": name,
                "value": value, "ci_low": None, "ci_high": None, "n": arguments.passes,
                "budget": None, "machine": arguments.machine,
                "date": time.strftime("%Y-%m-%d"), "command": command,
            }
            for name, value in values.items()
        ]  # fmt: skip
        arguments.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
