"""Which models are for training, validation and test: frozen in ``splits.csv``.

``python -m idpose_core.datasets.rendered.splits`` prints the table that the file holds.
"""

from __future__ import annotations

import csv
import sys
from functools import cache
from importlib.resources import files

from idpose_core.datasets.rendered.families import check_model, family
from idpose_core.datasets.rendered.seeds import number

SPLITS = {"car": ("train", "validation", "test"), "chair": ("train", "test")}
_CAR_COUNTS = (100, 41, 42)  # the paper's 3D Cars
_BLOCK, _BLOCK_TEST = 20, 3  # 85/15 in every twenty chairs, so that the first N are split alike


def split_of(kind: str, index: int) -> str:
    """The split of a model.

    Raises:
        ValueError: The kind or the index does not exist.
    """
    check_model(kind, index)
    return _table()[kind, index]


def models_of(kind: str, split: str, *, limit: int | None = None) -> tuple[int, ...]:
    """The models of a split, in rising order.

    Args:
        kind: car or chair.
        split: One of ``SPLITS[kind]``.
        limit: Looks at the first so many models of the family only.

    Raises:
        ValueError: The kind or the split does not exist, or the limit is below 1 or above the
            number of models.
    """
    count = family(kind).models
    if split not in SPLITS[kind]:
        raise ValueError(f"no split {split!r} of {kind}s; there are {', '.join(SPLITS[kind])}")
    if limit is not None and not 1 <= limit <= count:
        raise ValueError(f"limit must be 1 to {count}, the number of {kind}s, not {limit}")
    return tuple(i for i in range(limit or count) if _table()[kind, i] == split)


def training_and_test(kind: str, limit: int) -> dict[int, str]:
    """The split of each of the first models of a family, without those for validation.

    Raises:
        ValueError: There is no such kind, or there are not so many models.
    """
    return {
        model: split for split in ("train", "test") for model in models_of(kind, split, limit=limit)
    }


@cache
def _table() -> dict[tuple[str, int], str]:
    text = files(__package__).joinpath("splits.csv").read_text(encoding="utf-8")
    return {(row["kind"], int(row["model"])): row["split"] for row in csv.DictReader(text.split())}


def drawn_splits() -> list[tuple[str, int, str]]:
    """The rows (kind, model, split) as they were drawn: by order of a hash of the model."""
    rows = []
    order = sorted(range(family("car").models), key=lambda i: number("split", "car", i))
    names = [n for n, many in zip(SPLITS["car"], _CAR_COUNTS, strict=True) for _ in range(many)]
    rows += [("car", index, name) for index, name in zip(order, names, strict=True)]
    chairs = family("chair").models
    for start in range(0, chairs, _BLOCK):
        block = range(start, min(start + _BLOCK, chairs))
        order = sorted(block, key=lambda i: number("split", "chair", i))
        test = round(len(block) * _BLOCK_TEST / _BLOCK)
        rows += [("chair", i, "test" if rank < test else "train") for rank, i in enumerate(order)]
    return sorted(rows)


def main() -> None:
    """Print the table."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("kind", "model", "split"))
    rows.writerows(drawn_splits())


if __name__ == "__main__":
    main()
