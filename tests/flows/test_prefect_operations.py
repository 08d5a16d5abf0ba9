"""Schedules, dead and living flow runs, and a server that is away: on real servers and workers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage.objects import Store
from tests.flows.prefect_server import (
    REPOSITORY,
    deploy,
    get,
    post,
    run,
    server_alone,
    start_server,
    start_worker,
    wait_for,
)
from tests.flows.test_prefect_training import start, state, steps_saved, trainings
from tests.training.worlds import commit_world

_REGISTER = "from flows.prefect_automations import register_automations; register_automations()"
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def nap(env: dict[str, str], deployment: str, **parameters: Any) -> str:
    """Ask for a run of a deployment. Returns its id."""
    found = get(env, f"deployments/name/{deployment}")
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    return str(post(env, f"deployments/{found['id']}/create_flow_run", body)["id"])


def kill_tree(pid: int, *, keep: str | None = None) -> None:
    """SIGKILL a process and those it started, but for those with a word in their command."""
    root = psutil.Process(pid)
    tree = [root, *root.children(recursive=True)]
    for process in tree:
        if keep is None or keep not in " ".join(process.cmdline()):
            process.kill()


def process_of(flow_run: str) -> psutil.Process:
    """The process of a flow run; not its guard, nor its child."""
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if "flow_engine" in words or "prefect.engine" in words or "runtime_bootstrap" in words:
            try:
                if process.environ().get("PREFECT__FLOW_RUN_ID") == flow_run:
                    return process
            except psutil.Error:
                continue
    raise AssertionError(f"no process of {flow_run}")


def run_again(env: dict[str, str]) -> list[dict[str, Any]]:
    """The runs of which another one crashed."""
    found: list[dict[str, Any]] = post(env, "flow_runs/filter", {})
    return [one for one in found if one["parameters"].get("attempt", 1) > 1]


def names(env: dict[str, str], event: str) -> set[str]:
    """The resources of all events of a name."""
    body = {"filter": {"event": {"name": [event]}}, "limit": 50}
    found = post(env, "events/filter", body)["events"]
    return {one["resource"]["prefect.resource.id"] for one in found}


@pytest.fixture(scope="module")
def naps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A client of a server with our automations, two small deployments, and a worker."""
    with server_alone(tmp_path_factory.mktemp("naps")) as (env, processes):
        done = run(env, "--no-prompt", "deploy", "--all", "--prefect-file", "tests/flows/naps.yaml")
        assert done.returncode == 0, done.stdout + done.stderr
        subprocess.run([sys.executable, "-c", _REGISTER], env=env, cwd=REPOSITORY, check=True)
        processes.append(start_worker(env, "--limit", "6"))
        yield env


@pytest.mark.slow
def test_a_schedule_fires(naps: dict[str, str]) -> None:
    deployment = get(naps, "deployments/name/bare-nap/theirs")["id"]
    every_minute = [{"active": True, "schedule": {"interval": 60}}]
    post(naps, f"deployments/{deployment}/schedules", every_minute)

    def completed() -> list[dict[str, Any]]:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        return [run for run in post(naps, "flow_runs/filter", wanted) if run["auto_scheduled"]]

    try:
        wait_for(completed, 300)
    finally:
        post(naps, f"deployments/{deployment}/pause_deployment", {})
    assert completed()[0]["created_by"]["type"] == "SCHEDULE"


@pytest.mark.faults
def test_a_run_that_is_killed_is_run_again_with_every_parameter_three_times_in_all(
    naps: dict[str, str],
) -> None:
    given = {"seconds": 600.0, "leaving": 0.5, "busy": False}
    flow_run = nap(naps, "nap/ours", **given)
    for attempt in (1, 2, 3):
        wait_for(lambda: guards(flow_run), 300)  # noqa: B023
        process_of(flow_run).kill()
        wait_for(lambda: state(naps, flow_run) == "CRASHED", 60)  # noqa: B023
        flow_run = successor(naps, attempt + 1, leaving=0.5)
        found = get(naps, f"flow_runs/{flow_run}")["parameters"]
        assert found == given | {"attempt": attempt + 1}
    wait_for(lambda: state(naps, flow_run) == "FAILED", 300)
    assert "crashed 3 times" in get(naps, f"flow_runs/{flow_run}")["state"]["message"]


def guards(flow_run: str) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[-2:] == ["flows.prefect_guard", flow_run]
    ]


def successor(env: dict[str, str], attempt: int, **parameters: Any) -> str:
    """The one run of that attempt, with these parameters among its own."""
    wanted = parameters | {"attempt": attempt}
    found: list[dict[str, Any]] = []

    def there() -> bool:
        runs = post(env, "flow_runs/filter", {})
        found[:] = [run for run in runs if run["parameters"].items() >= wanted.items()]
        return bool(found)

    wait_for(there, 60)
    assert len(found) == 1
    return str(found[0]["id"])


@pytest.mark.faults
def test_a_training_goes_on_after_an_orderly_stop_of_its_worker(tmp_path: Path) -> None:
    root = tmp_path / "root"
    commit_world(Store(root))
    with server_alone(tmp_path) as (env, processes):
        deploy(env)
        worker = start_worker(env)
        flow_run = start(env, root, training__steps=400, training__checkpoint_every=20)
        wait_for(lambda: steps_saved(root) >= 20, 300)
        worker.terminate()
        stopped = time.monotonic()
        worker.wait(60)
        wait_for(lambda: state(env, flow_run) == "SCHEDULED", 60)
        print(f"put back {time.monotonic() - stopped:.0f} s after SIGTERM")
        wait_for(lambda: not trainings(root), 60)
        assert 20 <= steps_saved(root) < 400
        processes.append(start_worker(env))
        wait_for(lambda: state(env, flow_run) in FINAL, 400)
        ended = get(env, f"flow_runs/{flow_run}")
        assert ended["state_type"] == "COMPLETED" and ended["run_count"] == 2
        assert not run_again(env)


@pytest.mark.faults
def test_the_worker_of_a_container_ends_after_its_trainings(tmp_path: Path) -> None:
    root = tmp_path / "root"
    commit_world(Store(root))
    with server_alone(tmp_path) as (env, _):
        deploy(env)
        words = [sys.executable, "-m", "flows.prefect_worker", "--pool", "idpose"]
        worker = subprocess.Popen(words, env=env, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        flow_run = start(env, root, training__steps=100_000)
        wait_for(lambda: steps_saved(root) >= 20, 300)
        worker.terminate()
        worker.wait(120)
        assert not trainings(root)
        assert state(env, flow_run) == "SCHEDULED"


@pytest.mark.faults
def test_a_server_that_is_away_for_minutes_ends_no_training(tmp_path: Path) -> None:
    root = tmp_path / "root"
    commit_world(Store(root))
    with server_alone(tmp_path) as (env, processes):
        deploy(env)
        processes.append(start_worker(env))
        flow_run = start(env, root, training__steps=100_000, training__checkpoint_every=20)
        wait_for(lambda: steps_saved(root) >= 20, 300)
        kill_tree(processes[0].pid)
        processes[0].wait()
        before = steps_saved(root)
        time.sleep(200)
        assert steps_saved(root) > before
        processes[0] = start_server(env)
        until = time.monotonic() + 240
        while time.monotonic() < until:
            assert state(env, flow_run) in ("RUNNING", "None")
            time.sleep(2)
        processes.pop().terminate()
        wait_for(lambda: state(env, flow_run) == "SCHEDULED", 120)
        wait_for(lambda: not trainings(root), 60)
        assert not run_again(env)


@pytest.mark.faults
def test_no_healthy_run_is_marked_and_a_dead_one_is_found_in_three_minutes(
    naps: dict[str, str],
) -> None:
    long = [nap(naps, "nap/ours", seconds=200, busy=busy) for busy in (True, False)]
    long += [nap(naps, "bare-nap/theirs", seconds=200)]
    dead = nap(naps, "nap/ours", seconds=601)
    short = [nap(naps, "nap/ours", seconds=1, leaving=leaving) for leaving in (0.0, 100.0) * 3]
    wait_for(lambda: guards(dead), 600)
    time.sleep(10)  # a sign of life was heard
    for pid in guards(dead):
        psutil.Process(pid).kill()
    process = process_of(dead)
    process.suspend()  # as dead as with its machine: its worker does not notice
    died = time.monotonic()
    wait_for(lambda: state(naps, dead) == "CRASHED", 180)
    print(f"found {time.monotonic() - died:.0f} s after its death")
    process.kill()
    done = run(naps, "flow-run", "cancel", successor(naps, 2, seconds=601))
    assert done.returncode == 0, done.stderr
    wait_for(lambda: all(state(naps, r) in FINAL for r in long + short), 900)
    time.sleep(160)
    assert {state(naps, flow_run) for flow_run in long + short} == {"COMPLETED"}
    marked = names(naps, "prefect.flow-run.Silent") | names(naps, "prefect.flow-run.Crashed")
    assert not marked & {f"prefect.flow-run.{flow_run}" for flow_run in long + short}
