"""EPFL multi-view cars: 20 cars on turning platforms, a photograph every 3 to 4 degrees.

Ozuysal, Lepetit and Fua, *Pose estimation for category specific multiview object localization*,
CVPR 2009. Its archive has in ``epfl-gims08/tripod-seq`` (described in its ``epfl_gims08.txt``):

- ``tripod_seq_SS_FFF.jpg``, frames from 1; ``bbox_SS.txt``, a line x, y, width, height for each;
- ``tripod-seq.txt``: number of sequences and size of the pictures; frames of each sequence; two
  formats of file names; frames that cover 360 degrees; the frame of the frontal pose; sense of the
  rotation, 1 = clockwise seen from above, -1 = counter-clockwise;
- ``times.txt``: for each sequence a line of the seconds at which its frames were taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from idpose_core.datasets.published.files import (
    files_digest,
    read_bytes,
    read_picture,
    set_folder,
)
from idpose_core.datasets.published.splits import splits_of
from idpose_core.datasets.views import View, ViewedObject
from idpose_core.instances.boxes import Box
from storage.reasons import Status, Unusable

_FORMATS = ("tripod_seq_%02d_%03d.jpg", "bbox_%02d.txt")


@dataclass(frozen=True)
class EPFLCars:
    """See ``datasets.views.ViewSet``.

    The angle of a frame follows from when it was taken: the platforms turn evenly, the
    photographer did not shoot evenly. A car that turns clockwise shows its front and then more and
    more of its left side.

    Attributes:
        path: The extracted archive.
    """

    path: str

    name = "epfl-cars"
    class_name = "car"
    boxes_from = "published-boxes"
    whole = False

    def settings(self) -> Mapping[str, Any]:
        """Nothing: the files are what they are."""
        return {}

    def objects(self) -> Sequence[ViewedObject]:
        """The 20 sequences, also those whose pictures are missing.

        Raises:
            ValueError: The folder is not the set's, or a table of it is not as published.
        """
        inside = ("tripod-seq", "epfl-gims08/tripod-seq")
        folder = set_folder(self.path, inside, ("tripod-seq.txt",))
        splits = splits_of(self.name)
        size, sequences = _sequences(folder, len(splits))
        found = []
        for number, azimuths in enumerate(sequences, start=1):
            frames = [_frame(folder, number, at + 1) for at in range(len(azimuths))]
            boxes = folder / (_FORMATS[1] % number)
            files = {"boxes": boxes} | {str(i): path for i, path in enumerate(frames)}
            found.append(
                ViewedObject(
                    f"tripod_seq_{number:02d}",
                    splits[number],
                    len(azimuths),
                    files_digest(files, azimuths, size),
                    {"path": str(folder), "number": number, "azimuths": azimuths, "size": size},
                )
            )
        return found

    def views(self, name: str, location: Mapping[str, Any]) -> Sequence[View]:
        """The frames in their order.

        Raises:
            Unusable: Pictures or boxes are missing, damaged, or not as published.
        """
        folder, number, azimuths = Path(location["path"]), location["number"], location["azimuths"]
        width, height = location["size"]
        boxes = _boxes(folder / (_FORMATS[1] % number), len(azimuths), width, height)
        return [
            View(read_picture(_frame(folder, number, at + 1), (width, height)), box, angle, None,
                 None)
            for at, (box, angle) in enumerate(zip(boxes, azimuths, strict=True))
        ]  # fmt: skip


def _frame(folder: Path, sequence: int, frame: int) -> Path:
    return folder / (_FORMATS[0] % (sequence, frame))


def _sequences(folder: Path, count: int) -> tuple[tuple[int, int], list[list[float]]]:
    """Size of the pictures, and the azimuth of every frame of every sequence."""
    lines = _lines(folder / "tripod-seq.txt")
    try:
        head, counts, *formats, turns, fronts, senses = lines
        given, width, height = map(int, head.split())
        tables = [[int(word) for word in line.split()] for line in (counts, turns, fronts, senses)]
    except ValueError as error:
        raise ValueError(f"tripod-seq.txt is not as published: {error}") from error
    if [Path(line).name for line in formats] != list(_FORMATS):
        raise ValueError(f"tripod-seq.txt names other files than {' and '.join(_FORMATS)}")
    if given != count or any(len(table) != count for table in tables) or min(width, height) < 1:
        raise ValueError(f"tripod-seq.txt does not describe {count} sequences")
    times = _lines(folder / "times.txt")
    if len(times) != count:
        raise ValueError(f"times.txt has {len(times)} lines for {count} sequences")
    rows = zip(times, *tables, strict=True)
    return (width, height), [_azimuths(i, *row) for i, row in enumerate(rows, start=1)]


def _azimuths(
    number: int, line: str, frames: int, turn: int, front: int, sense: int
) -> list[float]:
    """The azimuth of every frame in degrees, 0 to 360.

    Args:
        number: Of the sequence.
        line: Of times.txt.
        frames: How many there are.
        turn: The frame at which the platform has turned once since the first.
        front: The frame of the frontal pose.
        sense: 1 or -1.
    """
    what = f"sequence {number}"
    if not (2 <= turn <= frames and 1 <= front <= frames and sense in (1, -1)):
        raise ValueError(
            f"tripod-seq.txt, {what}: {turn} frames a turn, front {front} and sense {sense} do "
            f"not go with {frames} frames"
        )
    try:
        times = [float(word) for word in line.split()]
    except ValueError as error:
        raise ValueError(f"times.txt, {what}: {error}") from error
    rising = all(b >= a for a, b in pairwise(times))
    if len(times) != frames or not all(map(math.isfinite, times)) or not rising:
        raise ValueError(f"times.txt, {what}: not {frames} seconds that rise")
    period = times[turn - 1] - times[0]
    if period <= 0:
        raise ValueError(f"times.txt, {what}: a turn takes no time")
    return [sense * 360 * (time - times[front - 1]) / period % 360 for time in times]


def _boxes(path: Path, count: int, width: int, height: int) -> list[Box]:
    rows = [line.split() for line in read_bytes(path).decode("ascii", "replace").splitlines()]
    try:
        table = [[float(word) for word in row] for row in rows if row]
        found = [
            Box(x / width, (x + wide) / width, y / height, (y + high) / height)
            for x, y, wide, high in table
        ]
    except ValueError as error:
        raise Unusable(Status.NOT_AS_PUBLISHED, f"{path.name}: {error}") from error
    if len(found) != count:
        raise Unusable(
            Status.NOT_AS_PUBLISHED, f"{path.name} has {len(found)} boxes for {count} frames"
        )
    for line, box in enumerate(found, start=1):
        edges = (box.xmin, box.xmax, box.ymin, box.ymax)
        inside = box.xmin < 1 and box.xmax > 0 and box.ymin < 1 and box.ymax > 0
        if not all(map(math.isfinite, edges)) or box.area <= 0 or box.area > 4 or not inside:
            raise Unusable(
                Status.NOT_AS_PUBLISHED, f"{path.name}, line {line}: no box in the picture"
            )
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
