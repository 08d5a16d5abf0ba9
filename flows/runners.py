"""Who carries out the tasks of a stage: processes of this machine, or the workers of Dask.

A stage never sees which; results are the same, since every task runs on one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import tomllib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from idpose_core.config import ConfigError, RunConfig
from idpose_core.processes import end_with_parent
from storage.errors import ToldError


def prepare_prefect() -> None:
    """Settings of a temporary Prefect server, for the moment before Prefect is imported.

    It sends nothing to its makers, and its own limit of 20 s to start is too short for a busy
    machine. What the user has set stays.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


def configured_server() -> str | None:
    """The Prefect server of $PREFECT_API_URL or of Prefect's active profile, without Prefect."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    file = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        profile = found["profiles"][os.environ.get("PREFECT_PROFILE") or found["active"]]
        return profile.get("PREFECT_API_URL") or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no profile, or none that can be read: Prefect will say so


class WorkerDiedError(ToldError):
    """A worker process died, not by an error of the stage; the message names the remedy."""


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
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C, or asked to end
            for process in multiprocessing.active_children():
                process.terminate()  # else the program ends only when their shards are done
        if executor is not None:
            # Waited for: Python's own wait at exit writes to a pipe that the executor is closing.
            executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run one call on one thread of a worker. An executor that broke is made anew.

        Raises:
            WorkerDiedError: The runner is closed.
        """
        with self._lock:
            if self._executor is not None:
                try:
                    return _submit(self._executor, function, *arguments)
                except BrokenExecutor:
                    self._executor.shutdown(wait=False)
            if self._closed:
                raise WorkerDiedError("the runner is closed, and its workers have ended")
            start = {"processes": start_processes, "dask": DaskExecutor}[self._kind]
            self._executor = start(self.workers)
            return _submit(self._executor, function, *arguments)

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
                yield result_of(future)


def result_of(future: Future[Any]) -> Any:
    """The result of a call.

    Raises:
        WorkerDiedError: The worker that carried it out died.
    """
    try:
        return future.result()
    except Exception as error:
        if isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker":  # Dask's
            raise WorkerDiedError(
                "a worker process died (out of memory?): run the same command again, "
                "with fewer run.workers if it happens again"
            ) from None
        raise


def start_processes(workers: int) -> Executor:
    """Worker processes of this machine, which end when their parent does."""
    # Spawned, not forked: a fork of a process that holds threads of torch can hang.
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    end_with_parent()


def _submit(executor: Executor, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    with interrupts_held():
        return executor.submit(_on_one_thread, function, *arguments)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back here, and for good in the processes that are started here.

    The mask alone is not enough: another thread takes the signal then, and Python hands it to the
    main thread, which would leave a worker that is half started.
    """
    held: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:
        handler = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


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
        self._calls.shutdown(wait=wait and not cancel_futures)
        self._client.close()


def _on_one_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call on one thread: float sums must not depend on the number of cores."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return function(*arguments)
