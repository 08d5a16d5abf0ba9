"""How well do pose features retrieve pose: five full-size cars photographed or rendered all around.

    python -m tests.benchmarks.retrieval_spins --data DIR --st-alex FILE \
        [--rotnet-steps 80] [--out docs/results/retrieval-spins.json]

The protocol of retrieval_eth80, on realistic pictures. One car looks like real photographs, two
may be either, two are computer graphics: each group has rows of its own, the neighbours always
being sought among all other cars. There are no true masks: composites are cut out by the masks
that GrabCut found on the published pictures, four of which have a plain white background.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.cropping import crop_square
from idpose_core.instances.detectors import Detector
from idpose_core.pose.masks import segment
from tests.benchmarks import retrieval
from tests.benchmarks.retrieval import (
    CONTEXT,
    NONE,
    OWN,
    SEEDS,
    SIZE,
    VEHICLES,
    Crops,
    Found,
    Views,
    row,
)

UNUSED = ("st-alex/conv4, not aligned", "st-alex/conv3+silhouette")  # told apart on ETH-80


@dataclass(frozen=True)
class Spin:
    """A car's turn: which frames show it at which azimuth (MANIFEST.md of the data).

    Azimuth 0 is the front, 90 the left side (nose to the picture's left), 180 the rear.
    """

    group: str
    sense: int  # +1: front, left, rear, right
    anchors: dict[int, float]  # frame -> azimuth, as seen by eye


SPINS = {
    "honda_civic_white": Spin("photo or CGI", -1, {4: 270, 18: 180, 30: 90, 42: 0}),
    "mazda_cx5_grey": Spin("looks real", 1, {0: 90, 12: 180, 23: 270, 35: 0}),
    "renault_kadjar_red": Spin("CGI", 1, {0: 0, 18: 90, 36: 180, 54: 270}),
    "subaru_crosstrek": Spin("CGI", 1, {0: 90, 7: 180, 16: 270, 25: 0}),
    "suzuki_ertiga_grey": Spin("photo or CGI", -1, {0: 0, 10: 270, 20: 180, 29: 90}),
}


def spin_azimuths(spin: Spin, frames: int) -> NDArray[np.float64]:
    """Azimuth of each of ``frames`` evenly spaced frames, fitted to the anchors, in degrees."""
    step = spin.sense * 360 / frames
    offsets = np.radians([azimuth - step * frame for frame, azimuth in spin.anchors.items()])
    offset = np.degrees(np.arctan2(np.sin(offsets).mean(), np.cos(offsets).mean()))
    turned: NDArray[np.float64] = (offset + step * np.arange(frames)) % 360
    return turned


def load_spins(folder: Path, detector: Detector) -> tuple[Views, Crops, list[str], int]:
    """Crops around the detector's boxes with their own masks.

    Returns:
        The views (crop and own mask), the same as crops with boxes, the group of each view, and
        the number of pictures in which the detector saw no vehicle, which are left out.
    """
    pictures, masks, boxes, identities, azimuths, groups = [], [], [], [], [], []
    missed = 0
    for number, (name, spin) in enumerate(sorted(SPINS.items())):
        files = sorted((folder / name).glob("*.jpg"))
        for path, azimuth in zip(files, spin_azimuths(spin, len(files)), strict=True):
            image = cv2.imread(str(path))[:, :, ::-1].copy()
            vehicles = [d for d in detector.detect([image])[0] if d.class_name in VEHICLES]
            if not vehicles:
                missed += 1
                continue
            height, width = image.shape[:2]
            crop, transform = crop_square(image, vehicles[0].box, size=SIZE, scale=CONTEXT)
            box = transform.box_to_crop(vehicles[0].box, width, height)
            pictures.append(crop)
            boxes.append(box)
            masks.append(segment(crop, box).mask)
            identities.append(number)
            azimuths.append(azimuth)
            groups.append(spin.group)
    views = Views(pictures, masks, np.array(identities), np.array(azimuths))
    return views, Crops(np.stack(pictures), np.stack(masks), boxes), groups, missed


def main() -> None:
    """Measure and write the rows."""
    arguments = retrieval.benchmark_parser(
        __doc__, "retrieval-spins.json", "--data", "--st-alex", "--rotnet-steps"
    ).parse_args()
    started = time.monotonic()
    detector = retrieval.vehicle_detector(arguments.data)
    views, published, groups, missed = load_spins(arguments.data / "spins", detector)
    squares = retrieval.backgrounds(arguments.data)
    masked, unmasked = retrieval.both_embedders(
        arguments.data, arguments.st_alex, arguments.rotnet_steps
    )
    masked = {name: embedder for name, embedder in masked.items() if name not in UNUSED}
    found: Found = {}
    measure = partial(retrieval.measure, found, views)

    measure("as published, no mask", unmasked, published.pictures, None)
    measure("as published, own masks", masked, published.pictures, published.masks)
    for seed in SEEDS:
        crops = retrieval.composite(views, squares, seed)
        own = np.stack([result.mask for result in retrieval.own_masks(crops)])
        measure(NONE, unmasked, crops.pictures, None)
        measure(OWN, masked, crops.pictures, own)

    entries = []
    for group in ("all", *sorted(set(groups))):
        chosen = np.array([group in ("all", own) for own in groups])
        dataset = f"spins ({group}; {len(np.unique(views.identities[chosen]))} cars), {SIZE} px"
        scores = retrieval.scored(found, views, chosen)
        entries += [(dataset, int(chosen.sum()), *entry) for entry in scores]
    whole = entries[0][:2]
    chance = (retrieval.chance(views), None, None)
    entries.append((*whole, "chance", "hit within 22.5 deg", chance, "none"))
    left_out = ("YOLOX-nano at 0.1", "pictures without a detected vehicle, left out")
    entries.append((*whole, *left_out, (missed, None, None), "none"))
    common = {
        "version": retrieval.composited_version(arguments.data, "spins"),
        "budget": f"{round(time.monotonic() - started)} s",
        "command": f"python -m tests.benchmarks.retrieval_spins {retrieval.public_arguments()}",
    }
    rows = [
        row(dataset, method=method, metric=metric, value=value, seed=seed, n=n, **common)
        for dataset, n, method, metric, value, seed in entries
    ]
    retrieval.write(arguments.out, rows)


if __name__ == "__main__":
    main()
