"""Train a method on a dataset (paper, section 4): what to train, on which device, until when."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from flows.steps.weights import resolve_weights
from idpose_core.processes import stop_without_parent
from idpose_core.training.config import Preset, TrainingConfig, resolve
from idpose_core.training.devices import claimed
from idpose_core.training.loop import Trained, train
from idpose_core.training.processes import joined
from idpose_core.training.runs import Run, held, open_run
from storage.datasets import read_manifest
from storage.objects import Store

_PAPER_SIZE = 143  # stored pictures from which 128 x 128 is cropped without enlarging


def train_dataset(
    root: str,
    dataset: str,
    values: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    new: bool = False,
    say: Callable[[str], None] = print,
) -> Trained | None:
    """Train on a dataset, or go on with the training of this configuration.

    SIGTERM and SIGINT end it after the step under way, with a checkpoint.

    Args:
        root: Where data lies.
        dataset: ``name`` (its latest version) or ``name@version``.
        values: Configuration as plain values.
        overrides: ``key.path: value`` over it.
        new: Start afresh beside what there is.
        say: Told how it goes, a line at a time.

    Returns:
        What was done; None in the processes of ``torchrun`` that follow the leading one.

    Raises:
        ConfigError: A key is unknown or a value is out of its range; weights are not there.
        ToldError, ValueError: See ``idpose_core.training``.
    """
    store = Store(root)
    config, manifest = configure(store, dataset, values, overrides)
    weights, sha256 = resolve_weights(config.perceptual.kind, config.run.perceptual_weights, store)
    identity = (manifest["name"], manifest["version"])
    stop_without_parent()
    with claimed(config.run.device, say) as device, joined(device) as world:
        run: Run | None = None
        if world.leads:
            run = open_run(store, identity, config, sha256, new=new)
        run = world.told(run)
        with _run_held(store, run, world.leads), stopped_by_signals() as stop:
            done = train(
                store,
                run,
                Path(weights) if weights else None,
                device=device,
                world=world,
                stop=stop,
                say=say if world.leads else lambda line: None,
            )
            return done if world.leads else None


def configure(
    store: Store,
    dataset: str,
    values: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[TrainingConfig, dict[str, Any]]:
    """The whole configuration for a dataset, and its manifest.

    Without a preset: the paper's sizes on a GPU (128 where the pictures are stored so large, else
    64), the small one on a CPU.

    Raises:
        ConfigError: See :func:`train_dataset`.
        DatasetError: There is no such dataset.
    """
    manifest = read_manifest(store, dataset)
    preset: Preset = "small"
    if torch.cuda.device_count():
        large = manifest["config"]["image"]["size"] >= _PAPER_SIZE
        preset = "128" if large else "64"
    return resolve(values, overrides, default_preset=preset), manifest


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second one ends the program as ever."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        for caught, handler in before.items():
            signal.signal(caught, handler)

    if threading.current_thread() is threading.main_thread():
        before = {n: signal.signal(n, ask) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


@contextmanager
def _run_held(store: Store, run: Run, leads: bool) -> Iterator[None]:
    if not leads:
        yield
        return
    with held(store, run.id):
        yield
