"""The lock of a device: one holder, freed by the kernel, found without a GPU."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from idpose_core.training import devices
from idpose_core.training.devices import DeviceError, claimed, locked

HOLDER = """
import sys, time
from pathlib import Path
from idpose_core.training import devices
if sys.argv[1]:
    devices._folder = lambda: Path(sys.argv[1])
with devices.locked(sys.argv[2:]) as name:
    print(name, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test alone, and no GPU of this machine."""
    monkeypatch.setattr(devices, "_folder", lambda: tmp_path)
    monkeypatch.setattr(devices, "_uuids", list)


def holder(folder: Path | None, *names: str, tmpdir: str = "") -> tuple[subprocess.Popen[str], str]:
    """A process that holds one of the locks; without a folder, in the machine's own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder or ""), *names],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": tmpdir} if tmpdir else None,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_each_process_takes_a_device_of_its_own_and_the_kernel_frees_it(tmp_path: Path) -> None:
    first, taken = holder(tmp_path, "0", "1")
    try:
        assert taken == "0"
        with locked(["0", "1"]) as mine:
            assert mine == "1"
        said: list[str] = []
        got = threading.Event()

        def wait() -> None:
            with locked(["0"], said.append):
                got.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(1.5)
        assert said == ["waiting: device 0 is taken by another training"]
        first.send_signal(signal.SIGKILL)
        assert got.wait(10)
        waiting.join()
    finally:
        first.kill()
        first.wait()


def test_a_gpu_is_seen_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with claimed("cuda:1") as device:
        assert device == torch.device("cuda", 0)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


def test_without_a_gpu_auto_is_the_cpu_and_cuda_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with claimed("auto") as device:
        assert device == torch.device("cpu")
    with pytest.raises(DeviceError, match="no cuda here"), claimed("cuda"):
        pass
    with pytest.raises(DeviceError, match="auto, cpu, cuda or cuda:N"), claimed("tpu"):
        pass


def test_two_trainings_of_two_processes_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process of each takes the devices of both of its processes, or waits."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with claimed("auto"):
        assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "1"
        with locked(["1"]):  # a follower holds no lock: the first process does for it
            pass
    monkeypatch.setenv("LOCAL_RANK", "0")
    with claimed("auto"):
        assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "0"
        taken, name = holder(tmp_path, "1", "2")
        taken.kill()
        taken.wait()
        assert name == "2"
    with pytest.raises(DeviceError, match="started 2 processes"), claimed("cuda:0"):
        pass


def test_a_gpu_has_one_lock_under_all_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its number in one shell, by its UUID in another."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "_uuids", lambda: ["aa", "bb"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with claimed("cuda:1"):
        assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "1"
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(devices, "_uuids", lambda: ["bb"])
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bb")
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            raise InterruptedError

        with pytest.raises(InterruptedError), claimed("auto", say):
            pass
    assert said == ["waiting: device bb is taken by another training"]
    with claimed("auto", say):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-bb"


@pytest.fixture
def new_name() -> Iterator[str]:
    """The name of a lock in the machine's own folder, removed in the end."""
    name = f"test-{uuid.uuid4().hex}"
    yield name
    for folder in (devices._LOCKS, Path("/tmp")):
        (folder / f"idpose-gpu-{name}.lock").unlink(missing_ok=True)


def test_the_lock_is_the_machines_whatever_tmpdir_says(new_name: str, tmp_path: Path) -> None:
    first, taken = holder(None, new_name, tmpdir=str(tmp_path / "a"))
    second, other = holder(None, new_name, new_name + "/2", tmpdir=str(tmp_path / "b"))
    for process in (first, second):
        process.kill()
        process.wait()
    (devices._LOCKS / f"idpose-gpu-{new_name}-2.lock").unlink(missing_ok=True)
    (Path("/tmp") / f"idpose-gpu-{new_name}-2.lock").unlink(missing_ok=True)
    assert (taken, other) == (new_name, new_name + "/2")


def test_every_user_may_open_a_lock(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with locked(["0"]):
            (file,) = tmp_path.iterdir()
            assert file.stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)
    with locked(["0"]):  # again, where it is there
        pass


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = 7 + index; return 0; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, device, 16); return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_driver_is_asked_for_uuids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    source, library = tmp_path / "driver.c", tmp_path / "libcuda.so.1"
    source.write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert devices._uuids() == ["07" * 16, "08" * 16]
    library.write_bytes(b"no library")
    assert devices._uuids() == []
