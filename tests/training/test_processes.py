"""Real processes: killed at any moment, asked to stop, two that share a batch."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.train import train_dataset
from idpose_core.models.generator import Generator
from idpose_core.training.config import resolve
from idpose_core.training.journal import read_metrics
from idpose_core.training.published import read_model
from storage.objects import Store
from tests.training.tiny import SETTINGS, set_options
from tests.training.worlds import commit_world

# Runs the command line in one process, which kills itself at a moment that a test chooses.
KILLER = """
import os, signal, sys
point, count = sys.argv[1], int(sys.argv[2])
from idpose_core.training import trainer
from storage import objects
calls = 0

def deadly(holder, name, matches=lambda *a: True, after=True):
    original = getattr(holder, name)
    def wrapped(*arguments, **named):
        global calls
        value = original(*arguments, **named) if after else None
        calls += matches(*arguments)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return value if after else original(*arguments, **named)
    setattr(holder, name, wrapped)

if point == "step":
    deadly(trainer.Trainer, "train_step")
elif point == "half-step":
    deadly(trainer.Trainer, "_update")
elif point == "checkpoint":
    deadly(objects.Store, "replace", lambda store, path, data: "checkpoints" in path)
elif point == "temporary":
    deadly(objects, "_write_temporary")
from flows import cli
sys.argv = ["idpose", *sys.argv[3:]]
cli.main()
"""
STEPS = 12
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}  # tiny networks: more threads wait for each other


@dataclass(frozen=True)
class Outcome:
    """Model and record of a run."""

    model: str
    records: list[dict[str, Any]]


def command(root: Path, **other: Any) -> list[str]:
    return ["train", "cars", "--root", str(root), "--json", *set_options(**other)]


def finish(root: Path) -> dict[str, Any]:
    """The same command again, until the end."""
    done = subprocess.run(
        [sys.executable, "-m", "flows", *command(root)],
        capture_output=True, text=True, check=True, env=ENV,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What a run leaves that nothing disturbed, in a process of its own."""
    root = tmp_path_factory.mktemp("undisturbed")
    commit_world(Store(root))
    return Outcome(finish(root)["model"], records(root))


def records(root: Path) -> list[dict[str, Any]]:
    """What the run recorded, times apart."""
    [run] = {path.split("/")[1] for path in Store(root).list("runs")}
    times = ("triplets_per_second", "seconds_per_step")
    return [
        {key: value for key, value in row.items() if key not in times}
        for row in read_metrics(Store(root), run)
    ]


def killed(root: Path, point: str, count: int) -> int:
    """Run until it kills itself. Returns the return code."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, point, str(count), *command(root)],
        capture_output=True, check=False, env=ENV,
    )  # fmt: skip
    return done.returncode


@pytest.mark.parametrize(("point", "count"), [("step", 6), ("checkpoint", 3)])
def test_a_killed_run_goes_on_to_the_same_weights(
    point: str, count: int, undisturbed: Outcome, tmp_path: Path
) -> None:
    """After step 6, between two checkpoints; and between the two files of the second one."""
    commit_world(Store(tmp_path))
    assert killed(tmp_path, point, count) == -signal.SIGKILL
    found = finish(tmp_path)
    assert found["resumed_from"] == 4
    assert Outcome(found["model"], records(tmp_path)) == undisturbed


@pytest.mark.faults
@pytest.mark.parametrize(
    ("point", "count"),
    [("step", 1), ("step", 11), ("half-step", 9), ("half-step", 18), ("checkpoint", 1),
     ("checkpoint", 2), ("checkpoint", 4), ("checkpoint", 6), ("temporary", 2), ("temporary", 5)],
)  # fmt: skip
def test_killed_at_chosen_moments(
    point: str, count: int, undisturbed: Outcome, tmp_path: Path
) -> None:
    commit_world(Store(tmp_path))
    assert killed(tmp_path, point, count) == -signal.SIGKILL
    assert Outcome(finish(tmp_path)["model"], records(tmp_path)) == undisturbed


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random_moments(seed: int, undisturbed: Outcome, tmp_path: Path) -> None:
    """Twice in flight, each after a random time from its first step or checkpoint on."""
    commit_world(Store(tmp_path))
    kills, moment = 0, random.Random(seed)
    for _ in range(2):
        running = subprocess.Popen(
            [sys.executable, "-m", "flows", *command(tmp_path)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENV,
        )  # fmt: skip
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("run "):
                break
        time.sleep(moment.uniform(0, 1.5))
        running.send_signal(signal.SIGKILL)
        kills += running.wait() == -signal.SIGKILL
    assert Outcome(finish(tmp_path)["model"], records(tmp_path)) == undisturbed
    assert kills


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.faults)]
)
def test_asked_to_stop_it_saves_within_seconds(
    number: signal.Signals, undisturbed: Outcome, tmp_path: Path
) -> None:
    commit_world(Store(tmp_path))
    running = subprocess.Popen(
        [sys.executable, "-m", "flows", *command(tmp_path, training__steps=100_000)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV,
    )  # fmt: skip
    assert running.stderr is not None
    next(line for line in running.stderr if line.startswith("step "))
    asked = time.monotonic()
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert running.returncode == 130 and "Traceback" not in err
    stopped = json.loads(out.splitlines()[-1])
    assert stopped["model"] is None and stopped["steps"] >= 3
    if stopped["steps"] <= STEPS:
        found = finish(tmp_path)
        assert found["resumed_from"] == stopped["steps"]
        assert found["model"] == undisturbed.model


def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    """Equal up to the order of sums: the gradients of halves are averaged."""
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        commit_world(Store(root))
    keys = SETTINGS | {"training.steps": 3}
    done = train_dataset(str(roots[0]), "cars", overrides=keys, say=lambda line: None)
    assert done is not None and done.model is not None
    shared = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "flows", *command(roots[1], training__steps=3)],
        capture_output=True, text=True, check=True, env=ENV,
    )  # fmt: skip
    reports = [line for line in shared.stdout.splitlines() if line.startswith("{")]
    assert len(reports) == 1 and json.loads(reports[0])["run"] == done.run
    one, two = (
        read_model(Store(root), "cars-identity-pose").weights(Store(root)) for root in roots
    )
    # The losses that each step logs are of all slots, so that a share that is counted twice or not
    # averaged shows there, and not in Adam's steps, which a constant factor leaves as they are.
    logged, both = (records(root) for root in roots)
    assert len(logged) == len(both)
    for mine, theirs in zip(logged, both, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-3, abs=1e-5), mine["step"]
    # Adam makes whole steps even of rounding: biases before a norm have no other gradient, and some
    # weights hardly any. Halves that were not averaged would be as far apart as they moved.
    for name in (name for name in one if name.endswith("weight")):
        moved = float((one[name] - _initial(name)).norm())
        apart = float((one[name] - two[name]).norm())
        assert moved > 0 and apart < 0.1 * moved, (name, apart / moved)
    pictures = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    first, second = (_generated(weights, pictures) for weights in (one, two))
    assert float((first - second).abs().max()) < 0.01


def _generated(weights: dict[str, torch.Tensor], pictures: torch.Tensor) -> torch.Tensor:
    network = Generator(resolve(overrides=SETTINGS).generator)
    network.load_state_dict(weights)
    with torch.no_grad():
        made: torch.Tensor = network(pictures[0], pictures[1])
    return made


def _initial(name: str) -> torch.Tensor:
    torch.manual_seed(0)
    return Generator(resolve(overrides=SETTINGS).generator).state_dict()[name]
