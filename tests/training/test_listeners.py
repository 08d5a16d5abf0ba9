"""A training does not hang on the terminal that it was started from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.train import train_dataset
from idpose_core.training.published import read_model
from storage.objects import Store
from tests.training.tiny import SETTINGS, set_options
from tests.training.worlds import commit_world

KEYS = SETTINGS | {"training.log_every": 1}  # a checkpoint holds the sums of the line to come
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
LEFT_AS_IGNORED = """
import os, signal, sys
from flows.train import stopped_by_signals
numbers = [signal.SIGHUP, signal.SIGINT]
before = [signal.getsignal(number) for number in numbers]
with stopped_by_signals() as stop:
    for number in numbers:
        os.kill(os.getpid(), number)
    print("asked to stop:", stop.is_set(), end=", ")
    os.kill(os.getpid(), signal.SIGTERM)
    print(stop.is_set(), end=", ")
print([signal.getsignal(number) for number in numbers] == before)
"""


def left_behind(root: Path) -> tuple[str, list[str]]:
    """Version of the model, and the checkpoints, whose names carry a digest of their tensors."""
    store = Store(root)
    files = [path for path in store.list("runs") if path.endswith(".safetensors")]
    return read_model(store, "cars-identity-pose").version, files


def command(root: Path) -> list[str]:
    options = set_options(training__log_every=1)
    return [sys.executable, "-m", "flows", "train", "cars", "--root", str(root), *options]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """In a process of its own: the number of threads, which decides last bits, is the same."""
    root = tmp_path_factory.mktemp("undisturbed")
    commit_world(Store(root))
    subprocess.run(command(root), capture_output=True, check=True, env=ENV)
    return left_behind(root)


def test_lines_that_cannot_be_told_do_not_end_a_training(tmp_path: Path) -> None:
    heard, tmp_path = tmp_path / "heard", tmp_path / "broken"
    for root in (heard, tmp_path):
        commit_world(Store(root))
    train_dataset(str(heard), "cars", overrides=KEYS, say=lambda line: None)
    said: list[str] = []

    def broken(line: str) -> None:
        said.append(line)
        if line.startswith("step"):
            raise OSError(28, "No space left on device")

    train_dataset(str(tmp_path), "cars", overrides=KEYS, say=broken)
    assert left_behind(tmp_path) == left_behind(heard)
    assert len([line for line in said if line.startswith("step")]) == 1


def test_a_pipe_that_is_closed_does_not_end_a_training(
    undisturbed: tuple[str, list[str]], tmp_path: Path
) -> None:
    """As in ``idpose train ... 2>&1 | head -1``."""
    commit_world(Store(tmp_path))
    running = subprocess.Popen(
        command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENV
    )
    assert running.stdout is not None
    assert running.stdout.readline().startswith("run ")
    running.stdout.close()
    assert running.wait(120) == 0
    assert left_behind(tmp_path) == undisturbed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_under_the_log_does_not_end_a_training(
    undisturbed: tuple[str, list[str]], tmp_path: Path
) -> None:
    commit_world(Store(tmp_path))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(tmp_path), stdout=subprocess.PIPE, stderr=full, text=True, env=ENV
        )
        unanswered = subprocess.run(
            [*command(tmp_path), "--json"], stdout=full, stderr=subprocess.PIPE, text=True, env=ENV
        )
    assert done.returncode == 0 and done.stdout.startswith("published cars-identity-pose@")
    assert left_behind(tmp_path) == undisturbed
    assert unanswered.returncode != 0  # an answer that was asked for and could not be given


def test_signals_that_were_ignored_stay_so() -> None:
    """As under ``nohup``; SIGTERM still asks to stop."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", LEFT_AS_IGNORED],
        capture_output=True, text=True, env=ENV, preexec_fn=ignore, check=True,
    )  # fmt: skip
    assert done.stdout == "asked to stop: False, True, True\n"
