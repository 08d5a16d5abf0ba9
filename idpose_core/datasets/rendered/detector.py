"""The detector of the rendered world: the small Faster R-CNN, trained on rendered frames.

    python -m idpose_core.datasets.rendered.detector FOLDER OUT.safetensors [--steps N]

renders models of the training split below FOLDER, in places of their own, and trains on them. The
shipped file was made by this command, some of its frames one change of looks before the present.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.truth import box_of_row
from idpose_core.datasets.rendered.videos import write_rendered_videos
from idpose_core.instances.detector_training import LabelledFrame, train_detector
from idpose_core.instances.small_faster_rcnn import save_small_faster_rcnn
from idpose_core.video.decoding import frames_at

CLASS_NAMES = ("car", "chair")
SEEN = 0.3
"""Least visible share of an object that a detector is asked to find."""
HIDDEN = 0.05
"""Below this an object counts as absent; between the two it may be found and need not."""


@dataclass(frozen=True, eq=False)
class TruthfulFrame:
    """A frame of a rendered video with its objects.

    Attributes:
        video: Name of the video.
        timestamp_ms: Presentation time.
        image: uint8 [H, W, 3], RGB.
        wanted: Rows of the truth whose object is visible to ``SEEN`` or more.
        tolerated: Rows of objects between ``HIDDEN`` and ``SEEN``.
    """

    video: str
    timestamp_ms: int
    image: Any
    wanted: Sequence[dict[str, Any]]
    tolerated: Sequence[dict[str, Any]]


def read_frames(folder: Path) -> list[TruthfulFrame]:
    """Every frame of a folder of ``write_rendered_videos``, with its truth."""
    rows = pq.read_table(folder / "truth.parquet").drop_columns(["mask_png"]).to_pylist()
    by_frame: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_frame[row["video"]][row["timestamp_ms"]].append(row)
    frames = []
    for video, truth in sorted(by_frame.items()):
        for frame in frames_at(str(folder / f"{video}.mp4"), sorted(truth)):
            there = [row for row in truth[frame.timestamp_ms] if row["xmin"] is not None]
            wanted = [row for row in there if row["visible_share"] >= SEEN]
            some = [row for row in there if HIDDEN <= row["visible_share"] < SEEN]
            frames.append(TruthfulFrame(video, frame.timestamp_ms, frame.image, wanted, some))
    return frames


def for_training(frames: Sequence[TruthfulFrame]) -> list[LabelledFrame]:
    """Frames in which every object is either clearly visible or not there."""
    return [
        LabelledFrame(
            frame.image,
            [box_of_row(row) for row in frame.wanted],
            [row["class_name"] for row in frame.wanted],
        )
        for frame in frames
        if not frame.tolerated
    ]


def render_training_world(folder: Path, processes: int) -> list[Path]:
    """Render cars and chairs of the training split. Returns the folders."""
    cars, chairs = models_of("car", "train"), models_of("chair", "train", limit=60)
    for kind, models, scenes in (("car", cars, 3), ("chair", chairs, 1)):
        write_rendered_videos(
            folder / f"train-{kind}",
            models=models,
            kind=kind,
            scenes_per_model=scenes,
            seconds=5.0,
            fps=2,
            seed=_SEED,
            processes=processes,
        )
    return [folder / "train-car", folder / "train-chair"]


_SEED = 1000  # no other world of the project has it: places seen in training occur nowhere else


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    folders = render_training_world(arguments.folder, arguments.processes)
    frames = [frame for folder in folders for frame in for_training(read_frames(folder))]
    began = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 50 == 0:
            seconds = time.monotonic() - began
            print(
                f"step {step:5} of {arguments.steps}  loss {loss:.3f}  {seconds:.0f} s", flush=True
            )

    print(f"{len(frames)} frames")
    network = train_detector(frames, CLASS_NAMES, steps=arguments.steps, report=report)
    save_small_faster_rcnn(network, CLASS_NAMES, arguments.out)


if __name__ == "__main__":
    main()
