"""Sets of views as a source, the whole way: rendered cars from all sides, with their masks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from idpose_core.datasets.rendered.splits import split_of
from idpose_core.datasets.rendered.views import view_grid
from storage.datasets import read_manifest, read_table
from storage.objects import Store
from storage.parquet import from_parquet
from tests.flows.builds import run
from tests.flows.invariants import check_dataset

NAME = "rendered-car-views"
SETS = {
    "rendered.models": 7,
    "rendered.samples": 2,
    "image.size": 32,
    "embedder.kind": "silhouette",
    "embedder.weights": "null",
    "pose.clusters": 4,
}


def words(**changes: Any) -> list[str]:
    sets = {**SETS, **{name.replace("__", "."): value for name, value in changes.items()}}
    return [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]


def build_views(root: Path, **changes: Any) -> dict[str, Any]:
    done = run(["build", NAME, "--root", str(root), "--json", *words(**changes)])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    check_dataset(Store(root), f"{NAME}@{found['version']}")
    return found


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    root = tmp_path_factory.mktemp("views")
    return build_views(root), root


def tables(root: Path) -> dict[str, list[dict[str, Any]]]:
    store = Store(root)
    manifest = read_manifest(store, NAME)
    names = ("videos", "clips", "crops", "triplets")
    return {name: read_table(store, manifest, name).to_pylist() for name in names}


def test_an_object_is_a_clip_and_each_view_a_crop_with_its_truth(
    viewed: tuple[dict[str, Any], Path],
) -> None:
    found = tables(viewed[1])
    models = [i for i in range(7) if split_of("car", i) != "validation"]
    assert sorted(v["video_id"] for v in found["videos"]) == [f"car-{i:04d}" for i in models]
    assert len(found["clips"]) == len(models)
    splits = {v["video_id"]: v["split"] for v in found["videos"]}
    assert splits == {f"car-{i:04d}": split_of("car", i) for i in models}
    for clip in found["clips"]:
        mine = [crop for crop in found["crops"] if crop["clip_id"] == clip["clip_id"]]
        mine.sort(key=lambda crop: crop["timestamp_ms"])
        seen = [(crop["azimuth_deg"], crop["elevation_deg"]) for crop in mine]
        assert seen == view_grid("car")
        assert {crop["split"] for crop in mine} == {splits[clip["video_id"]]}
        assert {(crop["detector"], crop["score"]) for crop in mine} == {("true-mask", 1.0)}
    assert viewed[0]["seconds"].keys() == {"views", "embed"}  # neither detector nor GrabCut


def test_the_pose_picture_shows_another_object_in_the_same_pose(
    viewed: tuple[dict[str, Any], Path],
) -> None:
    found = tables(viewed[1])
    crops = {crop["crop_id"]: crop for crop in found["crops"]}
    near = []
    for triplet in found["triplets"]:
        pose, target = crops[triplet["pose_crop"]], crops[triplet["target_crop"]]
        assert pose["video_id"] != target["video_id"]
        turn = abs(pose["azimuth_deg"] - target["azimuth_deg"])
        near.append(min(turn, 360 - turn) <= 30)
    # By the silhouette of few pixels, among few models; by chance 5 of 24.
    assert sum(near) / len(near) > 0.6


def test_an_unchanged_rebuild_computes_nothing_and_more_models_only_themselves(
    viewed: tuple[dict[str, Any], Path],
) -> None:
    again = build_views(viewed[1])
    assert again["version"] == viewed[0]["version"]
    assert again["shards"]["computed"] == 0
    grown = build_views(viewed[1], rendered__models=8, run__shard_rows=1)
    assert grown["version"] != again["version"]
    assert grown["shards"]["computed"] <= 2


@pytest.mark.parametrize("masks", ["grabcut", "none"])
def test_masks_may_be_found_or_left_out(
    masks: str, viewed: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    shutil.copytree(viewed[1] / "shards/views", tmp_path / "shards/views")
    found = build_views(tmp_path, embedder__masks=masks, embedder__kind="grey-pixels")
    assert found["seconds"].keys() == {"views", "embed", *(["mask"] if masks == "grabcut" else [])}


def test_it_can_be_looked_at_and_exported(
    viewed: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    name, root = f"{NAME}@{viewed[0]['version']}", str(viewed[1])
    page = tmp_path / "page.html"
    assert run(["inspect", name, "--root", root, "--html", str(page)]).returncode == 0
    assert "°</figcaption>" in page.read_text()
    out = tmp_path / "out"
    done = run(["export", name, str(out), "--pictures", "--root", root])
    assert done.returncode == 0, done.stderr
    shards = sorted((out / "data").iterdir())
    first = from_parquet(shards[0].read_bytes())
    assert first["id_image"][0].as_py()["bytes"].startswith(b"\x89PNG")
    assert "Boxes: brought by the source" in (out / "README.md").read_text()


def test_a_dry_run_counts_objects_and_views(tmp_path: Path) -> None:
    done = run(["build", NAME, "--root", str(tmp_path), "--dry-run", "--json", *words()])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    stages = [stage["stage"] for stage in found["stages"]]
    assert stages == ["views", "embed"]
    assert found["frames"] == 96 * found["clips"]
    assert f"{found['clips']} objects" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_more_models_than_there_are_is_refused(tmp_path: Path) -> None:
    done = run(["build", NAME, "--root", str(tmp_path), *words(rendered__models=184)])
    assert (done.returncode, "1 to 183" in done.stderr) == (2, True), done.stderr
