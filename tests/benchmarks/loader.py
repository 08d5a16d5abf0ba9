"""Is the loader the bottleneck: its batches against bare OpenCV decoding of the same pictures.

    python -m tests.benchmarks.loader ROOT DATASET [--batch 16] [--steps 100] [--threads 1]

Both decode the same pictures in the same order from memory with the same number of threads, in
turn, several times; the ratio is of the best passes. The augmentation is timed beside it, on the
CPU, with as many threads.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import torch

from idpose_core.training.augmentation import Augmentation
from idpose_core.training.data import TripletData, batches
from idpose_core.training.sampling import Sampler
from storage.datasets import read_manifest, read_table
from storage.export import ROLES, picture_places, read_pictures
from storage.objects import Store


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root")
    parser.add_argument("dataset")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--size", type=int, default=64, help="R of the augmentation")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(arguments.threads)
    store = Store(arguments.root)
    opening = time.perf_counter()
    data = TripletData(store, arguments.dataset)
    opening = time.perf_counter() - opening
    sampler = Sampler(len(data), arguments.batch, seed=0)

    manifest = read_manifest(store, arguments.dataset)
    places = picture_places(read_table(store, manifest, "crops", split="train"))
    order = np.concatenate([sampler.batch(step) for step in range(arguments.steps)])
    crops = [data.triplets[f"{role}_crop"].take(order).to_pylist() for role in ROLES]
    used = {crop for role in crops for crop in role}
    encoded = {
        crop: np.frombuffer(picture, np.uint8)
        for crop, picture in read_pictures(store, {crop: places[crop] for crop in used})
    }
    pictures = [encoded[crop] for triplet in zip(*crops, strict=True) for crop in triplet]

    def decode(part: list[np.ndarray]) -> None:
        for picture in part:
            cv2.imdecode(picture, cv2.IMREAD_UNCHANGED)

    def bare() -> None:
        size = 3 * arguments.batch
        parts = [pictures[first : first + size] for first in range(0, len(pictures), size)]
        with ThreadPoolExecutor(arguments.threads) as pool:
            list(pool.map(decode, parts))

    def loader() -> None:
        for _ in batches(data, sampler, 0, arguments.steps, threads=arguments.threads):
            pass

    passes = [(seconds(bare), seconds(loader)) for _ in range(arguments.passes)]
    bare_s, loader_s = (min(times) for times in zip(*passes, strict=True))
    raw = next(batches(data, sampler, 0))
    augment = Augmentation(arguments.size, seed=0)

    def augmentation() -> None:
        for step in range(20):
            augment(replace(raw, step=step))

    augmentation_s = min(seconds(augmentation) for _ in range(arguments.passes)) / 20
    count = len(pictures)
    print(
        json.dumps(
            {
                "dataset": f"{data.name}@{data.version}",
                "picture": list(data.size),
                "bytes_a_picture": round(sum(map(len, pictures)) / count),
                "batch": arguments.batch,
                "threads": arguments.threads,
                "opening_s": round(opening, 2),
                "bare_pictures_per_s": round(count / bare_s),
                "loader_pictures_per_s": round(count / loader_s),
                "ratio": round(bare_s / loader_s, 3),
                "ratios": [round(b / own, 3) for b, own in passes],
                "loader_triplets_per_s": round(count / 3 / loader_s),
                f"augmentation_to_{arguments.size}_triplets_per_s": round(
                    arguments.batch / augmentation_s
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
