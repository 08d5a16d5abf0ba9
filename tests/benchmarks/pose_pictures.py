"""What the pose pictures of a dataset show: the target's pose, its colour, its own object.

    python -m tests.benchmarks.pose_pictures ROOT DATASET... [--out docs/results/pose-pictures.json]

Of the test triplets whose azimuths are known. Colour: the median distance between the mean colours
of pose picture and target in the middle half of the object's box, over the same of pairs drawn at
random; 1 = the pose picture tells nothing of the target's colour. Intervals by bootstrap over the
targets' objects. Rows of the same dataset and method in OUT are replaced.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from idpose_core.stages.crop import box_in_crop, decode_png
from storage.datasets import read_manifest, read_table
from storage.export import picture_places, read_pictures
from storage.objects import Store
from tests.benchmarks.retrieval import interval, public_arguments, row, write

NEAR_DEG = 22.5


def measure(store: Store, dataset: str) -> list[dict[str, Any]]:
    manifest = read_manifest(store, dataset)
    clips = {c["clip_id"]: c for c in read_table(store, manifest, "clips").to_pylist()}
    table = read_table(store, manifest, "crops", split="test")
    crops = {crop["crop_id"]: crop for crop in table.to_pylist()}
    pairs = [
        [crops[triplet[f"{role}_crop"]] for role in ("pose", "target")]
        for triplet in read_table(store, manifest, "triplets", split="test").to_pylist()
    ]
    pairs = [pair for pair in pairs if None not in (crop["azimuth_deg"] for crop in pair)]
    objects = np.asarray([[clips[c["clip_id"]]["identity"] for c in pair] for pair in pairs])
    degrees = np.asarray([[crop["azimuth_deg"] for crop in pair] for pair in pairs])
    turn = np.abs(degrees[:, 0] - degrees[:, 1])
    turn = np.minimum(turn, 360 - turn)
    targets = np.unique(objects[:, 1], return_inverse=True)[1]
    shares = {
        "within 22.5 degrees": turn <= NEAR_DEG,
        "within 22.5 degrees of the opposite": turn >= 180 - NEAR_DEG,
        "the target's own object": objects[:, 0] == objects[:, 1],
    }
    values: dict[str, tuple[float, float | None, float | None]] = {
        f"pose picture: {name}": interval(hit.astype(float), targets)
        for name, hit in shares.items()
    }
    values["colour distance of pose picture and target, 1 = chance"] = (
        colour_ratio(mean_colours(store, table), pairs), None, None,
    )  # fmt: skip
    embedder = manifest["config"]["embedder"]
    return [
        row(
            f"{manifest['name']}, test",
            manifest["version"],
            f"{embedder['kind']}, masks {embedder['masks']}",
            metric,
            value,
            seed=str(manifest["config"]["seed"]),
            n=len(pairs),
            budget="",
            command=f"python -m tests.benchmarks.pose_pictures {public_arguments()}",
        )
        for metric, value in values.items()
    ]


def mean_colours(store: Store, crops: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Of the middle half of the object's box in each crop, RGB."""
    by_id = {crop["crop_id"]: crop for crop in crops.to_pylist()}
    colours = {}
    for crop_id, data in read_pictures(store, picture_places(crops)):
        xmin, xmax, ymin, ymax = box_in_crop(by_id[crop_id])
        width, height = (xmax - xmin) / 4, (ymax - ymin) / 4
        rows = slice(round(ymin + height), round(ymax - height) + 1)
        columns = slice(round(xmin + width), round(xmax - width) + 1)
        colours[crop_id] = decode_png(data)[rows, columns].reshape(-1, 3).mean(axis=0)
    return colours


def colour_ratio(colours: dict[str, NDArray[np.float64]], pairs: list[list[Any]]) -> float:
    pose, target = (np.stack([colours[pair[k]["crop_id"]] for pair in pairs]) for k in (0, 1))
    drawn = np.random.default_rng(0).permutation(len(target))
    apart, by_chance = (
        float(np.median(np.linalg.norm(pose - other, axis=1))) for other in (target, target[drawn])
    )
    return apart / by_chance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root")
    parser.add_argument("dataset", nargs="+")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for dataset in arguments.dataset:
        for found in measure(Store(arguments.root), dataset):
            told = [str(found[name]) for name in ("value", "ci_low", "ci_high", "n")]
            print(f"{found['dataset']} ({found['method']}), {found['metric']}: {' '.join(told)}")
            rows.append(found)
    if arguments.out:
        kept = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
        new = {(r["dataset"], r["method"]) for r in rows}
        write(arguments.out, [r for r in kept if (r["dataset"], r["method"]) not in new] + rows)


if __name__ == "__main__":
    main()
