"""The lock of a device: one holder, freed by the kernel, found without a GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch

from idpose_core.training.devices import DeviceError, claimed, locked

HOLDER = """
import sys, time
from idpose_core.training.devices import locked
with locked(sys.argv[1:]) as name:
    print(name, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def holder(*names: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *names], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_each_process_takes_a_device_of_its_own_and_the_kernel_frees_it() -> None:
    first, taken = holder("0", "1")
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
    monkeypatch: pytest.MonkeyPatch,
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
        taken, name = holder("1", "2")
        taken.kill()
        taken.wait()
        assert name == "2"
    with pytest.raises(DeviceError, match="started 2 processes"), claimed("cuda:0"):
        pass
