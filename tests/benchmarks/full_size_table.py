"""Memory and time of a table as large as that of YouTube-BoundingBoxes: 5.6 million rows.

    python -m tests.benchmarks.full_size_table FOLDER

Writes such a table into FOLDER, then reads it and plans a build from it, each in a process of its
own, whose greatest memory and CPU time are noted. The classes have equal shares; `all` keeps every
row and so bounds any share that a class can have.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROWS = 5_600_000
VIDEOS = 240_000
ROWS_A_SEGMENT = 15
# By their numbers
CLASSES = (
    "person", "bird", "bicycle", "boat", "bus", "bear", "cow", "cat", "giraffe", "potted plant",
    "horse", "motorcycle", "knife", "airplane", "skateboard", "train", "truck", "zebra",
    "toilet", "dog", "elephant", "umbrella", "none", "car",
)  # fmt: skip
PAPER = "car,bus,truck"

_READ = """
import sys
from idpose_core.video.annotations import read_annotations
classes = None if sys.argv[2] == "all" else sys.argv[2].split(",")
found = read_annotations(sys.argv[1], classes=classes)
print(found.rows, found.malformed_count)
"""


@dataclass(frozen=True)
class Measured:
    """One child process: greatest resident memory in megabytes (1e6 bytes), CPU seconds, output."""

    megabytes: float
    seconds: float
    output: str


def rows_of_segments(count: int) -> Iterator[str]:
    """Lines in the published form: no header, a row a second, boxes that move."""
    draw = random.Random(0)
    for segment in range(-(-count // ROWS_A_SEGMENT)):
        name = hashlib.sha256(str(segment % VIDEOS).encode()).digest()
        video = base64.urlsafe_b64encode(name)[:11].decode()
        number = segment % len(CLASSES)
        start, left, top = draw.randrange(200), draw.random() / 2, draw.random() / 2
        for second in range(min(ROWS_A_SEGMENT, count - segment * ROWS_A_SEGMENT)):
            head = f"{video},{(start + second) * 1000},{number},{CLASSES[number]},0"
            if draw.random() < 0.05:
                yield f"{head},absent,-1.0,-1.0,-1.0,-1.0\n"
                continue
            x, y = left + second / 100, top + second / 200
            yield f"{head},present,{x:.6f},{x + 0.3:.6f},{y:.6f},{y + 0.25:.6f}\n"


def write_table(path: Path, rows: int = ROWS) -> Path:
    """Write the table as a gzip file."""
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.writelines(rows_of_segments(rows))
    return path


def read(table: Path, classes: str) -> Measured:
    """Read some classes of a table, or ``all``."""
    return _watch([sys.executable, "-c", _READ, str(table), classes])


def plan(table: Path, classes: str) -> Measured:
    """`idpose build --dry-run` over some classes; it may say that the disk is too small."""
    sets = ["split=hash", f"classes=[{classes}]", f"source.annotations={table}"]
    sets += ["detector.kind=annotations", "embedder.kind=grey-pixels"]
    words = [word for pair in sets for word in ("--set", pair)]
    with tempfile.TemporaryDirectory(dir=table.parent) as root:
        program = [sys.executable, "-m", "flows", "build", "ytbb-car", "--dry-run", "--json"]
        return _watch([*program, "--root", root, *words])


def _watch(words: list[str]) -> Measured:
    """Run a child. The system counts this process's memory at its start as the child's: small."""
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    return Measured(usage.ru_maxrss * 1024 / 1e6, usage.ru_utime + usage.ru_stime, output)


def main() -> None:
    """Writes, measures, notes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--out", type=Path, default=Path("docs/results/full-size-table.json"))
    arguments = parser.parse_args()
    table = write_table(arguments.folder / "full-size.csv.gz", arguments.rows)
    measured = {
        f"read, classes {PAPER}": read(table, PAPER),
        "read, all classes": read(table, "all"),
        f"dry run, classes {PAPER}": plan(table, PAPER),
    }
    from tests.benchmarks.retrieval import public_arguments, row, write  # loads torch: not before

    rows = []
    for what, found in measured.items():
        print(f"{what}: {found}")
        for metric, value in (("megabytes", found.megabytes), ("CPU seconds", found.seconds)):
            rows.append(
                row(
                    "a table in the form of YouTube-BoundingBoxes",
                    "",
                    what,
                    metric,
                    (value, None, None),
                    seed="0",
                    n=arguments.rows,
                    budget="one process",
                    command=f"python -m tests.benchmarks.full_size_table {public_arguments()}",
                )
            )
    write(arguments.out, rows)


if __name__ == "__main__":
    main()
