"""Flow runs that died are found, and run again a bounded number of times; stopped ones go on.

Each run of a deployment has a guard beside it, which says how the run ended when its process
cannot (flows/prefect_guard.py). Where the guard died too, with the machine or its container, the
run falls silent: it stays RUNNING for ever, and its heartbeat is missing. Automations of the server
mark such a run, and run a crashed one again with the parameters that it had. What is on disk makes
the second run go on where the first was, and makes it safe that the first may still be alive.

Only runs with the tag ``idpose`` are marked: in prefect.yaml it comes with the setting of the
heartbeat.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import Abort, TerminationSignal
from prefect.states import AwaitingRetry

from storage.errors import ToldError

ATTEMPTS = 3
TAG = "idpose"
# Three heartbeats of 30 s, the least that Prefect takes. Then one that lives has time to say so,
# for a server that was away has heard nobody: together less than three minutes.
_SILENCE = timedelta(seconds=90)
_LAST_CHANCE = timedelta(seconds=60)
_HEARTBEAT = "prefect.flow-run.heartbeat"
_SILENT = "Silent"
_ANY_SIGN = {"prefect.flow-run.*"}
_NAMES = "idpose: "
# A run that goes on is not started afresh: ``new`` is left out.
_PARAMETERS = (
    "dict((flow_run.parameters | default({})).items() | rejectattr(0, 'equalto', 'new'),"
    " attempt=flow_run.parameters.get('attempt', 1) + 1)"
)


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


def register_automations() -> list[str]:
    """Create the automations on the server, or bring them up to date. Returns their names.

    Those of earlier versions are removed.
    """
    wanted = [_mark_silent_runs(), _crash_silent_runs(), _run_crashed_runs_again()]
    with get_client(sync_client=True) as client:
        there = {
            found.name: found.id
            for found in client.read_automations()
            if found.name.startswith(_NAMES)
        }
        for name in there.keys() - {automation.name for automation in wanted}:
            client.delete_automation(there[name])
    for automation in wanted:
        if automation.name in there:
            automation.id = there[automation.name]
            automation.update()
        else:
            automation.create()
    return [automation.name for automation in wanted]


def _mark_silent_runs() -> Automation:
    return _on_silence(
        f"mark runs without a heartbeat for {_SILENCE.seconds} s",
        _HEARTBEAT,
        _SILENCE,
        ChangeFlowRunState(
            state=StateType.RUNNING, name=_SILENT, message="no heartbeat: does its process live?"
        ),
    )


def _crash_silent_runs() -> Automation:
    return _on_silence(
        f"crash marked runs that stay silent for {_LAST_CHANCE.seconds} s",
        f"prefect.flow-run.{_SILENT}",
        _LAST_CHANCE,
        ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its process has died"),
    )


def _on_silence(name: str, after: str, within: timedelta, action: ChangeFlowRunState) -> Automation:
    """Act on each run of ours that shows no sign of life for so long after an event of its own."""
    return Automation(
        name=_NAMES + name,
        trigger=EventTrigger(
            after={after},
            expect=_ANY_SIGN,
            match_related=_ours(),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[action],
    )


def _run_crashed_runs_again() -> Automation:
    return Automation(
        name=_NAMES + "run crashed runs again",
        description=f"At most {ATTEMPTS} times, with the parameters that they had",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match_related=_ours(),
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[RunDeployment(source="inferred", parameters=_rendered(_PARAMETERS))],
    )


def _ours() -> dict[str, Any]:
    return {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}


def _rendered(expression: str) -> dict[str, Any]:
    """A value that the server computes when the automation acts."""
    template = {"__prefect_kind": "jinja", "template": f"{{{{ ({expression}) | tojson }}}}"}
    return {"__prefect_kind": "json", "value": template}
