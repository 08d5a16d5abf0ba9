"""Is car-view no worse than the default before it, where the azimuth is known?

    python -m tests.benchmarks.car_view_elsewhere FOLDER --data DIR --trunk FILE --reader FILE
        --st-alex FILE --rotnet FILE --azimuth FILE

Rendered cars on video (validation and test cars, made below FOLDER), ETH-80 toy cars and spins on
textured backgrounds, as in ``front_and_rear``: the nearest neighbour among other cars, hits within
22.5 degrees, confused within 22.5 of the opposite. On video the pictures of a clip are read
together; views of a turntable are read one by one. The features of the rendered world stand beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.videos import WORLD_VERSION
from idpose_core.pose.car_view import CarViewEmbedder
from idpose_core.pose.embedding import Embedder, load_embedder
from tests.benchmarks import retrieval
from tests.benchmarks.front_and_rear import turntable_pools
from tests.benchmarks.retrieval import SIZE, distances, hits, interval, opposites
from tests.benchmarks.retrieval_rendered import SEED, VideoCrop, video_crops, video_views

Found = tuple[str, str, str, str, NDArray[np.float64], NDArray[np.int64]]


def on_video(name: str, crops: list[VideoCrop], embedders: dict[str, Embedder]) -> Iterator[Found]:
    """(dataset, version, seed, method, distances [1, N], objects [N]) of frames of videos."""
    views = video_views(crops)
    clips = np.array([f"{crop.video}/{crop.model}" for crop in crops])
    times = np.array([crop.time for crop in crops], np.int64)
    for method, embedder in embedders.items():
        features = np.zeros((len(crops), embedder.dimension), np.float16)
        for clip in np.unique(clips):
            rows = np.flatnonzero(clips == clip)
            pictures = np.stack([crops[row].picture for row in rows])
            masks = np.stack([crops[row].mask for row in rows])
            features[rows] = embedder.embed_clip(pictures, masks, times[rows])[0]
        found = distances(features, views)[None]
        yield name, f"world {WORLD_VERSION}", str(SEED), method, found, views.identities


def main() -> None:
    """Embed, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of rendered videos; what is missing is rendered")
    parser.add_argument("--data", type=Path, required=True, help="folder of real test data")
    for name in ("trunk", "reader", "st-alex", "rotnet", "azimuth"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results/car-view-elsewhere.json"))
    arguments = parser.parse_args()
    embedders: dict[str, Embedder] = {
        "car-view": CarViewEmbedder(arguments.trunk, arguments.reader, image_size=SIZE),
        "st-alex/conv4+silhouette": load_embedder("st-alex", arguments.st_alex),
    }
    rendered = {
        "rotnet/conv4+silhouette+rendered-azimuth": load_embedder(
            "rotnet", arguments.rotnet, azimuth=arguments.azimuth
        ),
        "rotnet/conv4+silhouette": load_embedder("rotnet", arguments.rotnet),
    }
    told: list[Found] = []
    for split in ("validation", "test"):
        crops = list(video_crops(arguments.folder / split, models_of("car", split), 1))
        name = f"rendered cars, video, {len(models_of('car', split))} {split} cars"
        told += on_video(name, crops, {**embedders, **rendered})
    for method, embedder in embedders.items():
        for pool in turntable_pools(arguments.data, embedder):
            found = np.stack([distances(features, pool.views) for features in pool.runs])
            told.append((pool.name, pool.version, pool.seed, method, found, pool.views.identities))
    command = f"python -m tests.benchmarks.car_view_elsewhere {retrieval.public_arguments()}"
    rows = []
    for dataset, version, seed, method, found, objects in told:
        for metric, scores in (
            ("hit within 22.5 deg", hits(found)),
            ("confused by 180 deg", opposites(found)),
        ):
            value = interval(scores, objects)
            rows.append(
                retrieval.row(
                    dataset, version, method, metric, value, seed=seed, n=found.shape[1],
                    budget="", command=command,
                )
            )  # fmt: skip
            print(f"{dataset:60s} {method:42s} {metric} {value[0]:.3f}", flush=True)
    retrieval.write(arguments.out, rows)


if __name__ == "__main__":
    main()
