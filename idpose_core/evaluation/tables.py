"""The paper's Tables 1 and 2 beside what was measured, aggregated from files of rows.

A cell that nothing was measured for is empty. A measured cell says with which protocol: a stand-in
network never fills a cell under the name of the one it stands in for.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from idpose_core.settings import ConfigError
from storage.errors import DatasetError
from storage.objects import Store

COLUMNS = {
    "LPIPS": r"lpips-.*(?<!-masked)$",
    "FID": r"(fid|fd)-",
    "ID": r"id-score-.*(?<!-masked)$",
    "Pose": r"pose-score-",
    "KID": r"kid-",
    "Precision": r"precision-",
    "Recall": r"recall-",
    "LPIPS masked": r"lpips-.*-masked$",
    "ID masked": r"id-score-.*-masked$",
    "Chroma error": r"chroma-error-",
    "Copy of ID": r"copy-index-id-",
    "Copy of pose": r"copy-index-pose-",
    "Swap": r"swap-score-",
    "Azimuth hit": r"azimuth-hit",
    "Azimuth opposite": r"azimuth-opposite",
    "Identity first": r"identity-first",
}
"""Columns, the paper's four first, and how the names of the metrics begin that fill them."""
DATASETS = {
    "cars3d": "3dcars", "chairs3d": "3dchairs", "ytbb-car": "ytbb_car", "ytbb-bus": "ytbb_bus",
    "ytbb-truck": "ytbb_truck",
}  # fmt: skip
METHODS = {
    "identity-pose": "ours", "without-pv": "ours_wo_pv",
    "without-pv-and-dis2": "ours_wo_pv_wo_dis2", "fusion_image": "fusionimg",
}  # fmt: skip
_PAPER = "idpose_core.evaluation"


@dataclass(frozen=True)
class Cell:
    """One number of the paper, one that was measured, or both.

    Attributes:
        table: 1 or 2 of the paper; None for data that the paper has not.
        dataset: In the paper's words where it has it.
        method: Likewise.
        column: Of ``COLUMNS``.
        paper: Its number; None where it has none.
        measured: Ours; None where nothing was measured.
        ci_low: Lower end of its 95 % interval.
        ci_high: Upper end.
        protocol: Name of the metric.
        n: Rows that it was measured on.
        model: ``name@version``; None for controls without one.
        dataset_version: Of the data.
        warning: Of the result itself.
    """

    table: int | None
    dataset: str
    method: str
    column: str
    paper: float | None = None
    measured: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    protocol: str | None = None
    n: int | None = None
    model: str | None = None
    dataset_version: str | None = None
    warning: str | None = None


def paper_cells() -> list[Cell]:
    """The numbers of the paper, from ``paper.csv``."""
    text = files(_PAPER).joinpath("paper.csv").read_text(encoding="utf-8")
    return [
        Cell(int(row["table"]), row["dataset"], row["method"], column, float(row[column]))
        for row in csv.DictReader(text.splitlines())
        for column in COLUMNS
        if row.get(column)
    ]


def collect(store: Store, results: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """The rows of all evaluations below a root, and of further files.

    Raises:
        DatasetError: A file is no file of rows.
    """
    texts = {
        path: store.read(path)
        for folder in ("runs", "models", "evaluation-sets")
        for path in sorted(store.list(folder))
        if path.split("/")[-2] == "evaluation" and path.endswith(".json")
    }
    try:
        texts |= {str(path): path.read_bytes() for path in results}
    except OSError as error:
        raise DatasetError(f"cannot read {error.filename}: {error.strerror}") from error
    rows: list[dict[str, Any]] = []
    for path, text in texts.items():
        try:
            rows += [row.model_dump() for row in _ResultFile.model_validate_json(text).rows]
        except ValidationError as error:
            first = error.errors()[0]
            where = ", ".join(map(str, first["loc"])) or "the file"
            raise DatasetError(
                f"{path} is no file of results: {where}: {first['msg']}; correct it or leave it out"
            ) from error
    return rows


class _ResultRow(BaseModel):
    """What a row must have to stand in a table."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    dataset: str
    dataset_version: str | None
    method: str
    model: str | None
    metric: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int
    seed: int | str | None = None
    budget: str | None = None
    size: int | None = None
    evaluation_set: str | None = None
    warning: str | None = None
    date: str = ""
    time: str = ""


class _ResultFile(BaseModel):
    rows: list[_ResultRow]


def compose(rows: Sequence[Mapping[str, Any]], only: Collection[str] = ()) -> list[Cell]:
    """Cells of the paper with what was measured of the same data and method, then all others.

    Of a number that was measured twice the same way (data, evaluation set, method, model, metric,
    seed, budget, number of rows, size of the pictures) the newest counts; what was measured another
    way is shown beside it. Differences between methods are left out: they are no row of a table.

    Args:
        rows: Of :func:`collect`.
        only: Names of datasets that the table is about; none for all.

    Raises:
        DatasetError: There are no rows of such a dataset, and the paper has none.
    """
    measured: dict[tuple[str, str, str], dict[tuple[Any, ...], Cell]] = {}
    for row in sorted(rows, key=lambda row: (row.get("date") or "", row.get("time") or "")):
        column = column_of(row["metric"])
        if column is None or " - " in row["method"]:
            continue
        dataset = DATASETS.get(row["dataset"], row["dataset"])
        method = METHODS.get(row["method"], row["method"])
        cell = Cell(
            None, dataset, method, column, None, row["value"], row.get("ci_low"),
            row.get("ci_high"), row["metric"], row["n"], row["model"], row["dataset_version"],
            row.get("warning"),
        )  # fmt: skip
        how = (row["n"], *map(row.get, ("evaluation_set", "seed", "budget", "size")))
        place = (row["metric"], row["model"], row["dataset_version"], *how)
        measured.setdefault((dataset, method, column), {})[place] = cell
    cells: list[Cell] = []
    tables = {cell.dataset: cell.table for cell in paper_cells()}
    for printed_cell in paper_cells():
        here = measured.pop((printed_cell.dataset, printed_cell.method, printed_cell.column), {})
        paper = {"table": printed_cell.table, "paper": printed_cell.paper}
        cells += [Cell(**{**asdict(cell), **paper}) for cell in here.values()] or [printed_cell]
    rest = (cell for found in measured.values() for cell in found.values())
    cells += [Cell(**{**asdict(cell), "table": tables.get(cell.dataset)}) for cell in rest]
    chosen = {DATASETS.get(name, name) for name in only}
    unknown = sorted(chosen - {cell.dataset for cell in cells})
    if unknown:
        known = sorted({cell.dataset for cell in cells})
        raise DatasetError(
            f"nothing was measured on {', '.join(unknown)}; there are rows of {', '.join(known)}"
        )
    return [cell for cell in cells if not only or cell.dataset in chosen]


def column_of(metric: str) -> str | None:
    """The column that a metric belongs to, or None."""
    return next((name for name, pattern in COLUMNS.items() if re.match(pattern, metric)), None)


def printed(cells: Sequence[Cell], form: str) -> str:
    """The text of a table.

    Args:
        cells: Of :func:`compose`.
        form: ``md``, ``csv`` or ``json``.

    Raises:
        ConfigError: Another form.
    """
    if form == "json":
        return json.dumps({"cells": [asdict(cell) for cell in cells]}, indent=1) + "\n"
    if form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(asdict(Cell(None, "", "", ""))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(cell) for cell in cells)
        return out.getvalue()
    if form == "md":
        return _markdown(cells)
    raise ConfigError(f"a table is printed as md, csv or json, not {form!r}")


def _markdown(cells: Sequence[Cell]) -> str:
    """A line for each data, method and model; a column for each protocol."""
    text = []
    warnings: dict[str, int] = {}
    titles = {1: "Table 1 of the paper", 2: "Table 2 of the paper", 3: "Data that it has not"}
    for number, title in titles.items():
        chosen = [cell for cell in cells if (cell.table or 3) == number]
        if not chosen:
            continue
        heads = _heads(chosen)
        lines: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in chosen:
            version = f"@{cell.dataset_version}" if cell.dataset_version else ""
            key = (f"{cell.dataset}{version}", cell.method, cell.model or "")
            lines.setdefault(key, []).append(cell)
        text += [f"## {title}", "", _line(["data", "method", "model", *map(str, heads)])]
        text.append(_line(["---"] * (3 + len(heads))))
        for key, found in lines.items():
            text.append(_line([*key, *(head.told(found, warnings) for head in heads)]))
        text.append("")
    text.append(_LEGEND)
    if warnings:
        text += ["", *(f"{number}. {warning}" for warning, number in warnings.items())]
    return "\n".join(text) + "\n"


_LEGEND = (
    "Value [95 % interval over objects]; empty where nothing was measured. Columns without (paper) "
    "were measured, by the protocol in their name: what is not called lpips-alex-v0.1, "
    "lpips-vgg-v0.1, fid-inception-5k, id-score-resnet50 or pose-score-resnet50 is a stand-in or "
    "goes beyond the paper, and does not compare with its numbers."
)


_NOTHING = "nothing measured"


@dataclass(frozen=True)
class _Head:
    """A column of one table.

    Attributes:
        column: Of ``COLUMNS``.
        protocol: Name of the metric; None for the paper's numbers.
        n: Of all its cells, where it is the same.
    """

    column: str
    protocol: str | None
    n: int | None = None

    def __str__(self) -> str:
        if self.protocol is None:
            return f"{self.column} (paper)"
        return f"{self.column}: {self.protocol}" + (f", n {self.n}" if self.n else "")

    def told(self, cells: Sequence[Cell], warnings: dict[str, int]) -> str:
        """What stands in a line; warnings are numbered as they come."""
        mine = [cell for cell in cells if cell.column == self.column]
        if self.protocol is None:
            return next((f"{cell.paper:.2f}" for cell in mine if cell.paper is not None), "")
        found = [cell for cell in mine if cell.protocol == self.protocol]
        return "; ".join(self._told(cell, warnings) for cell in found)

    def _told(self, cell: Cell, warnings: dict[str, int]) -> str:
        parts = [f"{cell.measured:.3g}"]
        if cell.ci_low is not None and cell.ci_high is not None:
            parts.append(f"[{cell.ci_low:.3g}, {cell.ci_high:.3g}]")
        if self.n is None:
            parts.append(f"n {cell.n}")
        if cell.warning:
            parts.append(f"({warnings.setdefault(cell.warning, len(warnings) + 1)})")
        return " ".join(parts)


def _heads(cells: Sequence[Cell]) -> list[_Head]:
    """Columns of one table; of what the paper has no number there is none of the paper's."""
    heads = []
    for name in COLUMNS:
        mine = [cell for cell in cells if cell.column == name]
        if any(cell.paper is not None for cell in mine):
            heads.append(_Head(name, None))
        protocols = list(dict.fromkeys(cell.protocol for cell in mine if cell.protocol))
        for protocol in protocols:
            counts = {cell.n for cell in mine if cell.protocol == protocol}
            heads.append(_Head(name, protocol, counts.pop() if len(counts) == 1 else None))
        if mine and not protocols:
            heads.append(_Head(name, _NOTHING))
    return heads


def _line(words: Sequence[str]) -> str:
    """A line of a table; what would break it is replaced."""
    return f"| {' | '.join(' '.join(word.replace('|', '/').split()) for word in words)} |"
