"""The tables of the documentation are what the command prints of the files that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from idpose_core.evaluation.tables import collect, compose, printed
from storage.objects import Store

PAGE = Path("docs/evaluation.md")
COMMANDS = re.findall(r"idpose table --dataset (\S+)((?:[\s\\]+--results \S+)+)", PAGE.read_text())


def test_there_are_commands() -> None:
    assert {dataset for dataset, _ in COMMANDS} == {
        "eth80", "rendered-chair-views", "rendered-car-views"
    }  # fmt: skip


@pytest.mark.parametrize(("dataset", "files"), COMMANDS)
def test_tables_are_printed_from_files(tmp_path: Path, dataset: str, files: str) -> None:
    rows = collect(Store(tmp_path), [Path(name) for name in files.split() if "/" in name])
    table = printed(compose(rows, [dataset]), "md")
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(lines) > 5
    assert "\n".join(lines) in PAGE.read_text()
