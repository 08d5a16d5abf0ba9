"""Published image sets as a source, the whole way, in small stand-ins of exactly their form."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.configs import find_config
from flows.progress import TerminalProgress
from flows.steps.context import Context
from flows.steps.views import crop_views
from idpose_core.config import ConfigError
from idpose_core.datasets.published.cars3d import AZIMUTHS
from idpose_core.evaluation.truth import truth_triplets
from idpose_core.stages.views import STEP_MS
from storage.datasets import read_manifest, read_table
from storage.objects import Store
from tests.flows.builds import InThisProcess, run
from tests.flows.invariants import check_dataset
from tests.worlds.published import SETS, car_name, numbers

OBJECTS = {"cars3d": 142, "chairs3d": 1393, "eth80": 5, "epfl-cars": 20}  # of training and test
VIEWS = {"cars3d": 96, "chairs3d": 62, "eth80": 41, "epfl-cars": 10}
SMALL = {
    "image.size": 32,
    "embedder.kind": "grey-pixels",
    "pose.clusters": 4,
    "run.shard_rows": 100,
}


def words(folder: Path, **changes: Any) -> list[str]:
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    sets = {"source.path": folder, **SMALL, **changed}
    return [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]


def build(name: str, folder: Path, root: Path, **changes: Any) -> dict[str, Any]:
    done = run(["build", name, "--root", str(root), "--json", *words(folder, **changes)])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    check_dataset(Store(root), f"{name}@{found['version']}")
    return found


def tables(root: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    store = Store(root)
    manifest = read_manifest(store, name)
    wanted = ("videos", "clips", "crops", "triplets")
    return {table: read_table(store, manifest, table).to_pylist() for table in wanted}


@pytest.mark.parametrize("name", SETS)
def test_it_becomes_clips_and_crops_by_the_stages_of_every_source(
    name: str, tmp_path: Path
) -> None:
    objects = [
        n for split, count in (("train", 3), ("test", 2)) for n in numbers(name, split, count)
    ]
    SETS[name][1](tmp_path / "set", objects)
    made = build(name, tmp_path / "set", tmp_path / "root")
    found = tables(tmp_path / "root", name)
    statuses = Counter(video["status"] for video in found["videos"])
    missing = OBJECTS[name] - 5
    assert statuses == {"ok": 5} | ({"not_as_published": missing} if missing else {})
    assert made["internal_errors"] == 0
    assert set(made["seconds"]) == {"views", "embed", *(["mask"] if name == "epfl-cars" else [])}
    splits = {clip["video_id"]: clip["split"] for clip in found["clips"]}
    assert Counter(splits.values()) == {"train": 3, "test": 2}
    assert all(clip["identity"] == clip["video_id"] for clip in found["clips"])
    crops = {crop["crop_id"]: crop for crop in found["crops"]}
    assert Counter(c["video_id"] for c in crops.values()) == dict.fromkeys(splits, VIEWS[name])
    for crop in crops.values():
        assert 0 <= crop["azimuth_deg"] <= 360
        assert (crop["elevation_deg"] is None) == (name in ("cars3d", "epfl-cars"))
        assert crop["split"] == splits[crop["video_id"]]
    assert {t["split"] for t in found["triplets"]} == {"train", "test"}
    for triplet in found["triplets"]:
        target, pose = crops[triplet["target_crop"]], crops[triplet["pose_crop"]]
        assert target["video_id"] != pose["video_id"]


def test_pose_pictures_of_3d_cars_are_seen_from_the_targets_elevation(tmp_path: Path) -> None:
    """Its four elevations have no published angles, but an order."""
    train, test = numbers("cars3d", "train", 2), numbers("cars3d", "test", 3)
    SETS["cars3d"][1](tmp_path / "set", [*train, *test])
    build("cars3d", tmp_path / "set", tmp_path / "root")
    store = Store(tmp_path / "root")
    manifest = read_manifest(store, "cars3d")
    crops, clips = (read_table(store, manifest, name, split="test") for name in ("crops", "clips"))
    elevation = {
        row["crop_id"]: row["timestamp_ms"] // (AZIMUTHS * STEP_MS) for row in crops.to_pylist()
    }
    assert set(elevation.values()) == {0, 1, 2, 3}
    chosen = truth_triplets(crops, clips, count=300).to_pylist()
    assert len(chosen) == 300 and {elevation[row["id_crop"]] for row in chosen} == {0, 1, 2, 3}
    for row in chosen:
        assert row["pose_azimuth_deg"] == row["target_azimuth_deg"]
        assert elevation[row["pose_crop"]] == elevation[row["target_crop"]]


def test_broken_and_repeated_cars_are_rows_and_change_nothing_for_the_others(
    tmp_path: Path,
) -> None:
    train, test = numbers("cars3d", "train", 5), numbers("cars3d", "test", 3)
    place = SETS["cars3d"][1](tmp_path / "set", [*train[:3], *test[:2]])

    def path(number: int) -> Path:
        return place / f"{car_name(number)}.mat"

    path(train[3]).write_bytes(path(train[0]).read_bytes()[:-500])
    shutil.copy(path(train[0]), path(train[4]))
    shutil.copy(path(train[1]), path(test[2]))  # of the two the one of test is left out
    dirty = build("cars3d", tmp_path / "set", tmp_path / "root")
    assert (dirty["counts"]["clips"], dirty["counts"]["crops"]) == (5, 5 * 96)
    told = {
        video["video_id"]: (video["status"], video["reason_detail"])
        for video in tables(tmp_path / "root", "cars3d")["videos"]
        if video["status"] not in ("ok", "not_as_published")
    }
    assert told.pop(car_name(train[3]))[0] == "decode_failed"
    assert told == {
        car_name(train[4]): ("duplicate", f"same files as {car_name(train[0])}"),
        car_name(test[2]): ("duplicate", f"same files as {car_name(train[1])}"),
    }
    for number in (train[3], train[4], test[2]):
        path(number).unlink()
    clean = build("cars3d", tmp_path / "set", tmp_path / "root")
    assert clean["version"] == dirty["version"]
    assert clean["attrition"]["videos"] == {"ok": 5, "not_as_published": 137}


@pytest.mark.parametrize("name", SETS)
def test_a_path_that_leads_nowhere_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path / "empty", "archive")):
        config = find_config(name, {"source.path": str(folder)})
        store = Store(tmp_path / "root")
        found = Context(config, store, InThisProcess(), TerminalProgress())
        with pytest.raises(ConfigError, match=message):
            crop_views(found)
        assert not (tmp_path / "root").exists()


def test_a_path_that_leads_nowhere_is_wrong_usage(tmp_path: Path) -> None:
    done = run(["build", "eth80", "--root", str(tmp_path / "root"), *words(tmp_path / "none")])
    assert (done.returncode, "no such folder" in done.stderr) == (2, True), done.stderr


def test_a_set_without_a_path_says_how_to_give_it(tmp_path: Path) -> None:
    done = run(["build", "eth80", "--root", str(tmp_path / "root")])
    assert (done.returncode, "--set source.path=FOLDER" in done.stderr) == (2, True), done.stderr


def test_masks_that_the_set_does_not_have_are_refused(tmp_path: Path) -> None:
    changed = words(tmp_path, embedder__masks="source")
    done = run(["build", "epfl-cars", "--root", str(tmp_path / "root"), *changed])
    assert (done.returncode, "brings no masks" in done.stderr) == (2, True), done.stderr


def test_a_dry_run_counts_objects_and_views(tmp_path: Path) -> None:
    SETS["eth80"][1](tmp_path / "set", [1, 2, 3, 7])
    root = ["--root", str(tmp_path / "root")]
    done = run(["build", "eth80", *root, "--dry-run", "--json", *words(tmp_path / "set")])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["clips"], found["frames"]) == (4, 164)


def test_the_real_photographs(real_data: Path, tmp_path: Path) -> None:
    """Toy cars: the pose picture by silhouette is within one azimuth step for most targets."""
    build(
        "eth80", real_data / "eth80_cars", tmp_path / "root", image__size=128,
        embedder__kind="silhouette", pose__clusters=16,
    )  # fmt: skip
    found = tables(tmp_path / "root", "eth80")
    assert Counter(clip["split"] for clip in found["clips"]) == {"train": 5, "test": 2}
    assert len(found["crops"]) == 7 * 41
    crops = {crop["crop_id"]: crop for crop in found["crops"]}
    near = []
    for triplet in found["triplets"]:
        pose, target = crops[triplet["pose_crop"]], crops[triplet["target_crop"]]
        if target["elevation_deg"] == 0:
            turn = abs(pose["azimuth_deg"] - target["azimuth_deg"])
            near.append(min(turn, 360 - turn) <= 27)
    assert sum(near) / len(near) > 0.6  # by chance about 0.2
