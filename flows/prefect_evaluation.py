"""The Prefect flow that evaluates: a child process, and its numbers as a table."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from prefect import flow

from flows.forms import Root
from flows.prefect_artifacts import publish_image, publish_table
from flows.prefect_child import carry_out
from flows.prefect_crashes import check_attempt
from idpose_core.download.credentials import refuse_credentials
from idpose_core.stages.crop import decode_png
from storage.objects import Store


@flow(name="evaluate")
def evaluate(
    model: str | None = None,
    dataset: str | None = None,
    beside: list[str] | None = None,
    evaluation_set: str | None = None,
    metrics: list[str] | None = None,
    outputs: str | None = None,
    name: str | None = None,
    size: int | None = None,
    pose_data: str | None = None,
    training_steps: int | None = None,
    root: Root = None,
    attempt: int = 1,
) -> dict[str, Any]:
    """Measure a model on a frozen set.

    Args:
        model: Id of a run, NAME (its champion), NAME@VERSION, or controls; empty with outputs.
        dataset: NAME or NAME@VERSION whose test split is measured on; empty = the model's own.
        beside: Further runs or models, measured on the same triplets.
        evaluation_set: A frozen set; empty = the dataset's own.
        metrics: Only these; empty = all that are possible.
        outputs: In place of a model: folder with TRIPLET_ID.png of any generator.
        name: Of what made the outputs.
        size: Of the pictures, for controls and outputs; empty = 64.
        pose_data: Dataset with known azimuths from which the pose score is learned; empty = the
            set's own.
        training_steps: Of the networks that are trained to measure; empty = their own numbers.
        root: Where data lies; empty = $IDPOSE_ROOT of the worker, else ./idpose-data.
        attempt: Set by the automation that runs crashed flow runs again.
    """
    check_attempt(attempt)
    refuse_credentials({"outputs": outputs, "root": root})
    where = root or os.environ.get("IDPOSE_ROOT") or "idpose-data"
    command = [sys.executable, "-m", "flows", "evaluate", "--root", where, "--json"]
    command += [model] if model else []
    command += ["--dataset", dataset] if dataset else []
    command += [word for other in beside or () for word in ("--beside", other)]
    command += ["--set", evaluation_set] if evaluation_set else []
    command += [word for metric in metrics or () for word in ("--metric", metric)]
    command += ["--outputs", outputs] if outputs else []
    command += ["--name", name] if name else []
    command += ["--size", str(size)] if size else []
    command += ["--pose-data", pose_data] if pose_data else []
    command += ["--training-steps", str(training_steps)] if training_steps else []
    found = carry_out(command, "evaluation", model or name or "")
    _publish_artifacts(Store(where), found)
    return {key: value for key, value in found.items() if key != "rows"}


def _publish_artifacts(store: Store, found: dict[str, Any]) -> None:
    name = re.sub(r"[^a-z0-9]+", "-", found["evaluation_set"].lower()).strip("-")
    wanted = ("method", "model", "against", "metric", "value", "ci_low", "ci_high", "n", "warning")
    publish_table(
        [{column: row.get(column) for column in wanted} for row in found["rows"]],
        key=f"{name}-metrics",
        description=f"{found['model']} on {found['evaluation_set']}: {found['path']}",
    )
    folder = found["path"].rpartition("/")[0]
    sheet = f"{folder}/{found['evaluation_set']}-swaps.png"
    if store.exists(sheet):
        publish_image(
            lambda: decode_png(store.read(sheet)), key=f"{name}-swaps", description="ID x pose"
        )
