"""What every step of a build needs, and how a row stage is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from flows.progress import Progress
from flows.run_log import RunLog
from flows.runners import Runner
from idpose_core.config import BuildConfig, ConfigError
from storage.errors import ToldError
from storage.objects import Store
from storage.reasons import Status
from storage.shards import (
    Item,
    Outcome,
    RowStage,
    collect_outcomes,
    compute_shard,
    plan_stage,
    prepare_stage,
    read_outcomes,
)


class BuildError(ToldError):
    """A build cannot give a dataset; the message names the cause and the remedy."""


class Record(Protocol):
    """A video or a clip."""

    def reject(self, status: Status, detail: str | None) -> None:
        """Keep the record, with the reason why nothing comes of it."""


RecordT = TypeVar("RecordT", bound=Record)


@dataclass
class Context:
    """One build: its configuration, its store, who runs tasks, who is told.

    Attributes:
        shards: Shards of all row stages so far: computed, reused, retried.
        damaged: Shards that were found damaged, and are made again.
        stages: Version of every stage that ran.
        seconds: Time that each row stage took.
        log: Has a line for every row that was computed.
        lineage: What else the version was made from, for its manifest.
        made_of: Paths of the shards and results that were used, for its lineage.
        needed: Stages that load networks or packages; they are tried before the first shard is
            computed, so that a wrong setup is told at once and not as rows that failed.
    """

    config: BuildConfig
    store: Store
    runner: Runner
    progress: Progress
    shards: dict[str, int] = field(
        default_factory=lambda: {"computed": 0, "reused": 0, "retried": 0}
    )
    damaged: list[str] = field(default_factory=list)
    stages: dict[str, int] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    made_of: set[str] = field(default_factory=set)
    needed: tuple[RowStage, ...] = ()
    log: RunLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = RunLog(self.store)

    def run(
        self,
        stage: RowStage,
        items: Sequence[Item],
        again: Callable[[Outcome], bool] = lambda outcome: outcome.retryable,
    ) -> list[Outcome]:
        """Compute what is missing of a stage.

        Args:
            stage: The stage.
            items: Its input.
            again: Which known results are computed anew.

        Returns:
            One outcome an item, in order.
        """
        began = time.monotonic()
        rows = self.config.run.shard_rows
        plan = plan_stage(self.store, stage, items, shard_rows=rows, again=again)
        self.progress.start(stage.name, len(plan.todo), plan.counts["reused"])
        if plan.todo:
            self._prepare()
        written = []
        calls = [(self.store, stage, chunk) for chunk in plan.todo]
        tasks = {task.row_key: task for chunk in plan.todo for task in chunk}
        for path in self.runner.map(compute_shard, calls, stage.name):
            written.append(path)
            self.log.rows(stage.name, tasks, read_outcomes(self.store, path))
            self.progress.advance(stage.name)
        outcomes = collect_outcomes(self.store, plan, written)
        self.made_of.update(outcome.shard for outcome in outcomes if outcome.shard)
        self.progress.finish(stage.name, [outcome.status for outcome in outcomes])
        for name, count in plan.counts.items():
            self.shards[name] += count
        self.damaged.extend(plan.damaged)
        self.stages[stage.name] = stage.version
        self.seconds[stage.name] = time.monotonic() - began
        self.weights.update(stage.weights())
        return outcomes

    def _prepare(self) -> None:
        stages, self.needed = self.needed, ()
        for stage in stages:
            try:
                list(self.runner.map(prepare_stage, [(stage,)], "prepare"))
            except (ImportError, OSError, RuntimeError, ValueError) as error:
                raise ConfigError(f"the {stage.name} stage cannot run: {error}") from error


def usable(
    records: Sequence[RecordT], outcomes: Sequence[Outcome]
) -> list[tuple[RecordT, Outcome]]:
    """The records whose stage gave a result; the others are rejected with its reason."""
    kept = []
    for record, outcome in zip(records, outcomes, strict=True):
        if outcome.status is Status.OK:
            kept.append((record, outcome))
        else:
            record.reject(outcome.status, outcome.detail)
    return kept
