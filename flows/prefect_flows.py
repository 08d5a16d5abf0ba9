"""The Prefect flows, their artifacts, and their deployments (prefect.yaml)."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from queue import Queue
from typing import Any, cast

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.build_dataset import BuildResult
from flows.build_dataset import build_dataset as build
from flows.forms import BuildForm, Root
from flows.messages import explain
from flows.prefect_artifacts import ProgressBar, publish_image, publish_markdown, publish_table
from flows.prefect_automations import register_automations
from flows.prefect_crashes import check_attempt, guarded
from flows.runners import LocalRunner, interrupts_held, result_of
from flows.steps.context import BuildError
from idpose_core.config import BuildConfig
from idpose_core.download.credentials import refuse_credentials
from idpose_core.reports.gallery import triplet_sheet
from idpose_core.reports.pictures import Picture
from storage.datasets import read_table
from storage.objects import Store
from storage.reasons import Status
from storage.shards import Task


class PrefectRunner(LocalRunner):
    """Shows every shard as a Prefect task run; the work itself runs on the executor.

    Prefect keeps neither results nor a cache: shard names decide what there is to do.
    """

    name = "prefect"

    def map(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], label: str
    ) -> Iterator[Any]:
        """Yield results as they are done; at most four task runs a worker are in flight."""

        @task(
            name=f"{label}-shard",
            task_run_name=f"{label}-{{index:05d}} {{about}}",
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=1,
        )
        def compute(index: int, about: str) -> Any:
            return result_of(self.submit(function, *calls[index]))

        done: Queue[PrefectFuture[Any]] = Queue()
        submitted = 0
        for finished in range(len(calls)):
            while submitted < min(len(calls), finished + 4 * self.workers):
                about = _about(calls[submitted][-1])
                compute.submit(submitted, about).add_done_callback(done.put)
                submitted += 1
            yield done.get().result()


def _about(work: Any) -> str:
    """Whose rows a shard has, or what else is worked on, in a few words."""
    match work:
        case (Task() as first, *others):
            about = first.item.about
            name = about.get("clip_id") or about.get("video_id") or first.row_key
            return name[:40] + (f" and {len(others)} more" if others else "")
        case str():
            return work[:40]
        case _:
            return str(getattr(work, "name", ""))


class PrefectProgress:
    """Progress as log lines and as progress artifacts of the flow run."""

    def __init__(self) -> None:
        self._log = get_run_logger()
        self._bar: ProgressBar | None = None
        self._done = 0
        self._shards = 0

    def start(self, stage: str, shards: int, reused: int) -> None:
        """See flows.progress.Progress."""
        self._done, self._shards = 0, shards
        self._log.info("%s: %d shards to compute, %d reused", stage, shards, reused)
        self._bar = ProgressBar(f"stage-{stage}") if shards else None
        if self._bar is not None:
            self._bar.show(0.0)

    def advance(self, stage: str) -> None:
        """See flows.progress.Progress."""
        self._done += 1
        if self._bar is not None:
            self._bar.show(100.0 * self._done / self._shards)

    def finish(self, stage: str, statuses: Iterable[Status]) -> None:
        """See flows.progress.Progress."""
        counts = Counter(status.value for status in statuses)
        what = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        self._log.info("%s: %s", stage, what or "done")

    def say(self, text: str) -> None:
        """See flows.progress.Progress."""
        self._log.info("%s", text)


# The threads only wait for worker processes. The cast: TaskRunner is invariant in its future.
_THREADS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=16))


@flow(name="build-dataset", task_runner=_THREADS)
def build_dataset(config: BuildForm, root: Root = None, attempt: int = 1) -> dict[str, Any]:
    """Build a dataset of ID/pose/target triplets.

    Args:
        config: What to build. What is left empty is as the base has it, else as the help says.
        root: Where data lives; empty = $IDPOSE_ROOT of the worker, else ./idpose-data.
        attempt: Set by the automation that runs crashed flow runs again.
    """
    check_attempt(attempt)
    refuse_credentials({"config": config.model_dump(), "root": root})
    where = root or os.environ.get("IDPOSE_ROOT") or "idpose-data"
    with guarded(), PrefectRunner(config.run) as runner:
        result = build(config, where, runner, PrefectProgress())
    _publish_artifacts(Store(where), config.name, result)
    return result.to_dict()


def build_from_terminal(config: BuildConfig, root: str) -> dict[str, Any]:
    """Run the flow in this process; what goes wrong is told once, by the caller.

    Raises:
        BuildError: There is no server.
        ConfigError: The configuration holds a credential.
    """
    refuse_credentials({**config.model_dump(), "root": root})
    reach_server()
    tell_errors_once()
    found: dict[str, Any] = build_dataset(config, root)
    return found


def tell_errors_once() -> None:
    """Prefect logs a traceback of every error: not of those that their message explains."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_needs_a_traceback)


def _needs_a_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return error is None or explain(error) is None


def reach_server() -> None:
    """Ask the configured server whether it is there; where none is configured, start one.

    Raises:
        BuildError: It is not.
    """
    url = PREFECT_API_URL.value()
    if url:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client({"timeout": 5.0}, sync_client=True) as client,
        ):
            error = client.api_healthcheck()
        if error is not None:
            raise BuildError(
                f"no Prefect server answers at {url} ({error}): correct PREFECT_API_URL, start a "
                f"server with `prefect server start`, or do without: --runner local"
            )
        return
    failed: list[Exception] = []

    def start() -> None:
        try:
            with interrupts_held():  # Ctrl-C must not end the server before its client
                get_client(sync_client=True)
        except Exception as error:
            failed.append(error)

    starting = threading.Thread(target=start, daemon=True)
    starting.start()
    starting.join()
    if failed:
        raise BuildError(f"Prefect's own server does not start: {failed[0]}")


def _publish_artifacts(store: Store, name: str, result: BuildResult) -> None:
    statistics = result.statistics
    publish_table(
        [
            {"table": table, "status": status, "rows": count}
            for table, statuses in statistics["attrition"].items()
            for status, count in statuses.items()
        ],
        key=f"{name}-attrition",
        description=f"What became of the input of {name}@{result.committed.version}",
    )
    publish_table(
        [
            {"split": split, "cluster": cluster, "crops": size}
            for split, sizes in statistics["cluster_sizes"].items()
            for cluster, size in enumerate(sizes)
        ],
        key=f"{name}-clusters",
        description="Crops in each pose cluster",
    )
    publish_table(
        [
            {
                "measure": measure,
                **{split: b[measure] for split, b in statistics["balance"].items()},
            }
            for measure in next(iter(statistics["balance"].values()))
        ],
        key=f"{name}-balance",
        description="Balance of the pose pairs",
    )
    publish_markdown(
        f"`{name}@{result.committed.version}` in `{result.committed.path}`: "
        f"{statistics['counts']['triplets']} triplets; shards {result.shards}",
        key=f"{name}-dataset",
        description="The committed version",
    )
    publish_image(
        lambda: _triplet_sheet(store, result),
        key=f"{name}-triplets",
        description=f"ID, pose and target of triplets of {name}@{result.committed.version}",
    )


def _triplet_sheet(store: Store, result: BuildResult) -> Picture:
    tables = {
        name: read_table(store, result.committed.manifest, name) for name in ("crops", "triplets")
    }
    return triplet_sheet(store, tables, rows=4, columns=2)


def deploy_all(file: Path = Path("prefect.yaml")) -> list[str]:
    """Register every deployment of prefect.yaml with the server of $PREFECT_API_URL.

    And the automations that run crashed flow runs again.

    Raises:
        BuildError: There is no such file or no server, or `prefect deploy` failed.
        ConfigError: A parameter holds a credential.
    """
    import subprocess
    import sys

    import yaml

    if not file.is_file():
        raise BuildError(
            f"no {file} in {Path.cwd()}: a deployment runs the code of a checkout of the "
            f"repository; run `idpose deploy` in its folder"
        )
    described = yaml.safe_load(file.read_text(encoding="utf-8"))
    refuse_credentials(described)
    reach_server()
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    command += ["--prefect-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"prefect deploy failed: {done.stdout}{done.stderr}")
    register_automations()
    return [
        f"{entry['entrypoint'].split(':')[-1].replace('_', '-')}/{entry['name']}"
        for entry in described["deployments"]
    ]
