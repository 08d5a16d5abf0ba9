"""Watching the decoding processes that tests start."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.reasons import Status, Unusable

REPOSITORY = Path(__file__).parents[2]


def status(call: Callable[[], object]) -> Status:
    with pytest.raises(Unusable) as failure:
        call()
    return failure.value.status


def decoding_processes(parent: int | None = None) -> list[int]:
    """Ids of the decoding processes of a process, this one by default."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        ours = int(fields[1]) == (parent or os.getpid()) and fields[0] != "Z"
        if ours and b"idpose_core.video.decoding_process" in command:
            found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
