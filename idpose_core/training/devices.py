"""Which device a training computes on: one lock per GPU, which the kernel frees with its holder.

The same in a shell, under Prefect and under ``torchrun``, whose processes take one GPU each.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import torch

from storage.errors import ToldError

_POLL_SECONDS = 1.0


class DeviceError(ToldError):
    """The device that is asked for is not on this machine."""


@contextmanager
def claimed(device: str, say: Callable[[str], None] = print) -> Iterator[torch.device]:
    """Hold a device, and see no other; wait where it is taken.

    It must come before the first use of CUDA in this process: $CUDA_VISIBLE_DEVICES is set.

    Args:
        device: ``auto`` (a free GPU, else the CPU), ``cpu``, ``cuda`` (a free GPU) or ``cuda:N``.
        say: Told when it waits.

    Raises:
        DeviceError: There is no such device.
    """
    names = _gpus()
    if device == "cpu" or (device == "auto" and not names):
        yield torch.device("cpu")
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        with _shared(device, names, say) as own:
            yield own
        return
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda") or not (number.isdecimal() or device in ("auto", "cuda")):
        raise DeviceError(f"run.device is auto, cpu, cuda or cuda:N, not {device!r}")
    if (number and int(number) >= len(names)) or not names:
        raise DeviceError(f"run.device: no {device} here; this machine shows {len(names)} GPUs")
    with locked([names[int(number)]] if number else names, say) as name:
        os.environ["CUDA_VISIBLE_DEVICES"] = name
        yield torch.device("cuda", 0)


@contextmanager
def _shared(
    device: str, names: Sequence[str], say: Callable[[str], None]
) -> Iterator[torch.device]:
    """The device of one of the processes that ``torchrun`` started on this machine.

    The first of them locks the devices of all, under a lock of its own: two trainings that took
    theirs one by one could each wait for the other. The others meet it before they compute.
    """
    own, count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if device not in ("auto", "cuda") or count > len(names):
        raise DeviceError(
            f"torchrun started {count} processes here, which take one GPU each: run.device is auto "
            f"or cuda and there must be as many GPUs ({len(names)} here); not {device!r}"
        )
    with ExitStack() as held:
        if own == 0:
            with locked(["all"], say):
                for name in names[:count]:
                    held.enter_context(locked([name], say))
        os.environ["CUDA_VISIBLE_DEVICES"] = names[own]
        yield torch.device("cuda", 0)


@contextmanager
def locked(names: Sequence[str], say: Callable[[str], None] = print) -> Iterator[str]:
    """Hold the lock of the first of these devices that is free; wait for one if none is."""
    told = False
    while True:
        for name in names:
            file = _open(name)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            with file:
                yield name
            return
        if not told:
            say(f"waiting: device {', '.join(names)} is taken by another training")
            told = True
        time.sleep(_POLL_SECONDS)


def _gpus() -> list[str]:
    """The GPUs of this process as $CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = shown.split(",") if shown else [str(index) for index in range(count)]
    return [name.strip() for name in names][:count]


def _open(name: str) -> IO[str]:
    folder = Path(tempfile.gettempdir()) / "idpose-devices"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.lock"
    with suppress(PermissionError):  # another user's: it was opened to all when it was made
        folder.chmod(0o1777)
    file = path.open("a")
    with suppress(PermissionError):
        path.chmod(0o666)
    return file
