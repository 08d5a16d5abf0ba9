"""Stands beside a flow run, and says how it ended when its process cannot.

``python -m flows.prefect_guard FLOW_RUN`` waits for the end of standard input, which comes when the
process that writes to it ends. A process worker that is stopped kills its flow runs at once and
leaves them RUNNING; so does one that is killed. The guard puts a run back whose worker was stopped,
and marks the others as crashed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import UTC, datetime
from uuid import UUID

_SECONDS_FOR_THE_WORKER = 20.0  # one that lives tells how its process ended, one that ends says so
_TRIALS = 30  # of a server that may be away


def main() -> None:
    """Wait for the end, and tell what the process did not."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service manager asks all processes to end
    began = datetime.now(UTC)
    told = sys.stdin.buffer.read()
    for _ in range(0 if told else _TRIALS):
        time.sleep(_SECONDS_FOR_THE_WORKER)
        try:
            _tell(UUID(sys.argv[1]), began)
            break
        except Exception as error:
            print(f"the server does not know yet how the flow run ended: {error!r}")


def _tell(flow_run: UUID, began: datetime) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Cancelled, Crashed

    from flows.prefect_crashes import put_back, was_heard

    worker = {"labels": {"prefect.resource.name": [os.environ.get("PREFECT__WORKER_NAME", "")]}}
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run).state
        ended: State[None] | None = None
        if state is not None and state.is_cancelling():
            ended = Cancelled()
        elif state is not None and state.is_running():
            if was_heard(client, "prefect.worker.stopped", worker, began):
                put_back(client, flow_run)
            else:
                ended = Crashed(message="its process was killed")
        if ended is not None:
            client.set_flow_run_state(flow_run, ended)


if __name__ == "__main__":
    main()
