"""The demo: generated videos, a dataset of triplets, and a page to look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.build_dataset import build_dataset
from flows.configs import find_config
from flows.progress import TerminalProgress
from flows.runners import LocalRunner
from idpose_core.datasets.box_cars import write_box_car_videos


def run_demo(root: str, console: Console) -> dict[str, Any]:
    """Generate videos of box cars below ``root``, build the dataset, say where to look."""
    began = time.monotonic()
    videos = Path(root) / "demo-videos"
    if not (videos / "annotations.csv").is_file():
        console.print("Generating 24 small videos of box cars ...")
        write_box_car_videos(videos, videos=24)
    generated = time.monotonic()
    overrides = {
        "source.path": str(videos),
        "source.annotations": str(videos / "annotations.csv"),
    }
    config = find_config("box-cars", overrides)
    with LocalRunner(config.run) as runner:
        result = build_dataset(config, root, runner, TerminalProgress()).to_dict()
    built = time.monotonic()
    page = Path(root) / result["path"] / "report.html"
    counts = result["counts"]
    console.print(
        f"\n{counts['videos']} videos became {counts['clips']} clips, {counts['crops']} crops and "
        f"{counts['triplets']} balanced ID/pose/target triplets in {built - generated:.0f} s "
        f"(videos {generated - began:.0f} s)."
    )
    console.print(f"  look:     {page}")
    console.print(f"  inspect:  idpose inspect {config.name} --root {root}")
    console.print(f"  query:    SELECT * FROM '{root}/{result['path']}/triplets/*.parquet'")
    return {**result, "page": str(page)}
