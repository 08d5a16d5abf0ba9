"""YOLOX against the boxes of two genuine YouTube-BoundingBoxes videos, threshold by threshold.

    IDPOSE_REAL_DATA=... python -m tests.benchmarks.detector_ytbb

Writes docs/results/detector-ytbb.json. With ``--sheet FILE.png`` it also draws boxes of the real
clips, up to 48 from each band of scores, chosen evenly, for judging by eye how many are vehicles.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.boxes import Box, Detection, FrameDetections, iou
from idpose_core.instances.coco import VEHICLES
from idpose_core.instances.cropping import crop_square
from idpose_core.instances.detectors import Detector, load_detector
from idpose_core.instances.linking import follow_annotation, link_over_time
from idpose_core.video.annotations import AnnotationTrack, read_annotations
from idpose_core.video.decoding import sample_frames
from idpose_core.video.footage import scene_cuts

THRESHOLDS = (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
BANDS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 1.01))
MIN_SIDE = 64  # pixels, as for crops
FPS = 4
COMMAND = "IDPOSE_REAL_DATA=... python -m tests.benchmarks.detector_ytbb"


@dataclass(frozen=True)
class Annotated:
    """A YTBB video: its annotation, and the detections of frames sampled 4 times a second."""

    annotation: AnnotationTrack
    frames: list[FrameDetections]

    def rows(self) -> Iterator[tuple[Box, FrameDetections]]:
        """Each annotated box with the frame of its time."""
        for time, box in zip(self.annotation.timestamps_ms, self.annotation.boxes, strict=True):
            at = [f for f in self.frames if time <= f.timestamp_ms < time + 500 / FPS]
            if box is not None and at:
                yield box, at[0]


def detect(path: Path, detector: Detector) -> list[FrameDetections]:
    """Detections of one video at 4 frames a second, with its scene cuts."""
    frames = list(sample_frames(str(path), fps=FPS))
    found = detector.detect([frame.image for frame in frames])
    cuts = scene_cuts(frame.image for frame in frames)
    return [
        FrameDetections(f.timestamp_ms, f.image.shape[1], f.image.shape[0], cut, detections)
        for f, cut, detections in zip(frames, cuts, found, strict=True)
    ]


def vehicles(frame: FrameDetections, threshold: float) -> list[Detection]:
    """Vehicles of at least a score, the surest first, large enough for a crop."""
    return [
        d
        for d in frame.detections
        if d.class_name in VEHICLES
        and d.score >= threshold
        and min(d.box.width * frame.width, d.box.height * frame.height) >= MIN_SIDE
    ]


def overlaps(videos: Sequence[Annotated], threshold: float) -> dict[str, list[float]]:
    """IoU with the annotated box, a list for each way of choosing the detected one.

    ``best``: the box that overlaps most, 0 where there is none. ``surest``: the box of the highest
    score. ``any``: every box. ``followed``: what follow_annotation chose at the annotated times,
    0 where it chose nothing. ``linked``: the longest track of link_over_time, which knows no
    annotation, at the annotated times that it covers.
    """
    result: dict[str, list[float]] = {
        name: [] for name in ("best", "surest", "any", "followed", "linked")
    }
    for video in videos:
        options: dict[str, Any] = {"classes": frozenset({"car"}), "threshold": threshold}
        followed = follow_annotation(video.frames, video.annotation, **options)
        tracks = link_over_time(video.frames, **options)
        longest = max(tracks, key=lambda t: (t.end_ms - t.start_ms, t.object_id), default=None)
        places = [
            {o.timestamp_ms: o.detection.box for o in track.observations} if track else {}
            for track in (followed, longest)
        ]
        for truth, frame in video.rows():
            found = [iou(d.box, truth) for d in vehicles(frame, threshold)]
            result["best"].append(max(found, default=0.0))
            result["surest"] += found[:1]
            result["any"] += found
            box = places[0].get(frame.timestamp_ms)
            result["followed"].append(iou(box, truth) if box else 0.0)
            if frame.timestamp_ms in places[1]:
                result["linked"].append(iou(places[1][frame.timestamp_ms], truth))
    return result


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n (Wilson); it takes the n as independent."""
    if n == 0:
        return 0.0, 1.0
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def result_rows(videos: Sequence[Annotated], version: str, model: str) -> list[dict[str, Any]]:
    """Rows of docs/results: for each threshold the shares with an IoU of at least 0.5."""
    names = {
        "best": "share of annotated boxes with a detected box of IoU >= 0.5",
        "followed": "share of annotated boxes followed by follow_annotation",
        "surest": "share of surest boxes with IoU >= 0.5",
        "any": "share of detected vehicle boxes (side >= 64 px) with IoU >= 0.5",
        "linked": "share of the longest linked track's boxes with IoU >= 0.5",
    }
    common = {
        "dataset": "ytbb validation, 2 videos, class car",
        "dataset_version": version,
        "method": "yolox",
        "model": model,
        "seed": None,
        "budget": f"{FPS} frames a second",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "date": datetime.now(UTC).date().isoformat(),
        "command": COMMAND,
    }
    rows = []
    for threshold in THRESHOLDS:
        found = overlaps(videos, threshold)
        for key, name in names.items():
            n = len(found[key])
            share = float(np.mean([x >= 0.5 for x in found[key]])) if n else 0.0
            low, high = wilson(share, n)
            metric = f"{name}, threshold {threshold}"
            rows.append(
                {**common, "metric": metric, "value": share, "ci_low": low, "ci_high": high, "n": n}
            )
        matched = [x for x in found["followed"] if x > 0]
        if matched:
            metric = f"mean IoU of followed boxes, threshold {threshold}"
            value = {"value": float(np.mean(matched)), "ci_low": None, "ci_high": None}
            rows.append({**common, "metric": metric, **value, "n": len(matched)})
    return rows


def draw_bands(data: Path, detector: Detector, path: Path, count: int = 48) -> dict[str, int]:
    """Draws ``count`` boxes of each band of scores, evenly chosen from all clips."""
    bands: list[list[NDArray[np.uint8]]] = [[] for _ in BANDS]
    for clip in sorted((data / "clips").iterdir()):
        for frame in sample_frames(str(clip), fps=FPS):
            height, width = frame.image.shape[:2]
            (found,) = detector.detect([frame.image])
            for d in vehicles(FrameDetections(0, width, height, False, found), BANDS[0][0]):
                band = next(i for i, (low, high) in enumerate(BANDS) if low <= d.score < high)
                crop, transform = crop_square(frame.image, d.box, size=96)
                xmin, xmax, ymin, ymax = map(round, transform.box_to_crop(d.box, width, height))
                cv2.rectangle(crop, (xmin, ymin), (xmax, ymax), (255, 255, 0), 1)
                bands[band].append(crop)
    strips = []
    for crops in bands:
        chosen = [crops[i] for i in np.unique(np.linspace(0, len(crops) - 1, count).astype(int))]
        half = count // 2
        chosen += [np.zeros_like(crops[0])] * (count - len(chosen))
        strips += [np.concatenate(chosen[:half], axis=1), np.concatenate(chosen[half:], axis=1)]
        strips.append(np.full((8, 96 * half, 3), 255, np.uint8))
    cv2.imwrite(str(path), np.concatenate(strips)[:, :, ::-1])
    return {f"{low}-{min(high, 1.0)}": len(c) for (low, high), c in zip(BANDS, bands, strict=True)}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results/detector-ytbb.json"))
    parser.add_argument("--sheet", type=Path, help="also draw boxes by band of scores")
    arguments = parser.parse_args()
    data = Path(os.environ["IDPOSE_REAL_DATA"])
    weights = data / "detector" / "yolox_nano.onnx"
    table = data / "ytbb" / "ytbb_subset.csv"

    detector = load_detector("yolox", weights, floor=min(THRESHOLDS))
    tracks = read_annotations(table, classes=["car"]).tracks
    videos = [
        Annotated(track, detect(data / "ytbb" / f"{video}.mp4", detector))
        for video in sorted(tracks)
        for track in tracks[video]
    ]
    version = hashlib.sha256(table.read_bytes()).hexdigest()[:12]
    rows = result_rows(videos, version, f"yolox_nano@{(detector.weights_sha256 or '')[:12]}")
    arguments.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    for row in rows:
        interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
        print(f"{row['metric']}: {row['value']:.3f}{interval} n={row['n']}")
    if arguments.sheet:
        print(draw_bands(data, detector, arguments.sheet))


if __name__ == "__main__":
    main()
