"""Does reading the azimuth keep front and rear apart, on rendered video and on composited ETH-80?

    python -m tests.benchmarks.front_and_rear FOLDER --data DIR --st-alex FILE --azimuth FILE \
        --out docs/results/front-and-rear.json

Videos of the 42 rendered test cars are made below FOLDER; DIR is the folder of real test data. The
reader of azimuths saw none of these cars; its weight in the feature was chosen on the spins, which
have rows of their own. Every crop asks, masks are those that GrabCut finds, and both features
search one pool: the plain one is the other without its reading.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.videos import WORLD_VERSION
from idpose_core.instances.detectors import load_detector
from idpose_core.pose.azimuth import BINS
from idpose_core.pose.embedding import Embedder, load_embedder
from idpose_core.pose.masks import segment
from tests.benchmarks.retrieval import (
    Views,
    backgrounds,
    composite,
    distances,
    folder_version,
    hits,
    interval,
    opposites,
    public_arguments,
    row,
    write,
)
from tests.benchmarks.retrieval_eth80 import SEEDS, load_eth80
from tests.benchmarks.retrieval_rendered import SEED, video
from tests.benchmarks.retrieval_spins import load_spins

Found = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """Crops that search each other, of one or several runs over the same views."""

    name: str
    version: str
    seed: str
    views: Views
    runs: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]


def rendered_pool(folder: Path, processes: int) -> Pool:
    """Frames of the rendered test cars."""
    views = video(folder, processes, ["test"])
    run = (np.stack(views.pictures), np.stack(views.masks))
    name = "rendered cars, video, 42 test cars"
    return Pool(name, f"world {WORLD_VERSION}", str(SEED), views, [run])


def composited_pools(data: Path) -> Iterator[Pool]:
    """ETH-80 and the spins on textured backgrounds."""
    clips, weights = data / "clips", data / "detector" / "yolox_nano.onnx"
    squares = backgrounds(clips, weights)
    spins = load_spins(data / "spins", load_detector("yolox", weights, floor=0.1))[0]
    sets = (
        ("ETH-80 toy cars, eye level, composited", "eth80_cars", load_eth80(data / "eth80_cars")),
        ("spins, composited (the weight was chosen on them)", "spins", spins),
    )
    for name, folder, views in sets:
        runs = []
        for seed in SEEDS:
            crops = composite(views, squares, seed)
            pairs = zip(crops.pictures, crops.boxes, strict=True)
            runs.append((crops.pictures, np.stack([segment(p, box).mask for p, box in pairs])))
        version = f"{folder_version(data / folder)}+clips-{folder_version(clips)}"
        yield Pool(name, version, ",".join(map(str, SEEDS)), views, runs)


def measure(pool: Pool, name: str, embedder: Embedder) -> Iterator[tuple[str, str, Any]]:
    """Method, metric and value with its interval over cars."""
    embedded = [embedder.embed(*run) for run in pool.runs]
    found: dict[str, Found] = {
        f"{name} + azimuth": np.stack([distances(rows, pool.views) for rows in embedded]),
        # The reading comes first, and what is left has one length in all rows.
        name: np.stack([distances(rows[:, BINS:], pool.views) for rows in embedded]),
        "azimuth alone": np.stack([distances(rows[:, :BINS], pool.views) for rows in embedded]),
    }
    scores = {"hit within 22.5 deg": hits, "confused by 180 deg": opposites}
    for metric, score in scores.items():
        for method, off in found.items():
            yield method, metric, interval(score(off), pool.views.identities)
        gained = score(found[f"{name} + azimuth"]) - score(found[name])
        difference = interval(gained, pool.views.identities)
        yield f"{name} + azimuth", f"paired difference, {metric}: minus {name}", difference


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--st-alex", type=Path, required=True, help="alex_shift_tolerant.pth")
    parser.add_argument("--azimuth", type=Path, required=True, help="car-azimuth.safetensors")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/results/front-and-rear.json"))
    arguments = parser.parse_args()
    embedder = load_embedder("st-alex", arguments.st_alex, azimuth=arguments.azimuth)
    rows = []
    for pool in (
        rendered_pool(arguments.folder, arguments.processes),
        *composited_pools(arguments.data),
    ):
        began = time.monotonic()
        for method, metric, value in measure(pool, "st-alex/conv4+silhouette", embedder):
            print(f"{pool.name:50} {method:36} {metric:60} {value[0]:6.3f}", flush=True)
            rows.append(
                row(
                    pool.name,
                    pool.version,
                    method,
                    metric,
                    value,
                    seed=pool.seed,
                    n=len(pool.views.azimuths),
                    budget=f"{round(time.monotonic() - began)} s",
                    command=f"python -m tests.benchmarks.front_and_rear {public_arguments()}",
                )
            )
    write(arguments.out, rows)


if __name__ == "__main__":
    main()
