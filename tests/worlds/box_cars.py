"""Box cars: small generated videos with known truth, for the demo and for tests.

They are a stand-in for real footage and named so: low-poly cars before painted scenes, while the
camera goes round. An identity is its proportions and its paint; a front has white lamps and a
grille, a rear has red lamps. Equal seeds give equal bytes (with equal versions of the libraries).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.video_file import VideoFile
from tests.worlds.box_car_model import BoxCar, car_faces, random_car
from tests.worlds.box_car_scene import Camera, draw_view, random_scene

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]

_CLASS_ID, _CLASS_NAME = 23, "car"  # of YouTube-BoundingBoxes
_TRUTH = (
    "video", "timestamp_ms", "identity", "azimuth_deg", "elevation_deg",
    "xmin", "xmax", "ymin", "ymax",
)  # fmt: skip


@dataclass(frozen=True)
class TrueView:
    """The truth of one frame.

    Attributes:
        video: Stem of the file.
        timestamp_ms: Of the frame.
        identity: Number of the car, counted over all videos.
        azimuth_deg: 0..360; 0 = its front is seen, 90 = its left side, 180 = its rear.
        elevation_deg: Of the camera above the ground.
        box: xmin, xmax, ymin, ymax relative to the frame, tight.
    """

    video: str
    timestamp_ms: int
    identity: int
    azimuth_deg: float
    elevation_deg: float
    box: Box


@dataclass(frozen=True)
class BoxCarTruth:
    """What the videos show: every frame in order, and the cars by identity."""

    views: tuple[TrueView, ...]
    cars: tuple[BoxCar, ...]


def write_box_car_videos(
    folder: Path,
    *,
    videos: int = 16,
    seconds: float = 4.0,
    fps: int = 12,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    cars_per_video: int = 1,
) -> BoxCarTruth:
    """Write ``car-000.mp4`` and so on, ``annotations.csv`` and ``truth.csv``.

    Args:
        folder: Made where it is missing.
        videos: How many.
        seconds: Length of each shot. The camera turns by 40 to 180 degrees in it.
        fps: Frames a second.
        size: Width and height in pixels, both even and at least 64.
        seed: Everything follows from it. A video does not depend on how many there are.
        cars_per_video: Each car has a shot of its own; shots follow each other with hard cuts.

    Returns:
        The truth of every frame. ``annotations.csv`` is in YouTube-BoundingBoxes form without a
        header, with a row for the frames at, or next after, every half second of a shot;
        youtube_id is the file's stem and object_id the number of the shot.

    Raises:
        ValueError: A size, rate or number that gives no video.
    """
    if min(videos, fps, cars_per_video, round(seconds * fps)) < 1:
        raise ValueError("videos, fps, cars_per_video and frames of a shot must be at least 1")
    if min(size) < 64 or size[0] % 2 or size[1] % 2:
        raise ValueError(f"size must be even and at least 64, not {size}")
    folder.mkdir(parents=True, exist_ok=True)
    views: list[TrueView] = []
    annotated: list[tuple[TrueView, int]] = []
    cars: list[BoxCar] = []
    for video in range(videos):
        name = f"car-{video:03d}"
        random = np.random.default_rng([seed, video])
        with VideoFile(folder / f"{name}.mp4", fps, size) as file:
            for shot in range(cars_per_video):
                cars.append(random_car(random))
                first = file.frames
                for picture, view in _shot(cars[-1], random, round(seconds * fps), fps, size):
                    time = round(1000 * file.frames / fps)
                    views.append(TrueView(name, time, len(cars) - 1, *view))
                    if _starts_half_second(file.frames - first, fps):
                        annotated.append((views[-1], shot))
                    file.add(picture)
    _write_annotations(folder / "annotations.csv", annotated)
    _write_truth(folder / "truth.csv", views)
    return BoxCarTruth(tuple(views), tuple(cars))


def _shot(
    car: BoxCar, random: np.random.Generator, frames: int, fps: int, size: tuple[int, int]
) -> Iterator[tuple[Picture, tuple[float, float, Box]]]:
    """Pictures of one car, each with its azimuth, elevation and box."""
    scene, layers = random_scene(random, size), car_faces(car)
    start, turn = random.uniform(0, 360), random.choice([-1, 1]) * random.uniform(40, 180)
    elevation, climb = random.uniform(10, 22), random.uniform(-3, 3)
    distance = car.length * random.uniform(0.95, 1.2) + 2.5
    sway, phase = random.uniform(0.2, 1.0, 4), random.uniform(0, 2 * np.pi, 4)
    drift = random.uniform(-0.07, 0.07, 2)
    for frame in range(frames):
        share = frame / max(1, frames - 1)
        hand = np.sin(phase + 2 * np.pi * sway * frame / fps)  # of somebody who walks
        azimuth = (start + turn * share + 1.5 * hand[0]) % 360
        height = float(np.clip(elevation + climb * share + 0.6 * hand[1], 8, 25))
        aside = (drift[0] * (2 * share - 1) + 0.025 * hand[2], 0.4 * drift[1] + 0.015 * hand[3])
        camera = Camera(azimuth, height, distance * (1 + 0.03 * hand[0]), aside, size)
        picture, box = draw_view(scene, car, layers, camera)
        # The turn smears along the row
        smear = 0.45 + 0.006 * abs(turn) / frames * fps * size[0] / 320
        soft = cv2.GaussianBlur(picture, (0, 0), sigmaX=smear, sigmaY=0.45)
        grain = random.standard_normal(picture.shape[:2], np.float32)[..., None]
        picture = np.clip(soft + 2.5 * grain, 0, 255).astype(np.uint8)
        yield picture, (float(azimuth), height, box)


def _starts_half_second(frame: int, fps: int) -> bool:
    return frame == 0 or 2 * frame // fps > 2 * (frame - 1) // fps


def _write_annotations(path: Path, annotated: Sequence[tuple[TrueView, int]]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        for view, shot in annotated:
            what = (_CLASS_ID, _CLASS_NAME, shot, "present")
            rows.writerow([view.video, view.timestamp_ms, *what, *(f"{e:.6f}" for e in view.box)])


def _write_truth(path: Path, views: Sequence[TrueView]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_TRUTH)
        for view in views:
            angles = (f"{view.azimuth_deg:.4f}", f"{view.elevation_deg:.4f}")
            edges = (f"{edge:.6f}" for edge in view.box)
            rows.writerow([view.video, view.timestamp_ms, view.identity, *angles, *edges])
