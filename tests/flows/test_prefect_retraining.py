"""Rounds of retraining by a real server and worker, on SQLite and on PostgreSQL, with crashes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.build_dataset import build_dataset
from flows.configs import find_config
from flows.progress import TerminalProgress
from idpose_core.training.published import champion, rounds
from storage.objects import Store
from tests.flows.builds import InThisProcess
from tests.flows.prefect_server import deploy, get, post, serving, wait_for
from tests.flows.quarter import (
    BETTER,
    GOOD,
    MODEL,
    Quarter,
    check_quarter,
    freeze_own_triplets,
    steps_of,
    weeks,
)

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
_ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture
def quarter(tmp_path: Path) -> Quarter:
    """A source, and a reviewed set of a first build."""
    made = Quarter(tmp_path)
    round_ = made.config(GOOD)
    config = find_config(round_["build"], round_["build_settings"])
    built = build_dataset(config, made.root, InThisProcess(), TerminalProgress())
    freeze_own_triplets(made.root, f"box-cars@{built.committed.version}")
    return made


def start(env: dict[str, str], quarter: Quarter, config: dict[str, Any]) -> str:
    deployment = get(env, "deployments/name/retrain/weekly")
    parameters = {"config": config, "root": quarter.root}
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    return str(post(env, f"deployments/{deployment['id']}/create_flow_run", body)["id"])


def state(env: dict[str, str], flow_run: str) -> str:
    return str((get(env, f"flow_runs/{flow_run}") or {}).get("state_type"))


def carry_out(env: dict[str, str], quarter: Quarter, config: dict[str, Any]) -> None:
    flow_run = start(env, quarter, config)
    wait_for(lambda: state(env, flow_run) in _ENDS, 400)
    assert state(env, flow_run) == "COMPLETED", get(env, f"flow_runs/{flow_run}")["state"]


@pytest.mark.slow
def test_a_round_leaves_its_verdict_and_the_schedule_asks_for_the_next(quarter: Quarter) -> None:
    with serving(quarter.folder) as (env, _):
        deploy(env)
        carry_out(env, quarter, quarter.config(GOOD))
        carry_out(env, quarter, quarter.config(BETTER))
        log = rounds(Store(quarter.root), MODEL)
        assert [entry["decision"] for entry in log] == ["first", "promoted"]
        assert steps_of(quarter, champion(Store(quarter.root), MODEL) or "") == BETTER
        shown = post(env, "artifacts/latest/filter", {"limit": 100})
        texts = {found["key"]: str(found["data"]) for found in shown}
        assert "promoted" in texts["box-cars-round"] and "pixel-l1" in texts["box-cars-gains"]

        weekly = get(env, "deployments/name/retrain/weekly")
        schedule = weekly["schedules"][0]
        assert schedule["active"] and schedule["schedule"]["timezone"] == "Etc/UTC"
        asked = {"deployments": {"id": {"any_": [weekly["id"]]}}}
        wait_for(lambda: scheduled(env, asked), 60)
        times = [
            datetime.fromisoformat(run["expected_start_time"]) for run in scheduled(env, asked)
        ]
        now = datetime.now(UTC)
        assert now < min(times) <= now + timedelta(days=7)
        assert {(at.weekday(), at.hour) for at in times} == {(6, 3)}


def scheduled(env: dict[str, str], asked: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = post(env, "flow_runs/filter", asked)
    return [run for run in found if run["auto_scheduled"] and run["state_type"] == "SCHEDULED"]


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of our own. Yields the address of its database for Prefect."""
    tools, data = POSTGRES[-1].parent, folder / "postgres"
    data.mkdir()
    as_user: list[str] = []
    if os.getuid() == 0:  # it refuses to run as root
        for above in (data, *data.parents[: len(data.parents) - 2]):
            above.chmod(0o755)
        shutil.chown(data, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = [tools / "initdb", "-D", data, "-U", "prefect", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*as_user, *map(str, made)], check=True, capture_output=True, cwd="/")
    options = f"-p {port} -k {data} -h 127.0.0.1"
    control = [*as_user, str(tools / "pg_ctl"), "-D", str(data), "-w"]
    with (folder / "postgres.log").open("wb") as log:
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=log, cwd="/")
    try:
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd="/"
        )


def processes_of(quarter: Quarter, word: str) -> list[psutil.Process]:
    """Processes of this world whose command line holds the word."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if word in line and quarter.root in line:
            found.append(process)
    return found


def engine(env: dict[str, str]) -> psutil.Process | None:
    """The process in which the flow runs."""
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if "prefect.flow_engine" in line or "prefect.engine" in line:
            try:
                if process.environ().get("PREFECT_HOME") == env["PREFECT_HOME"]:
                    return process
            except psutil.Error:
                continue
    return None


def building(env: dict[str, str], quarter: Quarter) -> bool:
    found = engine(env)
    return found is not None and any(
        "multiprocessing" in " ".join(child.cmdline()) for child in found.children()
    )


def child_of(word: str) -> Callable[[dict[str, str], Quarter], bool]:
    def lives(env: dict[str, str], quarter: Quarter) -> bool:
        return bool(processes_of(quarter, f"flows {word}"))

    return lives


_CRASHES = {
    "one arrives, with a warm start": ("the build", building),
    "a better one": ("the training", child_of("train")),
    "it is taken out": ("the evaluation", child_of("evaluate")),
}


@pytest.mark.faults
def test_what_a_dead_round_leaves_is_ended_by_its_successor(quarter: Quarter) -> None:
    with serving(quarter.folder) as (env, _):
        deploy(env)
        crash(env, quarter, quarter.config(BETTER), child_of("train"))
        asked = {"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}}
        names = [run["parent_task_run_id"] is None for run in post(env, "flow_runs/filter", asked)]
        assert sorted(names) == [False, True]  # the round, and the training below it
    assert [entry["decision"] for entry in rounds(Store(quarter.root), MODEL)] == ["first"]


@pytest.mark.faults
@pytest.mark.skipif(not POSTGRES, reason="needs PostgreSQL: apt-get install postgresql")
def test_a_quarter_on_postgresql_with_a_crash_in_each_stage(
    quarter: Quarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = []
    with postgres(quarter.folder) as address:
        monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", address)
        with serving(quarter.folder) as (env, _):
            deploy(env)
            for week, config in weeks(quarter):
                if week in _CRASHES:
                    stage, under_way = _CRASHES[week]
                    crash(env, quarter, config, under_way)
                    crashed.append(stage)
                else:
                    carry_out(env, quarter, config)
    assert sorted(crashed) == ["the build", "the evaluation", "the training"]
    serving_now = champion(Store(quarter.root), MODEL)
    assert serving_now is not None and steps_of(quarter, serving_now) >= BETTER
    check_quarter(quarter)


def crash(
    env: dict[str, str],
    quarter: Quarter,
    config: dict[str, Any],
    under_way: Callable[[dict[str, str], Quarter], bool],
) -> None:
    """Kill the round in a stage; the run that takes its place ends it."""
    before = len(rounds(Store(quarter.root), MODEL))
    first = start(env, quarter, config)
    wait_for(lambda: under_way(env, quarter), 200)
    victim = engine(env)
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(lambda: state(env, first) == "CRASHED", 240)
    wait_for(lambda: len(rounds(Store(quarter.root), MODEL)) > before, 400)
    wait_for(lambda: all_ended(env), 200)


def all_ended(env: dict[str, str]) -> bool:
    asked = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}}
    return post(env, "flow_runs/filter", asked) == []
