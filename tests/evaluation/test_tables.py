from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from idpose_core.evaluation.tables import collect, compose, paper_cells, printed
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
    assert "| ytbb_car | ours |  | 0.33 |  | 18.03 |  | 0.63 |  | 0.65 |  |" in printed(
        compose([]), "md"
    )


def test_a_measured_number_stands_beside_the_papers() -> None:
    cells = compose([row()])
    found = [cell for cell in cells if cell.measured is not None]
    assert len(found) == 1
    cell = found[0]
    assert (cell.table, cell.dataset, cell.method, cell.paper) == (2, "ytbb_car", "ours", 0.33)
    assert (cell.measured, cell.protocol, cell.n) == (0.25, "lpips-alex-v0.1", 5000)
    assert "0.25 [0.2, 0.3] lpips-alex-v0.1, 5000" in printed(cells, "md")
    assert len(cells) == len(compose([]))


def test_a_stand_in_carries_its_own_name() -> None:
    text = printed(
        compose([row(metric="lpips-st-alex"), row(metric="fd-efficientnet-lite0")]), "md"
    )
    assert "lpips-st-alex" in text and "fd-efficientnet-lite0" in text
    assert "lpips-alex-v0.1" not in text


def test_what_the_paper_does_not_measure_has_no_column_of_the_paper() -> None:
    rows = [row(metric=f"{name}-inception") for name in ("kid", "precision", "recall")]
    head = next(line for line in printed(compose(rows), "md").splitlines() if "KID" in line)
    for name in ("KID", "Precision", "Recall"):
        assert f"| {name} (measured) |" in head and f"{name} (paper)" not in head
    assert "| FID (paper) | FID (measured) |" in head


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
    assert "| data | method | model | LPIPS (measured) |" in printed(cells, "md")
    assert "eth80@v1 | copy-id |  | 0.25 [0.2, 0.3]" in printed(cells, "md")
    assert {cell.dataset for cell in compose(rows, ["ytbb-car"])} == {"ytbb_car"}
    assert "LPIPS (paper) | LPIPS (measured)" in printed(compose(rows, ["ytbb-car"]), "md")


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


def test_forms() -> None:
    cells = compose([row(warning="few samples")])
    lines = list(csv.DictReader(io.StringIO(printed(cells, "csv"))))
    assert len(lines) == len(cells)
    assert next(line for line in lines if line["measured"])["model"] == "m@1"
    assert len(json.loads(printed(cells, "json"))["cells"]) == len(cells)
    assert "(few samples)" in printed(cells, "md")
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
    with pytest.raises(DatasetError, match="cannot read"):
        collect(store, [tmp_path / "none.json"])
