"""The demo: the whole way on the rendered world, through the Prefect flows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.configs import find_config
from flows.runners import configured_server, prepare_prefect
from storage.datasets import read_manifest
from storage.objects import Store

SETTINGS = {
    "name": "demo",
    "rendered.models": 44,
    "rendered.scenes": 2,
    "rendered.seconds": 3,
    "rendered.samples": 2,
    "pose.clusters": 16,
}
TRAINING = {
    # Drawn at the last step too: the grid that the demo points to.
    "training": {"method": "copy-attention", "preset": "small", "steps": 600, "sample_every": 300},
    "run": {"device": "cpu"},
}


def run_demo(root: str, console: Console) -> dict[str, Any]:
    """Render cars, build a dataset of them, train on it for a few minutes, say where to look.

    What an earlier run left in ``root`` is used again.
    """
    began = time.monotonic()
    if not configured_server():
        home = Path(root).absolute() / ".prefect"
        home.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("PREFECT_HOME", str(home))
    prepare_prefect()
    config = find_config("rendered-cars", SETTINGS)
    console.print(
        "Rendering videos of cars in varied places, then the pipeline: detector, tracks, crops,\n"
        "masks, pose features, clusters, neighbours, balanced triplets. Prefect starts first ...\n"
    )
    from flows.prefect_flows import build_from_terminal
    from flows.prefect_training import train_from_terminal

    result: dict[str, Any] = build_from_terminal(config, root)
    seconds = time.monotonic() - began
    _say_what_was_built(console, root, result, seconds)
    dataset = f"{result['dataset']}@{result['version']}"
    trained = train_from_terminal(dataset, TRAINING, root)
    _say_what_was_trained(console, root, trained, time.monotonic() - began - seconds)
    page = Path(root) / result["path"] / "report.html"
    return {
        **result, "page": str(page), "seconds": time.monotonic() - began, "training": trained,
    }  # fmt: skip


def _say_what_was_built(
    console: Console, root: str, result: dict[str, Any], seconds: float
) -> None:
    page = Path(root) / result["path"] / "report.html"
    counts = result["counts"]
    console.print(
        f"\n{counts['videos']} videos became {counts['clips']} clips, {counts['crops']} crops and "
        f"{counts['triplets']} balanced ID/pose/target triplets in {seconds:.0f} s."
    )
    manifest = read_manifest(Store(root), f"{result['dataset']}@{result['version']}")
    drawn = [split["changes"]["target"] for split in manifest["statistics"]["sampling"].values()]
    known, right, opposite, changed = (
        sum(changes[name] for changes in drawn)
        for name in ("pose_by_truth", "pose_right", "pose_opposite", "changed_by_truth")
    )
    if known:
        console.print(
            f"By truth {right / known:.1%} of the pose pictures face as their targets do, within "
            f"45 degrees, {opposite / known:.1%} the other way. The pose changes by more than 30 "
            f"degrees in {changed / known:.1%} of the triplets."
        )
    parts = ", ".join(f"{stage} {took:.0f} s" for stage, took in result["seconds"].items())
    console.print(
        f"  time:     {parts}, the rest {seconds - sum(result['seconds'].values()):.0f} s"
    )
    console.print(f"  look:     {page}")
    console.print(f"  inspect:  idpose inspect {result['dataset']} --root {root}")
    console.print(f"  query:    SELECT * FROM '{root}/{result['path']}/triplets/*.parquet'\n")


def _say_what_was_trained(
    console: Console, root: str, trained: dict[str, Any], seconds: float
) -> None:
    run = f"{root}/runs/{trained['run']}"
    console.print(
        f"\n{trained['steps']} steps of copy-attention in {seconds:.0f} s, a beginning: rows of "
        "the grid are to keep their car, columns their pose."
    )
    console.print(f"  look:     {run}/samples/{trained['steps']:09d}.png")
    console.print(f"  curves:   tensorboard --logdir {run}/tensorboard")
    console.print(f"  longer:   idpose train {SETTINGS['name']} --root {root}")
