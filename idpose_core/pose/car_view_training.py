"""Teach a perceptron which way a vehicle faces (``car_view``), where that is known.

It is known exactly of rendered cars, and roughly of photographs whose parts are labelled. Either
alone teaches less than both: the rendered ones show every angle, the photographs what cars look
like (docs/decisions/car-view.md). The network below stays as published.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.pose.car_view import READ, Trunk, ViewReader, network_picture, planes
from idpose_core.pose.reel_looks import Edges, Picture, as_filmed, framed
from idpose_core.pose.turning import Floats, readings_of

_HIDDEN, _MEMBERS = 64, 5  # perceptrons whose mean is one wide perceptron
_BATCH, _EPOCHS, _RATE, _DECAY = 128, 8, 1e-3, 0.05
_DROP_INPUT, _DROP_HIDDEN = 0.2, 0.3
_LEAST_SPREAD = 1e-3
_COLUMNS = {"file", "xmin", "xmax", "ymin", "ymax", "front", "rear", "left_side", "right_side"}


@dataclass(frozen=True)
class Photograph:
    """A photograph of one vehicle with labelled parts.

    Attributes:
        picture: uint8 [H, W, 3] RGB.
        box: Of the vehicle, in pixels.
        reading: float64 [3], front score 1 or -1, cosine and sine as the parts suggest them.
    """

    picture: Picture
    box: Edges
    reading: Floats


@dataclass(frozen=True)
class Lesson:
    """Pictures as the trunk sees them, and what shall be read from them.

    Attributes:
        seen: float32 [N, READ].
        readings: float64 [N, 3].
    """

    seen: NDArray[np.float32]
    readings: Floats


def read_photographs(folder: Path) -> list[Photograph]:
    """Photographs with a table of the shares of the picture that their parts cover.

    Args:
        folder: Holds ``labels.csv`` (file, xmin, xmax, ymin, ymax relative to the picture, front,
            rear, left_side, right_side) and ``photos/``. Left side seen = nose to the left.

    Raises:
        ValueError: A table without these columns, or a photograph that cannot be read.
    """
    found = []
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        missing = _COLUMNS.difference(table.fieldnames or ())
        if missing:
            raise ValueError(f"{folder}: labels.csv has no column {', '.join(sorted(missing))}")
        for row in table:
            stored = cv2.imread(str(folder / "photos" / row["file"]))
            if stored is None:
                raise ValueError(f"{folder}: the photograph {row['file']} cannot be read")
            height, width = stored.shape[:2]
            edges = (row["xmin"], row["xmax"], row["ymin"], row["ymax"])
            scale = (width, width, height, height)
            xmin, xmax, ymin, ymax = (float(e) * s for e, s in zip(edges, scale, strict=True))
            ends = float(row["front"]) - float(row["rear"])
            sides = float(row["left_side"]) - float(row["right_side"])
            length = math.hypot(ends, sides) or 1.0
            reading = np.array([1.0 if ends > 0 else -1.0, ends / length, sides / length])
            picture = np.ascontiguousarray(stored[..., ::-1])
            found.append(Photograph(picture, (xmin, xmax, ymin, ymax), reading))
    return found


def photograph_lesson(
    trunk: Trunk, photographs: Sequence[Photograph], repeats: int, draws: np.random.Generator
) -> Lesson:
    """Every photograph so many times, each time as another reel would show it."""

    def views() -> Iterable[tuple[Picture, Floats]]:
        for _ in range(repeats):
            for photograph in photographs:
                framing = framed(photograph.picture, photograph.box, draws)
                yield as_filmed(framing, draws), photograph.reading

    return _lesson(trunk, views(), draws)


def rendered_lesson(
    trunk: Trunk,
    views: Iterable[tuple[Picture, float]],
    draws: np.random.Generator,
) -> Lesson:
    """Pictures uint8 [224, 224, 3] (``reel_looks.placed``) with their azimuths in degrees."""
    told = (
        (as_filmed(picture, draws), readings_of(np.radians([azimuth]))[0])
        for picture, azimuth in views
    )
    return _lesson(trunk, told, draws)


def train_reader(
    lessons: Sequence[Lesson],
    destination: Path,
    *,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> ViewReader:
    """Train on the CPU and write the perceptron.

    Lessons have equal weight, and in each lesson fronts have that of rears.

    Args:
        lessons: At least one.
        destination: The ``.safetensors`` file to write, in half precision.
        seed: Of the weights, the batches and the dropout.
        say: Told what is going on.
    """
    seen = torch.from_numpy(np.concatenate([lesson.seen for lesson in lessons]))
    readings = np.concatenate([lesson.readings for lesson in lessons])
    mean, spread = seen.mean(0), seen.std(0).clamp_min(_LEAST_SPREAD)
    weights = _weights([lesson.readings for lesson in lessons])
    wanted = torch.from_numpy(readings).float()
    members = []
    with torch.random.fork_rng():
        for member in range(_MEMBERS):
            torch.manual_seed(1000 * seed + member)
            draws = np.random.default_rng([seed, member])
            members.append(_member((seen - mean) / spread, wanted, weights, draws))
            say(f"perceptron {member + 1} of {_MEMBERS}")
        reader = _together(members, mean, spread)
    save_file({n: v.half().contiguous() for n, v in reader.state_dict().items()}, destination)
    return reader


def _lesson(
    trunk: Trunk, views: Iterable[tuple[Picture, Floats]], draws: np.random.Generator
) -> Lesson:
    seen: list[NDArray[np.float32]] = []
    readings: list[Floats] = []
    batch: list[Picture] = []

    def look() -> None:
        with torch.inference_mode():
            seen.append(trunk(planes(np.stack(batch)))[1].numpy())
        batch.clear()

    for picture, reading in views:
        mirrored = draws.random() < 0.5
        shown = network_picture(picture)
        batch.append(shown[:, ::-1] if mirrored else shown)
        readings.append(reading * (1, 1, -1) if mirrored else reading)
        if len(batch) == 32:
            look()
    if batch:
        look()
    return Lesson(np.concatenate(seen), np.array(readings))


def _weights(readings: Sequence[Floats]) -> Floats:
    """The chance of each picture to be drawn, adding up to 1."""
    parts = []
    for lesson in readings:
        front = lesson[:, 0] > 0
        shares = np.where(front, 0.5 / max(1, front.sum()), 0.5 / max(1, (~front).sum()))
        parts.append(shares / shares.sum() / len(readings))
    return np.concatenate(parts)


def _member(seen: Tensor, wanted: Tensor, weights: Floats, draws: np.random.Generator) -> nn.Module:
    network = nn.Sequential(
        nn.Dropout(_DROP_INPUT),
        nn.Linear(READ, _HIDDEN),
        nn.GELU(),
        nn.Dropout(_DROP_HIDDEN),
        nn.Linear(_HIDDEN, 3),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = max(1, _EPOCHS * len(seen) // _BATCH)
    for step in range(steps):
        falling = 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = _RATE * falling * min(1.0, (step + 1) / 100)
        rows = torch.from_numpy(draws.choice(len(seen), _BATCH, p=weights))
        loss = F.mse_loss(network(seen[rows]), wanted[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network


def _together(members: Sequence[nn.Module], mean: Tensor, spread: Tensor) -> ViewReader:
    """One perceptron that gives the mean of several."""
    first = [member.get_submodule("1").state_dict() for member in members]
    last = [member.get_submodule("4").state_dict() for member in members]
    reader = ViewReader(_HIDDEN * len(members))
    reader.load_state_dict(
        {
            "mean": mean,
            "spread": spread,
            "hidden.weight": torch.cat([layer["weight"] for layer in first]),
            "hidden.bias": torch.cat([layer["bias"] for layer in first]),
            "out.weight": torch.cat([layer["weight"] for layer in last], 1) / len(members),
            "out.bias": torch.stack([layer["bias"] for layer in last]).mean(0),
        }
    )
    return reader.eval()
