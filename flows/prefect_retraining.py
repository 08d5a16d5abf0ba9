"""The Prefect flow of a round of retraining: the flows of its parts, and what became of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from prefect import flow, get_run_logger

from flows.configs import built_in
from flows.forms import Form, Root
from flows.prefect_artifacts import publish_markdown, publish_table
from flows.prefect_crashes import check_attempt, guarded
from flows.prefect_evaluation import evaluate
from flows.prefect_flows import build_dataset
from flows.prefect_training import train
from flows.retrain import RetrainConfig, Retrained
from flows.retrain import retrain as carry_out
from idpose_core.config import BuildConfig
from idpose_core.download.credentials import refuse_credentials
from idpose_core.training.config import TrainingConfig

RetrainingForm = Annotated[
    RetrainConfig,
    Form(("build", "method", "evaluation_set", "gate"), bases=built_in("retraining")),
]
"""A round: most of it is as a built-in configuration has it."""


@dataclass(frozen=True)
class PrefectSteps:
    """Each part is a flow run of its own, below that of the round.

    Attributes:
        root: Where data lies.
    """

    root: str

    def build(self, config: BuildConfig) -> str:
        """See flows.retrain.Steps."""
        return str(build_dataset(config, self.root)["version"])

    def train(self, dataset: str, values: Mapping[str, Any]) -> str | None:
        """See flows.retrain.Steps."""
        found = train(dataset, TrainingConfig.model_validate(values), self.root)
        return None if found["model"] is None else str(found["model"])

    def evaluate(self, challenger: str, champion: str, name: str, config: RetrainConfig) -> str:
        """See flows.retrain.Steps."""
        found = evaluate(
            challenger, beside=[champion], evaluation_set=name, metrics=config.metrics,
            pose_data=config.pose_data, training_steps=config.training_steps, root=self.root,
        )  # fmt: skip
        return str(found["path"])


@flow(name="retrain")
def retrain(config: RetrainingForm, root: Root = None, attempt: int = 1) -> dict[str, Any]:
    """Build what is new, train a challenger, and let it serve if it is shown to be better.

    Args:
        config: The round. What is left empty is as the base has it, else as the help says.
        root: Where data lies; empty = $IDPOSE_ROOT of the worker, else ./idpose-data.
        attempt: Set by the automation that runs crashed flow runs again.
    """
    check_attempt(attempt)
    refuse_credentials({"config": config.model_dump(), "root": root})
    where = root or os.environ.get("IDPOSE_ROOT") or "idpose-data"
    with guarded():
        done = carry_out(where, config, PrefectSteps(where), get_run_logger().info)
    _publish_artifacts(done)
    return done.to_dict()


def _publish_artifacts(done: Retrained) -> None:
    name = done.dataset.partition("@")[0]
    if done.gains:
        publish_table(
            done.gains,
            key=f"{name}-gains",
            description=f"How much better {done.challenger} is than {done.champion}",
        )
    lines = [
        f"**{done.decision}**",
        f"dataset `{done.dataset}`" + ("" if done.drift is None else f", drift {done.drift:.3f}"),
        f"challenger `{done.challenger}`, champion before `{done.champion}`",
        *done.reasons,
    ]
    publish_markdown("\n\n".join(lines), key=f"{name}-round", description="The round")
