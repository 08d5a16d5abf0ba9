"""Which objects of the published sets are for training, validation and test: ``splits.csv``.

An object's number is its place in the list that its set is published with, in the order of names
(3D Cars, 3D Chairs), or the number in its name (ETH-80, EPFL cars). No set but EPFL's has a split
of its own that is published, so they were drawn here once; ``python -m
idpose_core.datasets.published.splits`` prints the table that the file holds.

3D Cars: 100, 41 and 42 of 183 models. 3D Chairs: 15 % of 1,393 for test. ETH-80: 3 of 10 cars for
test, two of them among those that the project's tests have. EPFL: sequences 1 to 10 and 11 to 20.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from functools import cache, partial
from hashlib import blake2b
from importlib.resources import files

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_COUNTS = {
    "cars3d": ((TRAIN, 100), (VALIDATION, 41), (TEST, 42)),
    "chairs3d": ((TEST, 209), (TRAIN, 1184)),
}
_GIVEN: dict[str, dict[str, Iterable[int]]] = {
    "eth80": {TRAIN: (1, 3, 5, 6, 9, 11, 14), TEST: (2, 7, 12)},
    "epfl-cars": {TRAIN: range(1, 11), TEST: range(11, 21)},
}


def splits_of(name: str) -> dict[int, str]:
    """The split of every object of a set, by its number.

    Raises:
        KeyError: There is no such set.
    """
    return _table()[name]


@cache
def _table() -> dict[str, dict[int, str]]:
    text = files(__package__).joinpath("splits.csv").read_text(encoding="utf-8")
    table: dict[str, dict[int, str]] = {}
    for row in csv.DictReader(text.splitlines()):
        table.setdefault(row["set"], {})[int(row["number"])] = row["split"]
    return table


def drawn_splits() -> list[tuple[str, int, str]]:
    """The rows (set, number, split): where none is given, by order of a hash of the number."""
    rows = [(n, i, s) for n, by in _GIVEN.items() for s, numbers in by.items() for i in numbers]
    for name, counts in _COUNTS.items():
        numbers = range(1, sum(count for _, count in counts) + 1)
        order = sorted(numbers, key=partial(_hash, name))
        split = [word for word, count in counts for _ in range(count)]
        rows += [(name, number, word) for number, word in zip(order, split, strict=True)]
    return sorted(rows)


def _hash(name: str, number: int) -> bytes:
    return blake2b(f"{name} {number}".encode(), digest_size=8).digest()


def main() -> None:
    """Print the table."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("set", "number", "split"))
    rows.writerows(drawn_splits())


if __name__ == "__main__":
    main()
