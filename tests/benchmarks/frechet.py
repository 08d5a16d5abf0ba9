"""Fréchet distance of two folders of PNG files: pytorch-fid's own command against ours.

Both are child processes with the same weights file, threads and pictures, and take turns. Without
``--weights`` the network has random weights: times are the same, the distance means nothing.

``python -m tests.benchmarks.frechet --pictures 128 --out docs/results/frechet-speed.json``
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from idpose_core.evaluation.features import extract, load_features
from idpose_core.evaluation.frechet import frechet_distance, gaussian
from idpose_core.evaluation.intervals import Estimate
from idpose_core.evaluation.results import Measurement, to_json
from idpose_core.stages.crop import decode_png, encode_png
from tests.evaluation.inception import random_inception

_FILE = "pt_inception-2015-12-05-6726825d.pth"  # as torch's cache of downloads names it


def ours(weights: Path, folders: list[Path]) -> float:
    """The distance of two folders."""
    features = load_features("inception", weights)
    sides = []
    for folder in folders:
        pictures = np.stack([decode_png(path.read_bytes()) for path in sorted(folder.iterdir())])
        sides.append(gaussian(extract(features, pictures)))
    return frechet_distance(*sides)


def pictures(folder: Path, count: int, seed: int, side: int) -> Path:
    """PNG files of coloured noise, smooth enough to differ in more than texture."""
    folder.mkdir()
    draws = np.random.default_rng(seed)
    for number in range(count):
        coarse = draws.integers(0, 256, (8 + 4 * seed, 8 + 4 * seed, 3), dtype=np.uint8)
        picture = np.asarray(cv2.resize(coarse, (side, side)), np.uint8)
        (folder / f"{number:05d}.png").write_bytes(encode_png(picture))
    return folder


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and the distance that a command prints last."""
    started, before = time.monotonic(), os.times()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    seconds, after = time.monotonic() - started, os.times()
    busy = sum(after[2:4]) - sum(before[2:4])  # of ended children
    return seconds, busy, float(re.findall(r"-?\d+\.\d+(?:e-?\d+)?", done)[-1])


def main() -> None:
    """Measure, and write rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ours", type=Path, nargs=3, help="weights and two folders; prints")
    asked = parser.parse_args()
    if asked.ours:
        print(f"{ours(asked.ours[0], asked.ours[1:]):.12f}")
        return
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        cache = home / "hub/checkpoints" / _FILE
        cache.parent.mkdir(parents=True)
        weights = torch.load(asked.weights, weights_only=True) if asked.weights else None
        torch.save(weights or random_inception()[0], cache)
        folders = [pictures(home / str(seed), asked.pictures, seed, asked.side) for seed in (0, 1)]
        places = [str(folder) for folder in folders]
        environment = {**os.environ, "TORCH_HOME": str(home)}
        theirs = [sys.executable, "-m", "pytorch_fid", "--device", "cpu", *places]
        here = [sys.executable, "-m", "tests.benchmarks.frechet", "--ours", str(cache), *places]
        rounds = []
        for _ in range(asked.rounds):
            rounds.append((timed(theirs, environment), timed(here, environment)))
            print(rounds[-1], flush=True)
    threads = torch.get_num_threads()
    measurement = Measurement(
        dataset=f"2 x {asked.pictures} PNG files of {asked.side} x {asked.side}",
        dataset_version="generated",
        model=None,
        seed=0,
        budget=f"{threads} threads; weights: {'published' if asked.weights else 'random'}",
        command=f"python -m tests.benchmarks.frechet --pictures {asked.pictures}",
    )

    def best(values: list[float]) -> Estimate:
        return Estimate(min(values), None, None, len(values), len(values))

    rows = []
    for method, place in (("pytorch-fid's command", 0), ("idpose", 1)):
        runs = [r[place] for r in rounds]
        for column, what in enumerate(("seconds, best run", "CPU seconds, best run", "distance")):
            rows.append(measurement.row(method, what, best([run[column] for run in runs])))
    if asked.out:
        asked.out.write_text(to_json(rows), "utf-8")


if __name__ == "__main__":
    main()
