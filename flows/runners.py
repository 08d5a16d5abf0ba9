"""Who carries out the tasks of a stage: this process, several processes, or Prefect.

A stage never sees which; results are the same, since every task runs on one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from types import TracebackType
from typing import Any, Protocol, Self


class Runner(Protocol):
    """Carries out calls; the order of results is free."""

    name: str

    def map(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], label: str
    ) -> Iterator[Any]:
        """Yield the result of each call as it is done. The first exception ends it."""


class LocalRunner:
    """Runs calls in worker processes, a bounded number at a time.

    Args:
        workers: Number of processes; 0 = one for each core that this process may use.
    """

    name = "local"

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            self._pool = None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run one call in a worker process."""
        if self._pool is None:
            # Spawned, not forked: a fork of a process that holds threads of torch can hang.
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
            )
        return self._pool.submit(function, *arguments)

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


def _start_worker() -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    use_one_thread()


def _exit_with_parent() -> None:
    # A worker whose parent was killed would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def use_one_thread() -> None:
    """Compute on one thread in this process: float sums must not depend on the number of cores."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
