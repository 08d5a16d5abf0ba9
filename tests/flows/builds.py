"""Builds of small generated videos through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from flows.cli import app
from storage.objects import Store
from tests.flows.invariants import check_dataset

VIDEOS = 10
BOX_CARS = str(Path(__file__).with_name("box-cars.yaml"))


class InThisProcess:
    """A runner for roots that only this process can see."""

    name = "in-this-process"

    def map(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], label: str
    ) -> Iterator[Any]:
        for call in calls:
            yield function(*call)


def build(
    videos: Path, root: Path, *sets: str, env: dict[str, str] | None = None
) -> dict[str, Any]:
    done = run(["build", BOX_CARS, "--root", str(root), "--json", *settings(videos, sets)], env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    check_dataset(Store(root), f"box-cars@{found['version']}")
    return found


def settings(videos: Path, sets: Sequence[str] = ()) -> list[str]:
    chosen = [
        f"source.path={videos}",
        f"source.annotations={videos / 'annotations.csv'}",
        "embedder.kind=grey-pixels",
        "pose.clusters=4",
        "test_share=0.4",
        *sets,
    ]
    return [word for pair in chosen for word in ("--set", pair)]


def run(
    arguments: Sequence[str], env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command: in this process, which has imported everything, or in one with this ``env``."""
    if env is None:
        done = CliRunner().invoke(app, list(arguments))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
    program = [sys.executable, "-c", "from flows.cli import main; main()", *arguments]
    return subprocess.run(
        program, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
