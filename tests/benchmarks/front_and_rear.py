"""What keeps front and rear apart, on rendered video and on composited ETH-80?

    python -m tests.benchmarks.front_and_rear FOLDER --data DIR --st-alex FILE --azimuth FILE \
        --out docs/results/front-and-rear.json

Four ways over the same crops: the plain nearest neighbour, the azimuth reading beside the feature
(`embedder.azimuth`), windows in time (`triplets.window_ms`), and both. Every crop asks, none is
left out for looking alike from both ends, and masks are those that GrabCut finds.

Videos of ten validation cars and of the 42 test cars are made below FOLDER; DIR is the folder of
real test data. The reader saw none of these cars. The length of the window is chosen on the
validation cars: of those with which hits, both choices on, are no fewer than plain, the one that
confuses least (the shortest of equals).

ETH-80 has no time. A window there is the views 22.5 degrees to either side on the turntable, all
cars turning the same way: that order is known there, and a stranger's pictures would not have it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.videos import WORLD_VERSION
from idpose_core.pose.azimuth import BINS
from idpose_core.pose.embedding import Embedder, load_embedder
from idpose_core.pose.neighbours import nearest_in_other_videos, window_rows
from tests.benchmarks import retrieval
from tests.benchmarks.retrieval import SEEDS, STEP_DEG, Views, hits, interval, opposites
from tests.benchmarks.retrieval_eth80 import load_eth80
from tests.benchmarks.retrieval_rendered import SEED, video_crops, video_views

VALIDATION_CARS = 10
WINDOWS_MS = (333, 667, 1000)  # one, two and three frames
PLAIN, AZIMUTH, WINDOW, BOTH = "plain nearest neighbour", "azimuth", "window", "azimuth + window"
SCORES = {"hit within 22.5 deg": hits, "confused by 180 deg": opposites}


@dataclass(frozen=True)
class Pool:
    """Crops that search each other, embedded once for each run over the same views.

    Attributes:
        views: Their identities and azimuths.
        runs: The features of every run, float16 [N, D], the reading in the first columns.
        clips: [N], which clip a crop is of.
        times: [N] in milliseconds; None where there is no time.
    """

    name: str
    version: str
    seed: str
    views: Views
    runs: list[NDArray[np.float16]]
    clips: NDArray[Any]
    times: NDArray[np.int64] | None


def rendered_pool(
    folder: Path, split: str, models: Sequence[int], processes: int, embedder: Embedder
) -> Pool:
    """Frames of rendered cars."""
    crops = list(video_crops(folder / split, models, processes))
    views = video_views(crops)
    return Pool(
        f"rendered cars, video, {len(models)} {split} cars",
        f"world {WORLD_VERSION}",
        str(SEED),
        views,
        [embedder.embed(np.stack(views.pictures), np.stack(views.masks))],
        np.array([f"{crop.video}/{crop.model}" for crop in crops]),
        np.array([crop.time for crop in crops]),
    )


def eth80_pool(data: Path, embedder: Embedder) -> Pool:
    """ETH-80 on textured backgrounds."""
    views = load_eth80(data / "eth80_cars")
    squares = retrieval.backgrounds(data)
    runs = []
    for seed in SEEDS:
        crops = retrieval.composite(views, squares, seed)
        masks = np.stack([found.mask for found in retrieval.own_masks(crops)])
        runs.append(embedder.embed(crops.pictures, masks))
    version = retrieval.composited_version(data, "eth80_cars")
    seeds = ",".join(map(str, SEEDS))
    name = "ETH-80 toy cars, eye level, composited"
    return Pool(name, version, seeds, views, runs, views.identities, None)


def windows(pool: Pool, window_ms: int) -> NDArray[np.int64]:
    """[3, N]: the crops before, at and after each; where there is no time, by azimuth."""
    if pool.times is not None:
        return window_rows(pool.clips, pool.times, window_ms)
    azimuths, rows = pool.views.azimuths, np.tile(np.arange(len(pool.clips)), (3, 1))
    for car in np.unique(pool.clips):
        own = np.flatnonzero(pool.clips == car)
        for place, step in ((0, -STEP_DEG), (2, STEP_DEG)):
            away = azimuths[own][None, :] - azimuths[own][:, None] - step
            rows[place, own] = own[np.abs((away + 180) % 360 - 180).argmin(axis=1)]
    return rows


def off_by(pool: Pool, way: str, window_ms: int) -> NDArray[np.float64]:
    """[runs, N]: degrees between each crop and its neighbour among other cars, in 0..180."""
    found = []
    for features in pool.runs:
        if way not in (AZIMUTH, BOTH):
            rest = features[:, BINS:].astype(np.float32)
            features = rest / np.linalg.norm(rest, axis=1, keepdims=True)
        nearest = nearest_in_other_videos(
            features,
            features[:, :1].astype(np.float32),  # below its limit the search takes no projection
            pool.clips.astype(str),
            [f"{index:06d}" for index in range(len(features))],
            top_k=1,
            identities=pool.views.identities.astype(str),
            windows=windows(pool, window_ms) if way in (WINDOW, BOTH) else None,
        ).indices[:, 0]
        away = np.abs(pool.views.azimuths - pool.views.azimuths[nearest]) % 360
        found.append(np.minimum(away, 360 - away))
    return np.stack(found)


def measure(pool: Pool, window_ms: int) -> Iterator[tuple[str, str, Any]]:
    """Method, metric and value with its interval over cars."""
    found = {way: off_by(pool, way, window_ms) for way in (PLAIN, AZIMUTH, WINDOW, BOTH)}
    width = "22.5 deg" if pool.times is None else f"{window_ms} ms"
    for metric, score in SCORES.items():
        for way, off in found.items():
            name = way.replace(WINDOW, f"window of {width}")
            yield name, metric, interval(score(off), pool.views.identities)
            if way != PLAIN:
                difference = interval(score(off) - score(found[PLAIN]), pool.views.identities)
                yield name, f"paired difference, {metric}: minus plain", difference


def choose_window(pool: Pool) -> int:
    """The window in milliseconds, see above; the shortest where each of them loses hits."""
    plain = hits(off_by(pool, PLAIN, 0)).mean()
    good = {}
    for window_ms in WINDOWS_MS:
        off = off_by(pool, BOTH, window_ms)
        if hits(off).mean() >= plain:
            good[window_ms] = opposites(off).mean()
    return min(good, key=lambda window_ms: (good[window_ms], window_ms), default=WINDOWS_MS[0])


def main() -> None:
    """Measure and write the rows."""
    parser = retrieval.benchmark_parser(
        __doc__, "front-and-rear.json", "folder", "--data", "--st-alex", "--processes"
    )
    parser.add_argument("--azimuth", type=Path, required=True, help="car-azimuth.safetensors")
    parser.add_argument("--only", choices=("video", "eth80"), help="keeps the other's rows")
    arguments = parser.parse_args()
    embedder = load_embedder("st-alex", arguments.st_alex, azimuth=arguments.azimuth)
    kept = (
        json.loads(arguments.out.read_text())["rows"]
        if arguments.only and arguments.out.exists()
        else []
    )
    rows = {(entry["dataset"], entry["method"], entry["metric"]): entry for entry in kept}

    def add(pool: Pool, window_ms: int) -> None:
        for method, metric, value in measure(pool, window_ms):
            print(f"{pool.name:42} {method:34} {metric:52} {value[0]:6.3f}", flush=True)
            rows[pool.name, method, metric] = retrieval.row(
                pool.name,
                pool.version,
                method,
                metric,
                value,
                seed=pool.seed,
                n=len(pool.views.azimuths),
                budget="",
                command=f"python -m tests.benchmarks.front_and_rear {retrieval.public_arguments()}",
            )
        retrieval.write(arguments.out, list(rows.values()))

    folder, processes = arguments.folder, arguments.processes
    if arguments.only != "eth80":
        some = models_of("car", "validation")[:VALIDATION_CARS]
        validation = rendered_pool(folder, "validation", some, processes, embedder)
        for window_ms in WINDOWS_MS:
            add(validation, window_ms)
        chosen = choose_window(validation)
        print(f"window: {chosen} ms", flush=True)
        add(rendered_pool(folder, "test", models_of("car", "test"), processes, embedder), chosen)
    if arguments.only != "video":
        add(eth80_pool(arguments.data, embedder), 0)


if __name__ == "__main__":
    main()
