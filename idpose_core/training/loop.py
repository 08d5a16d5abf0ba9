"""The training from end to end: open the data, go on from the last checkpoint, step, publish.

Steps are a pure function of the state and their number: what is drawn for a batch depends on the
seed and the step alone (as in EDM2). So a run that was killed and goes on gives the weights of one
that never stopped, bit for bit on one machine's CPU.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from idpose_core.methods.batches import check_batch
from idpose_core.models.perceptual import load_perceptual
from idpose_core.training.augmentation import Augmentation
from idpose_core.training.checkpoints import Checkpoints, set_random_state
from idpose_core.training.config import TrainingConfig
from idpose_core.training.data import TripletData, batches
from idpose_core.training.journal import Journal
from idpose_core.training.observer import Observer, Say
from idpose_core.training.processes import World
from idpose_core.training.published import Model, ModelError, read_model
from idpose_core.training.runs import Run, describe_run
from idpose_core.training.sampling import Sampler
from idpose_core.training.trainer import NonFiniteLossError, Trainer
from storage.errors import ToldError
from storage.objects import Store


class OutOfMemoryError(ToldError):
    """The device's memory is too small; the message says what to lower."""


@dataclass(frozen=True)
class Trained:
    """What a call of :func:`train` did.

    Attributes:
        run: Id of the run.
        model: What was published; None where the run is not at its end yet.
        steps: Finished steps.
        resumed_from: Steps that were finished when it began.
        stopped: Why it ended before its last step; None where it did not.
        interrupted: Whether that was because it was asked to.
    """

    run: str
    model: Model | None
    steps: int
    resumed_from: int
    stopped: str | None
    interrupted: bool = False


def train(
    store: Store,
    run: Run,
    perceptual_weights: Path | None,
    *,
    device: torch.device,
    world: World | None = None,
    stop: threading.Event | None = None,
    say: Say = print,
) -> Trained:
    """Train until the last step, a limit of the configuration, or until told to stop.

    Args:
        store: The root.
        run: Which training: dataset, configuration, id; its folder may hold checkpoints.
        perceptual_weights: File of the distance's trunk; None where it has none.
        device: Where to compute.
        world: The processes that share the batches; all of them call this with equal arguments.
        stop: Set from outside to end after the step under way, with a checkpoint.
        say: Told how it goes, a line at a time.

    Raises:
        DatasetError: The dataset, its split or a picture cannot be used.
        CheckpointError: A checkpoint cannot be used or written.
        NonFiniteLossError: A loss became NaN or infinite; names the last good checkpoint.
        OutOfMemoryError: The device's memory is too small.
        ValueError: Settings that do not go together, such as a batch larger than the data.
    """
    world, stop = world or World(), stop or threading.Event()
    limit = _Limit(run.config, stop, world, device)
    config, training = run.config, run.config.training
    checkpoints = Checkpoints(store, run.id, run.identity(), keep=config.run.keep)
    with _told(run, checkpoints):
        data = TripletData(
            store,
            run.dataset,
            merge_videos=training.merge_videos,
            weigh_by_trust=training.weigh_by_trust,
        )
        sampler = Sampler(len(data), training.batch_size, config.seed, world.rank, world.size)
        size = config.generator.size
        augmentation = Augmentation(size, config.seed, training.jitter, training.flip)
        perceptual = load_perceptual(config.distance, perceptual_weights)
        compiled = _compiles(config.run.compile, device, say)
        clips = len(data.classes)
        trainer = Trainer(
            config, perceptual, clips=clips, device=device, world=world, compiled=compiled
        )
        resumed = checkpoints.latest()
        if resumed is not None:
            trainer.load_state_dict(resumed.state["trainer"])
            set_random_state(resumed.state["random"])
        elif training.start is not None:
            _start(trainer, store, training.start)
        begun = trainer.step
        journal = Journal(store, run.id, begun)
        if resumed is not None:
            journal.load_state_dict(resumed.state["journal"], device)
        observer = Observer(store, run, trainer, world, checkpoints, journal, data, say)
        if world.leads:
            store.remove_temporary(checkpoints.folder)  # of a process that was killed in a save
            describe_run(store, run)  # not before: with --new it would hide the run before it
            observer.describe(resumed)

        with closing(observer):
            loader = batches(
                data, sampler, begun, training.steps,
                threads=config.run.loader_threads, pin=device.type == "cuda",
            )  # fmt: skip
            with closing(loader):
                for raw in loader:
                    batch = augmentation(raw, device)
                    if trainer.step == begun:
                        check_batch(batch, size=size, clips=clips)
                    at = trainer.step + 1
                    losses, measured = trainer.train_step(
                        batch, measure=at % training.measure_every == 0
                    )
                    observer.after_step(losses, measured, first=trainer.step == begun + 1)
                    if trainer.step < training.steps and limit.reached(trainer.step - begun):
                        break
            observer.checkpoint()
            done = trainer.step >= training.steps
            # All processes: they look at the weights together.
            model = observer.publish() if done else None
    stopped = None if done else limit.reason
    return Trained(
        run.id, model, trainer.step, begun, stopped, stopped is not None and stop.is_set()
    )


def _start(trainer: Trainer, store: Store, model: str) -> None:
    """Begin with a published model.

    Raises:
        ModelError: There is no such model, or it is of another network.
    """
    try:
        trainer.start_from(read_model(store, model).weights(store))
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"training.start: {model} is of another network ({cause}): give it the settings that "
            "it was trained with (`idpose models show`), or start from scratch"
        ) from error


def _compiles(asked: bool | None, device: torch.device, say: Say) -> bool:
    """Whether torch.compile takes the networks: on CUDA unless asked otherwise.

    Its kernels for CUDA are built with the C compiler of the machine (triton), which slim images
    lack; without one a training goes on uncompiled, and says so.
    """
    if device.type != "cuda" or asked is False:
        return bool(asked)
    names = [os.environ.get("CC", ""), "gcc", "clang"]
    if any(shutil.which(name) for name in names if name):
        return True
    say("torch.compile is left out, for it needs a C compiler: install gcc for faster steps")
    return False


class _Limit:
    """When a call ends before the last step: asked to, or after its share of time or triplets."""

    def __init__(
        self, config: TrainingConfig, stop: threading.Event, world: World, device: torch.device
    ) -> None:
        self._run, self._batch = config.run, config.training.batch_size
        if self._run.samples is not None and self._run.samples < self._batch:
            raise ValueError(
                f"run.samples of {self._run.samples} is less than a step, which takes {self._batch}"
            )
        self._stop, self._world, self._device = stop, world, device
        self._began = time.monotonic()
        self.reason: str | None = None

    def reached(self, steps: int) -> bool:
        """Whether to end after so many steps of this call; the same in all processes."""
        minutes, samples = self._run.minutes, self._run.samples
        reasons = {
            "it was asked to stop": self._stop.is_set(),
            f"{minutes} minutes are over": minutes is not None
            and time.monotonic() - self._began >= 60 * minutes,
            f"{samples} triplets are done": samples is not None
            and (steps + 1) * self._batch > samples,
        }
        mine = next((reason for reason, holds in reasons.items() if holds), None)
        if not self._world.any(mine is not None, self._device):
            return False
        self.reason = mine or "another process was asked to stop"
        return True


@contextmanager
def _told(run: Run, checkpoints: Checkpoints) -> Iterator[None]:
    """Say of a training that went wrong what is left of it."""
    try:
        yield
    except NonFiniteLossError as error:
        steps = checkpoints.steps()
        left = f"the checkpoint of step {steps[-1]} is good" if steps else "there is no checkpoint"
        raise NonFiniteLossError(
            f"run {run.id}: {error}; {left}; lower training.learning_rate or the weights.*, which "
            "starts another run"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or "no more to be had"
        raise OutOfMemoryError(
            f"run {run.id}: the device's memory is too small ({reason}): lower training.batch_size "
            "or take a smaller training.preset, which starts another run"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """A CPU's allocator has no exception of its own: it says so in a RuntimeError."""
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "DefaultCPUAllocator" in str(error)
        or "bad_alloc" in str(error)
    )
