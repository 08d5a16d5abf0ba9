"""Claims: what runs now, so that ``idpose gc`` leaves alone what no manifest names yet.

``claims/<run>.json`` names the folders in which a run works. The run writes it again every minute
and removes it at its end; one that was not written for an hour is of a dead run.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.digests import canonical
from storage.objects import Store

FOLDER = "claims"
_BEAT_SECONDS = 60.0
_DEAD_SECONDS = 3600.0  # more than clocks of two machines differ, and than a busy one sleeps


@dataclass(frozen=True)
class Claim:
    """A run that is alive.

    Attributes:
        run: Its id.
        folders: Everything below them is its own; an empty text is the whole root.
    """

    run: str
    folders: tuple[str, ...]

    def covers(self, path: str) -> bool:
        """Whether an object is the run's own."""
        return any(not folder or path.startswith(f"{folder}/") for folder in self.folders)


@contextmanager
def claim(store: Store, run: str, folders: Sequence[str]) -> Iterator[None]:
    """Tell that a run works in these folders, until it ends. A claim never ends the run.

    Args:
        store: The root.
        run: Its id.
        folders: Relative to the root.
    """
    path, ended = f"{FOLDER}/{run}.json", threading.Event()

    def beat() -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        by = {"run": run, "folders": list(folders), "host": platform.node(), "pid": os.getpid()}
        with suppress(Exception):  # what is wrong with the root, the run itself will say
            store.replace(path, canonical({**by, "at": at}) + b"\n")

    def beat_on() -> None:
        while not ended.wait(_BEAT_SECONDS):
            beat()

    beat()
    heart = threading.Thread(target=beat_on, name=f"claim-{run}", daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()
        with suppress(Exception):
            store.delete(path)


def live_claims(store: Store) -> list[Claim]:
    """The claims of the runs that are alive. One that cannot be read claims the whole root."""
    alive, now = [], time.time()
    for found in store.details(FOLDER):
        if not found.path.endswith(".json") or now - found.modified > _DEAD_SECONDS:
            continue
        try:
            told = json.loads(store.read(found.path))
            alive.append(Claim(str(told["run"]), tuple(map(str, told["folders"]))))
        except FileNotFoundError:  # the run has ended
            continue
        except (ValueError, KeyError, TypeError):
            alive.append(Claim(found.path, ("",)))
    return alive
