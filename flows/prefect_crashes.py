"""Flow runs that died are found, and run again a bounded number of times; stopped ones go on.

While a flow run works, it shows the server that it lives, and a guard stands beside it, which says
how the run ended when its process cannot (flows/prefect_guard.py). Where the guard died too, with
the machine or its container, the run falls silent, and automations of the server find it
(flows/prefect_automations.py). What is on disk makes the second run go on where the first was, and
makes it safe that the first may still be alive.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.context import FlowRunContext
from prefect.events import Event
from prefect.exceptions import Abort, TerminationSignal
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import AwaitingRetry, Crashed

from storage.errors import ToldError

ATTEMPTS = 3
TAG = "idpose"  # of every deployment in prefect.yaml
SIGN_OF_LIFE = "idpose.flow-run.lives"
REST = "idpose.flow-run.rests"
_SECONDS_BETWEEN_SIGNS = 20.0
_LONG_SILENCE = timedelta(minutes=5)


class TooManyCrashesError(ToldError):
    """A flow run crashed as often as it is tried."""


def check_attempt(attempt: int) -> None:
    """Refuse a run that has crashed before as often as it is tried.

    Raises:
        TooManyCrashesError: It has.
    """
    if attempt > ATTEMPTS:
        raise TooManyCrashesError(
            f"crashed {ATTEMPTS} times: see the logs of these runs, then run the deployment again"
        )


@contextmanager
def guarded() -> Iterator[None]:
    """The work of a flow run: however its process ends meanwhile, the server learns of it.

    A run that is asked to end (SIGTERM), but not cancelled, is put back and uses up no attempt. A
    run from a shell is left alone: nobody would take it up.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        yield
        return
    guard = subprocess.Popen(
        [sys.executable, "-m", "flows.prefect_guard", str(run.id)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # signals to the group of the flow run are not for it
    )
    try:
        with _showing_life(run.id):
            yield
    except TerminationSignal as signal:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run.id).state
            if state is None or not state.is_running():  # cancelled
                raise
            put_back(client, run.id)
        raise Abort from signal
    finally:
        guard.communicate(b"told")  # what follows is told by Prefect


def put_back(client: SyncPrefectClient, flow_run: UUID) -> None:
    """Let a run go on as soon as a worker takes it. It uses up no attempt.

    Args:
        client: Of the server.
        flow_run: Its id.
    """
    client.set_flow_run_state(flow_run, AwaitingRetry(message="stopped in good order"))


def ask_for_signs(client: SyncPrefectClient) -> None:
    """Let the server expect signs of life of runs that have been silent for minutes.

    A server forgets those that fall silent while it is away: its automations wait for the next sign
    after one that they saw. This is one.

    Args:
        client: Of the server.
    """
    since = datetime.now(UTC) - _LONG_SILENCE
    wanted = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}, "tags": {"all_": [TAG]}}
    for run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted)):
        if run.deployment_id and run.state and run.state.timestamp < since:
            resource = {"id": [_resource(run.id)]}
            if not was_heard(client, SIGN_OF_LIFE, resource, since):
                _show(client, run.id)


def end_children_of_the_dead(client: SyncPrefectClient) -> None:
    """Mark flow runs as crashed whose round has: they died with its process, and nobody says so.

    Args:
        client: Of the server.
    """
    wanted = {"state": {"type": {"any_": ["RUNNING"]}}, "parent_task_run_id": {"is_null_": False}}
    for run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted)):
        assert run.parent_task_run_id is not None
        above = client.read_task_run(run.parent_task_run_id).flow_run_id
        parent = client.read_flow_run(above) if above else None
        if parent and TAG in parent.tags and parent.state and parent.state.is_crashed():
            client.set_flow_run_state(run.id, Crashed(message="the round that it was of has died"))


def was_heard(
    client: SyncPrefectClient, event: str, resource: dict[str, Any], since: datetime
) -> bool:
    """Whether the server knows such an event.

    Args:
        client: Of the server.
        event: Its name.
        resource: What it is about, as Prefect's filter has it.
        since: When it occurred at the earliest.
    """
    wanted = {
        "event": {"name": [event]},
        "resource": resource,
        "occurred": {"since": since.isoformat()},
    }
    answer = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
    return bool(answer.json()["events"])


@contextmanager
def _showing_life(flow_run: UUID) -> Iterator[None]:
    """Show that this process lives, and in the end that there is no more to come.

    The server handles two events at a time: the state that ends a run may overtake the last sign.
    What is said to follow that sign cannot.
    """
    ended = threading.Event()
    last: UUID | None = None

    def show_again_and_again() -> None:
        nonlocal last
        first = True
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            while first or not ended.wait(_SECONDS_BETWEEN_SIGNS):
                with suppress(Exception), get_client({"timeout": 30.0}, sync_client=True) as client:
                    last = _show(client, flow_run)
                    if first:
                        ask_for_signs(client)
                        end_children_of_the_dead(client)
                first = False

    thread = threading.Thread(target=copy_context().run, args=(show_again_and_again,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if last is not None:
            with suppress(Exception), get_client(sync_client=True) as client:
                _show(client, flow_run, REST, follows=last)


def _show(
    client: SyncPrefectClient, flow_run: UUID, what: str = SIGN_OF_LIFE, follows: UUID | None = None
) -> UUID:
    sign = Event(
        event=what,
        resource={"prefect.resource.id": _resource(flow_run)},
        related=[{"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}],
        follows=follows,
    )
    client.request("POST", "/events", json=[sign.model_dump(mode="json")])
    return sign.id


def _resource(flow_run: UUID) -> str:
    return f"prefect.flow-run.{flow_run}"
