"""Who carries out the tasks of a stage: processes of this machine, or the workers of Dask.

A stage never sees which; results are the same, since every task runs on one thread.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from types import TracebackType
from typing import Any, Protocol, Self

from idpose_core.config import ConfigError, RunConfig
from idpose_core.processes import end_with_parent


class Runner(Protocol):
    """Carries out calls; the order of results is free."""

    name: str

    def map(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], label: str
    ) -> Iterator[Any]:
        """Yield the result of each call as it is done. The first exception ends it."""


class LocalRunner:
    """Runs calls on an executor, a bounded number at a time.

    Args:
        run: How many workers, and of which kind.
    """

    name = "local"

    def __init__(self, run: RunConfig) -> None:
        self.workers = run.workers or len(os.sched_getaffinity(0))
        self._kind = run.executor
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=kind is None, cancel_futures=True)
            self._executor = None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run one call on one thread of a worker."""
        if self._executor is None:
            start = {"processes": start_processes, "dask": DaskExecutor}[self._kind]
            self._executor = start(self.workers)
        return self._executor.submit(_on_one_thread, function, *arguments)

    def map(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], label: str
    ) -> Iterator[Any]:
        """Yield results as they are done; at most four calls a worker are in flight."""
        waiting = deque(calls)
        running: set[Future[Any]] = set()
        while waiting or running:
            while waiting and len(running) < 4 * self.workers:
                running.add(self.submit(function, *waiting.popleft()))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def start_processes(workers: int) -> Executor:
    """Worker processes of this machine, which end when their parent does."""
    # Spawned, not forked: a fork of a process that holds threads of torch can hang.
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=end_with_parent,
    )


class DaskExecutor(Executor):
    """The workers of the Dask scheduler that Dask's own configuration names, else a local cluster.

    The scheduler is named by $DASK_SCHEDULER_ADDRESS; its workers must see the same ROOT and
    source under the same paths.

    Args:
        workers: Processes of the local cluster; with a scheduler its own workers count.

    Raises:
        ConfigError: Dask is not installed.
    """

    def __init__(self, workers: int) -> None:
        try:
            import dask
            from distributed import Client
        except ImportError as error:
            raise ConfigError("run.executor=dask needs Dask: pip install 'idpose[dask]'") from error
        address = dask.config.get("scheduler-address", None)
        cluster = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        self._client = Client(address) if address else Client(**cluster)
        # Not pure: Dask would answer an equal call with the result of an earlier one.
        self._calls = self._client.get_executor(pure=False)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """See Executor."""
        future: Future[Any] = self._calls.submit(function, *arguments, **named)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor."""
        self._calls.shutdown(wait=wait)
        self._client.close()


def _on_one_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call on one thread: float sums must not depend on the number of cores."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return function(*arguments)
