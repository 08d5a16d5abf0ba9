"""The Prefect flow that trains: a child process, its progress, and its end.

A thread cannot be stopped by a timeout or a cancellation; a process can, and saves a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow

from flows.forms import Root, TrainingForm
from flows.prefect_artifacts import publish_image, publish_markdown, publish_table
from flows.prefect_child import carry_out
from flows.prefect_crashes import check_attempt
from flows.prefect_flows import reach_server, tell_errors_once
from idpose_core.download.credentials import refuse_credentials
from idpose_core.stages.crop import decode_png
from idpose_core.training.config import TrainingConfig
from idpose_core.training.journal import read_metrics
from storage.objects import Store


@flow(name="train")
def train(
    dataset: str,
    config: TrainingForm | None = None,
    root: Root = None,
    new: bool = False,
    attempt: int = 1,
) -> dict[str, Any]:
    """Train on a dataset, or go on with its training.

    Args:
        dataset: NAME (its latest version) or NAME@VERSION.
        config: What to train. What is left empty comes from preset and method.
        root: Where data lies; empty = $IDPOSE_ROOT of the worker, else ./idpose-data.
        new: Start afresh beside what there is.
        attempt: Set by the automation that runs crashed flow runs again.
    """
    check_attempt(attempt)
    asked = config.asked() if config else {}
    refuse_credentials({"config": asked, "root": root})
    where = root or os.environ.get("IDPOSE_ROOT") or "idpose-data"
    with tempfile.TemporaryDirectory(prefix="idpose-training-") as folder:
        file = Path(folder) / "training.yaml"
        file.write_text(json.dumps(asked), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "flows", "train", dataset, "--root", where, "--json"]
        command += ["--config", str(file), *(["--new"] if new else [])]
        found = carry_out(command, "training", dataset)
    _publish_artifacts(Store(where), dataset, found)
    return found


def train_from_terminal(dataset: str, config: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Run the flow in this process; what goes wrong is told once, by the caller.

    Raises:
        BuildError: There is no server.
        ChildFailedError: The training failed.
        ConfigError: The configuration holds a credential.
    """
    refuse_credentials({**config, "root": root})
    reach_server()
    tell_errors_once()
    found: dict[str, Any] = train(dataset, TrainingConfig.model_validate(config), root)
    return found


def _publish_artifacts(store: Store, dataset: str, found: dict[str, Any]) -> None:
    run = found["run"]
    name = re.sub(r"[^a-z0-9]+", "-", dataset.partition("@")[0].lower()).strip("-")
    lines = [row for row in read_metrics(store, run) if "seconds_per_step" in row]
    if lines:
        publish_table(
            [{"loss": k, "value": v} for k, v in lines[-1].items() if k != "step"],
            key=f"{name}-losses",
            description=f"Run {run} at step {lines[-1]['step']}",
        )
    grids = [path for path in store.list(f"runs/{run}/samples") if path.endswith(".png")]
    if grids:
        publish_image(
            lambda: decode_png(store.read(grids[-1])),
            key=f"{name}-samples",
            description=grids[-1],
        )
    publish_markdown(
        f"Run `{run}` after {found['steps']} steps: "
        + (f"published `{found['model']}`" if found["model"] else "not finished"),
        key=f"{name}-training",
        description="The training",
    )
