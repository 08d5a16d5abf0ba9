"""A command as a child process of a flow: its lines in the flow's log, its progress, its end.

A thread cannot be stopped by a timeout or a cancellation; a process can.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import get_run_logger

from flows.messages import visible
from flows.prefect_artifacts import ProgressBar
from flows.prefect_crashes import guarded
from idpose_core.processes import PARENT
from storage.errors import ToldError

_STEP = re.compile(r"(?:.*: )?step +(\d+) of (\d+)[ ,]")
_GRACE_SECONDS = 120.0  # a step under way and a checkpoint of a large model


class ChildFailedError(ToldError):
    """The child process ended with an error; the message is its own."""


def carry_out(command: list[str], key: str, description: str) -> dict[str, Any]:
    """Run a command to its end. Returns its last line, one JSON object.

    Args:
        command: With --json.
        key: Of the progress artifact.
        description: Of the progress artifact.

    Raises:
        ChildFailedError: It failed.
    """
    with guarded(), _child(command) as process:
        return _follow(process, key, description)


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The process; whatever ends this one, it is asked to end too, and given time for it."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, PARENT: str(os.getpid())},
        start_new_session=True,  # Prefect kills the group of a cancelled flow run after 30 s
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _follow(process: subprocess.Popen[str], key: str, description: str) -> dict[str, Any]:
    """Tell what the process tells, until it ends. Returns its JSON object.

    Raises:
        ChildFailedError: It failed.
    """
    log = get_run_logger()
    bar = ProgressBar(key, description)
    last = answer = ""
    assert process.stdout is not None
    for line in process.stdout:
        last = line.rstrip("\n")
        if not last.startswith("{"):
            log.info("%s", visible(last))
        if match := _STEP.match(last):
            bar.show(100.0 * int(match[1]) / int(match[2]))
        if last.startswith("{"):
            answer = last
    code = process.wait()
    if code < 0:
        raise ChildFailedError(
            f"the process was ended by {signal.Signals(-code).name} (out of memory?), "
            f"its last line was: {last}"
        )
    if code or not answer:
        raise ChildFailedError(last.removeprefix("idpose: "))
    found: dict[str, Any] = json.loads(answer)
    return found
