"""The shipped detector in the rendered world, on models, places and a seed that it never saw.

    python -m tests.benchmarks.rendered_detector FOLDER [--processes N]

Renders below FOLDER: one video of each validation and test car, and 100 videos with two cars. At
the threshold 0.9: recall of the objects of which ``SEEN`` or more is visible, precision of the
boxes, and the share of followed objects (as the build follows and filters them) that show one car
only. Intervals are Wilson's for the detections' shares, which are not independent within a video.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa

from idpose_core.datasets.rendered.clips import Clip, ClipSettings
from idpose_core.datasets.rendered.detector import TruthfulFrame, read_frames
from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.truth import SCHEMA, box_of_row, write_table
from idpose_core.datasets.rendered.videos import render_video, video_name
from idpose_core.instances.boxes import FrameDetections, iou
from idpose_core.instances.detector_training import detection_quality
from idpose_core.instances.detectors import load_detector
from idpose_core.instances.filters import ClipFilters, clip_status, observation_status
from idpose_core.instances.linking import link_over_time
from idpose_core.instances.tracks import Track
from idpose_core.processes import end_with_parent
from idpose_core.weights import find_weights
from storage.parquet import from_parquet
from storage.reasons import Status
from tests.benchmarks.retrieval import public_arguments, row, write

SEED = 3000  # no other world has it
THRESHOLD = 0.9
TWO_CARS = 100
SINGLE = ClipSettings("car", 5.0, 2, (320, 240), SEED)
DOUBLE = ClipSettings("car", 4.0, 4, (320, 240), SEED + 1)
FILTERS = ClipFilters(min_crops=3, min_seconds=1.0, min_side=40, min_sharpness=10)


@dataclass(frozen=True)
class Scene:
    """One video to render."""

    folder: Path
    settings: ClipSettings
    model: int
    scene: int

    @property
    def name(self) -> str:
        return video_name(self.settings.kind, self.model, self.scene)


def scenes_with_two_cars(folder: Path) -> Iterator[Scene]:
    """The first scenes of unseen models in which a second car found room."""
    models = [*models_of("car", "validation"), *models_of("car", "test")]
    for scene, model in itertools.product(range(50), models):
        if len(Clip(DOUBLE, model, scene).actors) == 2:
            yield Scene(folder, DOUBLE, model, scene)


def render(scene: Scene) -> None:
    """Render a video with its truth, unless it is there."""
    done = scene.folder / "parts" / f"{scene.name}.parquet"
    if not done.exists():
        path = scene.folder / f"{scene.name}.mp4"
        rows = render_video(path, scene.settings, scene.model, scene.scene)
        write_table(done, pa.Table.from_pylist(rows, schema=SCHEMA))


def render_all(scenes: Sequence[Scene], processes: int) -> list[TruthfulFrame]:
    """Every frame of the scenes."""
    folder = scenes[0].folder
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes, get_context("spawn"), end_with_parent) as pool:
        list(pool.map(render, scenes))
    parts = [folder / "parts" / f"{scene.name}.parquet" for scene in scenes]
    write_table(
        folder / "truth.parquet", pa.concat_tables([from_parquet(p.read_bytes()) for p in parts])
    )
    return read_frames(folder)


def identities(track: Track, frames: dict[int, TruthfulFrame]) -> Counter[int]:
    """Which car each good observation of a track shows; -1 for none."""
    shown: Counter[int] = Counter()
    for seen in track.observations:
        if observation_status(seen, FILTERS) is Status.OK:
            frame = frames[seen.timestamp_ms]
            rows = [*frame.wanted, *frame.tolerated]
            overlaps = [(iou(seen.detection.box, box_of_row(r)), r["model"]) for r in rows]
            overlap, model = max(overlaps, default=(0.0, -1))
            shown[model if overlap >= 0.3 else -1] += 1
    return shown


def follow(frames: Sequence[TruthfulFrame], detector: Any) -> Iterator[Counter[int]]:
    """For each followed object that makes a clip, the cars that it shows."""
    for _, group in itertools.groupby(frames, key=lambda f: f.video):
        mine = {frame.timestamp_ms: frame for frame in group}
        found = detector.detect([frame.image for frame in mine.values()])
        seen = [
            FrameDetections(time, frame.image.shape[1], frame.image.shape[0], False, detections)
            for (time, frame), detections in zip(mine.items(), found, strict=True)
        ]
        for track in link_over_time(seen, classes=frozenset({"car"}), threshold=THRESHOLD):
            statuses = [observation_status(o, FILTERS) for o in track.observations]
            times = [o.timestamp_ms for o in track.observations]
            if clip_status(times, statuses, FILTERS) is Status.OK:
                yield identities(track, mine)


def wilson(successes: int, n: int) -> tuple[float, float, float]:
    """A share with Wilson's 95 % interval."""
    z, share = 1.96, successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return share, centre - half, centre + half


def main() -> None:
    """Render, detect, count, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/results/rendered-detector.json"))
    arguments = parser.parse_args()
    weights = find_weights("rendered-detector", arguments.folder)
    detector = load_detector("torchvision", weights)
    models = [*models_of("car", "validation"), *models_of("car", "test")]
    singles = [Scene(arguments.folder / "single", SINGLE, model, 0) for model in models]
    doubles = list(itertools.islice(scenes_with_two_cars(arguments.folder / "double"), TWO_CARS))
    rows = []

    def add(what: str, metric: str, value: tuple[float, float, float], n: int) -> None:
        print(f"{what}: {metric} {value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}] n={n}")
        rows.append(
            row(
                f"rendered cars, {what}",
                f"seed {SEED}",
                "rendered-detector",
                f"{metric} at {THRESHOLD}",
                value,
                seed=str(SEED),
                n=n,
                budget="",
                command=f"python -m tests.benchmarks.rendered_detector {public_arguments()}",
            )
        )

    for what, scenes in (("one video a car", singles), ("two cars", doubles)):
        frames = render_all(scenes, arguments.processes)
        quality = detection_quality(
            detector.detect([frame.image for frame in frames]),
            [[box_of_row(r) for r in frame.wanted] for frame in frames],
            [[box_of_row(r) for r in frame.tolerated] for frame in frames],
            threshold=THRESHOLD,
        )
        add(what, "recall", wilson(quality.found, quality.objects), quality.objects)
        add(what, "precision", wilson(quality.correct, quality.reported), quality.reported)
        shown = list(follow(frames, detector))
        pure = sum(len(cars) == 1 and -1 not in cars for cars in shown)
        add(what, "clips that show one car", wilson(pure, len(shown)), len(shown))
    write(arguments.out, rows)


if __name__ == "__main__":
    main()
