"""Train a method on a dataset (paper, section 4): what to train, on which device, until when."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from flows.steps.weights import resolve_weights
from idpose_core.evaluation.roles import check_roles, networks_used
from idpose_core.processes import stop_without_parent
from idpose_core.training.config import Preset, TrainingConfig, resolve
from idpose_core.training.devices import claimed
from idpose_core.training.loop import Trained, train
from idpose_core.training.processes import joined
from idpose_core.training.published import read_model
from idpose_core.training.runs import Run, held, open_run
from storage.claims import claim
from storage.datasets import read_manifest
from storage.objects import Store

# A flow run that is run again meets the process of the dead one, which is saving its checkpoint.
_PATIENCE_SECONDS = 300.0
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
        RoleError: The loss's network chose the triplets.
        ToldError, ValueError: See ``idpose_core.training``.
    """
    store = Store(root)
    config, manifest = configure(store, dataset, values, overrides)
    check_roles(networks_used(manifest["config"], {"perceptual": asdict(config.distance)}))
    weights, sha256 = resolve_weights(config.distance.kind, config.run.perceptual_weights, store)
    identity = (manifest["name"], manifest["version"])
    patience = _PATIENCE_SECONDS if stop_without_parent() else 0.0
    with claimed(config.run.device, say) as device, joined(device) as world:
        run: Run | None = None
        if world.leads:
            run = open_run(store, identity, config, sha256, new=new)
        run = world.told(run)
        with _run_held(store, run, world.leads, patience), stopped_by_signals() as stop:
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
    64), the small one on a CPU; there copy-attention where no method is named either
    (docs/comparison.md).

    Raises:
        ConfigError: See :func:`train_dataset`.
        DatasetError: There is no such dataset.
        ModelError: No version of ``training.start`` serves.
    """
    manifest = read_manifest(store, dataset)
    config = resolve(values, overrides, default_preset="small", default_method="copy-attention")
    if config.run.device != "cpu" and torch.cuda.device_count():
        stored = manifest["config"].get("image", {}).get("size", 0)
        preset: Preset = "128" if stored >= _PAPER_SIZE else "64"
        config = resolve(values, overrides, default_preset=preset)
    start = config.training.start
    if start is not None and "@" not in start:  # the run is named by the version that serves now
        model = read_model(store, start)
        pinned = {**(overrides or {}), "training.start": f"{model.name}@{model.version}"}
        return configure(store, dataset, values, pinned)
    return config, manifest


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set; a second SIGINT ends the program at once.

    A second SIGTERM does not: who sends one often sends more, and the checkpoint is on its way.
    Signals that were ignored when the program was started (``nohup``) stay so.
    """
    stop = threading.Event()
    before: dict[int, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        if not stop.is_set():
            note = (
                b"idpose: stopping after this step with a checkpoint; Ctrl-C again ends at once\n"
            )
            with suppress(OSError):
                os.write(2, note)
        stop.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, a shell's background job
                before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


@contextmanager
def _run_held(store: Store, run: Run, leads: bool, patience: float) -> Iterator[None]:
    if not leads:
        yield
        return
    own = (f"runs/{run.id}", f"models/{run.model_name}")
    with held(store, run.id, patience), claim(store, run.id, own):
        yield
