"""Flow runs that died are found by their silence, and run again a bounded number of times.

A worker that is killed together with its flow run leaves it RUNNING for ever. Every run sends a
heartbeat; the first automation marks one that falls silent as crashed, the second runs a crashed
one again with its own parameters. What is on disk makes the second run go on where the first was,
and makes it safe that the first may still be alive.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture

from storage.errors import ToldError

ATTEMPTS = 3
HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
SECONDS_BETWEEN_HEARTBEATS = 30  # the least that Prefect takes
_SILENCE = timedelta(seconds=3 * SECONDS_BETWEEN_HEARTBEATS)
_SIGNS = [
    f"prefect.flow-run.{sign}"
    for sign in ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")
]
# A run that goes on is not started afresh: ``new`` is not among them.
_KEPT = {
    "build-dataset": ("config", "root"),
    "train": ("dataset", "config", "root"),
    "evaluate": ("model", "dataset", "evaluation_set", "training_steps", "root"),
}


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


def register_automations() -> list[str]:
    """Create the automations on the server, or bring them up to date. Returns their names."""
    wanted = [_crash_silent_runs(), *(_run_again(flow) for flow in _KEPT)]
    for automation in wanted:
        try:
            existing = cast(
                "Automation", Automation.read(name=automation.name)
            )  # not awaited: sync
        except ValueError:  # there is none
            automation.create()
            continue
        automation.id = existing.id
        automation.update()
    return [automation.name for automation in wanted]


def _crash_silent_runs() -> Automation:
    return Automation(
        name="idpose: crash silent flow runs",
        description=f"A flow run whose heartbeat is missing for {_SILENCE.seconds} s has died",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect=set(_SIGNS),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=_SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="no heartbeat: its process has died"
            )
        ],
    )


def _run_again(flow: str) -> Automation:
    return Automation(
        name=f"idpose: run crashed {flow} again",
        description=f"At most {ATTEMPTS} times, with the parameters that it had",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": flow},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="inferred",
                parameters={
                    **{
                        name: _rendered(f"flow_run.parameters.get('{name}')")
                        for name in _KEPT[flow]
                    },
                    "attempt": _rendered("flow_run.parameters.get('attempt', 1) + 1"),
                },
            )
        ],
    )


def _rendered(expression: str) -> dict[str, Any]:
    """A value that the server computes when the automation acts."""
    template = {"__prefect_kind": "jinja", "template": f"{{{{ ({expression}) | tojson }}}}"}
    return {"__prefect_kind": "json", "value": template}
