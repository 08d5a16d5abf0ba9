"""From the real clips to clips of one vehicle each: tracks, crops and reasons, video by video.

    IDPOSE_REAL_DATA=... python -m tests.benchmarks.detector_tracks [--sheets FOLDER]

Prints a table; with ``--sheets`` draws every track of 3 crops and more, a row each, for judging by
eye whether it shows one vehicle. The pictures are for looking at and are not kept.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.boxes import FrameDetections
from idpose_core.instances.coco import VEHICLES
from idpose_core.instances.cropping import crop_square
from idpose_core.instances.detectors import Detector, load_detector
from idpose_core.instances.filters import (
    ClipFilters,
    clip_status,
    observation_status,
    picture_statuses,
)
from idpose_core.instances.linking import link_over_time
from idpose_core.instances.tracks import Track
from idpose_core.instances.yolox import CALIBRATED_THRESHOLD
from idpose_core.video.decoding import sample_frames
from idpose_core.video.footage import scene_cuts
from storage.reasons import Status

FPS = 4
DEFAULT = ClipFilters()
SHORT = ClipFilters(min_crops=3, min_seconds=1.0)
Picture = NDArray[np.uint8]


def follow(path: Path, detector: Detector) -> tuple[list[Track], dict[int, Picture], int]:
    """Tracks of one video, its frames by time stamp, and the number of cuts."""
    frames = list(sample_frames(str(path), fps=FPS))
    cuts = scene_cuts(f.image for f in frames)
    detections = [
        FrameDetections(f.timestamp_ms, f.image.shape[1], f.image.shape[0], cut, found)
        for f, cut, found in zip(
            frames, cuts, detector.detect([f.image for f in frames]), strict=True
        )
    ]
    tracks = link_over_time(detections, classes=VEHICLES, threshold=CALIBRATED_THRESHOLD)
    return tracks, {f.timestamp_ms: f.image for f in frames}, sum(cuts)


def judge(track: Track, frames: dict[int, Picture]) -> tuple[list[Picture], list[Status]]:
    """The crop of every observation, and what the filters say of it."""
    crops = [crop_square(frames[o.timestamp_ms], o.detection.box)[0] for o in track.observations]
    statuses = [observation_status(o, DEFAULT) for o in track.observations]
    passed = [i for i, status in enumerate(statuses) if status is Status.OK]
    for i, status in zip(
        passed, picture_statuses([crops[i] for i in passed], DEFAULT), strict=True
    ):
        statuses[i] = status
    return crops, statuses


def strip(name: str, track: Track, crops: Sequence[Picture], statuses: Sequence[Status]) -> Picture:
    """One row of a sheet: up to 14 crops, those that the filters drop with a red frame."""
    chosen = np.unique(np.linspace(0, len(crops) - 1, 14).astype(int))
    cells = np.zeros((14, 112, 112, 3), np.uint8)
    for cell, i in zip(cells, chosen, strict=False):
        cell[:] = cv2.resize(crops[i], (112, 112), interpolation=cv2.INTER_AREA)
        if statuses[i] is not Status.OK:
            cell[:4], cell[-4:], cell[:, :4], cell[:, -4:] = [(220, 0, 0)] * 4
    label = np.zeros((112, 150, 3), np.uint8)
    texts = (name[:20], f"#{track.object_id} {len(crops)} obs", f"{statuses.count(Status.OK)} good")
    for line, text in enumerate(texts):
        place = (2, 20 + 22 * line)
        cv2.putText(label, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1)
    return np.concatenate([label, *cells], axis=1)


def main() -> None:
    """Prints the table and draws the sheets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheets", type=Path, help="folder to draw the tracks into")
    arguments = parser.parse_args()
    data = Path(os.environ["IDPOSE_REAL_DATA"])
    detector = load_detector("yolox", data / "detector" / "yolox_nano.onnx")
    videos = [p for f in ("clips", "ytbb", "multishot") for p in sorted((data / f).iterdir())]
    rows = []
    print("video | cuts | tracks | longest s/observations/good | clips 5x2s | clips 3x1s | reasons")
    for path in videos:
        if path.suffix not in {".mp4", ".avi", ".gif"}:
            continue
        tracks, frames, cuts = follow(path, detector)
        verdicts: dict[str, list[Status]] = {"default": [], "short": []}
        longest = (0.0, 0, 0)
        for track in tracks:
            crops, statuses = judge(track, frames)
            times = [o.timestamp_ms for o in track.observations]
            verdicts["default"].append(clip_status(times, statuses, DEFAULT))
            verdicts["short"].append(clip_status(times, statuses, SHORT))
            seconds = (track.end_ms - track.start_ms) / 1000
            longest = max(longest, (seconds, len(crops), statuses.count(Status.OK)))
            if len(crops) >= 3:
                rows.append(strip(path.stem, track, crops, statuses))
        kept = [verdicts[name].count(Status.OK) for name in ("default", "short")]
        reasons = Counter(v.value for v in verdicts["short"] if v is not Status.OK)
        text = ", ".join(f"{name} {n}" for name, n in sorted(reasons.items()))
        print(
            f"{path.stem} | {cuts} | {len(tracks)} | {longest[0]:.1f}/{longest[1]}/{longest[2]} | "
            f"{kept[0]} | {kept[1]} | {text}"
        )
    if arguments.sheets:
        for number, start in enumerate(range(0, len(rows), 14)):
            sheet = np.concatenate(rows[start : start + 14])[:, :, ::-1]
            cv2.imwrite(str(arguments.sheets / f"tracks-{number:02d}.png"), sheet)


if __name__ == "__main__":
    main()
