"""Which device a training computes on: one lock per GPU, which the kernel frees with its holder.

The same in a shell, under Prefect and under ``torchrun``, whose processes take one GPU each.
"""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from storage.errors import ToldError

_POLL_SECONDS = 1.0
_LOCKS = Path("/var/lock")

# CUDA reads $CUDA_VISIBLE_DEVICES when it is first used in a process: so another one asks it.
_TELL_UUIDS = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count, device, uuid = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)()
failed = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
for index in range(count.value):
    failed = failed or cuda.cuDeviceGet(ctypes.byref(device), index)
    failed = failed or cuda.cuDeviceGetUuid_v2(ctypes.byref(uuid), device)
    print(bytes(uuid).hex())
raise SystemExit(failed)
"""


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
    gpus = {} if device == "cpu" else _gpus()
    if device == "cpu" or (device == "auto" and not gpus):
        yield torch.device("cpu")
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        with _shared(device, gpus, say) as own:
            yield own
        return
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda") or not (number.isdecimal() or device in ("auto", "cuda")):
        raise DeviceError(f"run.device is auto, cpu, cuda or cuda:N, not {device!r}")
    if (number and int(number) >= len(gpus)) or not gpus:
        raise DeviceError(f"run.device: no {device} here; this machine shows {len(gpus)} GPUs")
    with locked([list(gpus)[int(number)]] if number else list(gpus), say) as taken:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[taken]
        yield torch.device("cuda", 0)


@contextmanager
def _shared(
    device: str, gpus: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[torch.device]:
    """The device of one of the processes that ``torchrun`` started on this machine.

    The first of them locks the devices of all, under a lock of its own: two trainings that took
    theirs one by one could each wait for the other. The others meet it before they compute.
    """
    own, count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if device not in ("auto", "cuda") or count > len(gpus):
        raise DeviceError(
            f"torchrun started {count} processes here, which take one GPU each: run.device is auto "
            f"or cuda and there must be as many GPUs ({len(gpus)} here); not {device!r}"
        )
    with ExitStack() as held:
        if own == 0:
            with locked(["all"], say):
                for name in list(gpus)[:count]:
                    held.enter_context(locked([name], say))
        os.environ["CUDA_VISIBLE_DEVICES"] = list(gpus.values())[own]
        yield torch.device("cuda", 0)


@contextmanager
def locked(names: Sequence[str], say: Callable[[str], None] = print) -> Iterator[str]:
    """Hold the lock of the first of these devices that is free; wait for one if none is."""
    told = False
    while True:
        for name in names:
            file = _open(name)
            try:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield name
                return
            finally:
                os.close(file)
        if not told:
            say(f"waiting: device {', '.join(names)} is taken by another training")
            told = True
        time.sleep(_POLL_SECONDS)


def _gpus() -> dict[str, str]:
    """The GPUs of this process: what each is locked by, and how $CUDA_VISIBLE_DEVICES names it.

    The same GPU has the UUID in common for all processes, and neither its number nor its name.
    """
    count = torch.cuda.device_count()
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = shown.split(",") if shown else [str(index) for index in range(count)]
    names = [name.strip() for name in names][:count]
    uuids = _uuids() if names else []
    return dict(zip(uuids if len(uuids) == len(names) else names, names, strict=True))


def _uuids() -> list[str]:
    """UUIDs of the GPUs that this process sees, in CUDA's order; none where it does not tell."""
    told = subprocess.run([sys.executable, "-c", _TELL_UUIDS], capture_output=True, text=True)
    return told.stdout.split() if told.returncode == 0 else []


def _open(name: str) -> int:
    """The file of a lock, which all users of the machine share.

    It is opened without being made where it is there: the kernel (fs.protected_regular) lets no one
    make what another user has made in a folder that all may write.
    """
    path = _folder() / f"idpose-gpu-{name.replace('/', '-')}.lock"
    while True:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            pass
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:  # another process was faster
            continue
        os.fchmod(file, 0o666)  # whatever the umask
        return file


def _folder() -> Path:
    """One for all of the machine, whatever $TMPDIR says and whatever this user may write."""
    everyones = _LOCKS.is_dir() and _LOCKS.stat().st_mode & stat.S_IWOTH
    return _LOCKS if everyones else Path("/tmp")
