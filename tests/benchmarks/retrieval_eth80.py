"""How well do pose features retrieve pose: ETH-80 toy cars at eye level, plain and composited.

    python -m tests.benchmarks.retrieval_eth80 --data DIR --st-alex FILE \
        [--rotnet-steps 80] [--out docs/results/retrieval-eth80.json]

DIR is the folder of real test data (eth80_cars, clips, detector). A hit is a view whose nearest
neighbour among the *other* cars lies within one of 16 azimuth steps. Three forms: plain (the blue
studio background), composited on textured backgrounds of real clips with box and colour jitter,
and composited with masks: those that GrabCut found from the jittered box, and the true ones as a
ceiling.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks import retrieval
from tests.benchmarks.retrieval import DEFAULT, NONE, OWN, SEEDS, SIZE, Found, Views, row

VIEWS = 16
CEILING = (  # measured with the true masks too
    DEFAULT,
    "st-alex/conv4",
    "st-alex/conv2+silhouette",
    "random-alexnet/conv4",
    "grey-pixels",
    "silhouette",
)


def load_eth80(folder: Path) -> Views:
    """The 7 cars at polar angle 90, 16 azimuths each: index times 22.5 degrees."""
    pictures, masks, identities, azimuths = [], [], [], []
    for number, car in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        files = sorted(car.glob("*_pol090_az???.jpg"))
        if len(files) != VIEWS:
            raise ValueError(f"{car.name} has {len(files)} eye-level views, expected {VIEWS}")
        for index, path in enumerate(files):
            pictures.append(cv2.imread(str(path))[:, :, ::-1].copy())
            mask = cv2.imread(str(path.with_name(f"{path.stem}_mask.png")), cv2.IMREAD_GRAYSCALE)
            masks.append(mask > 127)
            identities.append(number)
            azimuths.append(index * 360 / VIEWS)
    return Views(pictures, masks, np.array(identities), np.array(azimuths))


def main() -> None:
    """Measure and write the rows."""
    arguments = retrieval.benchmark_parser(
        __doc__, "retrieval-eth80.json", "--data", "--st-alex", "--rotnet-steps"
    ).parse_args()
    started = time.monotonic()
    views = load_eth80(arguments.data / "eth80_cars")
    squares = retrieval.backgrounds(arguments.data)
    masked, unmasked = retrieval.both_embedders(
        arguments.data, arguments.st_alex, arguments.rotnet_steps
    )
    ceiling = {name: masked[name] for name in CEILING}
    found: Found = {}
    measure = partial(retrieval.measure, found, views)

    plain = retrieval.composite(views, None, 0)
    measure("plain, no mask", unmasked, plain.pictures, None)
    measure("plain, true masks", ceiling, plain.pictures, plain.masks)
    overlaps, methods, seconds = [], [], 0.0
    for seed in SEEDS:
        crops = retrieval.composite(views, squares, seed)
        began = time.perf_counter()
        results = retrieval.own_masks(crops)
        seconds += time.perf_counter() - began
        methods += [result.method for result in results]
        own = np.stack([result.mask for result in results])
        overlaps += [(a & b).sum() / (a | b).sum() for a, b in zip(own, crops.masks, strict=True)]
        measure(NONE, unmasked, crops.pictures, None)
        measure(OWN, masked, crops.pictures, own)
        measure("composited, true masks", ceiling, crops.pictures, crops.masks)

    summary = {
        "mask IoU, mean": np.mean(overlaps),
        "mask IoU, 10th percentile": np.quantile(overlaps, 0.1),
        "share of masks that fell back to the ellipse": np.mean(np.array(methods) != "grabcut"),
        "seconds a mask": seconds / len(overlaps),
    }
    count = len(views.azimuths)
    entries = [(*entry, count) for entry in retrieval.scored(found, views)]
    chance = (retrieval.chance(views), None, None)
    entries.append(("chance", "hit within 22.5 deg", chance, "none", count))
    for metric, number in summary.items():
        alone = (float(number), None, None)
        entries.append(("GrabCut from the jittered box", metric, alone, "none", len(overlaps)))
    common = {
        "dataset": f"ETH-80 toy cars, eye level, {SIZE} px",
        "version": retrieval.composited_version(arguments.data, "eth80_cars"),
        "budget": f"{round(time.monotonic() - started)} s",
        "command": f"python -m tests.benchmarks.retrieval_eth80 {retrieval.public_arguments()}",
    }
    rows = [
        row(method=method, metric=metric, value=value, seed=seed, n=n, **common)
        for method, metric, value, seed, n in entries
    ]
    retrieval.write(arguments.out, rows)


if __name__ == "__main__":
    main()
