"""What happens between the steps of a training: lines, records, grids, checkpoints, the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from torch import Tensor

from idpose_core.methods.registry import METHODS
from idpose_core.training.augmentation import evaluation_batch
from idpose_core.training.checkpoints import Checkpoint, Checkpoints, random_state
from idpose_core.training.data import EmptySplitError, TripletData
from idpose_core.training.journal import Journal, status_line
from idpose_core.training.processes import World
from idpose_core.training.published import Model, champion, promote, publish_model
from idpose_core.training.runs import Run, code_version, runs_of_other_methods
from idpose_core.training.samples import Matrix, choose_matrix
from idpose_core.training.sampling import Sampler
from idpose_core.training.trainer import Trainer
from storage.datasets import read_manifest, read_table, source_licences
from storage.objects import Store

Say = Callable[[str], None]
_HELD_OUT = 64  # triplets that rank the checkpoints


def unfailing(say: Say) -> Say:
    """The same lines until one cannot be told (OSError), then none: nobody hears them."""
    heard = True

    def tell(line: str) -> None:
        nonlocal heard
        try:
            if heard:
                say(line)
        except OSError:
            heard = False

    return tell


class Observer:
    """Lines, records, grids, checkpoints and the model of a training."""

    def __init__(
        self,
        store: Store,
        run: Run,
        trainer: Trainer,
        world: World,
        checkpoints: Checkpoints,
        journal: Journal,
        data: TripletData,
        say: Say,
    ) -> None:
        self._store, self._run, self._trainer, self._world = store, run, trainer, world
        self._checkpoints, self._journal, self._say = checkpoints, journal, unfailing(say)
        self._data = data
        self._training = run.config.training
        self._saved = trainer.step
        self._lined, self._lined_at = trainer.step, time.monotonic()
        self._held_out: list[tuple[Tensor, ...]] = []
        self._matrix: Matrix | None = None
        if world.leads:
            self._prepare()

    def describe(self, resumed: Checkpoint | None) -> None:
        """Say what is about to be trained."""
        generator = sum(p.numel() for p in self._trainer.average.network.parameters())
        self._say(
            f"run {self._run.id}: {self._training.method} ({self._training.preset}) on "
            f"{self._run.dataset}: "
            f"{len(self._data)} triplets of {len(self._data.classes)} clips, "
            f"{generator / 1e6:.1f} million weights, {self._trainer.device}, "
            f"{self._training.steps} steps of {self._training.batch_size}"
        )
        for damage in resumed.damaged if resumed else ():
            self._say(f"left out: {damage}")
        if resumed:
            self._say(f"going on from step {resumed.step}")
            return
        for other, version in runs_of_other_methods(self._store, self._run):
            self._say(f"run {other} of method version {version} is left; this one starts at step 0")

    def after_step(
        self, losses: dict[str, Tensor], measured: dict[str, float], *, first: bool
    ) -> None:
        """Record, show and save what is due after a step."""
        step, training = self._trainer.step, self._training
        self._journal.add(losses)
        if first:
            self._trainer.check_finite()
        if step % training.log_every == 0:
            self._line(step)
        if measured and self._world.leads:
            with self._unimportant():
                self._journal.write(step, measured)
        if step % training.sample_every == 0 and self._world.leads:
            self._draw(step)
        if step % training.checkpoint_every == 0:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Save the state, unless it is saved."""
        step = self._trainer.step
        if step == self._saved:
            return
        self._trainer.check_finite()
        if self._world.leads:
            scores = self._score_held_out()
            # First: a run that goes on drops lines after its checkpoint, but misses lost ones.
            with self._unimportant():
                self._journal.write(step, {f"held_out/{k}": v for k, v in scores.items()})
                self._journal.flush()
            state = {
                "trainer": self._trainer.state_dict(),
                "journal": self._journal.state_dict(),
                "random": random_state(cuda=self._trainer.device.type == "cuda"),
            }
            self._checkpoints.save(step, state, scores.get("d"))
        self._world.wait()
        self._saved = step

    def publish(self) -> Model | None:
        """Publish the average; it serves where no version of its name does yet.

        Returns:
            The model; None in the processes that follow.

        Raises:
            NonFiniteLossError: Its weights are not finite.
        """
        run, trainer = self._run, self._trainer
        trainer.check_finite()
        if not self._world.leads:
            return None
        manifest = read_manifest(self._store, run.dataset)
        metrics = {self._score_name(k): v for k, v in self._score_held_out().items()}
        model = publish_model(
            self._store,
            run.model_name,
            trainer.average.network.state_dict(),
            config={**run.config.described(), "run": run.id, "steps": trainer.step},
            dataset=(manifest["name"], manifest["version"]),
            metrics=metrics,
            code_version=code_version(),
            trained_on=trainer.machine(),
            licences=source_licences(read_table(self._store, manifest, "videos")),
            dataset_config=manifest["config"],
        )
        if champion(self._store, run.model_name) is None:
            promote(self._store, run.model_name, model.version, "the first of its name")
        return model

    def close(self) -> None:
        """End the record."""
        if self._world.leads:
            with self._unimportant():
                self._journal.close()

    @contextmanager
    def _unimportant(self) -> Iterator[None]:
        """What cannot be written here is told, and the training goes on: checkpoints matter."""
        try:
            yield
        except OSError as error:
            self._say(f"not written: {error}")

    def _line(self, step: int) -> None:
        means = self._journal.take(self._world)
        self._trainer.check_finite()
        if not self._world.leads:
            return
        now = time.monotonic()
        seconds = (now - self._lined_at) / max(1, step - self._lined)
        self._lined, self._lined_at = step, now
        rate = self._training.batch_size / seconds
        with self._unimportant():
            self._journal.write(
                step, {**means, "triplets_per_second": rate, "seconds_per_step": seconds}
            )
        line = status_line(step, self._training.steps, means, triplets=rate, seconds=seconds)
        self._say(line)

    def _draw(self, step: int) -> None:
        if self._matrix is not None:
            made = self._matrix.generate(self._trainer.generate)
            with self._unimportant():
                self._journal.picture(step, "samples", self._matrix.draw(made))

    def _prepare(self) -> None:
        """Held-out triplets that rank the checkpoints, and the matrix: of train if no other."""
        if not METHODS[self._training.method].swaps:
            return
        size, seed = self._run.config.generator.size, self._run.config.seed
        try:
            test = TripletData(self._store, self._run.dataset, "test")
        except EmptySplitError:
            self._matrix = choose_matrix(self._data, size, seed=seed)
            return
        self._matrix = choose_matrix(test, size, seed=seed)
        rows = Sampler(len(test), min(_HELD_OUT, len(test)), 0).batch(0)
        for part in np.array_split(rows, -(-len(rows) // self._training.batch_size)):
            held_out = evaluation_batch(test.raw_batch(0, part, part), size)
            self._held_out.append((held_out.id, held_out.pose, held_out.target))

    def _score_held_out(self) -> dict[str, float]:
        """Mean distances of held-out outputs to their targets; none without held-out triplets."""
        sums: dict[str, float] = {}
        for part in self._held_out:
            for name, distance in self._trainer.distances(*part).items():
                sums[name] = sums.get(name, 0.0) + distance * len(part[0])
        return {name: total / self._held_out_count() for name, total in sums.items()}

    def _score_name(self, distance: str) -> str:
        kind = self._run.config.distance.kind
        what = {"d": f"{kind}-distance", "pixel_l1": "mean-pixel-l1", "chroma": "chroma"}[distance]
        return f"held-out-{what}-{self._held_out_count()}"

    def _held_out_count(self) -> int:
        return sum(len(part[0]) for part in self._held_out)
