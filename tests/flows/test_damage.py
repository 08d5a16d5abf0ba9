"""Damage of a built dataset through the command line: told with an exit code, then repaired."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.datasets import read_manifest, verify
from storage.objects import Store
from tests.flows.builds import build, run


@pytest.fixture
def root(built: tuple[dict[str, Any], Path], tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(built[1], copy)
    return copy


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_card_page_tables_and_pose_space_are_told_and_restored(
    videos: Path, built: tuple[dict[str, Any], Path], root: Path, tmp_path: Path
) -> None:
    version = root / built[0]["path"]
    before = {path: path.read_bytes() for path in version.rglob("*") if path.is_file()}
    (version / "README.md").unlink()
    page = version / "report.html"
    page.write_bytes(page.read_bytes()[:1000])
    (table,) = (version / "triplets").glob("train-*")
    flip(table)
    (space,) = (root / "pose-spaces").rglob("space.*")
    flip(space)

    shown = run(["inspect", "box-cars", "--root", str(root), "--json"])
    assert shown.returncode == 1, shown.stdout
    assert "is damaged" in shown.stderr and "Traceback" not in shown.stderr
    problems = json.loads(shown.stdout.splitlines()[-1])["problems"]
    assert len(problems) == 4
    for name in ("README.md", "report.html", table.name, space.name):
        assert any(name in problem and "the same build restores" in problem for problem in problems)

    exported = run(["export", "box-cars", str(tmp_path / "out"), "--root", str(root)])
    assert exported.returncode == 1 and "README.md is missing" in exported.stderr
    assert not (tmp_path / "out").exists()

    # A build that meets a broken file beside restores the card and page of the first one.
    more = tmp_path / "more"
    shutil.copytree(videos, more)
    (more / "empty.mp4").touch()
    again = build(more, root)
    assert again["version"] == built[0]["version"]
    assert {path: path.read_bytes() for path in before} == before
    assert run(["inspect", "box-cars", "--root", str(root)]).returncode == 0
    exported = run(["export", "box-cars", str(tmp_path / "out"), "--root", str(root)])
    assert exported.returncode == 0, exported.stderr


def test_damaged_shards_of_pictures_are_told_by_name(
    videos: Path, root: Path, tmp_path: Path
) -> None:
    for shard in (root / "shards/crop").iterdir():
        flip(shard)
    for command in (
        ["inspect", "box-cars", "--html", str(tmp_path / "page.html")],
        ["export", "box-cars", str(tmp_path / "out"), "--pictures"],
    ):
        done = run([*command, "--root", str(root)])
        assert done.returncode == 1
        assert "shards/crop/" in done.stderr and "the same build restores it" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/**/*.parquet"))
    build(videos, root)
    done = run(["export", "box-cars", str(tmp_path / "out"), "--pictures", "--root", str(root)])
    assert done.returncode == 0, done.stderr


def test_inspect_tells_every_problem_where_the_tables_of_losses_are_damaged(root: Path) -> None:
    for table in root.glob("datasets/box-cars/*/videos/*"):
        flip(table)
    done = run(["inspect", "box-cars", "--root", str(root)])
    assert done.returncode == 1
    assert done.stdout.count("DAMAGED") == len(list(root.glob("datasets/box-cars/*/videos/*")))


def test_damaged_manifests_and_logs_are_one_message(videos: Path, root: Path) -> None:
    (path,) = root.glob("datasets/box-cars/*/manifest.json")
    manifest = path.read_bytes()
    path.write_text('{"tables": {"videos": [{}]}}')
    done = run(["inspect", "box-cars", "--root", str(root)])
    assert done.returncode == 1
    assert "manifest.json is damaged" in done.stderr and "Traceback" not in done.stderr
    path.write_bytes(manifest)
    log = root / "datasets/box-cars/log"
    (log / "00000002.json").write_text("{}")
    done = run(["export", "box-cars", str(root.parent / "out"), "--root", str(root)])
    assert done.returncode == 1
    assert "log/00000002.json" in done.stderr and "Traceback" not in done.stderr
    version = json.loads((log / "00000001.json").read_text())["version"]
    (log / "00000002.json").write_text(json.dumps({"version": version}))  # a rollback by hand
    assert build(videos, root)["version"] == version


def test_an_unchanged_build_writes_nothing_and_leaves_foreign_files(
    videos: Path, root: Path
) -> None:
    foreign = root / "shards/fetch/x/notes.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")

    def times() -> dict[Path, int]:  # but for the folder of the claim, which went with the build
        found = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        return {path: time for path, time in found.items() if path != root / "claims"}

    before = times()
    build(videos, root)
    assert times() == before
    store = Store(root)
    assert verify(store, read_manifest(store, "box-cars")) == []
