"""The automations of the server: silent flow runs are crashed, crashed ones are run again.

Prefect's own heartbeat is not used: its last one may arrive after the end of a run, and the server
would wait for the next. Our sign of life (flows/prefect_crashes.py) is sent by our flows alone, and
the last one is said to be the last.

A server that was away has heard nobody. So a run that is silent is only named so at first, and has
a minute to show that it lives.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture

from flows.prefect_crashes import ATTEMPTS, REST, SIGN_OF_LIFE, TAG, ask_for_signs

# Four signs are missing, then three more: a dead run is crashed 150 s after its last sign.
_SILENCE = timedelta(seconds=80)
_LAST_CHANCE = timedelta(seconds=60)
_SILENT = "Silent"
_NAMES = "idpose: "
# A run that goes on is not started afresh: ``new`` is left out.
_PARAMETERS = (
    "dict((flow_run.parameters | default({})).items() | rejectattr(0, 'equalto', 'new'),"
    " attempt=flow_run.parameters.get('attempt', 1) + 1)"
)


def register_automations() -> list[str]:
    """Create the automations on the server, or bring them up to date. Returns their names.

    Where the server has a notification block named ``idpose``, it is told of failed, crashed and
    late runs. Automations of earlier versions are removed.
    """
    wanted = [_name_silent_runs(), _crash_silent_runs(), _run_crashed_runs_again()]
    with get_client(sync_client=True) as client:
        blocks = client.read_block_documents(include_secrets=False)
        wanted += [_notify(block.id) for block in blocks if block.name == TAG]
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
        ask_for_signs(client)
    return [automation.name for automation in wanted]


def _name_silent_runs() -> Automation:
    return _on_silence(
        "name silent runs",
        SIGN_OF_LIFE,
        _SILENCE,
        ChangeFlowRunState(
            state=StateType.RUNNING,
            name=_SILENT,
            message=f"no sign of life for {_SILENCE.seconds} s: crashed unless there is one soon",
        ),
    )


def _crash_silent_runs() -> Automation:
    return _on_silence(
        "crash runs that stay silent",
        f"prefect.flow-run.{_SILENT}",
        _LAST_CHANCE,
        ChangeFlowRunState(
            state=StateType.CRASHED,
            message="no sign of life: its process has died, or cannot reach the server",
        ),
    )


def _on_silence(name: str, after: str, within: timedelta, action: ChangeFlowRunState) -> Automation:
    """Act on each run of which nothing is heard for so long after an event of its own."""
    return Automation(
        name=_NAMES + name,
        trigger=EventTrigger(
            after={after},
            expect={SIGN_OF_LIFE, REST, "prefect.flow-run.*"},
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
        trigger=_on("Crashed"),
        actions=[RunDeployment(source="inferred", parameters=_rendered(_PARAMETERS))],
    )


def _notify(block: UUID) -> Automation:
    return Automation(
        name=_NAMES + "notify of failed, crashed and late runs",
        trigger=_on("Failed", "Crashed", "Late"),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="{{ flow.name }}: {{ flow_run.state.name }}",
                body="{{ flow_run.name }}: {{ flow_run.state.message }} {{ flow_run | ui_url }}",
            )
        ],
    )


def _on(*states: str) -> EventTrigger:
    return EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in states},
        match_related=_ours(),
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _ours() -> dict[str, Any]:
    return {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}


def _rendered(expression: str) -> dict[str, Any]:
    """A value that the server computes when the automation acts."""
    template = {"__prefect_kind": "jinja", "template": f"{{{{ ({expression}) | tojson }}}}"}
    return {"__prefect_kind": "json", "value": template}
