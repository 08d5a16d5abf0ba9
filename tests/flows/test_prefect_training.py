"""The flow `train` on a real server and worker: done, cancelled, and killed with its worker."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from idpose_core.training.published import versions
from storage.objects import Store
from tests.flows.prefect_server import deploy, get, post, run, serving, start_worker, wait_for
from tests.training.tiny import SETTINGS
from tests.training.worlds import commit_world

pytestmark = pytest.mark.slow


def config(**other: Any) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in (SETTINGS | {k.replace("__", "."): v for k, v in other.items()}).items():
        section, key = path.split(".")
        nested.setdefault(section, {})[key] = value
    return nested


def start(env: dict[str, str], root: Path, **other: Any) -> str:
    """Ask for a run of train/gpu. Returns its id."""
    deployment = get(env, "deployments/name/train/gpu")
    parameters = {"dataset": "cars", "config": config(**other), "root": str(root)}
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    created: dict[str, Any] = post(env, f"deployments/{deployment['id']}/create_flow_run", body)
    return str(created["id"])


def state(env: dict[str, str], flow_run: str) -> str:
    return str((get(env, f"flow_runs/{flow_run}") or {}).get("state_type"))


def steps_saved(root: Path) -> int:
    found = [p for p in Store(root).list("runs") if "/checkpoints/" in p and p.endswith(".json")]
    return max((int(Path(path).stem) for path in found), default=0)


def test_the_flow_trains_is_cancelled_and_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "root"
    commit_world(Store(root))
    with serving(tmp_path) as (env, _):
        deploy(env)
        form = get(env, "deployments/name/train/gpu")["parameter_openapi_schema"]
        assert "batch_size" in form["definitions"]["OptimisationConfig"]["properties"]
        endless = start(env, root, training__steps=100_000)
        wait_for(lambda: steps_saved(root) >= 8, 180)
        done = run(env, "flow-run", "cancel", endless)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: state(env, endless) == "CANCELLED", 120)
        stopped = steps_saved(root)
        wait_for(lambda: not trainings(root), 30)
        assert steps_saved(root) == stopped

        finite = start(env, root, training__steps=stopped + 4)
        wait_for(lambda: state(env, finite) in ("COMPLETED", "FAILED", "CRASHED"), 180)
        assert state(env, finite) == "COMPLETED"
        assert len(versions(Store(root), "cars-identity-pose")) == 1
        kinds = {found["key"] for found in post(env, "artifacts/filter", {"limit": 50})}
        assert {"cars-losses", "cars-samples", "cars-training", "training"} <= kinds


def test_a_run_that_died_with_its_worker_is_run_again_and_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "root"
    commit_world(Store(root))
    with serving(tmp_path) as (env, worker):
        deploy(env)
        first = start(env, root, training__steps=400, training__checkpoint_every=20)
        wait_for(lambda: steps_saved(root) >= 20, 180)
        for process in [worker, *psutil.Process(worker.pid).children(recursive=True)]:
            os.kill(process.pid, signal.SIGKILL)
        worker.wait()
        again = start_worker(env)
        try:
            wait_for(lambda: state(env, first) == "CRASHED", 400)
            wait_for(lambda: len(versions(Store(root), "cars-identity-pose")) == 1, 600)
        finally:
            again.terminate()
            again.wait(60)
        runs = post(env, "flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        second = next(found for found in runs if found["parameters"].get("attempt") == 2)
        assert second["parameters"]["dataset"] == "cars"
        assert second["parameters"]["config"] == json.loads(
            json.dumps(config(training__steps=400, training__checkpoint_every=20))
        )


def trainings(root: Path) -> list[int]:
    """Processes that train below this root."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "train" in words and str(root) in words:
            found.append(process.pid)
    return found
