"""Small builds from the network: their configuration, and annotations of invented videos."""

from __future__ import annotations

from pathlib import Path

from flows.configs import find_config
from flows.progress import TerminalProgress
from flows.steps.context import Context
from idpose_core.config import parse_override
from storage.objects import Store
from tests.flows.builds import BOX_CARS, InThisProcess

QUICK = [
    "download.stall_seconds=1",
    "download.backoff_seconds=0.05",
    "download.pause_seconds=0.2",
    "download.tries=3",
]


def invented(name: str) -> list[list[str]]:
    """Rows of annotations for a video."""
    times = (0, 1000, 2000)
    return [[name, str(t), "23", "car", "0", "present", ".2", ".6", ".3", ".7"] for t in times]


def write_table(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("".join(",".join(row) + "\n" for row in rows))  # as published: no header
    return path


def context(folder: Path, *sets: str) -> Context:
    """A build in this process, with its root below ``folder``."""
    words = ["source.kind=http", "source.url_template=http://a.example/{video_id}", *sets]
    config = find_config(BOX_CARS, dict(map(parse_override, words)))
    return Context(config, Store(folder / "root"), InThisProcess(), TerminalProgress())
