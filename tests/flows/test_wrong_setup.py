"""What is wrong with a setup is told at once and by its cause; nothing is lost in silence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.datasets import read_manifest, read_table
from storage.objects import Store
from tests.flows.builds import BOX_CARS, VIDEOS, build, run, settings

COMMAND = ["build", BOX_CARS]


@pytest.mark.parametrize(
    ("sets", "code", "message"),
    [
        (["embedder.device=nonsense", "embedder.kind=random-alexnet"], 2, "the embed stage cannot"),
        (["embedder.kind=st-alex", "embedder.weights={garbage}"], 2, "the embed stage cannot"),
        (["detector.kind=yolox", "detector.weights={garbage}"], 2, "the detect stage cannot"),
        (["pose.space=nothing"], 2, "no pose space 'nothing'"),
        (["pose.clusters=1000"], 1, "videos: 10 ok"),
    ],
)
def test_a_wrong_setup_is_told_by_its_cause(
    sets: list[str], code: int, message: str, videos: Path, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(bytes(range(100)))
    filled = [text.format(garbage=garbage) for text in sets]
    done = run([*COMMAND, "--root", str(tmp_path / "root"), *settings(videos, filled)])
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    if code == 2:
        assert not (tmp_path / "root" / "shards").exists()  # before the first stage


def test_too_few_crops_says_what_became_of_the_input(videos: Path, tmp_path: Path) -> None:
    done = run([*COMMAND, "--root", str(tmp_path), *settings(videos, ["clips.min_side=4000"])])
    assert done.returncode == 1
    assert "0 training crops" in done.stderr and "too_small" in done.stderr


@pytest.mark.parametrize("name", ["a-copy.mp4", "zz-copy.mp4"])
def test_of_equal_files_the_annotated_one_stays(
    name: str, videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    copied = tmp_path / "videos"
    shutil.copytree(videos, copied)
    shutil.copy(copied / "car-000.mp4", copied / name)
    found = build(copied, tmp_path / "root")
    assert found["version"] == built[0]["version"]
    assert found["attrition"]["videos"] == {"ok": VIDEOS, "duplicate": 1}
    store = Store(tmp_path / "root")
    rows = read_table(store, read_manifest(store, "box-cars"), "videos").to_pylist()
    assert len({row["video_id"] for row in rows}) == VIDEOS + 1
    assert [row["source_uri"] for row in rows if row["status"] == "duplicate"] == [name]


def test_test_videos_stay_test_videos(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(built[1], root)
    done = run([*COMMAND, "--root", str(root), *settings(videos, ["test_share=0.1"])])
    assert done.returncode == 2
    assert "would turn test videos" in done.stderr


def test_a_pose_space_serves_its_own_embedder_only(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(built[1], root)
    space = read_manifest(Store(root), "box-cars")["pose_space"]
    same = build(videos, root, f"pose.space={space}")
    assert same["counts"]["crops"] == built[0]["counts"]["crops"]
    for change in ("embedder.masks=none", "image.size=96"):
        sets = [f"pose.space={space}", change]
        done = run([*COMMAND, "--root", str(root), *settings(videos, sets)])
        assert done.returncode == 2
        assert "features of another embedder" in done.stderr


def test_an_annotated_object_without_a_frame_keeps_its_row(videos: Path, tmp_path: Path) -> None:
    copied = tmp_path / "videos"
    shutil.copytree(videos, copied)
    with (copied / "annotations.csv").open("a") as file:
        for second in (100, 101):
            file.write(f"car-000,{second * 1000},23,car,7,present,0.2,0.6,0.2,0.6\n")
        file.write("car-000,0,23,car,8,absent,-1,-1,-1,-1\n")
    build(copied, tmp_path / "root")
    store = Store(tmp_path / "root")
    clips = read_table(store, read_manifest(store, "box-cars"), "clips").to_pylist()
    lost = {clip["object_id"]: clip for clip in clips if clip["object_id"] in "78"}
    assert {clip["status"] for clip in lost.values()} == {"no_track"}
    assert all(clip["frames"] == clip["crops"] == 0 for clip in lost.values())
    assert "no sampled frame" in lost["7"]["reason_detail"]


def test_a_root_among_the_videos_is_no_video(videos: Path, tmp_path: Path) -> None:
    copied = tmp_path / "videos"
    shutil.copytree(videos, copied)
    first = build(copied, copied / "idpose-data")
    again = build(copied, copied / "idpose-data")
    assert first["attrition"]["videos"] == {"ok": VIDEOS}
    assert again["version"] == first["version"]
    assert again["shards"]["computed"] == 0
    done = run([*COMMAND, "--root", str(copied), *settings(copied)])
    assert done.returncode == 2 and "give another --root" in done.stderr
