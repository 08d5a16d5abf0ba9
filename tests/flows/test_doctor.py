"""idpose doctor: what works, and for what does not a remedy that one can do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import doctor, prefect_doctor
from flows.configs import find_config
from storage.objects import Store
from tests.flows import prefect_server
from tests.flows.builds import BOX_CARS, run

VERBS = r"(run|build|export|give|use|make|install|read|do) .+"


def test_the_command_tells_what_a_configuration_needs(tmp_path: Path) -> None:
    root, env = str(tmp_path / "root"), {"PREFECT_API_URL": "", "PREFECT_HOME": str(tmp_path)}
    done = run(["doctor", BOX_CARS, "--root", root, "--json"], env)
    checks = {c["name"]: c for c in json.loads(done.stdout.splitlines()[-1])["checks"]}
    assert checks["weights of box-cars"]["state"] == checks["root"]["state"] == "ok"
    for check in checks.values():
        if check["state"] != "ok" and check["name"] != "GPU":
            assert re.fullmatch(VERBS, check["remedy"]), check
    assert Store(root).list("") == []


def test_missing_weights_and_runtime_and_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("IDPOSE_WEIGHTS", str(tmp_path))
    needed = doctor._needed(str(tmp_path), find_config(BOX_CARS, {"embedder.kind": "st-alex"}))
    assert needed.state == "broken" and "st-alex" in needed.found
    for check in (doctor._javascript(), doctor._compiler()):
        assert check.state == "missing" and re.fullmatch(VERBS, check.remedy)


def test_a_store_that_writes_over_what_is_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._root("memory://doctor").state == "ok"

    def careless(self: Store, path: str, data: bytes) -> bool:
        self.replace(path, data)
        return True

    monkeypatch.setattr(Store, "publish", careless)
    check = doctor._root("memory://doctor")
    assert check.state == "broken" and re.fullmatch(VERBS, check.remedy)


class Server:
    """What a client answers of a server."""

    api_url = "http://x/api"

    def __init__(self, runs: int = 1, age: float = 10, version: str = "1") -> None:
        self.runs, self.version = runs, version
        updated = datetime.now(UTC) - timedelta(minutes=age)
        schedule = SimpleNamespace(active=True)
        self.deployment = SimpleNamespace(
            id="00000000-0000-0000-0000-000000000000", name="weekly", paused=False,
            schedules=[schedule], updated=updated,
        )  # fmt: skip

    def api_version(self) -> str:
        return self.version

    def client_version(self) -> str:
        return "1"

    def read_deployments(self) -> list[Any]:
        return [self.deployment]

    def count_flow_runs(self, **filters: Any) -> int:
        return self.runs


def test_a_scheduler_that_schedules_nothing_is_dead() -> None:
    assert prefect_doctor._scheduler(Server()).state == "ok"
    assert prefect_doctor._scheduler(Server(runs=0, age=1)).state == "ok"  # deployed just now
    check = prefect_doctor._scheduler(Server(runs=0))
    assert check.state == "broken" and "weekly" in check.found
    assert prefect_doctor._version(Server()).state == "ok"
    assert prefect_doctor._version(Server(version="2")).state == "broken"


@pytest.mark.slow
def test_a_real_server_its_pool_and_its_worker(tmp_path: Path) -> None:
    def states(env: dict[str, str]) -> dict[str, str]:
        code = (
            "import json; from flows.prefect_doctor import check_server; "
            "print(json.dumps({check.name: check.state for check in check_server()}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return found

    with prefect_server.server_alone(tmp_path) as (env, processes):
        found = states(env)
        assert found["Prefect server"] == found["scheduler"] == found["work pool"] == "ok"
        assert found["worker"] == "missing"
        deleted = prefect_server.run(env, "--no-prompt", "work-pool", "delete", "idpose")
        assert deleted.returncode == 0 and states(env)["work pool"] == "missing"
        processes.append(prefect_server.start_worker(env))  # which makes the pool again
        prefect_server.wait_for(lambda: states(env).get("worker") == "ok", 120)
    env["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    assert states(env)["Prefect server"] == "broken"
