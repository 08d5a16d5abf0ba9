"""The log of a build: one JSON object a line, for programs and for people with grep and jq.

``ROOT/logs/<run>.jsonl`` gets a line for every row that a stage computed, once its shard is there,
with the ids of run, video and clip. It remembers nothing that a later build would need.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from storage.objects import Store
from storage.shards import Outcome, Task

_TEXT = 1000  # characters kept of a reason


class RunLog:
    """Writes lines; the file is made with the first of them. A remote root has no log.

    Args:
        store: The root of the build.
    """

    def __init__(self, store: Store) -> None:
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._path = store.local_path(f"logs/{self.run}.jsonl")

    def write(self, event: str, **values: Any) -> None:
        """Add a line.

        Raises:
            OSError: It could not be written.
        """
        if self._path is None:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "run": self.run, "event": event, **values}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # One write, so that a line is whole or not there.
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def rows(self, stage: str, tasks: Mapping[str, Task], outcomes: Iterable[Outcome]) -> None:
        """Add a line for each row of a shard that was just computed."""
        for outcome in outcomes:
            about = tasks[outcome.row_key].item.about
            ids = {name: value for name, value in about.items() if value}
            self.write(
                "row",
                stage=stage,
                **ids,
                status=outcome.status.value,
                reason=outcome.detail and outcome.detail[-_TEXT:],
                attempt=outcome.attempt,
                retryable=outcome.retryable,
                shard=outcome.shard,
            )
