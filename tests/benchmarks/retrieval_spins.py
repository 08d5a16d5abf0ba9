"""How well do pose features retrieve pose: five full-size cars photographed or rendered all around.

    python -m tests.benchmarks.retrieval_spins --data DIR --st-alex FILE \
        --out docs/results/retrieval-spins.json [--rotnet-steps 80]

The protocol of retrieval_eth80, on realistic pictures. One car looks like real photographs, two
may be either, two are computer graphics: each group has rows of its own, the neighbours always
being sought among all other cars. There are no true masks: composites are cut out by the masks
that GrabCut found on the published pictures, four of which have a plain white background.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.cropping import crop_square
from idpose_core.instances.detectors import Detector, load_detector
from idpose_core.pose.embedding import Embedder
from idpose_core.pose.masks import segment
from tests.benchmarks.retrieval import (
    CONTEXT,
    SIZE,
    VEHICLES,
    Crops,
    Views,
    backgrounds,
    chance,
    composite,
    distances,
    folder_version,
    hits,
    interval,
    opposites,
    public_arguments,
    row,
    train_own_rotnet,
    write,
)
from tests.benchmarks.retrieval_eth80 import PAIRS, masked_embedders, unmasked_embedders

SEEDS = (200, 201, 202)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--st-alex", type=Path, required=True, help="alex_shift_tolerant.pth")
    parser.add_argument("--rotnet-steps", type=int, default=0, help="train RotNet on the clips")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    started = time.monotonic()
    clips, weights = arguments.data / "clips", arguments.data / "detector" / "yolox_nano.onnx"
    detector = load_detector("yolox", weights, floor=0.1)
    views, published, groups, missed = load_spins(arguments.data / "spins", detector)
    squares = backgrounds(clips, weights)
    with tempfile.TemporaryDirectory() as folder:
        rotnet = None
        if arguments.rotnet_steps:
            destination = Path(folder) / "rotnet.safetensors"
            rotnet = train_own_rotnet(clips, weights, arguments.rotnet_steps, destination)
        masked = masked_embedders(arguments.st_alex, rotnet)
        unmasked = unmasked_embedders(arguments.st_alex, rotnet)
    masked = {name: embedder for name, embedder in masked.items() if name not in UNUSED}
    found: dict[tuple[str, str], list[NDArray[np.float64]]] = {}

    def measure(form: str, embedders: dict[str, Embedder], pictures: Any, masks: Any) -> None:
        for name, embedder in embedders.items():
            features = embedder.embed(pictures, masks)
            found.setdefault((form, name), []).append(distances(features, views))
            print(f"{form:24s} {name:56s} {hits(found[form, name][-1]).mean():.3f}", flush=True)

    measure("as published, no mask", unmasked, published.pictures, None)
    measure("as published, own masks", masked, published.pictures, published.masks)
    for seed in SEEDS:
        crops = composite(views, squares, seed)
        own = np.stack(
            [
                segment(picture, box).mask
                for picture, box in zip(crops.pictures, crops.boxes, strict=True)
            ]
        )
        measure("composited, no mask", unmasked, crops.pictures, None)
        measure("composited, own masks", masked, crops.pictures, own)
    version = f"{folder_version(arguments.data / 'spins')}+clips-{folder_version(clips)}"
    budget = f"{round(time.monotonic() - started)} s"
    write(arguments.out, _rows(found, views, groups, missed, version, budget))


def _rows(
    found: dict[tuple[str, str], list[NDArray[np.float64]]],
    views: Views,
    groups: list[str],
    missed: int,
    version: str,
    budget: str,
) -> list[dict[str, Any]]:
    command = f"python -m tests.benchmarks.retrieval_spins {public_arguments()}"
    rows = []
    for group in ("all", *sorted(set(groups))):
        chosen = np.array([group in ("all", own) for own in groups])
        identities = views.identities[chosen]
        dataset = f"spins ({group}; {len(np.unique(identities))} cars), {SIZE} px"

        def add(
            method: str,
            metric: str,
            runs: NDArray[np.float64],
            dataset: str = dataset,
            chosen: NDArray[np.bool_] = chosen,
            identities: NDArray[np.int64] = identities,
        ) -> None:
            mean, low, high = interval(runs[:, chosen], identities)
            few = len(np.unique(identities)) < 3  # too few cars to draw from
            value = (mean, None if few else low, None if few else high)
            seeds = ",".join(map(str, SEEDS)) if len(runs) > 1 else "none"
            common: dict[str, Any] = {"n": int(chosen.sum()), "budget": budget, "command": command}
            rows.append(row(dataset, version, method, metric, value, seed=seeds, **common))

        for (form, name), runs in found.items():
            add(name, f"hit within 22.5 deg: {form}", np.stack([hits(run) for run in runs]))
            turned = np.stack([opposites(run) for run in runs])
            add(name, f"confused by 180 deg: {form}", turned)
        for name, (form, other) in PAIRS:
            first = np.stack([hits(run) for run in found["composited, own masks", name]])
            second = np.stack([hits(run) for run in found[form, other]])
            add(
                name,
                f"paired difference of hits (own masks) minus {other} ({form})",
                first - second,
            )
    plain = {"ci_low": None, "ci_high": None, "seed": "none"}
    rows.append(
        rows[0]
        | plain
        | {"method": "chance", "value": round(chance(views), 4)}
        | {"metric": "hit within 22.5 deg"}
    )
    rows.append(
        rows[0]
        | plain
        | {"method": "YOLOX-nano at 0.1", "value": missed}
        | {"metric": "pictures without a detected vehicle, left out"}
    )
    return rows


if __name__ == "__main__":
    main()
