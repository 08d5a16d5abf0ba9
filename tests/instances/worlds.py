"""Invented traffic with known identities, seen by an invented imperfect detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idpose_core.instances.boxes import Box, Detection, FrameDetections, iou
from idpose_core.instances.tracks import Track


@dataclass(frozen=True)
class World:
    frames: list[FrameDetections]
    identity: dict[tuple[int, Box], int]  # of every reported box, by time stamp

    def identities(self, track: Track) -> set[int]:
        return {self.identity[o.timestamp_ms, o.detection.box] for o in track.observations}


def boxes_in_motion(
    paths: list[list[Box | None]],
    *,
    period_ms: int = 250,
    scores: list[list[float]] | None = None,
    names: list[list[str]] | None = None,
    cuts: frozenset[int] = frozenset(),
) -> World:
    """Frames from the boxes of each object at each time; None where it is not detected."""
    frames, identity = [], {}
    for step in range(len(paths[0])):
        detections = []
        for k, path in enumerate(paths):
            box = path[step]
            if box is None:
                continue
            score = scores[k][step] if scores else 0.9
            name = names[k][step] if names else "car"
            detections.append(Detection(name, score, box))
            identity[step * period_ms, box] = k
        detections.sort(key=lambda d: -d.score)
        frames.append(FrameDetections(step * period_ms, 640, 360, step in cuts, tuple(detections)))
    return World(frames, identity)


def moving(
    start: tuple[float, float], speed: tuple[float, float], size: tuple[float, float], steps: int
) -> list[Box | None]:
    """A box that moves by ``speed`` (fractions of the frame) each step."""
    width, height = size
    return [
        Box(
            start[0] + speed[0] * t - width / 2,
            start[0] + speed[0] * t + width / 2,
            start[1] + speed[1] * t - height / 2,
            start[1] + speed[1] * t + height / 2,
        )
        for t in range(steps)
    ]


def random_traffic(
    seed: int,
    *,
    steps: int = 24,
    misses: float = 0.1,
    weakest: float = 0.2,
    front_wins: bool = True,
) -> World:
    """Two to seven vehicles in one another's way, seen by a detector with every known fault.

    It misses boxes (a share of ``misses``), jitters, takes cars for trucks, gives scores from
    ``weakest`` to 0.95, and of two vehicles that hide one another reports one: the nearer one, or
    (without ``front_wins``) now this one and now that.
    """
    random = np.random.default_rng(seed)
    paths: list[list[Box | None]] = []
    depth = []
    for _ in range(random.integers(2, 8)):
        width = random.uniform(0.06, 0.3)
        path = moving(
            (random.uniform(0, 1), random.uniform(0.4, 0.6)),
            (random.normal(0, 0.25) * width, random.normal(0, 0.02)),
            (width, width * random.uniform(0.5, 1.0)),
            steps,
        )
        paths.append(path)
        depth.append(path[0].ymax if path[0] else 0.0)
    seen: list[list[Box | None]] = [[None] * steps for _ in paths]
    scores = [[0.0] * steps for _ in paths]
    names = [["car"] * steps for _ in paths]
    for step in range(steps):
        precedence = depth if front_wins else random.permutation(len(paths)).tolist()
        for k, path in enumerate(paths):
            box = path[step]
            assert box is not None
            hidden = any(
                precedence[j] > precedence[k] and iou(box, other) > 0.45
                for j, other in ((j, paths[j][step]) for j in range(len(paths)))
                if other is not None
            )
            outside = box.xmax < 0.05 or box.xmin > 0.95
            if hidden or outside or random.random() < misses:
                continue
            jitter = random.normal(0, 0.02, 4) * (box.width, box.width, box.height, box.height)
            seen[k][step] = Box(
                *np.clip(np.array([box.xmin, box.xmax, box.ymin, box.ymax]) + jitter, 0, 1).tolist()
            )
            scores[k][step] = float(random.uniform(weakest, 0.95))
            names[k][step] = str(random.choice(["car", "truck", "bus"], p=[0.7, 0.2, 0.1]))
    return boxes_in_motion(seen, scores=scores, names=names)
