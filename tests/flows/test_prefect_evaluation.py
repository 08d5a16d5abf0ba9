"""The flow `evaluate` on a real server and worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.objects import Store
from tests.evaluation.test_sets import world
from tests.flows.prefect_server import deploy, get, post, serving, wait_for
from tests.flows.test_evaluate import publish
from tests.flows.test_prefect_training import state

pytestmark = pytest.mark.slow


def test_the_flow_measures_and_shows_its_table(tmp_path: Path) -> None:
    store, dataset = world(tmp_path / "root")
    model = publish(store, dataset)
    with serving(tmp_path) as (env, _):
        deploy(env)
        deployment = get(env, "deployments/name/evaluate/gpu")
        body = {
            "parameters": {"model": model, "training_steps": 2, "root": str(tmp_path / "root")},
            "state": {"type": "SCHEDULED"},
        }
        created = post(env, f"deployments/{deployment['id']}/create_flow_run", body)
        done = ("COMPLETED", "FAILED", "CRASHED")
        wait_for(lambda: state(env, created["id"]) in done, 500)
        assert state(env, created["id"]) == "COMPLETED"
        kinds = {found["key"] for found in post(env, "artifacts/filter", {"limit": 50})}
        name = dataset.replace("@", "-")
        assert {f"{name}-metrics", f"{name}-swaps", "evaluation"} <= kinds
    name, version = model.split("@")
    assert any(
        path.startswith(f"models/{name}/{version}/evaluation/") for path in store.list("models")
    )
    assert Store(tmp_path / "root").list("judges")
