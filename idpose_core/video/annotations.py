"""YouTube-BoundingBoxes annotation tables.

Columns (research.google.com/youtube-bb): youtube_id, timestamp_ms, class_id, class_name, object_id,
object_presence, xmin, xmax, ymin, ymax; xmax comes before ymin. The official files have no header.
About one row a second; ``absent`` and ``uncertain`` rows carry -1 instead of a box.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, BinaryIO, cast

from idpose_core.instances.boxes import Box, interpolate

COLUMNS = (
    "youtube_id",
    "timestamp_ms",
    "class_id",
    "class_name",
    "object_id",
    "object_presence",
    "xmin",
    "xmax",
    "ymin",
    "ymax",
)
MAX_GAP_MS = 1500
KEPT_REASONS = 1000
KEPT_CLASSES = 20

_MAX_LINE = 4096
_MAX_NAME = 256
_MAX_TIME = 2**31 - 1
_ROUNDING = 1e-6  # how far over the frame's edge a written coordinate may lie


@dataclass(frozen=True)
class AnnotationTrack:
    """The annotated boxes of one object in one video.

    Attributes:
        video_id: Id of the video.
        class_name: Class of the object.
        object_id: Id of the object, unique within video and class.
        timestamps_ms: Rising.
        boxes: One for each time stamp; None where the object is absent or uncertain.
    """

    video_id: str
    class_name: str
    object_id: str
    timestamps_ms: tuple[int, ...]
    boxes: tuple[Box | None, ...]

    @property
    def start_ms(self) -> int:
        """First annotated time."""
        return self.timestamps_ms[0]

    @property
    def end_ms(self) -> int:
        """Last annotated time."""
        return self.timestamps_ms[-1]

    def box_at(self, timestamp_ms: int) -> Box | None:
        """The box at a time, linear between two neighbouring boxes at most 1.5 s apart.

        None where the object is absent, the gap is longer, or nothing is annotated.
        """
        i = bisect_left(self.timestamps_ms, timestamp_ms)
        if i < len(self.timestamps_ms) and self.timestamps_ms[i] == timestamp_ms:
            return self.boxes[i]
        if i == 0 or i == len(self.timestamps_ms):
            return None
        before, after = self.boxes[i - 1], self.boxes[i]
        start, gap = self.timestamps_ms[i - 1], self.timestamps_ms[i] - self.timestamps_ms[i - 1]
        if before is None or after is None or gap > MAX_GAP_MS:
            return None
        return interpolate(before, after, (timestamp_ms - start) / gap)


@dataclass(frozen=True)
class MalformedRow:
    """A row that was left out: line number (from 1) and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Annotations:
    """What an annotation table says of the wanted classes.

    Attributes:
        tracks: For each video, in order of id, its tracks in order of class and object. They are
            kept packed (36 bytes a row) and made when asked for.
        rows: Rows read, the header not among them.
        duplicates: Rows left out because their object has another row of the same time.
        malformed_count: Rows left out because they say nothing valid.
        malformed: The first 1000 of those, and where a damaged gzip file broke off.
        other_classes: The first 20 class names that are not wanted.
    """

    tracks: Mapping[str, list[AnnotationTrack]]
    rows: int
    duplicates: int
    malformed_count: int
    malformed: list[MalformedRow]
    other_classes: tuple[str, ...]

    @property
    def why_empty(self) -> str | None:
        """Why there is no track, in words; None where there is one."""
        if self.tracks:
            return None
        reasons = []
        if self.other_classes:
            names = ", ".join(repr(name[:40]) for name in self.other_classes)
            reasons.append(f"no row of the wanted classes, but of {names}")
        if self.malformed:
            first = self.malformed[0]
            reasons.append(
                f"{self.malformed_count} malformed rows, the first in line {first.line}: "
                f"{first.reason}"
            )
        return "; ".join(reasons) or "no rows"


class _Rows:
    """The packed rows of one object: times, and four coordinates each (NaN for no box)."""

    __slots__ = ("coordinates", "times")

    def __init__(self) -> None:
        self.times = array("i")
        self.coordinates = array("d")

    def sort(self) -> int:
        """Order by time and keep one row of each; return how many were dropped.

        Which one does not depend on the order in the file: one with a box, the lowest numbers.
        """
        times, numbers = self.times, self.coordinates
        if all(a < b for a, b in pairwise(times)):
            return 0
        boxes = [tuple(numbers[4 * i : 4 * i + 4]) for i in range(len(times))]
        rows = sorted(zip(times, ((b[0] != b[0], b) for b in boxes), strict=True))
        kept = [row for i, row in enumerate(rows) if i == 0 or row[0] != rows[i - 1][0]]
        self.times = array("i", [time for time, _ in kept])
        self.coordinates = array("d", [number for _, (_, box) in kept for number in box])
        return len(rows) - len(kept)


class _Tracks(Mapping[str, list[AnnotationTrack]]):
    """Packed rows seen as tracks."""

    def __init__(self, packed: dict[str, dict[tuple[str, str], _Rows]]) -> None:
        self._packed = packed

    def __getitem__(self, video_id: str) -> list[AnnotationTrack]:
        return [
            AnnotationTrack(video_id, *names, tuple(rows.times), tuple(_boxes(rows.coordinates)))
            for names, rows in sorted(self._packed[video_id].items())
        ]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def _boxes(numbers: array[float]) -> Iterator[Box | None]:
    for i in range(0, len(numbers), 4):
        xmin, xmax, ymin, ymax = numbers[i : i + 4]
        yield None if math.isnan(xmin) else Box(xmin, xmax, ymin, ymax)


def read_annotations(
    source: Path | str | IO[bytes], *, classes: Iterable[str] | None
) -> Annotations:
    """Read a table in the form of YouTube-BoundingBoxes.

    It is read in one pass, and only rows of the wanted classes are kept and checked.

    Args:
        source: A path or a seekable binary file, plain or gzip (told apart by content), with or
            without the header row.
        classes: Class names to keep, or None for all.

    Returns:
        The tracks, with counts of what was left out. A malformed row or a truncated gzip file
        ends nothing: the reason is in ``malformed``.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The header names other columns, or the same columns in another order.
    """
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            return read_annotations(file, classes=classes)
    table = _Table(frozenset(classes) if classes is not None else None)
    for number, line in _lines(source, table):
        table.add(number, line)
    return table.finish()


class _Table:
    """Collects rows."""

    def __init__(self, classes: frozenset[str] | None) -> None:
        self._classes = classes
        self._packed: dict[str, dict[tuple[str, str], _Rows]] = {}
        self._names: dict[str, str] = {}  # one string for the same class in all rows
        self._other_classes: dict[str, None] = {}
        self._rows = 0
        self._malformed: list[MalformedRow] = []
        self._malformed_count = 0

    def reject(self, number: int, reason: str, *, always_kept: bool = False) -> None:
        self._malformed_count += 1
        if always_kept or len(self._malformed) < KEPT_REASONS:
            self._malformed.append(MalformedRow(number, reason))

    def add(self, number: int, line: str) -> None:
        text = line.rstrip("\r\n")
        fields = text.split(",") if '"' not in text else next(csv.reader([text]))
        if number == 1 and _is_header(fields):
            return
        if not text.strip():
            return
        self._rows += 1
        if len(fields) != len(COLUMNS):
            self.reject(number, f"{len(fields)} columns, not {len(COLUMNS)}")
            return
        if self._classes is not None and fields[3] not in self._classes:
            if len(self._other_classes) < KEPT_CLASSES:
                self._other_classes[fields[3]] = None
            return
        try:
            time, box = _parse(fields)
            rows = self._track(fields[0], fields[3], fields[4])
        except ValueError as error:
            self.reject(number, str(error))
            return
        rows.times.append(time)
        rows.coordinates.extend(box)

    def _track(self, video_id: str, class_name: str, object_id: str) -> _Rows:
        rows = self._packed.get(video_id, {}).get((class_name, object_id))
        if rows is None:
            _check_name("youtube_id", video_id)
            _check_name("class_name", class_name)
            _check_name("object_id", object_id)
            class_name = self._names.setdefault(class_name, class_name)
            rows = self._packed.setdefault(video_id, {})[class_name, object_id] = _Rows()
        return rows

    def finish(self) -> Annotations:
        duplicates = sum(rows.sort() for video in self._packed.values() for rows in video.values())
        return Annotations(
            tracks=_Tracks({video_id: self._packed[video_id] for video_id in sorted(self._packed)}),
            rows=self._rows,
            duplicates=duplicates,
            malformed_count=self._malformed_count,
            malformed=self._malformed,
            other_classes=tuple(self._other_classes),
        )


_ABSENT = (math.nan,) * 4


def _parse(fields: list[str]) -> tuple[int, tuple[float, ...]]:
    time = _integer("timestamp_ms", fields[1])
    _integer("class_id", fields[2])
    presence = fields[5]
    if presence in ("absent", "uncertain"):
        return time, _ABSENT
    if presence != "present":
        raise ValueError(f"object_presence {presence[:40]!r} is not present, absent or uncertain")
    try:
        numbers = tuple(map(float, fields[6:]))
    except ValueError as error:
        raise ValueError(f"box is not four numbers: {fields[6:]}") from error
    if not all(-_ROUNDING <= number <= 1 + _ROUNDING for number in numbers):  # NaN fails, too
        raise ValueError(f"box lies outside the frame: {numbers}")
    xmin, xmax, ymin, ymax = (min(max(number, 0.0), 1.0) for number in numbers)
    if xmin >= xmax or ymin >= ymax:
        raise ValueError(f"box is swapped or empty: {numbers}")
    return time, (xmin, xmax, ymin, ymax)


def _check_name(name: str, value: str) -> None:
    if not value or value.isspace() or len(value) > _MAX_NAME or not value.isprintable():
        raise ValueError(f"{name} is empty, too long or not text: {value[:40]!r}")


def _integer(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 10 or int(value) > _MAX_TIME:
        raise ValueError(f"{name} is not a number from 0 to {_MAX_TIME}: {value[:40]!r}")
    return int(value)


def _is_header(fields: list[str]) -> bool:
    names = tuple(field.strip().lower() for field in fields)
    if names[0] != COLUMNS[0]:
        return False
    if names != COLUMNS:
        raise ValueError(f"columns are {', '.join(names)}; expected {', '.join(COLUMNS)}")
    return True


def _lines(source: IO[bytes], table: _Table) -> Iterator[tuple[int, str]]:
    """Numbered lines; one that is absurdly long is rejected without being kept in memory."""
    zipped = source.read(2) == b"\x1f\x8b"
    source.seek(0)
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=source) if zipped else source)
    # Bytes that are no UTF-8 become surrogates, which are not printable: such names are rejected
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=None)
    number = 0
    try:
        while line := text.readline(_MAX_LINE):
            number += 1
            if len(line) == _MAX_LINE and not line.endswith("\n"):
                table.reject(number, f"line of more than {_MAX_LINE} characters")
                while line and not line.endswith("\n"):
                    line = text.readline(_MAX_LINE)
                continue
            yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        lost = f"damaged gzip file, the rest is lost: {error}"
        table.reject(number + 1, lost, always_kept=True)
    finally:
        text.detach()
