"""What doctor asks a Prefect server: its version, its scheduler, its pools and their workers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.doctor import Check

POOL = "idpose"
_SCHEDULED_WITHIN = timedelta(minutes=3)  # the scheduler looks every minute


def check_server() -> list[Check]:
    """Ask the configured server."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client({"timeout": 5.0}, sync_client=True) as client,
    ):
        error = client.api_healthcheck()
        if error is not None:
            told = f"{client.api_url}: {error or type(error).__name__}"
            return [Check("Prefect server", "broken", told, "run `prefect server start`")]
        return [_version(client), _scheduler(client), *_workers(client)]


def _version(client: Any) -> Check:
    server, ours = client.api_version(), client.client_version()
    if server == ours:
        return Check("Prefect server", "ok", f"{client.api_url}, {server}")
    remedy = f"install prefect=={ours} where the server runs, and start it again"
    return Check("Prefect server", "broken", f"{server}, and {ours} is installed here", remedy)


def _scheduler(client: Any) -> Check:
    """Whether each schedule has runs that wait for their time."""
    before, late = datetime.now(UTC) - _SCHEDULED_WITHIN, []
    scheduled = [
        deployment
        for deployment in client.read_deployments()
        if not deployment.paused and any(schedule.active for schedule in deployment.schedules)
    ]
    for deployment in scheduled:
        waiting = client.count_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            ),
        )
        if not waiting and deployment.updated < before:
            late.append(deployment.name)
    if late:
        remedy = (
            "read the log of the server for its scheduler, run `pip install -c constraints.txt "
            "prefect sqlalchemy` there, and start it again"
        )
        told = f"no run is scheduled of {', '.join(late)}"
        return Check("scheduler", "broken", told, remedy)
    return Check("scheduler", "ok", f"{len(scheduled)} deployments with a schedule")


def _workers(client: Any) -> Iterator[Check]:
    if POOL not in (pool.name for pool in client.read_work_pools()):
        remedy = f"run `prefect work-pool create {POOL} --type process`, then `idpose deploy`"
        yield Check("work pool", "missing", f"no pool {POOL}", remedy)
        return
    workers = client.read_workers_for_work_pool(POOL)
    alive = [worker.name for worker in workers if worker.status == "ONLINE"]
    yield Check("work pool", "ok", POOL)
    if alive:
        yield Check("worker", "ok", ", ".join(alive))
    else:
        remedy = f"run `prefect worker start --pool {POOL}`"
        yield Check("worker", "missing", f"none is alive on {POOL}: no deployment runs", remedy)
