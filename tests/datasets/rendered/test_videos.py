"""Rendered videos: what is written is what is seen, and it is written once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idpose_core.datasets.rendered import videos as videos_module
from idpose_core.datasets.rendered.clips import ClipSettings
from idpose_core.datasets.rendered.overlay import overlay_sheet
from idpose_core.datasets.rendered.splits import split_of
from idpose_core.datasets.rendered.truth import SCHEMA, annotations_csv, mask_of
from idpose_core.datasets.rendered.videos import render_video, video_name, write_rendered_videos
from idpose_core.instances.boxes import box_of
from idpose_core.video.annotations import read_annotations
from idpose_core.video.decoding import probe, sample_frames

SMALL = {"seconds": 2.0, "fps": 3, "size": (128, 96), "samples": 2}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "videos"
    made = write_rendered_videos(folder, models=[4, 2], scenes_per_model=2, **SMALL)
    assert [(v.model, v.scene, v.fresh) for v in made] == [
        (2, 0, True), (2, 1, True), (4, 0, True), (4, 1, True),
    ]  # fmt: skip
    assert [v.path.name for v in made] == [f"{v.name}.mp4" for v in made]
    return folder


def test_videos_decode_with_the_times_of_the_truth(written: Path) -> None:
    truth = pq.read_table(written / "truth.parquet")
    assert truth.schema.equals(SCHEMA)
    rows = truth.to_pylist()
    for name in ("car-0002-00", "car-0002-01", "car-0004-00", "car-0004-01"):
        path = str(written / f"{name}.mp4")
        info = probe(path)
        assert (info.codec, info.width, info.height) == ("h264", 128, 96)
        times = [frame.timestamp_ms for frame in sample_frames(path, fps=3.0)]
        mine = [r for r in rows if r["video"] == name and r["object_id"] == "0"]
        assert [r["timestamp_ms"] for r in mine] == times == [0, 333, 667, 1000, 1333, 1667]
        assert [r["frame"] for r in mine] == list(range(6))
        assert {(r["model"], r["split"]) for r in mine} == {
            (int(name[4:8]), split_of("car", int(name[4:8])))
        }


def test_boxes_are_those_of_the_masks_where_nothing_hides_them(written: Path) -> None:
    rows = pq.read_table(written / "truth.parquet").to_pylist()
    free = [r for r in rows if r["visible_share"] == 1]
    assert len(free) > 0.3 * len(rows)
    for row in rows:
        mask = mask_of(row["mask_png"])
        assert mask.shape == (96, 128)
        box = box_of(mask)
        edges = tuple(row[edge] for edge in ("xmin", "xmax", "ymin", "ymax"))
        if row["visible_share"] == 1:
            assert edges == pytest.approx(box)
        elif box is not None:  # hidden in part: inside of it
            assert edges[0] <= box[0] < box[1] <= edges[1]
            assert edges[2] <= box[2] < box[3] <= edges[3]


def test_annotations_are_read_by_the_reader_and_equal_the_truth(written: Path) -> None:
    found = read_annotations(written / "annotations.csv", classes=["car"])
    assert (found.malformed_count, found.duplicates) == (0, 0)
    rows = pq.read_table(written / "truth.parquet").to_pylist()
    truth = {(r["video"], r["object_id"], r["timestamp_ms"]): r for r in rows}
    assert set(found.tracks) == {r["video"] for r in rows}
    assert (written / "annotations.csv").read_text().startswith("car-0002-00,0,23,car,0,present,")
    for name, tracks in found.tracks.items():
        assert tracks[0].object_id == "0"
        for track in tracks:
            assert track.timestamps_ms == (0, 1000, 1667)
            for time, box in zip(track.timestamps_ms, track.boxes, strict=True):
                row = truth[name, track.object_id, time]
                if box is None:
                    assert row["visible_share"] < 0.2
                else:
                    edges = [row[edge] for edge in ("xmin", "xmax", "ymin", "ymax")]
                    assert [box.xmin, box.xmax, box.ymin, box.ymax] == pytest.approx(
                        edges, abs=1e-6
                    )


def test_hidden_objects_are_absent() -> None:
    row = dict.fromkeys(SCHEMA.names, 0) | {
        "video": "car-0001-00", "class_name": "car", "object_id": "1", "split": "train",
        "motion": "pass", "mask_png": b"", "visible_share": 0.05,
        "xmin": 0.1, "xmax": 0.2, "ymin": 0.1, "ymax": 0.2,
    }  # fmt: skip
    outside = row | {"frame": 5, "timestamp_ms": 1000, "visible_share": 0.0}
    outside |= dict.fromkeys(("xmin", "xmax", "ymin", "ymax"))
    table = pa.Table.from_pylist([row, outside], schema=SCHEMA)
    assert annotations_csv(table, fps=5).splitlines() == [
        "car-0001-00,0,23,car,1,absent,-1,-1,-1,-1",
        "car-0001-00,1000,23,car,1,absent,-1,-1,-1,-1",
    ]


def test_equal_settings_give_equal_bytes_whatever_the_order_and_the_processes(
    written: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    write_rendered_videos(folder, models=[2, 4], scenes_per_model=2, processes=2, **SMALL)
    assert digests(folder) == digests(written)
    # One video by itself
    settings = ClipSettings("car", 2.0, 3, (128, 96), 0, 2)
    rows = render_video(tmp_path / "one", settings, 4, 1)
    name = video_name("car", 4, 1)
    assert (tmp_path / "one").read_bytes() == (written / f"{name}.mp4").read_bytes()
    truth = pq.read_table(written / "truth" / f"{name}.parquet", schema=SCHEMA)
    assert pa.Table.from_pylist(rows, schema=SCHEMA).equals(truth)


def test_an_interrupted_call_is_resumed_and_renders_nothing_twice(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, call = tmp_path / "world", {"models": [2, 4], "scenes_per_model": 2, **SMALL}
    real, calls = videos_module.render_video, []

    def failing(path: Path, settings: ClipSettings, model: int, scene: int) -> list:
        calls.append((model, scene))
        if (model, scene) == (4, 0):
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        return real(path, settings, model, scene)

    monkeypatch.setattr(videos_module, "render_video", failing)
    with pytest.raises(KeyboardInterrupt):
        write_rendered_videos(folder, **call)
    assert not (folder / "truth.parquet").exists()
    monkeypatch.setattr(videos_module, "render_video", real)
    made = write_rendered_videos(folder, **call)
    assert [v.fresh for v in made] == [False, False, True, True]
    assert digests(folder) == digests(written)
    assert not any(v.fresh for v in write_rendered_videos(folder, **call))
    assert digests(folder) == digests(written)


def test_another_setting_renders_afresh_and_fewer_models_leave_fewer_videos(
    tmp_path: Path,
) -> None:
    folder, small = tmp_path / "world", {**SMALL, "seconds": 0.7}
    write_rendered_videos(folder, models=[1, 3], scenes_per_model=1, **small)
    first = digests(folder)
    made = write_rendered_videos(folder, models=[3], scenes_per_model=1, **small)
    assert [(v.name, v.fresh) for v in made] == [("car-0003-00", False)]
    assert sorted(p.name for p in folder.glob("*.mp4")) == ["car-0003-00.mp4"]
    [again] = write_rendered_videos(folder, models=[3], scenes_per_model=1, seed=9, **small)
    assert again.fresh
    assert digests(folder)["car-0003-00.mp4"] != first["car-0003-00.mp4"]
    assert json.loads((folder / "world.json").read_text())["seed"] == 9


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(ValueError, match="choose another folder"):
        write_rendered_videos(tmp_path, models=[0], **SMALL)
    assert (tmp_path / "holiday.mp4").read_bytes() == b"mine"


def test_chairs_can_be_filmed_too(tmp_path: Path) -> None:
    folder = tmp_path / "chairs"
    write_rendered_videos(folder, kind="chair", models=[11], scenes_per_model=1, **SMALL)
    found = read_annotations(folder / "annotations.csv", classes=["chair"])
    assert list(found.tracks) == ["chair-0011-00"]


def test_the_overlay_shows_every_video(written: Path) -> None:
    sheet = overlay_sheet(written, frames=3)
    assert sheet.shape == (4 * 96, 3 * 128, 3)
    assert overlay_sheet(written, frames=2, videos=1).shape == (96, 2 * 128, 3)
    assert (sheet == np.array((255, 220, 0))).all(axis=2).sum() > 500  # outlines and boxes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": []}, "at least one model"),
        ({"models": [1, 1]}, "none twice"),
        ({"models": [183]}, "no car 183: the models are 0 to 182"),
        ({"kind": "boat"}, "no kind 'boat'"),
        ({"scenes_per_model": 0}, "1 to 100, not 0"),
        ({"fps": 0}, "fps must be 1 to 60"),
        ({"seconds": 0.1}, "at least 2 frames"),
        ({"seconds": -1.0}, "at least 2 frames"),
        ({"size": (63, 64)}, "even and at least 64"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"processes": 0}, "processes at least 1"),
    ],
)
def test_silly_input_is_refused_before_anything_is_made(wrong, message, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_rendered_videos(tmp_path / "new", **({"models": [0], **SMALL} | wrong))
    assert not (tmp_path / "new").exists()
