"""Fit the trust in a pose picture on rendered cars, and check it on real video labelled by hand.

    python -m tests.benchmarks.pair_trust FOLDER --data DIR --trunk FILE --reader FILE
        --rotnet FILE --azimuth FILE [--model OUT.json]

FOLDER has or gets videos of the 41 validation cars, whose azimuth is exact. Both embedders that
read directions look at them: ``car-view``, and RotNet's with ``rendered-azimuth`` beside it. Every
crop's five nearest among other cars are pairs; right is within 45 degrees. What the model says is
then compared with ``real_poses`` (right: within one view of eight), which it never saw.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.splits import models_of
from idpose_core.pose.car_view import CarViewEmbedder
from idpose_core.pose.directions import angle_between
from idpose_core.pose.embedding import Embedder, load_embedder
from idpose_core.pose.neighbours import Neighbours, nearest_in_other_videos
from idpose_core.pose.trust import (
    CONTEXT,
    fit_trust,
    pair_features,
    precision_over_coverage,
    steadiness,
)
from tests.benchmarks import real_poses, retrieval
from tests.benchmarks.retrieval_rendered import video_crops

PAIRS = 5
RIGHT_DEG = 45.0
RIDGE = 1e-2
SHIPPED = Path("idpose_core/weights/shipped/pair-trust.json")


def described(
    features: NDArray[np.float16],
    readings: NDArray[np.float32],
    clips: Sequence[str],
    videos: Sequence[str],
    identities: Sequence[str] | None,
    times: NDArray[np.int64],
) -> tuple[NDArray[np.float64], Neighbours]:
    """Features [N, 5, F] of every crop with its five nearest, and its neighbours."""
    ids = [f"{number:06d}" for number in range(len(features))]
    near = nearest_in_other_videos(
        features, features[:, :1].astype(np.float32), videos, ids, top_k=CONTEXT,
        identities=identities, exhaustive_below=1 << 20,
    )  # fmt: skip
    steady = steadiness(readings, ids, clips, times)
    return pair_features(readings, steady, near, PAIRS), near


def rendered_pairs(
    folder: Path, embedder: Embedder
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Features of pairs [P, F], whether they are right [P], and weights: every video the same."""
    crops = list(video_crops(folder, models_of("car", "validation"), 1))
    videos = np.array([f"{crop.video}/{crop.model}" for crop in crops])
    features = np.zeros((len(crops), embedder.dimension), np.float16)
    readings = np.zeros((len(crops), 3), np.float32)
    times = np.array([crop.time for crop in crops], np.int64)
    for video in np.unique(videos):
        rows = np.flatnonzero(videos == video)
        pictures = np.stack([crops[row].picture for row in rows])
        masks = np.stack([crops[row].mask for row in rows])
        found, read = embedder.embed_clip(pictures, masks, times[rows])
        assert read is not None
        features[rows], readings[rows] = found, read
    models = [str(crop.model) for crop in crops]
    x, near = described(features, readings, videos.tolist(), videos.tolist(), models, times)
    azimuth = np.array([crop.azimuth for crop in crops])
    target, rank = np.nonzero(np.isfinite(x).all(-1))
    pose = near.indices[target, rank]
    right = angle_between(azimuth[target], azimuth[pose]) <= RIGHT_DEG
    count = {video: (videos[target] == video).sum() for video in np.unique(videos)}
    return x[target, rank], right, np.array([1 / count[video] for video in videos[target]])


def main() -> None:
    """Fit, check, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of rendered videos; what is missing is rendered")
    parser.add_argument("--data", type=Path, required=True, help="folder of real test data")
    parser.add_argument("--trunk", type=Path, required=True, help="EfficientNet-Lite0")
    parser.add_argument("--reader", type=Path, required=True, help="car-view.safetensors")
    parser.add_argument("--rotnet", type=Path, required=True, help="rendered-rotnet.safetensors")
    parser.add_argument("--azimuth", type=Path, required=True, help="rendered-azimuth.safetensors")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--out", type=Path, default=Path("docs/results/pair-trust.json"))
    arguments = parser.parse_args()
    view = CarViewEmbedder(arguments.trunk, arguments.reader, image_size=retrieval.SIZE)
    embedders: list[Embedder] = [
        view, load_embedder("rotnet", arguments.rotnet, azimuth=arguments.azimuth)
    ]  # fmt: skip
    parts = [rendered_pairs(arguments.folder, embedder) for embedder in embedders]
    x, right, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    models = {
        # For other worlds than this one: what both readers have in common.
        "car-view": fit_trust(x, right, weights, ridge=RIDGE),
        # For this world, where it reads.
        "azimuth": fit_trust(*parts[1], ridge=RIDGE, monotone=False),
    }
    plain = {name: json.loads(model.to_json()) for name, model in models.items()}
    arguments.model.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    command = f"python -m tests.benchmarks.pair_trust {retrieval.public_arguments()}"
    rows = []

    def tell(
        dataset: str, version: str, method: str, told: NDArray[np.float32], truth: NDArray[np.bool_]
    ) -> None:
        for line in precision_over_coverage(told, truth):
            rows.append(
                retrieval.row(
                    dataset, version, method, f"right at coverage {line['coverage']}",
                    (line["precision"], None, None), seed="none", n=line["pairs"],
                    budget=f"trust of at least {line['min_trust']:.3f}", command=command,
                )
            )  # fmt: skip
            print(method, line, flush=True)

    for name, (features, truth, _) in zip(models, parts, strict=True):
        tell("rendered cars, video, 41 validation cars (fitted)", "", name,
             models[name].probability(features), truth)  # fmt: skip

    labels = real_poses.read_labels(
        arguments.data / "real_poses" / "labels.csv", real_poses.CORRECTIONS
    )
    truth = real_poses.truth_of(labels)
    clips = list(real_poses.follow(arguments.data, labels))
    found, read = real_poses.embed_all(view, clips, len(labels), alone=False)
    assert read is not None
    times = np.array([label.timestamp_ms for label in labels], np.int64)
    x, near = described(
        found.astype(np.float16), read, truth.clip.tolist(), truth.file.tolist(), None, times
    )
    known = truth.view >= 0
    target, rank = np.nonzero(np.isfinite(x).all(-1))
    pose = near.indices[target, rank]
    both = known[target] & known[pose]
    target, rank, pose = target[both], rank[both], pose[both]
    apart = np.abs((truth.view[target] - truth.view[pose] + 4) % 8 - 4)
    tell("hand-labelled views of real vehicles (not fitted)",
         retrieval.folder_version(arguments.data / "real_poses"), "car-view",
         models["car-view"].probability(x[target, rank]), apart <= 1)  # fmt: skip
    retrieval.write(arguments.out, rows)


if __name__ == "__main__":
    main()
