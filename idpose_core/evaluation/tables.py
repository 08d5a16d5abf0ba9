"""The paper's Tables 1 and 2 beside what was measured, aggregated from files of rows.

A cell that nothing was measured for is empty. A measured cell says with which protocol: a stand-in
network never fills a cell under the name of the one it stands in for.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from idpose_core.settings import ConfigError
from storage.errors import DatasetError
from storage.objects import Store

COLUMNS = {
    "LPIPS": ("lpips-",),
    "FID": ("fid-", "fd-"),
    "KID": ("kid-",),
    "Precision": ("precision-",),
    "Recall": ("recall-",),
    "ID": ("id-score-",),
    "Pose": ("pose-score-",),
    "Swap": ("swap-score-",),
    "Azimuth hit": ("azimuth-hit",),
    "Azimuth opposite": ("azimuth-opposite",),
    "Identity first": ("identity-first",),
}
"""Columns, and how the names of the metrics begin that fill them."""
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
            found = json.loads(text)["rows"]
            rows += [{name: row[name] for name in _NEEDED} | row for row in found]
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} is no file of results ({error!r}): remove it") from error
    return rows


_NEEDED = ("dataset", "dataset_version", "method", "model", "metric", "value", "n")


def compose(rows: Sequence[Mapping[str, Any]], only: Collection[str] = ()) -> list[Cell]:
    """Cells of the paper with what was measured of the same data and method, then all others.

    Of a number that was measured twice the same way (data, evaluation set, method, model, metric,
    seed, budget, number of rows, size of the pictures) the newest counts; what was measured another
    way is shown beside it. Differences between methods are left out: they are no row of a table.

    Args:
        rows: Of :func:`collect`.
        only: Names of datasets that the table is about; none for all.
    """
    measured: dict[tuple[str, str, str], dict[tuple[Any, ...], Cell]] = {}
    for row in sorted(rows, key=lambda row: (str(row.get("date")), str(row.get("time")))):
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
    return [cell for cell in cells if not only or cell.dataset in chosen]


def column_of(metric: str) -> str | None:
    """The column that a metric belongs to, or None."""
    return next((name for name, starts in COLUMNS.items() if metric.startswith(starts)), None)


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
    lines: dict[tuple[Any, ...], dict[str, list[Cell]]] = {}
    for cell in cells:
        model = cell.model or ""
        key = (cell.table or 3, cell.dataset, cell.dataset_version or "", cell.method, model)
        lines.setdefault(key, {}).setdefault(cell.column, []).append(cell)
    text = []
    titles = {1: "Table 1 of the paper", 2: "Table 2 of the paper", 3: "Data that it has not"}
    for number, title in titles.items():
        chosen = {key: found for key, found in lines.items() if key[0] == number}
        heads = _heads(
            [cell for found in chosen.values() for part in found.values() for cell in part]
        )
        if not chosen:
            continue
        text += [f"## {title}", ""]
        text.append(_line(["data", "method", "model", *(f"{name} ({of})" for name, of in heads)]))
        text.append(_line(["---"] * (3 + len(heads))))
        for (_, dataset, version, method, model), found in chosen.items():
            where = f"{dataset}@{version}" if version else dataset
            shown = [_SHOWN[of](found.get(name, [])) for name, of in heads]
            text.append(_line([where, method, model, *shown]))
        text.append("")
    text.append("Measured: value [95 % interval] protocol, n; empty where nothing was measured.")
    return "\n".join(text) + "\n"


def _heads(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Columns of one table; of what the paper has no number there is none of the paper's."""
    printed_there = {cell.column for cell in cells if cell.paper is not None}
    used = {cell.column for cell in cells}
    return [
        (name, side)
        for name in COLUMNS
        if name in used
        for side in _SHOWN
        if side == "measured" or name in printed_there
    ]


def _line(words: Sequence[str]) -> str:
    return f"| {' | '.join(word.replace('|', '/') for word in words)} |"


def _paper(cells: Sequence[Cell]) -> str:
    return next((f"{cell.paper:.2f}" for cell in cells if cell.paper is not None), "")


def _measured(cells: Sequence[Cell]) -> str:
    return "; ".join(_told(cell) for cell in cells if cell.measured is not None)


_SHOWN = {"paper": _paper, "measured": _measured}


def _told(cell: Cell) -> str:
    interval = f" [{cell.ci_low:.3g}, {cell.ci_high:.3g}]" if cell.ci_low is not None else ""
    few = "samples" in (cell.warning or "")
    warning = " (few samples)" if few else " (see its warning)" if cell.warning else ""
    return f"{cell.measured:.3g}{interval} {cell.protocol}, {cell.n}{warning}"
