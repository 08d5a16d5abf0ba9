"""What keeps front and rear apart, on rendered video, composited ETH-80 and composited spins?

    python -m tests.benchmarks.front_and_rear FOLDER --data DIR --st-alex FILE --azimuth FILE

Four ways over the same crops: the plain nearest neighbour, the azimuth reading beside the feature
(`embedder.azimuth`), windows in time (`triplets.window_ms`), and both. Every crop asks, none is
left out for looking alike from both ends, and masks are those that GrabCut finds.

Videos of the 41 validation cars and of the 42 test cars are made below FOLDER; DIR is the folder of
real test data. The reader saw none of these cars. The weight of the reading and the length of the
window are chosen together, on the validation cars alone: of the pairs with which hits, both ways
on, are no fewer than plain, the one that confuses least (of equals the lightest, then the
shortest). The other data are measured with that pair only.

ETH-80 and the spins have no time. A window there is the views 22.5 degrees to either side on the
turntable, all cars turning the same way: that order is known there, and a stranger's pictures would
not have it. Of the five spins one looks like real photographs, two may be photographs or computer
graphics, two are computer graphics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.videos import WORLD_VERSION
from idpose_core.pose.azimuth import BINS
from idpose_core.pose.embedding import AZIMUTH_WEIGHT, Embedder, load_embedder
from idpose_core.pose.neighbours import nearest_in_other_videos, window_rows
from tests.benchmarks import retrieval
from tests.benchmarks.retrieval import SEEDS, STEP_DEG, Value, Views, hits, interval, opposites
from tests.benchmarks.retrieval_eth80 import load_eth80
from tests.benchmarks.retrieval_rendered import SEED, video_crops, video_views
from tests.benchmarks.retrieval_spins import load_spins

WEIGHTS = (1, 2, 3)  # the feature and the silhouette have 1 each
WINDOWS_MS = (333, 667, 1000)  # one, two and three frames
SCORES = {"hit within 22.5 deg": hits, "confused by 180 deg": opposites}
Way = tuple[int, int]  # weight and window; 0 = without
PLAIN: Way = (0, 0)


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


def rendered_pool(folder: Path, split: str, processes: int, embedder: Embedder) -> Pool:
    """Frames of the rendered cars of a split."""
    models = models_of("car", split)
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


def composited_pool(
    name: str, version: str, views: Views, squares: NDArray[np.uint8], embedder: Embedder
) -> Pool:
    """Views of a turntable on textured backgrounds."""
    runs = []
    for seed in SEEDS:
        crops = retrieval.composite(views, squares, seed)
        masks = np.stack([found.mask for found in retrieval.own_masks(crops)])
        runs.append(embedder.embed(crops.pictures, masks))
    seeds = ",".join(map(str, SEEDS))
    return Pool(name, version, seeds, views, runs, views.identities, None)


def turntable_pools(data: Path, embedder: Embedder) -> Iterator[Pool]:
    """ETH-80 and the spins."""
    squares = retrieval.backgrounds(data)
    spins, *_ = load_spins(data / "spins", retrieval.vehicle_detector(data))
    for name, folder, views in (
        ("ETH-80 toy cars, eye level, composited", "eth80_cars", load_eth80(data / "eth80_cars")),
        ("spins (1 looks real, 2 photo or CGI, 2 CGI), composited", "spins", spins),
    ):
        version = retrieval.composited_version(data, folder)
        yield composited_pool(name, version, views, squares, embedder)


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


def weighted(features: NDArray[np.float16], weight: int) -> NDArray[np.float16]:
    """The same features as if the reading had been set beside them with this weight.

    Weights other than the embedder's own are rounded to float16 twice, so that a few near ties go
    to other neighbours than in a feature that was made with that weight.
    """
    if weight == AZIMUTH_WEIGHT:
        return features
    full = features.astype(np.float32)
    full[:, :BINS] *= weight / AZIMUTH_WEIGHT
    return (full / np.linalg.norm(full, axis=1, keepdims=True)).astype(np.float16)


def off_by(pool: Pool, way: Way) -> NDArray[np.float64]:
    """[runs, N]: degrees between each crop and its neighbour among other cars, in 0..180."""
    weight, window_ms = way
    found = []
    for features in pool.runs:
        nearest = nearest_in_other_videos(
            weighted(features, weight),
            features[:, :1].astype(np.float32),  # below its limit the search takes no projection
            pool.clips.astype(str),
            [f"{index:06d}" for index in range(len(features))],
            top_k=1,
            identities=pool.views.identities.astype(str),
            windows=windows(pool, window_ms) if window_ms else None,
        ).indices[:, 0]
        away = np.abs(pool.views.azimuths - pool.views.azimuths[nearest]) % 360
        found.append(np.minimum(away, 360 - away))
    return np.stack(found)


def measure(
    pool: Pool, weights: Sequence[int], windows_ms: Sequence[int]
) -> dict[Way, NDArray[np.float64]]:
    """What ``off_by`` says of plain and of every weight and window, alone and together."""
    return {way: off_by(pool, way) for way in product((0, *weights), (0, *windows_ms))}


def choose(found: dict[Way, NDArray[np.float64]]) -> Way:
    """The pair of weight and window, see above.

    Raises:
        ValueError: With each of them hits are fewer than plain.
    """
    least = hits(found[PLAIN]).mean()
    good = {
        way: opposites(off).mean()
        for way, off in found.items()
        if all(way) and hits(off).mean() >= least
    }
    if not good:
        raise ValueError("every weight and window loses hits on the validation cars")
    return min(good, key=lambda way: (good[way], way))


def way_name(pool: Pool, way: Way) -> str:
    """The method of a row."""
    weight, window_ms = way
    width = "22.5 deg" if pool.times is None else f"{window_ms} ms"
    parts = [f"azimuth, weight {weight}"] if weight else []
    parts += [f"window of {width}"] if window_ms else []
    return " + ".join(parts) or "plain nearest neighbour"


def scored(
    pool: Pool, found: dict[Way, NDArray[np.float64]]
) -> Iterator[tuple[str, str, str, str, Value]]:
    """Dataset, version, method, metric and value with its interval over cars."""
    for metric, score in SCORES.items():
        for way, off in found.items():
            named = pool.name, pool.version, way_name(pool, way)
            yield *named, metric, interval(score(off), pool.views.identities)
            if way != PLAIN:
                difference = interval(score(off) - score(found[PLAIN]), pool.views.identities)
                yield *named, f"paired difference, {metric}: minus plain", difference


def main() -> None:
    """Measure and write the rows."""
    parser = retrieval.benchmark_parser(
        __doc__, "front-and-rear.json", "folder", "--data", "--st-alex", "--processes"
    )
    parser.add_argument("--azimuth", type=Path, required=True, help="car-azimuth.safetensors")
    arguments = parser.parse_args()
    began = time.monotonic()
    embedder = load_embedder("st-alex", arguments.st_alex, azimuth=arguments.azimuth)
    entries: list[tuple[Pool, tuple[str, str, str, str, Value]]] = []

    def add(pool: Pool, found: dict[Way, NDArray[np.float64]]) -> None:
        for entry in scored(pool, found):
            print(f"{entry[0]:42} {entry[2]:36} {entry[3]:52} {entry[4][0]:6.3f}", flush=True)
            entries.append((pool, entry))

    validation = rendered_pool(arguments.folder, "validation", arguments.processes, embedder)
    found = measure(validation, WEIGHTS, WINDOWS_MS)
    add(validation, found)
    weight, window_ms = choose(found)
    print(f"chosen: weight {weight}, window {window_ms} ms", flush=True)
    test = rendered_pool(arguments.folder, "test", arguments.processes, embedder)
    for pool in (test, *turntable_pools(arguments.data, embedder)):
        add(pool, measure(pool, [weight], [window_ms]))
    common = {
        "budget": f"{round(time.monotonic() - began)} s",
        "command": f"python -m tests.benchmarks.front_and_rear {retrieval.public_arguments()}",
    }
    rows = [
        retrieval.row(*entry, seed=pool.seed, n=len(pool.views.azimuths), **common)
        for pool, entry in entries
    ]
    retrieval.write(arguments.out, rows)


if __name__ == "__main__":
    main()
