"""The Prefect flow that trains: a child process, its progress, and its end.

A thread cannot be stopped by a timeout or a cancellation; a process can, and saves a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.messages import visible
from flows.prefect_crashes import check_attempt
from flows.prefect_flows import reach_server, tell_errors_once
from idpose_core.processes import PARENT
from idpose_core.training.config import TrainingConfig
from idpose_core.training.journal import read_metrics
from storage.errors import ToldError
from storage.objects import Store

_STEP = re.compile(r"step +(\d+) of (\d+) ")
_GRACE_SECONDS = 120.0  # a step under way and a checkpoint of a large model


class TrainingFailedError(ToldError):
    """The training process ended with an error; the message is its own."""


@flow(name="train")
def train(
    dataset: str,
    config: TrainingConfig | None = None,
    root: str | None = None,
    new: bool = False,
    attempt: int = 1,
) -> dict[str, Any]:
    """Train on a dataset, or go on with its training.

    Args:
        dataset: NAME (its latest version) or NAME@VERSION.
        config: What to train; what is left out comes from the preset.
        root: Where data lies; empty = $IDPOSE_ROOT of the worker, else ./idpose-data.
        new: Start afresh beside what there is.
        attempt: Set by the automation that runs crashed flow runs again.
    """
    check_attempt(attempt)
    where = root or os.environ.get("IDPOSE_ROOT") or "idpose-data"
    asked = config.model_dump(mode="json", exclude_unset=True) if config else {}
    with tempfile.TemporaryDirectory(prefix="idpose-training-") as folder:
        file = Path(folder) / "training.yaml"
        file.write_text(json.dumps(asked), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "flows", "train", dataset, "--root", where, "--json"]
        command += ["--config", str(file), *(["--new"] if new else [])]
        with _child(command) as process:
            found = _follow(process, dataset)
    _publish_artifacts(Store(where), dataset, found)
    return found


def train_from_terminal(dataset: str, config: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Run the flow in this process; what goes wrong is told once, by the caller.

    Raises:
        BuildError: There is no server.
        TrainingFailedError: The training failed.
    """
    reach_server()
    tell_errors_once()
    found: dict[str, Any] = train(dataset, TrainingConfig.model_validate(config), root)
    return found


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The training process; whatever ends this one, it saves a checkpoint and ends too."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, PARENT: str(os.getpid())},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _follow(process: subprocess.Popen[str], dataset: str) -> dict[str, Any]:
    """Tell what the process tells, until it ends. Returns its last line.

    Raises:
        TrainingFailedError: It failed.
    """
    log = get_run_logger()
    artifact: Any = None
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        last = line.rstrip("\n")
        if not last.startswith("{"):
            log.info("%s", visible(last))
        if match := _STEP.match(last):
            percent = 100.0 * int(match[1]) / int(match[2])
            if artifact is None:
                artifact = create_progress_artifact(percent, key="training", description=dataset)
            else:
                update_progress_artifact(artifact, percent)
    if process.wait():
        raise TrainingFailedError(last.removeprefix("idpose: "))
    found: dict[str, Any] = json.loads(last)
    return found


def _publish_artifacts(store: Store, dataset: str, found: dict[str, Any]) -> None:
    run = found["run"]
    name = re.sub(r"[^a-z0-9]+", "-", dataset.partition("@")[0].lower()).strip("-")
    lines = [row for row in read_metrics(store, run) if "seconds_per_step" in row]
    if lines:
        create_table_artifact(
            [{"loss": k, "value": v} for k, v in lines[-1].items() if k != "step"],
            key=f"{name}-losses",
            description=f"Run {run} at step {lines[-1]['step']}",
        )
    grids = [path for path in store.list(f"runs/{run}/samples") if path.endswith(".png")]
    file = store.local_path(grids[-1]) if grids else None
    if file is not None:
        create_image_artifact(file.as_uri(), key=f"{name}-samples", description=grids[-1])
    create_markdown_artifact(
        f"Run `{run}` after {found['steps']} steps: "
        + (f"published `{found['model']}`" if found["model"] else "not finished"),
        key=f"{name}-training",
        description="The training",
    )
