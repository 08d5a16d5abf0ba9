"""Builds of box cars, the whole way: invariants, equal versions, repair, new input, bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.datasets import read_manifest, read_table, verify
from storage.objects import Store
from tests.flows.builds import BOX_CARS, VIDEOS, build, run, settings
from tests.worlds.box_cars import write_box_car_videos


def test_an_unchanged_rebuild_computes_nothing(
    videos: Path, built: tuple[dict[str, Any], Path]
) -> None:
    again = build(videos, built[1])
    assert again["version"] == built[0]["version"]
    assert again["shards"]["computed"] == again["shards"]["retried"] == 0
    assert again["shards"]["reused"] == built[0]["shards"]["computed"]
    assert len(Store(built[1]).list("datasets/box-cars/log")) == 1


def test_every_line_of_the_log_says_which_run_video_and_clip(
    built: tuple[dict[str, Any], Path],
) -> None:
    store = Store(built[1])
    manifest = read_manifest(store, "box-cars")
    names = {
        table: {row[f"{table[:-1]}_id"] for row in read_table(store, manifest, table).to_pylist()}
        for table in ("videos", "clips")
    }
    [path] = (built[1] / "logs").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["run"] for line in lines} == {path.stem}
    for line in lines:
        if line["stage"] == "fetch":  # the id of a file is its content's, known after this
            assert line["source_uri"]
        else:
            assert line["video_id"] in names["videos"], line
        if line["stage"] in ("crop", "mask", "embed"):
            assert line["clip_id"] in names["clips"], line
    assert {line["stage"] for line in lines} >= {"fetch", "crop", "embed"}


def test_workers_shards_order_and_hash_seed_do_not_enter(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for file in sorted(videos.iterdir(), reverse=True):
        shutil.copy(file, copy)
    other = build(
        copy, tmp_path / "root", "run.workers=1", "run.shard_rows=3", env={"PYTHONHASHSEED": "7"}
    )
    assert other["version"] == built[0]["version"]
    assert other["content_digest"] == built[0]["content_digest"]


def test_deleted_and_flipped_shards_are_repaired(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(built[1], root)
    crops = sorted((root / "shards/crop").iterdir())
    crops[0].unlink()
    data = bytearray(crops[1].read_bytes())
    data[len(data) // 2] ^= 1
    crops[1].write_bytes(data)
    again = build(videos, root)
    assert again["version"] == built[0]["version"]
    assert again["shards"]["computed"] == 2
    store = Store(root)
    assert verify(store, read_manifest(store, "box-cars")) == []


def test_one_new_video_computes_only_its_own_rows(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    more, root = tmp_path / "more", tmp_path / "root"
    shutil.copytree(videos, more)
    shutil.copytree(built[1], root)
    write_box_car_videos(tmp_path / "new", videos=1, seconds=3.0, seed=5)
    shutil.copy(tmp_path / "new" / "car-000.mp4", more / "zcar.mp4")
    rows = (tmp_path / "new" / "annotations.csv").read_text().replace("car-000", "zcar")
    with (more / "annotations.csv").open("a") as file:
        file.write(rows)
    grown = build(more, root)
    assert grown["version"] != built[0]["version"]
    assert grown["counts"]["videos"] == VIDEOS + 1
    assert grown["shards"]["computed"] <= 6  # one shard of each row stage


def test_bad_files_are_rows_and_leave_the_version_of_the_good_ones(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(videos, mixed)
    (mixed / "empty.mp4").touch()
    (mixed / "text.mp4").write_text("not a video")
    (mixed / "zz-copy.mp4").write_bytes((mixed / "car-000.mp4").read_bytes())
    found = build(mixed, tmp_path / "root")
    assert found["version"] == built[0]["version"]
    assert found["attrition"]["videos"] == {
        "ok": VIDEOS, "duplicate": 1, "empty_file": 1, "not_a_video": 1,
    }  # fmt: skip
    shown = run(["inspect", "box-cars", "--root", str(tmp_path / "root")])
    assert "empty.mp4: empty_file" in shown.stdout


def test_deleting_the_test_videos_changes_no_training_row(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    store = Store(built[1])
    manifest = read_manifest(store, "box-cars")
    rows = read_table(store, manifest, "videos").to_pylist()
    test_videos = [row["source_uri"] for row in rows if row["split"] == "test"]
    assert test_videos
    train = tmp_path / "train"
    shutil.copytree(videos, train)
    for name in test_videos:
        (train / name).unlink()
    build(train, tmp_path / "root")
    other = Store(tmp_path / "root")
    smaller = read_manifest(other, "box-cars")
    assert smaller["pose_space"] == manifest["pose_space"]
    for table in ("crops", "triplets"):
        dropped = ["picture_path", "picture_row"] if table == "crops" else []
        before = read_table(store, manifest, table, split="train").drop_columns(dropped)
        after = read_table(other, smaller, table, split="train").drop_columns(dropped)
        assert before.equals(after)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build", BOX_CARS, "--set", "detector.treshold=0.5"], 2, "'detector.threshold'"),
        (["build", "nothing"], 2, "neither a file nor one of"),
        (["build", "folder", "--set", "source.path=/nowhere"], 2, "weights fetch"),
        (["build", BOX_CARS, "--set", "detector.threshold=2"], 2, "detector.threshold"),
        (["build", BOX_CARS, "--set", "seed"], 2, "key=value"),
        (["inspect", "nothing"], 1, "build it with"),
    ],
)
def test_wrong_usage_is_one_clear_message(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = run([*arguments, "--root", str(tmp_path)])
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(videos: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = run(["build", BOX_CARS, "--root", str(root), "--dry-run", "--json", *settings(videos)])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["files"] == VIDEOS and found["clips"] == VIDEOS
    assert {stage["stage"] for stage in found["stages"]} == {
        "fetch", "detect", "crop", "mask", "embed",
    }  # fmt: skip
    assert not root.exists()


def test_the_tables_and_the_export_open_elsewhere(
    built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    import datasets
    import duckdb
    import polars

    path = built[1] / built[0]["path"]
    total = duckdb.sql(f"SELECT count(*) FROM '{path}/triplets/*.parquet'").fetchall()[0][0]
    assert total == built[0]["counts"]["triplets"]
    assert polars.read_parquet(path / "crops" / "*.parquet").height == built[0]["counts"]["crops"]
    exported = tmp_path / "export"
    done = run(["export", "box-cars", str(exported), "--pictures", "--root", str(built[1])])
    assert done.returncode == 0, done.stderr
    opened = datasets.load_dataset(str(exported), cache_dir=str(tmp_path / "cache"))
    assert sum(opened[split].num_rows for split in opened) == total
    assert opened["train"][0]["target_image"].size == (128, 128)


def test_reading_azimuths_and_windows_make_another_version(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(built[1], root)
    choices = ("embedder.azimuth=car-azimuth", "triplets.window_ms=1000")
    words = ["build", BOX_CARS, "--root", str(root), "--json", *settings(videos, choices)]
    first, again = (json.loads(run(words).stdout.splitlines()[-1]) for _ in range(2))
    assert first["version"] == again["version"] != built[0]["version"]
    assert again["shards"]["computed"] == 0
    store = Store(root)
    off, on = (read_manifest(store, f"box-cars@{found['version']}") for found in (built[0], first))
    assert on["pose_space"] != off["pose_space"]
    assert verify(store, on) == []
    columns = ["target_crop", "pose_crop"]
    before, after = (
        {
            tuple(row.values())
            for row in read_table(store, m, "triplets", columns=columns).to_pylist()
        }
        for m in (off, on)
    )
    assert before != after
