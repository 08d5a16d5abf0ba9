"""A real Prefect server and process worker: `prefect deployment run build-dataset/<name>`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.configs import built_in
from storage.datasets import read_manifest
from storage.objects import Store
from tests.flows.builds import BOX_CARS, settings
from tests.flows.builds import run as idpose
from tests.flows.invariants import check_dataset
from tests.flows.prefect_server import REPOSITORY, get, run
from tests.worlds.box_cars import write_box_car_videos


def test_the_deployments_are_the_built_in_configurations() -> None:
    described = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    builds = [entry for entry in described if entry["entrypoint"].endswith(":build_dataset")]
    deployed = {entry["name"]: entry["parameters"]["config"] for entry in builds}
    assert deployed == {name: {"base": name} for name in built_in()}


@pytest.mark.slow
def test_a_deployment_runs_to_completion_on_a_worker(
    server: dict[str, str], tmp_path: Path
) -> None:
    videos, root = tmp_path / "videos", tmp_path / "root"
    write_box_car_videos(videos, videos=6, seconds=3.0)
    deployed = run(server, "--no-prompt", "deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    form = get(server, "deployments/name/build-dataset/folder")["parameter_openapi_schema"]
    assert "threshold" in form["definitions"]["DetectorConfig"]["properties"]

    config = yaml.safe_load(Path(BOX_CARS).read_text())
    config["source"] |= {"path": str(videos), "annotations": str(videos / "annotations.csv")}
    config["pose"] = {"clusters": 3}
    done = run(
        server, "deployment", "run", "build-dataset/folder", "--watch", "--watch-timeout", "400",
        "--params", json.dumps({"config": config, "root": str(root)}),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    check_dataset(Store(root), "box-cars")
    manifest = read_manifest(Store(root), "box-cars")
    assert manifest["statistics"]["attrition"]["videos"] == {"ok": 6}


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["prefect", "dask"])
def test_every_runner_gives_the_same_version(
    runner: str,
    videos: Path,
    built: tuple[dict[str, Any], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    root = tmp_path / "root"
    options = ["--root", str(root), "--json", "--runner", runner]
    done = idpose(["build", BOX_CARS, *options, *settings(videos)])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"] == built[0]["version"]
    assert found["content_digest"] == built[0]["content_digest"]
    assert found["shards"] == built[0]["shards"]
    check_dataset(Store(root), "box-cars")
