"""A Prefect worker that ends when what its flow runs have to save is saved: for containers.

``python -m flows.prefect_worker --pool idpose`` takes the options of ``prefect worker start``. The
first process of a container ends the others with it; a worker ends before the trainings that it
started have saved their checkpoints.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Start the worker, hand SIGTERM on to it, and wait for it and for those it leaves behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = [sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]]
    worker = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda number, frame: worker.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the worker by itself
    code = worker.wait()
    try:
        while True:
            os.wait()
    except ChildProcessError:
        sys.exit(code)


if __name__ == "__main__":
    main()
