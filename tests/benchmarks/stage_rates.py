"""What a unit of each stage costs in time and on disk: the figures behind `idpose build --dry-run`.

    IDPOSE_REAL_DATA=... python -m tests.benchmarks.stage_rates ROOT

Builds from the real clips with one worker for each detector, in a fresh folder below ROOT, and
divides each stage's seconds and bytes by its frames or crops. Faster R-CNN runs with untrained
weights of the same network on one clip: its time does not depend on their values, but what it
finds does, so only its detect stage is measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torchvision

from flows.build_dataset import build_dataset
from flows.runners import LocalRunner
from flows.steps.context import BuildError
from idpose_core.config import read_config_file
from storage.objects import Store
from storage.parquet import from_parquet
from storage.reasons import Status
from tests.benchmarks.real_clips import HERE
from tests.benchmarks.retrieval import public_arguments, row, write

UNITS = {"fetch": "file", "detect": "frame", "crop": "crop", "mask": "crop", "embed": "crop"}


class Stopwatch:
    """A Progress that notes the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = 0.0

    def start(self, stage: str, shards: int, reused: int) -> None:
        assert reused == 0, "rates are measured in a fresh root"
        self._began = time.monotonic()

    def advance(self, stage: str) -> None:
        pass

    def finish(self, stage: str, statuses: Iterable[Status]) -> None:
        self.seconds[stage] = time.monotonic() - self._began

    def say(self, text: str) -> None:
        pass


def measure(overrides: dict[str, Any], root: Path) -> dict[str, dict[str, float]]:
    """Seconds and bytes a unit of each stage that ran, with the number of its units."""
    config = read_config_file(HERE / "real_clips.yaml", {**overrides, "run.workers": 1})
    watch = Stopwatch()
    with LocalRunner(config.run) as runner:
        runner.submit(os.getpid).result()  # starting the worker is no part of a stage
        try:
            build_dataset(config, str(root), runner, watch)
        except BuildError as error:
            print(f"{config.detector.kind}: {error}")
    store, rates = Store(root), {}
    for stage, seconds in watch.seconds.items():
        if stage in UNITS:
            shards = store.list(f"shards/{stage}")
            units = sum(from_parquet(store.read(path), ["status"]).num_rows for path in shards)
            size = sum(store.size(path) for path in shards)
            if not units:
                continue
            rates[stage] = {"units": units, "seconds": seconds / units, "bytes": size / units}
    return rates


def untrained_faster_rcnn(path: Path) -> Path:
    """The network of the default detector with untrained weights."""
    network = torchvision.models.detection.fasterrcnn_resnet50_fpn_v2(weights_backbone=None)
    torch.save(network.state_dict(), path)
    return path


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="where real_clips built: its videos and weights")
    parser.add_argument("--out", type=Path, default=Path("docs/results/stage-rates.json"))
    arguments = parser.parse_args()
    data, videos = Path(os.environ["IDPOSE_REAL_DATA"]), arguments.root / "real-videos"
    os.environ["IDPOSE_WEIGHTS"] = str(arguments.root)
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.root) as name:
        folder = Path(name)
        one = folder / "one"
        one.mkdir()
        (one / "clip.mp4").hardlink_to(videos / "davis_car-turn_480.mp4")
        yolox = {"source.path": str(videos)}
        yolox["detector.weights"] = str(data / "detector" / "yolox_nano.onnx")
        torchvision_weights = untrained_faster_rcnn(folder / "untrained.pth")
        runs = {
            "yolox": yolox,
            "annotations": {
                "source.path": str(data / "ytbb"),
                "source.annotations": str(data / "ytbb" / "ytbb_subset.csv"),
                "detector.kind": "annotations",
            },
            "torchvision": {
                "source.path": str(one),
                "detector.kind": "torchvision",
                "detector.weights": str(torchvision_weights),
            },
        }
        for kind, overrides in runs.items():
            rates = measure(overrides, folder / kind)
            wanted = rates if kind == "yolox" else {"detect": rates["detect"]}
            for stage, rate in wanted.items():
                for metric in ("seconds", "bytes"):
                    label = f"{stage}: {metric} a {UNITS[stage]}"
                    rows.append(result(kind, label, rate[metric], int(rate["units"])))
                    print(f"{kind} {label}: {rate[metric]:.4g} over {rate['units']}")
    write(arguments.out, rows)


def result(kind: str, metric: str, value: float, units: int) -> dict[str, Any]:
    """One row of docs/results."""
    return row(
        "real clips",
        "",
        kind,
        metric,
        (value, None, None),
        seed="0",
        n=units,
        budget="one worker on one thread",
        command=f"IDPOSE_REAL_DATA=... python -m tests.benchmarks.stage_rates {public_arguments()}",
    )


if __name__ == "__main__":
    main()
