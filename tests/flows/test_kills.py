"""Builds killed with SIGKILL, at publication points and at random moments, end in one version."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from storage.datasets import read_manifest, verify
from storage.objects import Store
from tests.flows.builds import BOX_CARS, build, settings

pytestmark = pytest.mark.faults

# Runs the command line in one process, which kills itself at the n-th call of a function.
KILLER = """
import os, signal, sys
from storage import datasets, logs, objects
point, count = sys.argv[1], int(sys.argv[2])
calls = 0

def deadly(module, name, matches=lambda *a: True, after=False):
    original = getattr(module, name)
    def wrapped(*arguments, **named):
        global calls
        value = original(*arguments, **named) if after else None
        if matches(*arguments):
            calls += 1
            if calls == count:
                os.kill(os.getpid(), signal.SIGKILL)
        return value if after else original(*arguments, **named)
    setattr(module, name, wrapped)

def is_manifest(store, path, data):
    return path.endswith("manifest.json")

if point == "after-temporary":
    deadly(objects, "_write_temporary", after=True)
elif point == "before-publication":
    deadly(os, "link")
elif point == "before-manifest":
    deadly(objects.Store, "publish", is_manifest)
elif point == "after-manifest":
    deadly(objects.Store, "publish", is_manifest, after=True)
elif point == "before-log":
    deadly(datasets.logs, "append_entry")
from flows import cli, runners

class Inline(runners.LocalRunner):
    def map(self, function, calls, label):
        for call in calls:
            yield function(*call)

runners.LocalRunner = Inline
sys.argv = ["idpose", *sys.argv[3:]]
cli.main()
"""


def arguments(videos: Path, root: Path) -> list[str]:
    return ["build", BOX_CARS, "--root", str(root), "--json", *settings(videos)]


@pytest.mark.parametrize(
    ("point", "count"),
    [
        *(("after-temporary", n) for n in (1, 4, 9, 14)),
        *(("before-publication", n) for n in (1, 5, 10, 15)),
        ("before-manifest", 1),
        ("after-manifest", 1),
        ("before-log", 1),
    ],
)
def test_a_build_killed_at_a_publication_point_goes_on(
    point: str,
    count: int,
    videos: Path,
    built: tuple[dict[str, Any], Path],
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    command = [sys.executable, "-c", KILLER, point, str(count), *arguments(videos, root)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    check_second_build(videos, root, built[0])


@pytest.mark.parametrize("attempt", range(5))
def test_a_build_killed_at_a_random_moment_goes_on(
    attempt: int,
    videos: Path,
    built: tuple[dict[str, Any], Path],
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    # A moment by what was published, not by the clock: it lands in flight on every machine.
    published = random.Random(attempt).randrange(1, built[0]["shards"]["computed"])
    program = "from flows.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments(videos, root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while len(list(root.rglob("shards/*/*.parquet"))) < published:
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (root / "datasets").exists()
    check_second_build(videos, root, built[0])


def check_second_build(
    videos: Path,
    root: Path,
    undisturbed: dict[str, Any],
) -> None:
    """The next build reuses what was published and commits the undisturbed version."""
    before = len([path for path in root.rglob("shards/*/*.parquet") if path.stem.isalnum()])
    again = build(videos, root)
    assert again["version"] == undisturbed["version"]
    assert again["content_digest"] == undisturbed["content_digest"]
    shards = again["shards"]
    assert shards["reused"] == before
    assert shards["computed"] + shards["reused"] == undisturbed["shards"]["computed"]
    assert again["damaged"] == []
    store = Store(root)
    assert verify(store, read_manifest(store, "box-cars")) == []
    assert json.loads(store.read("datasets/box-cars/log/00000001.json"))["version"]
