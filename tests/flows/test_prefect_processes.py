"""The processes of a flow run, and its page, without a server."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from flows import prefect_artifacts
from flows.prefect_artifacts import ProgressBar, publish_table
from tests.flows.prefect_server import REPOSITORY, wait_for

_COMMAND = "import time, flows.cli as cli; cli.app = lambda: time.sleep(120); cli.main()"
_FLOW_RUN = f"""
import os, subprocess, sys, time
env = {{**os.environ, "IDPOSE_PARENT_PID": str(os.getpid())}}
child = subprocess.Popen([sys.executable, "-c", {_COMMAND!r}], env=env, start_new_session=True)
print(child.pid, flush=True)
time.sleep(120)
"""


def test_every_command_ends_with_the_flow_run_that_started_it() -> None:
    words = [sys.executable, "-c", _FLOW_RUN]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    wait_for(lambda: not child.is_running() or child.status() == "zombie", 60)


def test_a_guard_that_is_told_ends_without_a_server() -> None:
    words = [sys.executable, "-m", "flows.prefect_guard", "00000000-0000-0000-0000-000000000000"]
    env = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    guard = subprocess.Popen(words, stdin=subprocess.PIPE, env=env, cwd=REPOSITORY)
    guard.communicate(b"told", timeout=30)
    assert guard.returncode == 0


def test_progress_never_waits_for_the_server_and_shows_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[float] = []
    goes_on = threading.Event()

    def create(percent: float, **named: object) -> str:
        goes_on.wait(30)
        shown.append(percent)
        return "id"

    monkeypatch.setattr(prefect_artifacts, "create_progress_artifact", create)
    monkeypatch.setattr(
        prefect_artifacts, "update_progress_artifact", lambda key, percent: shown.append(percent)
    )
    bar = ProgressBar("bar")
    began = time.monotonic()
    for percent in range(1000):
        bar.show(percent)
    assert time.monotonic() - began < 5
    goes_on.set()
    prefect_artifacts._TELLER.submit(lambda: None).result()
    assert shown[-1] == 999
    assert len(shown) <= 3


def test_what_the_server_does_not_take_costs_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise OSError("the server is away")

    monkeypatch.setattr(prefect_artifacts, "create_table_artifact", refuse)
    monkeypatch.setattr(prefect_artifacts, "create_progress_artifact", refuse)
    monkeypatch.setattr(prefect_artifacts, "get_run_logger", lambda: logging.getLogger("page"))
    with caplog.at_level(logging.WARNING, logger="page"):
        publish_table([{"a": 1}], key="table", description="a table")
        bar = ProgressBar("bar")
        for percent in range(3):
            bar.show(percent)
            prefect_artifacts._TELLER.submit(lambda: None).result()  # it has been told
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "the page lacks table",
        "the page lacks bar",
    ]
