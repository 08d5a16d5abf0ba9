"""What a training tells while it runs: one aligned line, metrics.jsonl, TensorBoard, pictures.

``metrics.jsonl`` has one JSON object a line and is replaced whole, so it never ends in half a
line; a training that goes on from a checkpoint drops the lines after it, and so writes what an
undisturbed one would have (times apart).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from idpose_core.stages.crop import encode_png
from idpose_core.training.processes import World
from idpose_core.training.samples import Picture
from storage.errors import DamageError
from storage.objects import Store

_SECONDS_BETWEEN_WRITES = 10.0


class Journal:
    """The record of one run, in ``runs/<run>/``.

    Args:
        store: The root.
        run: Id of the run.
        step: Number of finished steps; later records of an interrupted run are dropped.

    Attributes:
        sums: Sum of each loss since the last line, float [] on the device.
        count: Steps in these sums.
    """

    def __init__(self, store: Store, run: str, step: int) -> None:
        self._store = store
        self._folder = f"runs/{run}"
        self._path = f"{self._folder}/metrics.jsonl"
        self._lines = [row for row in read_metrics(store, run) if row["step"] <= step]
        self._written = time.monotonic()
        self._board: Any = None
        self._board_failed = False
        self._first_step = step
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take the losses of one step in, without waiting for the device."""
        for name, loss in losses.items():
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss
        self.count += 1

    def take(self, world: World) -> dict[str, float]:
        """Mean of each loss since the last time, over all processes; begins anew."""
        if not self.count:
            return {}
        means = torch.stack([total.float() for total in self.sums.values()]) / self.count
        world.average([means])
        found = dict(zip(self.sums, means.tolist(), strict=True))
        self.sums, self.count = {}, 0
        return found

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record values of a step."""
        if not values:
            return
        self._lines.append({"step": step, **values})
        with self._tensorboard() as board:
            for name, value in values.items() if board is not None else ():
                board.add_scalar(name, value, step)
        if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self.flush()

    def picture(self, step: int, name: str, picture: Picture) -> None:
        """Keep a picture uint8 [H, W, 3] as ``<name>/<step>.png``."""
        self._store.replace(f"{self._folder}/{name}/{step:09d}.png", encode_png(picture))
        with self._tensorboard() as board:
            if board is not None:
                board.add_image(name, picture, step, dataformats="HWC")

    def flush(self) -> None:
        """Write what was recorded."""
        text = "".join(json.dumps(line) + "\n" for line in self._lines)
        self._store.replace(self._path, text.encode())
        self._written = time.monotonic()
        if self._board is not None:
            with self._tensorboard() as board:
                board.flush()

    def close(self) -> None:
        """Write what was recorded, and close."""
        self.flush()
        if self._board is not None:
            self._board.close()
            self._board = None

    def state_dict(self) -> dict[str, Any]:
        """What was taken in and not written yet."""
        return {"sums": dict(self.sums), "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from :meth:`state_dict`."""
        self.sums = {name: total.to(device) for name, total in state["sums"].items()}
        self.count = state["count"]

    @contextmanager
    def _tensorboard(self) -> Iterator[Any]:
        """The writer of TensorBoard's files; None where the root is remote, or after an error.

        A writer that failed once (a full disk) fails for ever; the other records go on.
        """
        folder = self._store.local_path(f"{self._folder}/tensorboard")
        try:
            if self._board is None and folder is not None and not self._board_failed:
                from torch.utils.tensorboard import SummaryWriter

                # Steps after this one, of a process that died, are hidden.
                self._board = SummaryWriter(str(folder), purge_step=self._first_step + 1)
            yield self._board
        except OSError:
            self._board, self._board_failed = None, True
            raise


def read_metrics(store: Store, run: str) -> list[dict[str, Any]]:
    """The records of a run, in the order in which they were written; none where it has none.

    Raises:
        DamageError: The file is not what was written.
    """
    try:
        text = store.read(f"runs/{run}/metrics.jsonl").decode()
    except FileNotFoundError:
        return []
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError as error:
        raise DamageError(
            f"runs/{run}/metrics.jsonl is damaged ({error}): move it away; the run goes on without"
        ) from error


def status_line(
    step: int, steps: int, losses: Mapping[str, float], *, triplets: float, seconds: float
) -> str:
    """One line whose columns stand below each other.

    Args:
        step: Finished steps.
        steps: Wanted steps.
        losses: Means since the last line.
        triplets: Triplets a second, over all processes.
        seconds: Seconds a step.
    """
    left = timedelta(seconds=round((steps - step) * seconds))
    shown = "  ".join(f"{name} {value:6.3f}" for name, value in losses.items())
    width = len(str(steps))
    return f"step {step:>{width}} of {steps}  {triplets:6.1f} triplets/s  {left!s:>8} left  {shown}"
