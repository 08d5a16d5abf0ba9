"""Flows that do nothing for a while: one that is guarded as ours are, one of another team."""

from __future__ import annotations

import atexit
import time

from prefect import flow

from flows.prefect_crashes import check_attempt, guarded


@flow(name="nap")
def nap(seconds: float = 1.0, leaving: float = 0.0, busy: bool = False, attempt: int = 1) -> None:
    """Sleep or compute, and take some time to leave.

    Args:
        seconds: Of the flow run.
        leaving: Seconds from its end to the end of its process.
        busy: Compute without a pause, as a compiler does.
        attempt: Set by the automation.
    """
    check_attempt(attempt)
    atexit.register(time.sleep, leaving)
    with guarded():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not busy:
                time.sleep(0.1)


@flow(name="bare-nap")
def bare_nap(seconds: float = 1.0) -> None:
    """Sleep.

    Args:
        seconds: Of the flow run.
    """
    time.sleep(seconds)
