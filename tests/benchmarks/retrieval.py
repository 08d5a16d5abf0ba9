"""What the retrieval measurements share: features, composites, hits, intervals, result rows."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.evaluation.intervals import estimate
from idpose_core.instances.boxes import Box
from idpose_core.instances.cropping import crop_square
from idpose_core.instances.detectors import Detector, load_detector
from idpose_core.pose.embedding import Embedder, Masking, load_embedder
from idpose_core.pose.masks import Segmentation, segment
from idpose_core.pose.pretext import train_rotnet

SIZE = 160  # side of the pictures
CONTEXT = 1.25  # side of a crop over the longer side of its box, as in a build
STEP_DEG = 22.5  # one of 16 azimuth steps
JITTER = 0.06  # a detector's box is off by up to this share of its side, each edge
TEXTURE = 5.0  # least mean gradient of a background, in grey levels a pixel
VEHICLES = frozenset({"car", "bus", "truck"})
RESAMPLES = 10_000
SEEDS = (200, 201, 202)  # of composites; the masks' constants were chosen on others
DEFAULT = "st-alex/conv4+silhouette"  # docs/decisions/pose-embedder-default.md
OWN, NONE = "composited, own masks", "composited, no mask"
PAIRS = (  # compared view by view, both on the same composites
    (DEFAULT, (NONE, "st-alex/conv4")),
    ("st-alex/conv4", (NONE, "st-alex/conv4")),
    (DEFAULT, (OWN, "random-alexnet/conv4")),
    (DEFAULT, (OWN, "random-alexnet/conv4+silhouette")),
    ("st-alex/conv4", (OWN, "random-alexnet/conv4")),
    (DEFAULT, (OWN, "silhouette")),
    (DEFAULT, (OWN, "grey-pixels")),
    (DEFAULT, (OWN, "st-alex/conv2+silhouette")),
    (DEFAULT, (OWN, "st-alex/conv4+silhouette, not aligned, background kept")),
)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "folder": {"type": Path, "help": "of rendered videos; what is missing there is rendered"},
    "--processes": {"type": int, "default": 1, "help": "that render"},
    "--data": {"type": Path, "required": True, "help": "folder of real test data"},
    "--st-alex": {"type": Path, "required": True, "help": "alex_shift_tolerant.pth"},
    "--rotnet-steps": {"type": int, "default": 0, "help": "train RotNet on the clips"},
}
Found = dict[tuple[str, str], list[NDArray[np.float64]]]
"""Of a form of the pictures and a feature: ``distances``, once for each seed."""
Value = tuple[float, float | None, float | None]
"""With the interval's ends where there is one."""


@dataclass(frozen=True)
class Views:
    """Pictures of several objects all around.

    Attributes:
        pictures: uint8 [H, W, 3] RGB, one each.
        masks: bool [H, W], one each.
        identities: [N] number of the object.
        azimuths: [N] in degrees, one convention for all objects.
    """

    pictures: list[NDArray[np.uint8]]
    masks: list[NDArray[np.bool_]]
    identities: NDArray[np.int64]
    azimuths: NDArray[np.float64]


@dataclass(frozen=True)
class Crops:
    """Square crops as a build makes them: pictures, true masks, boxes in pixels of the crop."""

    pictures: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    boxes: list[tuple[float, float, float, float]]


def benchmark_parser(doc: str | None, out: str, *names: str) -> argparse.ArgumentParser:
    """Those of ``ARGUMENTS`` that are named, and ``--out``: a file in docs/results."""
    parser = argparse.ArgumentParser(description=doc)
    for name in names:
        parser.add_argument(name, **ARGUMENTS[name])
    parser.add_argument("--out", type=Path, default=Path("docs/results") / out)
    return parser


def vehicle_detector(data: Path, floor: float = 0.1) -> Detector:
    """YOLOX-nano of the folder of real test data."""
    return load_detector("yolox", data / "detector" / "yolox_nano.onnx", floor=floor)


def backgrounds(data: Path, seed: int = 0) -> NDArray[np.uint8]:
    """Textured squares of the clips' frames without vehicles, uint8 [N, 160, 160, 3]."""
    detector = vehicle_detector(data)
    draws = np.random.default_rng(seed)
    squares = []
    for path in sorted((data / "clips").glob("*.mp4")):
        with av.open(str(path)) as container:
            frames = [
                frame.to_ndarray(format="rgb24")
                for index, frame in enumerate(container.decode(video=0))
                if index % 24 == 12
            ]
        for frame, found in zip(frames[:12], detector.detect(frames[:12]), strict=False):
            boxes = [d.box for d in found if d.class_name in VEHICLES]
            for _ in range(20):
                square = _random_square(frame, boxes, draws)
                if square is not None:
                    squares.append(square)
                    break
    return np.stack(squares)


def _random_square(
    frame: NDArray[np.uint8], vehicles: Sequence[Box], draws: np.random.Generator
) -> NDArray[np.uint8] | None:
    height, width = frame.shape[:2]
    side = int(draws.uniform(0.35, 0.8) * min(height, width))
    left, top = int(draws.integers(width - side + 1)), int(draws.integers(height - side + 1))
    covered = sum(
        max(0.0, min(box.xmax * width, left + side) - max(box.xmin * width, left))
        * max(0.0, min(box.ymax * height, top + side) - max(box.ymin * height, top))
        for box in vehicles
    )
    if side < 100 or covered > 0.02 * side * side:
        return None
    part = frame[top : top + side, left : left + side]
    square = cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = sum(np.abs(cv2.Sobel(grey, cv2.CV_32F, *way)).mean() / 8 for way in ((1, 0), (0, 1)))
    return square.astype(np.uint8) if gradient >= TEXTURE else None


def composite(views: Views, squares: NDArray[np.uint8] | None, seed: int) -> Crops:
    """Crop each view, with a jittered box and colours and on a random background where given."""
    draws = np.random.default_rng(seed)
    pictures, masks, boxes = [], [], []
    for picture, mask in zip(views.pictures, views.masks, strict=True):
        rows, columns = np.nonzero(mask)
        box = np.array([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1], float)
        spans = np.array([box[1] - box[0]] * 2 + [box[3] - box[2]] * 2)
        if squares is not None:
            box = box + draws.uniform(-JITTER, JITTER, 4) * spans
        side = CONTEXT * max(box[1] - box[0], box[3] - box[2])
        left, top = (box[0] + box[1] - side) / 2, (box[2] + box[3] - side) / 2
        crop = _square(picture.astype(np.float32), left, top, side)
        # The outermost pixel of the mask is a mixture with the old background.
        inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
        opacity = _square(
            inner if squares is not None else mask.astype(np.float32), left, top, side
        )
        if squares is not None:
            back = squares[draws.integers(len(squares))].astype(np.float32)
            back = back[:, ::-1] if draws.random() < 0.5 else back
            crop = _jitter_colours(crop, draws) * opacity[..., None] + back * (
                1 - opacity[..., None]
            )
        pictures.append(np.rint(np.clip(crop, 0, 255)).astype(np.uint8))
        masks.append(opacity > 0.5)
        xmin, xmax, ymin, ymax = (box - np.array([left, left, top, top])) * SIZE / side
        boxes.append((float(xmin), float(xmax), float(ymin), float(ymax)))
    return Crops(np.stack(pictures), np.stack(masks), boxes)


def _square(image: NDArray[np.float32], left: float, top: float, side: float) -> Any:
    scale = 2 * SIZE / side
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    twice = cv2.warpAffine(image, matrix, (2 * SIZE, 2 * SIZE), borderMode=cv2.BORDER_REFLECT_101)
    return cv2.resize(twice, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _jitter_colours(picture: Any, draws: np.random.Generator) -> Any:
    gain, saturation = draws.uniform(0.75, 1.25), draws.uniform(0.6, 1.3)
    channels, offset = draws.uniform(0.9, 1.1, 3), draws.uniform(-15, 15)
    grey = picture.mean(2, keepdims=True)
    return np.clip((grey + (picture - grey) * saturation) * gain * channels + offset, 0, 255)


def own_masks(crops: Crops) -> list[Segmentation]:
    """What GrabCut finds from the boxes."""
    pairs = zip(crops.pictures, crops.boxes, strict=True)
    return [segment(picture, box) for picture, box in pairs]


def vehicle_crops(data: Path, threshold: float = 0.4) -> Any:
    """Square crops of the vehicles of the clips, uint8 [N, 160, 160, 3], every 12th frame."""
    detector = vehicle_detector(data, threshold)
    crops = []
    for path in sorted((data / "clips").glob("*.mp4")):
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index % 12:
                    continue
                image = frame.to_ndarray(format="rgb24")
                for found in detector.detect([image])[0]:
                    side = max(found.box.width * image.shape[1], found.box.height * image.shape[0])
                    if found.class_name in VEHICLES and side >= 64:
                        crops.append(crop_square(image, found.box, size=SIZE, scale=CONTEXT)[0])
    return np.stack(crops)


def train_own_rotnet(data: Path, steps: int, destination: Path) -> Path:
    """RotNet by its pretext task on the vehicles of the clips; no ETH-80 picture, no spin."""
    crops = vehicle_crops(data)
    trained = train_rotnet(
        crops, destination, steps=steps, batch_size=16, input_size=128, learning_rate=0.02, seed=0
    )
    print(
        f"rotnet: {len(crops)} crops, {steps} steps, rotation accuracy {trained.accuracy:.3f} "
        f"on {trained.held_out} held-out crops, sha256 {trained.sha256}",
        flush=True,
    )
    return trained.path


def both_embedders(
    data: Path, st_alex: Path, rotnet_steps: int
) -> tuple[dict[str, Embedder], dict[str, Embedder]]:
    """``masked_embedders`` and ``unmasked_embedders``, with RotNet where it is to be trained."""
    with tempfile.TemporaryDirectory() as folder:
        destination = Path(folder) / "rotnet.safetensors"
        rotnet = train_own_rotnet(data, rotnet_steps, destination) if rotnet_steps else None
        return masked_embedders(st_alex, rotnet), unmasked_embedders(st_alex, rotnet)


def masked_embedders(st_alex: Path, rotnet: Path | None) -> dict[str, Embedder]:
    """Features that a mask restricts to the object, by the name of their row."""
    features_only = Masking(align=False, grey_background=False)
    unaligned = Masking(align=False)
    embedders = {
        "st-alex/conv4+silhouette": load_embedder("st-alex", st_alex),
        "st-alex/conv4": load_embedder("st-alex", st_alex, silhouette=False),
        "st-alex/conv4, not aligned": load_embedder(
            "st-alex", st_alex, silhouette=False, masking=unaligned
        ),
        "st-alex/conv4+silhouette, not aligned, background kept": load_embedder(
            "st-alex", st_alex, masking=features_only
        ),
        "st-alex/conv3+silhouette": load_embedder("st-alex", st_alex, layer="conv3"),
        "st-alex/conv2+silhouette": load_embedder("st-alex", st_alex, layer="conv2"),
        "random-alexnet/conv4": load_embedder("random-alexnet", silhouette=False),
        "random-alexnet/conv4+silhouette": load_embedder("random-alexnet"),
        "grey-pixels": load_embedder("grey-pixels", silhouette=False),
        "silhouette": load_embedder("silhouette"),
    }
    if rotnet is not None:
        embedders["rotnet-own-pretext/conv4"] = load_embedder("rotnet", rotnet, silhouette=False)
        embedders["rotnet-own-pretext/conv4+silhouette"] = load_embedder("rotnet", rotnet)
    return embedders


def unmasked_embedders(st_alex: Path, rotnet: Path | None) -> dict[str, Embedder]:
    """The same features without a mask; a silhouette is not to be had there."""
    plain: dict[str, Any] = {"masked": False, "silhouette": False, "normalise_cells": True}
    embedders = {
        "st-alex/conv4": load_embedder("st-alex", st_alex, **plain),
        "st-alex/conv2": load_embedder("st-alex", st_alex, layer="conv2", **plain),
        "random-alexnet/conv4": load_embedder("random-alexnet", **plain),
        "grey-pixels": load_embedder("grey-pixels", **plain),
    }
    if rotnet is not None:
        embedders["rotnet-own-pretext/conv4"] = load_embedder("rotnet", rotnet, **plain)
    return embedders


def measure(
    found: Found,
    views: Views,
    form: str,
    embedders: dict[str, Embedder],
    pictures: NDArray[np.uint8],
    masks: NDArray[np.bool_] | None,
) -> None:
    """Add the distances of every feature of these pictures, and print its hits."""
    for name, embedder in embedders.items():
        found.setdefault((form, name), []).append(distances(embedder.embed(pictures, masks), views))
        print(f"{form:28s} {name:56s} {hits(found[form, name][-1]).mean():.3f}", flush=True)


def distances(features: NDArray[np.float16], views: Views) -> NDArray[np.float64]:
    """Azimuth difference in degrees from each view to its neighbour among other objects."""
    full = features.astype(np.float32)
    similarity = full @ full.T
    similarity[views.identities[:, None] == views.identities[None, :]] = -np.inf
    difference = np.abs(views.azimuths - views.azimuths[similarity.argmax(1)]) % 360
    return np.minimum(difference, 360 - difference)


def chance(views: Views) -> float:
    """Hit rate of a neighbour drawn at random among other objects."""
    difference = np.abs(views.azimuths[:, None] - views.azimuths[None, :]) % 360
    near = np.minimum(difference, 360 - difference) <= STEP_DEG + 1e-6
    other = views.identities[:, None] != views.identities[None, :]
    return float(((near & other).sum(1) / other.sum(1)).mean())


def hits(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the neighbour lies within one azimuth step, else 0."""
    return (found <= STEP_DEG + 1e-6).astype(np.float64)


def opposites(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the neighbour lies within one step of the opposite azimuth, else 0."""
    return (found >= 180 - STEP_DEG - 1e-6).astype(np.float64)


def interval(scores: NDArray[np.float64], identities: NDArray[np.int64]) -> Value:
    """Mean and its 95 % interval over objects, none below five of them.

    Args:
        scores: [runs, N] or [N]: one score per view (or a paired difference of two).
        identities: [N].
    """
    found = estimate(np.atleast_2d(scores).mean(0), identities, resamples=RESAMPLES)
    return found.value, found.low, found.high


def scored(
    found: Found, views: Views, chosen: NDArray[np.bool_] | None = None
) -> Iterator[tuple[str, str, Value, str]]:
    """Method, metric, value and seeds: what every feature hits and confuses, and ``PAIRS``.

    Args:
        found: Of :func:`measure`.
        views: All of them.
        chosen: bool [N], the views that count; their neighbours are those among all. None = all.
    """
    chosen = np.ones(len(views.identities), np.bool_) if chosen is None else chosen
    identities = views.identities[chosen]

    def value(runs: list[NDArray[np.float64]]) -> tuple[Value, str]:
        seeds = ",".join(map(str, SEEDS)) if len(runs) > 1 else "none"
        return interval(np.stack(runs)[:, chosen], identities), seeds

    for (form, name), runs in found.items():
        yield name, f"hit within 22.5 deg: {form}", *value([hits(run) for run in runs])
        yield name, f"confused by 180 deg: {form}", *value([opposites(run) for run in runs])
    for name, (form, other) in PAIRS:
        both = zip(found[OWN, name], found[form, other], strict=True)
        difference = value([hits(first) - hits(second) for first, second in both])
        yield name, f"paired difference of hits (own masks) minus {other} ({form})", *difference


def row(
    dataset: str,
    version: str,
    method: str,
    metric: str,
    value: Value,
    *,
    seed: str,
    n: int,
    budget: str,
    command: str,
) -> dict[str, Any]:
    """One row of docs/results/*.json."""
    low, high = value[1], value[2]
    return {
        "dataset": dataset,
        "dataset_version": version,
        "method": method,
        "model": None,
        "seed": seed,
        "metric": metric,
        "value": round(value[0], 4),
        "ci_low": None if low is None else round(low, 4),
        "ci_high": None if high is None else round(high, 4),
        "n": n,
        "budget": budget,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, computed on the CPU",
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
    }


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write docs/results/*.json."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def public_arguments() -> str:
    """The command line with the names of files, not where they lie."""
    shown = [a if a.startswith("--") else Path(a).name for a in sys.argv[1:]]
    if "--out" in sys.argv[1:]:
        place = sys.argv[1:].index("--out") + 1
        shown[place] = f"docs/results/{shown[place]}"
    return shlex.join(shown)


def composited_version(data: Path, folder: str) -> str:
    """Version of pictures of ``data / folder`` on backgrounds of the clips."""
    return f"{folder_version(data / folder)}+clips-{folder_version(data / 'clips')}"


def folder_version(folder: Path) -> str:
    """First 12 digits of the sha256 over names and bytes of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
