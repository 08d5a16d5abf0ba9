"""A real Prefect server with a process worker, and how to talk to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def serving(folder: Path) -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """A server and a worker: the environment of a client, and the worker."""
    with server_alone(folder) as (env, processes):
        processes.append(start_worker(env))
        yield env, processes[-1]


@contextmanager
def server_alone(folder: Path) -> Iterator[tuple[dict[str, str], list[subprocess.Popen[bytes]]]]:
    """A server and a pool: the environment of a client, and the processes that end with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",  # tiny networks: more threads wait for each other
    }
    processes = [start_server(env)]
    try:
        done = run(env, "work-pool", "create", "idpose", "--type", "process")
        assert done.returncode == 0, done.stderr
        yield env, processes
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


def start_server(env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A server that answers; on the database of its home it goes on where the last one was."""
    port = env["PREFECT_API_URL"].rpartition(":")[2].partition("/")[0]
    process = prefect(env, "server", "start", "--host", "127.0.0.1", "--port", port)
    try:
        wait_for(lambda: get(env, "health") is True, 400)
    except AssertionError:
        process.terminate()
        raise
    return process


def start_worker(env: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    return prefect(env, "worker", "start", "--pool", "idpose", *options)


def prefect(env: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", *words]
    return subprocess.Popen(
        command, env=env, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def run(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect", *words]
    return subprocess.run(
        command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def deploy(env: dict[str, str]) -> None:
    """Every deployment of prefect.yaml, and the automations."""
    done = subprocess.run(
        [sys.executable, "-m", "flows", "deploy"],
        env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = [f"deployed {name}" for name in ("train/gpu", "retrain/weekly")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in names), done.stdout


def get(env: dict[str, str], path: str) -> Any:
    try:
        with urllib.request.urlopen(f"{env['PREFECT_API_URL']}/{path}", timeout=10) as answer:
            return json.load(answer)
    except OSError:
        return None


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(1)


def post(env: dict[str, str], path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{env['PREFECT_API_URL']}/{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    for patience in (5, 20, 60):
        try:
            return _answer(request)
        except urllib.error.HTTPError as error:
            if error.code != 503:  # its database is busy
                raise
            time.sleep(patience)
    return _answer(request)


def _answer(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)
