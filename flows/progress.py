"""Progress that a person can follow: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from flows.messages import terminal, visible
from storage.reasons import Status


class Progress(Protocol):
    """What a build reports while it runs."""

    def start(self, stage: str, shards: int, reused: int) -> None:
        """A stage begins; so many shards are to be computed, so many exist."""

    def advance(self, stage: str) -> None:
        """One shard is done."""

    def finish(self, stage: str, statuses: Iterable[Status]) -> None:
        """A stage has ended, with these outcomes."""

    def say(self, text: str) -> None:
        """A remark."""


class TerminalProgress:
    """One line a stage on standard error, with a bar while it runs on a terminal."""

    def __init__(self) -> None:
        self._console = terminal(stderr=True)
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._began = 0.0
        self._reused = 0
        self._shards = 0

    def start(self, stage: str, shards: int, reused: int) -> None:
        """See Progress."""
        self._began, self._shards, self._reused = time.monotonic(), shards, reused
        if shards and sys.stderr.isatty():
            self._bars = Bars(
                TextColumn(f"{stage:>12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("shards"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bars.add_task(stage, total=shards)
            self._bars.start()

    def advance(self, stage: str) -> None:
        """See Progress."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task)

    def finish(self, stage: str, statuses: Iterable[Status]) -> None:
        """See Progress."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        seconds = time.monotonic() - self._began
        counts = Counter(status.value for status in statuses)
        what = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        shards = f"{self._shards} shards computed, {self._reused} reused"
        self._console.print(f"{stage:>12}  {what or 'done'}  ({shards}, {seconds:.1f} s)")

    def say(self, text: str) -> None:
        """See Progress."""
        self._console.print(f"{'':>12}  {visible(text)}")
