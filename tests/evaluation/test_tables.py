from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from idpose_core.evaluation.tables import (
    COLUMNS,
    collect,
    column_of,
    compose,
    paper_cells,
    printed,
)
from storage.errors import DatasetError
from storage.objects import Store


def row(**other: Any) -> dict[str, Any]:
    return {
        "dataset": "ytbb-car", "dataset_version": "v1", "method": "identity-pose",
        "model": "m@1", "metric": "lpips-alex-v0.1", "value": 0.25, "ci_low": 0.2,
        "ci_high": 0.3, "n": 5000, **other,
    }  # fmt: skip


def test_the_papers_numbers() -> None:
    cells = {(c.dataset, c.method, c.column): c.paper for c in paper_cells()}
    assert cells["3dchairs", "drnet", "FID"] == 7.42
    assert cells["ytbb_car", "drnet", "Pose"] == 0.69
    assert cells["ytbb_truck", "ours_wo_pv_wo_dis2", "LPIPS"] == 0.38
    assert ("ytbb_bus", "ours", "Pose") not in cells
    # 8 and 18 rows of three numbers, six of them with a fourth.
    assert len(cells) == 26 * 3 + 6


def test_nothing_measured_leaves_every_cell_empty() -> None:
    assert all(cell.measured is None for cell in compose([]))
    text = printed(compose([]), "md")
    assert "| ytbb_car | ours |  | 0.33 |  | 18.03 |  | 0.63 |  | 0.65 |  |" in text
    assert "| LPIPS (paper) | LPIPS: nothing measured |" in text


def test_a_measured_number_stands_beside_the_papers() -> None:
    cells = compose([row()])
    found = [cell for cell in cells if cell.measured is not None]
    assert len(found) == 1
    cell = found[0]
    assert (cell.table, cell.dataset, cell.method, cell.paper) == (2, "ytbb_car", "ours", 0.33)
    assert (cell.measured, cell.protocol, cell.n) == (0.25, "lpips-alex-v0.1", 5000)
    text = printed(cells, "md")
    assert "| LPIPS (paper) | LPIPS: lpips-alex-v0.1, n 5000 | FID (paper) |" in text
    assert "| ytbb_car@v1 | ours | m@1 | 0.33 | 0.25 [0.2, 0.3] |  |" in text
    assert len(cells) == len(compose([]))


def test_a_stand_in_carries_its_own_name() -> None:
    text = printed(
        compose([row(metric="lpips-st-alex"), row(metric="fd-efficientnet-lite0")]), "md"
    )
    heads = [line for line in text.splitlines() if line.startswith("| data")]
    assert any("LPIPS: lpips-st-alex" in line for line in heads)
    assert any("FID: fd-efficientnet-lite0" in line for line in heads)
    assert not any("lpips-alex-v0.1" in line for line in heads)
    assert "is a stand-in" in text


def test_what_the_paper_does_not_measure_has_no_column_of_the_paper() -> None:
    rows = [row(metric=f"{name}-inception") for name in ("kid", "precision", "recall")]
    head = next(line for line in printed(compose(rows), "md").splitlines() if "KID" in line)
    for name in ("KID", "Precision", "Recall"):
        assert f"| {name}: {name.lower()}-inception, n 5000 |" in head
        assert f"{name} (paper)" not in head
    assert "| FID (paper) | FID: nothing measured |" in head


def test_the_papers_columns_come_first_and_the_object_alone_has_its_own() -> None:
    metrics = {
        "copy-index-pose-lpips-alex": "Copy of pose", "copy-index-id-lpips-alex": "Copy of ID",
        "chroma-error-whole-picture": "Chroma error", "chroma-error-masked": "Chroma error",
        "id-score-small-2-steps-masked": "ID masked", "lpips-st-alex-masked": "LPIPS masked",
        "kid-means": "KID", "pose-score-small-from-cars@1": "Pose", "id-score-small": "ID",
        "fd-means": "FID", "fid-inception-5k": "FID", "lpips-alex-v0.1": "LPIPS",
    }  # fmt: skip
    assert {metric: column_of(metric) for metric in metrics} == metrics
    assert column_of("pixel-l1") is None
    assert list(COLUMNS)[:4] == ["LPIPS", "FID", "ID", "Pose"]
    text = printed(compose([row(metric=metric, dataset="d") for metric in metrics], ["d"]), "md")
    heads = next(line for line in text.splitlines() if line.startswith("| data")).split(" | ")
    names = [head.partition(":")[0] for head in heads[3:]]
    assert names == sorted(names, key=list(COLUMNS).index) and len(names) == len(metrics)
    assert all(", n 5000" in head for head in heads[3:])


def test_other_data_and_controls_have_their_own_lines() -> None:
    cells = compose(
        [row(method="copy-pose"), row(dataset="rendered-cars"), row(method="a - b"),
         row(metric="pixel-l1")]
    )  # fmt: skip
    found = [cell for cell in cells if cell.measured is not None]
    assert {(c.table, c.dataset, c.method, c.paper) for c in found} == {
        (2, "ytbb_car", "copy-pose", None),
        (None, "rendered-cars", "ours", None),
    }


def test_a_table_of_some_datasets_alone() -> None:
    """Without a number of the paper there are no columns for it."""
    rows = [row(), row(dataset="rendered-cars"), row(dataset="eth80", method="copy-id", model=None)]
    cells = compose(rows, ["eth80"])
    assert {cell.dataset for cell in cells} == {"eth80"}
    assert "| data | method | model | LPIPS: lpips-alex-v0.1, n 5000 |" in printed(cells, "md")
    assert "eth80@v1 | copy-id |  | 0.25 [0.2, 0.3]" in printed(cells, "md")
    assert {cell.dataset for cell in compose(rows, ["ytbb-car"])} == {"ytbb_car"}
    assert "LPIPS (paper) | LPIPS: lpips-alex" in printed(compose(rows, ["ytbb-car"]), "md")
    with pytest.raises(DatasetError, match="nothing was measured on nope; there are rows of 3dc"):
        compose(rows, ["nope"])


def test_the_last_of_equal_measurements_counts_and_models_are_kept_apart() -> None:
    cells = compose([row(value=0.1), row(value=0.2), row(value=0.3, model="m@2")])
    found = [cell for cell in cells if cell.measured is not None]
    assert {(cell.model, cell.measured) for cell in found} == {("m@1", 0.2), ("m@2", 0.3)}


def test_the_newest_counts_and_another_set_stands_beside_it() -> None:
    new = row(value=0.6, date="2026-11-24", evaluation_set="a-5000")
    old = row(value=0.7, date="2026-01-01", evaluation_set="a-5000")
    other = row(value=0.5, date="2026-01-01", evaluation_set="a-300", n=300)
    found = [cell.measured for cell in compose([new, other, old]) if cell.measured is not None]
    assert sorted(found) == [0.5, 0.6]
    text = printed(compose([new, other, old]), "md")
    assert "| 0.5 [0.2, 0.3] n 300; 0.6 [0.2, 0.3] n 5000 |" in text or (
        "| 0.6 [0.2, 0.3] n 5000; 0.5 [0.2, 0.3] n 300 |" in text
    )


def test_what_was_measured_another_way_hides_nothing() -> None:
    """The newest by the second, and another size or fewer steps are another number."""
    today = {"date": "2026-11-24"}
    early, late = row(value=0.1, time="09:00:00", **today), row(value=0.2, time="09:00:01", **today)
    large = row(value=0.3, size=128, **today)
    short = row(value=0.4, metric="id-score-small-20-steps", **today)
    full = row(value=0.5, metric="id-score-small", **today)
    cells = compose([late, early, large, short, full])
    assert sorted(c.measured for c in cells if c.measured is not None) == [0.2, 0.3, 0.4, 0.5]
    text = printed(cells, "md")
    assert "| ID: id-score-small-20-steps, n 5000 | ID: id-score-small, n 5000 |" in text


def test_nothing_in_a_row_breaks_the_table() -> None:
    text = printed(compose([row(method="a\nb|c", dataset="d")]), "md")
    assert "| d@v1 | a b/c | m@1 |" in text


def test_forms() -> None:
    cells = compose([row(warning="few samples")])
    lines = list(csv.DictReader(io.StringIO(printed(cells, "csv"))))
    assert len(lines) == len(cells)
    assert next(line for line in lines if line["measured"])["model"] == "m@1"
    assert len(json.loads(printed(cells, "json"))["cells"]) == len(cells)
    assert "0.25 [0.2, 0.3] (1)" in printed(cells, "md")
    assert printed(cells, "md").endswith("\n1. few samples\n")
    with pytest.raises(ValueError, match="md, csv or json, not 'html'"):
        printed(cells, "html")


def test_rows_are_collected_from_files(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    store.publish("runs/r/evaluation/a.json", json.dumps({"rows": [row()]}).encode())
    store.publish("models/m/1/evaluation/a.json", json.dumps({"rows": [row(n=7)]}).encode())
    store.publish("models/m/1/model.json", b"{}")
    other = tmp_path / "more.json"
    other.write_text(json.dumps({"rows": [row(n=9)]}))
    assert [found["n"] for found in collect(store, [other])] == [5000, 7, 9]
    other.write_text("{}")
    with pytest.raises(DatasetError, match=r"more\.json is no file of results"):
        collect(store, [other])
    for name, wrong in {
        "value": "abc", "metric": 5, "method": None, "dataset": [], "model": 3, "warning": 5,
        "seed": [], "ci_low": "x", "n": 1.5,
    }.items():  # fmt: skip
        other.write_text(json.dumps({"rows": [row(), row(**{name: wrong})]}))
        with pytest.raises(DatasetError, match=rf"more\.json .* rows, 1, {name}"):
            collect(store, [other])
    other.write_text(json.dumps({"rows": [row(value=float("nan"))]}))
    with pytest.raises(DatasetError, match=r"more\.json is no file of results"):
        collect(store, [other])
    with pytest.raises(DatasetError, match="cannot read"):
        collect(store, [tmp_path / "none.json"])
