"""Runs: what names a training, and its folder ``runs/<run>/``."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import IO, Any

import torch

from idpose_core.training.config import TrainingConfig
from storage.digests import digest
from storage.errors import ToldError
from storage.objects import Store


class RunBusyError(ToldError):
    """Another process trains this run; the message names it."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        id: Its folder's name: H(dataset version, configuration, seed), with ``-2`` ... for those
            that were started afresh.
        dataset: ``name@version``.
        config: The whole configuration.
        perceptual_sha256: Digest of the distance's trunk; None where it has none.
    """

    id: str
    dataset: str
    config: TrainingConfig
    perceptual_sha256: str | None

    @property
    def model_name(self) -> str:
        """What it is published as."""
        return f"{self.dataset.partition('@')[0]}-{self.config.training.method}"

    def identity(self) -> dict[str, Any]:
        """What its weights depend on, as plain values."""
        return {
            "dataset_version": self.dataset.partition("@")[2],
            **self.config.identity(),
            "perceptual_sha256": self.perceptual_sha256,
        }


def open_run(
    store: Store,
    dataset: tuple[str, str],
    config: TrainingConfig,
    perceptual_sha256: str | None,
    *,
    new: bool = False,
) -> Run:
    """The run of this data and configuration: the last one started, or a new one.

    Args:
        store: The root.
        dataset: Name and version.
        config: The whole configuration.
        perceptual_sha256: Digest of the distance's trunk; None where it has none.
        new: Start afresh beside what there is.

    Returns:
        The run; nothing is written yet.
    """
    name, dataset_version = dataset
    nameless = Run("", f"{name}@{dataset_version}", config, perceptual_sha256)
    base = digest(nameless.identity())[:12]
    attempt = 1
    while store.exists(_document(_numbered(base, attempt + 1))):
        attempt += 1
    if new and store.exists(_document(_numbered(base, attempt))):
        attempt += 1
    return Run(_numbered(base, attempt), nameless.dataset, config, perceptual_sha256)


def runs_of_other_methods(store: Store, run: Run) -> list[tuple[str, int]]:
    """Runs of the same data and configuration under earlier versions of the method.

    Their weights came about in another way, so this run does not go on with them.

    Returns:
        Id (of the first that was started) and version of the method, in order.
    """
    found, mine = [], run.identity()
    for earlier in range(1, mine["method_version"]):
        base = digest({**mine, "method_version": earlier})[:12]
        if store.exists(_document(base)):
            found.append((base, earlier))
    return found


def describe_run(store: Store, run: Run) -> None:
    """Write ``config.json``: the configuration of the last call, and when the first one was.

    Between calls that go on with a run, steps, cadence and ``run.*`` may change.
    """
    content = {
        "run": run.id,
        "dataset": run.dataset,
        "config": run.config.model_dump(mode="json"),
        "perceptual_sha256": run.perceptual_sha256,
        "code_version": code_version(),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "platform": platform.platform(),
        },
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        before = json.loads(store.read(_document(run.id)))
        content["created_at"] = before["created_at"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        before = None
    if content != before:
        store.replace(_document(run.id), json.dumps(content, indent=1).encode() + b"\n")


@contextmanager
def held(store: Store, run: str, patience: float = 0.0) -> Iterator[None]:
    """Let no other process of this machine train the run meanwhile.

    The kernel frees the lock when its holder dies. A remote root has none: its users see to it.

    Args:
        store: The root.
        run: Id of the run.
        patience: Seconds to wait for another process to end.

    Raises:
        RunBusyError: Another process does.
    """
    path = store.local_path(f"runs/{run}/lock")
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        deadline = time.monotonic() + patience
        while not _locked(file):
            if time.monotonic() >= deadline:
                file.seek(0)
                raise RunBusyError(
                    f"run {run} is being trained by process {file.read().strip() or 'unknown'}: "
                    "wait for it, or start another with --new"
                )
            time.sleep(0.5)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def code_version() -> str:
    """Version of idpose."""
    return version("idpose")


def _numbered(base: str, attempt: int) -> str:
    return base if attempt == 1 else f"{base}-{attempt}"


def _document(run: str) -> str:
    return f"runs/{run}/config.json"
