"""The rendered world as a source: truth in the tables, equal versions, files that come back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from idpose_core.datasets.rendered.truth import mask_of
from idpose_core.instances.cropping import CropTransform, cut_mask
from idpose_core.stages.crop import decode_png
from storage.datasets import read_manifest, read_table
from storage.objects import Store
from storage.parquet import from_parquet
from tests.flows.builds import run
from tests.flows.invariants import check_dataset

SETS = {
    "rendered.models": 8,
    "rendered.scenes": 2,
    "rendered.seconds": 2.5,
    "rendered.fps": 4,
    "rendered.samples": 2,
    "source.annotations": "own",
    "detector.kind": "annotations",
    "sampling.fps": 4,
    "clips.min_side": 24,
    "clips.min_crops": 3,
    "clips.min_seconds": 1,
    "embedder.kind": "silhouette",
    "embedder.weights": "null",
    "pose.clusters": 3,
}


def build_rendered(root: Path, **changes: Any) -> dict[str, Any]:
    sets = {**SETS, **{name.replace("__", "."): value for name, value in changes.items()}}
    words = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    done = run(["build", "rendered-cars", "--root", str(root), "--json", *words])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    check_dataset(Store(root), f"rendered-cars@{found['version']}")
    return found


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    root = tmp_path_factory.mktemp("rendered")
    return build_rendered(root), root


def test_crops_carry_the_true_azimuth(rendered: tuple[dict[str, Any], Path]) -> None:
    found, root = rendered
    store = Store(root)
    manifest = read_manifest(store, "rendered-cars")
    crops = read_table(store, manifest, "crops").to_pylist()
    assert len(crops) == found["counts"]["crops"] > 50
    truth = {}
    for row in truth_rows(store):
        truth[row["video"], row["object_id"], row["timestamp_ms"]] = row
    clips = {c["clip_id"]: c for c in read_table(store, manifest, "clips").to_pylist()}
    known = [crop for crop in crops if crop["azimuth_deg"] is not None]
    assert len(known) >= 0.9 * len(crops)
    for crop in known:
        object_id = clips[crop["clip_id"]]["object_id"]
        told = truth[crop["video_id"], object_id, crop["timestamp_ms"]]
        assert crop["azimuth_deg"] == told["azimuth_deg"]
        assert crop["elevation_deg"] == told["elevation_deg"]


def test_the_pose_picture_shows_another_car(rendered: tuple[dict[str, Any], Path]) -> None:
    """Second cars included, which are the first of videos of their own."""
    store = Store(rendered[1])
    manifest = read_manifest(store, "rendered-cars")
    clips = {c["clip_id"]: c for c in read_table(store, manifest, "clips").to_pylist()}
    models = {
        (row["video"], row["object_id"]): f"car-{row['model']:04d}" for row in truth_rows(store)
    }
    for clip in clips.values():
        known = models[clip["video_id"], clip["object_id"]] if clip["crops"] else None
        assert clip["identity"] == known
    triplets = read_table(store, manifest, "triplets").to_pylist()
    for triplet in triplets:
        shown = [clips[triplet[name]]["identity"] for name in ("clip_id", "pose_clip_id")]
        assert shown[0] != shown[1]
    scenes = {(t["video_id"][:8], t["pose_video_id"][:8]) for t in triplets}
    assert len(scenes) > 5


def test_true_masks_are_those_of_the_truth(
    rendered: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    for stage in ("render", "detect", "link", "crop"):
        shutil.copytree(rendered[1] / "shards" / stage, tmp_path / "shards" / stage)
    shutil.copytree(rendered[1] / "media", tmp_path / "media")
    found = build_rendered(tmp_path, embedder__masks="source")
    assert found["shards"]["computed"] <= 8
    assert found["counts"]["crops"] == rendered[0]["counts"]["crops"]
    store = Store(tmp_path)
    rows = read_table(store, read_manifest(store, "rendered-cars"), "crops").to_pylist()
    truth = [row for row in truth_rows(store) if row["xmin"] is not None]
    masks = {
        row["crop_id"]: row
        for path in store.list("shards/true-mask")
        for row in from_parquet(store.read(path)).to_pylist()
    }
    assert set(masks) == {row["crop_id"] for row in rows}
    by_truth = 0
    for crop in rows:
        if masks[crop["crop_id"]]["method"] != "truth":
            continue
        by_truth += 1
        mask = decode_png(masks[crop["crop_id"]]["mask"]) > 0
        middle = ((crop["xmin"] + crop["xmax"]) / 2, (crop["ymin"] + crop["ymax"]) / 2)
        nearest = min(
            (
                t
                for t in truth
                if (t["video"], t["timestamp_ms"]) == (crop["video_id"], crop["timestamp_ms"])
            ),
            key=lambda t: (
                abs((t["xmin"] + t["xmax"]) / 2 - middle[0])
                + abs((t["ymin"] + t["ymax"]) / 2 - middle[1])
            ),
        )
        transform = CropTransform(*(int(value) for value in crop["transform"]))
        assert np.array_equal(mask, cut_mask(mask_of(nearest["mask_png"]), transform))
    assert by_truth >= 0.9 * len(rows)


def truth_rows(store: Store) -> Iterator[dict[str, Any]]:
    for path in store.list("shards/render"):
        yield from from_parquet(store.read(path)).to_pylist()


def test_splits_are_those_of_the_models(rendered: tuple[dict[str, Any], Path]) -> None:
    from idpose_core.datasets.rendered.splits import split_of

    store = Store(rendered[1])
    videos = read_table(store, read_manifest(store, "rendered-cars"), "videos").to_pylist()
    assert {video["split"] for video in videos} == {"train", "test"}
    for video in videos:
        assert video["split"] == split_of("car", int(video["video_id"].split("-")[1]))


def test_a_lost_file_is_rendered_again_and_nothing_else(
    rendered: tuple[dict[str, Any], Path],
) -> None:
    found, root = rendered
    media = sorted((root / "media").iterdir())
    before = media[0].read_bytes()
    media[0].unlink()
    again = build_rendered(root)
    assert again["version"] == found["version"]
    assert again["shards"]["computed"] == 0
    assert media[0].read_bytes() == before


@pytest.mark.slow
def test_another_root_and_another_number_of_workers_give_the_same_version(
    rendered: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    other = build_rendered(tmp_path, run__workers=1, run__shard_rows=3)
    assert other["version"] == rendered[0]["version"]
    names = [sorted(p.name for p in (root / "media").iterdir()) for root in (tmp_path, rendered[1])]
    assert names[0] == names[1]


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for change, message in (
        ("rendered.models=184", "1 to 183"),
        ("source.annotations=file.csv", "'own' or null"),
        ("rendered.width=321", "rendered.width"),
    ):
        words = [*["--set", change], "--root", str(tmp_path)]
        done = run(["build", "rendered-cars", *words])
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
