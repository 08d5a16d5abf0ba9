"""What worker processes have in common."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
PARENT = "IDPOSE_PARENT_PID"
_watching = False


def end_with_parent() -> None:
    """Initializer of worker processes: without it, workers of a killed parent wait for ever."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def stop_without_parent() -> bool:
    """Ask this process to stop when the process that $IDPOSE_PARENT_PID names has died.

    The kernel's own signal for that (PR_SET_PDEATHSIG) comes when a thread of the parent ends.

    Returns:
        Whether there is such a process; a later call knows it too.
    """
    global _watching
    named = os.environ.pop(PARENT, None)
    if named:
        threading.Thread(target=_watch_parent, args=(int(named),), daemon=True).start()
        _watching = True
    return _watching


def die_with(parent: int) -> None:
    """Let this process be killed with the thread of its parent that started it.

    Args:
        parent: Process id.
    """
    if sys.platform == "linux":  # elsewhere the closed pipe ends it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent died before this process began")


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
