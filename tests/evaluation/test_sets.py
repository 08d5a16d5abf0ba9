"""Frozen sets: exact truth, and refusal of what would measure something else."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from idpose_core.evaluation.pictures import at_size
from idpose_core.evaluation.sets import check_triplets, freeze_set, read_set, set_names
from idpose_core.evaluation.truth import truth_triplets
from storage.datasets import read_manifest, read_table
from storage.errors import DamageError, DatasetError
from storage.manifests import file_entry
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from tests.evaluation.worlds import pointer
from tests.training.worlds import commit_world

SIZE = 32


def drawn(crop_id: str) -> NDArray[np.uint8]:
    """A pointer whose hue is its clip's and whose azimuth its second's."""
    clip, _, second = crop_id.rpartition("-")
    return pointer((hash_of(clip) % 97) / 97, 90.0 * int(second), side=40)


@pytest.mark.parametrize("column", ["id_crop", "target_crop", "pose_crop"])
def test_crops_of_other_clips_are_refused(tmp_path: Path, column: str) -> None:
    """Shifted by one row, every name is there and every pair is wrong."""
    store, dataset = world(tmp_path)
    crops, clips = read_both(store, dataset)
    triplets = truth_triplets(crops, clips, count=6).sort_by("triplet_id")
    place = triplets.schema.get_field_index(column)
    values = triplets[column].to_pylist()
    wrong = triplets.set_column(place, triplets.schema.field(column), [values[1:] + values[:1]])
    with pytest.raises(DatasetError, match="mixed up"):
        freeze_set(store, "shifted", read_manifest(store, dataset), "test", wrong, 0)
    assert "shifted" not in set_names(store)


def hash_of(text: str) -> int:
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text))


def encoded(crop_id: str) -> bytes:
    return bytes(cv2.imencode(".png", drawn(crop_id)[..., ::-1])[1])


def world(root: Path, *, test_videos: int = 3, **options: object) -> tuple[Store, str]:
    store = Store(root)
    dataset = commit_world(
        store, train_videos=3, test_videos=test_videos, encoded=encoded, azimuths=True,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return store, dataset


def read_both(store: Store, dataset: str) -> tuple[pa.Table, pa.Table]:
    manifest = read_manifest(store, dataset)
    crops, clips = (read_table(store, manifest, name, split="test") for name in ("crops", "clips"))
    return crops, clips


def frozen(store: Store, dataset: str, name: str = "cars-test", **options: object) -> pa.Table:
    manifest = read_manifest(store, dataset)
    crops, clips = read_both(store, dataset)
    triplets = truth_triplets(crops, clips, **options)  # type: ignore[arg-type]
    freeze_set(store, name, manifest, "test", triplets, 0)
    return triplets


def test_the_pose_picture_shows_the_targets_pose_on_another_object(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    rows = frozen(store, dataset, count=500).to_pylist()
    # Six clips of four crops: all ordered pairs.
    assert len(rows) == 6 * 4 * 3
    for row in rows:
        assert row["id_crop"] != row["target_crop"]
        assert row["id_crop"].rpartition("-")[0] == row["identity"] == row["target_crop"][:-2]
        assert row["pose_crop"][:-2] == row["pose_identity"]
        assert row["pose_crop"][:7] != row["target_crop"][:7]  # another video
        assert row["pose_crop"][-1] == row["target_crop"][-1]  # the same azimuth
        assert row["pose_error_deg"] == 0 and row["chosen_by"] == "truth"
        assert row["review"] == "auto"
        assert row["target_azimuth_deg"] == row["pose_azimuth_deg"]


def test_the_pose_picture_never_shows_the_targets_object_in_another_video(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    crops, clips = read_both(store, dataset)
    names = clips["clip_id"].to_pylist()
    # The clips c0 show one object in all three videos; of c1 only that of the first is known.
    objects = {name: "taxi" if name.endswith("c0") else None for name in names}
    objects["test-v0-c1"] = "bus"
    place = clips.schema.get_field_index("identity")
    column = pa.array([objects[name] for name in names], pa.string())
    known = clips.set_column(place, clips.schema.field(place), column)
    before = {(r["identity"], r["pose_identity"]) for r in truth_triplets(crops, clips).to_pylist()}
    assert ("test-v0-c0", "test-v1-c0") in before
    rows = truth_triplets(crops, known).to_pylist()
    assert len(rows) == 6 * 4 * 3
    for row in rows:
        target, pose = objects[row["identity"]], objects[row["pose_identity"]]
        assert target is None or target != pose
        assert row["pose_error_deg"] == 0
    old = truth_triplets(crops, clips.drop_columns(["identity"]))
    assert old.equals(truth_triplets(crops, clips))

    taxis = crops.filter(pa.array([c.endswith("c0") for c in crops["clip_id"].to_pylist()]))
    with pytest.raises(DatasetError, match="of two objects"):
        truth_triplets(taxis, known)


def test_clips_take_turns_and_poses_are_spread(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    rows = frozen(store, dataset, count=12).to_pylist()
    identities = [row["identity"] for row in rows]
    assert sorted(identities.count(one) for one in set(identities)) == [2] * 6
    many = frozen(store, dataset, "many", count=72).to_pylist()
    used = [row["pose_crop"] for row in many]
    assert len(set(used)) > 12


def test_the_seed_decides_and_the_order_of_rows_does_not(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    crops, clips = read_both(store, dataset)
    one = truth_triplets(crops, clips, count=10)
    assert one.equals(
        truth_triplets(crops.take(list(range(crops.num_rows))[::-1]), clips, count=10)
    )
    assert not one.equals(truth_triplets(crops, clips, count=10, seed=1))


def test_what_is_too_far_or_unknown_is_not_taken(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    crops, clips = read_both(store, dataset)
    videos = crops["video_id"].to_pylist()
    turned = [
        azimuth + 10 * sorted(set(videos)).index(video)
        for azimuth, video in zip(crops["azimuth_deg"].to_pylist(), videos, strict=True)
    ]
    apart = crops.set_column(crops.schema.get_field_index("azimuth_deg"), "azimuth_deg", [turned])
    with pytest.raises(DatasetError, match="no evaluation triplet is possible"):
        truth_triplets(apart, clips)
    with pytest.raises(DatasetError, match="no evaluation triplet is possible"):
        truth_triplets(crops, clips, min_gap_ms=9000)
    one_video = crops.filter(pa.array([video == videos[0] for video in videos]))
    with pytest.raises(DatasetError, match="of two objects in two videos"):
        truth_triplets(one_video, clips)


def test_elevation_decides_between_equal_azimuths(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    crops, clips = read_both(store, dataset)
    names = crops["crop_id"].to_pylist()
    levels = [20.0 if name[:-2].endswith("c1") else 0.0 for name in names]
    place = crops.schema.get_field_index("elevation_deg")
    column = pa.array(levels, pa.float64())
    crops = (
        crops.set_column(place, "elevation_deg", column)
        if place >= 0
        else crops.append_column("elevation_deg", column)
    )
    for row in truth_triplets(crops, clips).to_pylist():
        assert row["pose_crop"][:-2][-1] == row["target_crop"][:-2][-1]


def test_a_set_is_read_as_it_was_frozen(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    triplets = frozen(store, dataset, count=20)
    found = read_set(store, "cars-test", SIZE)
    assert set_names(store) == ["cars-test"]
    assert found.triplets.equals(triplets.sort_by("triplet_id"))
    assert found.dataset == ("cars", dataset.partition("@")[2])
    for place, row in enumerate(found.triplets.to_pylist()):
        for role in ("id", "pose", "target"):
            expected = at_size(drawn(row[f"{role}_crop"])[None], SIZE)[0]
            assert np.array_equal(found.role(role)[place], expected)
        assert found.views.azimuth_deg[found.rows[1][place]] == row["pose_azimuth_deg"]
    assert found.masks is None
    # No clip says which object it shows: a video counts as one.
    pairs = {(r["id_crop"][:7], r["pose_crop"][:7]) for r in found.triplets.to_pylist()}
    assert found.objects.shape == (2, 20) and len(np.unique(found.objects)) == 3
    assert len({tuple(pair) for pair in found.objects.T}) == len(pairs)


def test_it_outlives_its_dataset(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    frozen(store, dataset, count=20)
    before = read_set(store, "cars-test", SIZE)
    for folder in ("datasets", "shards"):
        for path in store.list(folder):
            store.delete(path)
    assert np.array_equal(read_set(store, "cars-test", SIZE).pictures, before.pictures)


def test_the_same_set_again_is_no_other_set(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    frozen(store, dataset, count=20)
    files = {path: store.read(path) for path in store.list("evaluation-sets")}
    frozen(store, dataset, count=20)
    assert {path: store.read(path) for path in store.list("evaluation-sets")} == files
    with pytest.raises(DatasetError, match="a frozen set is never changed"):
        frozen(store, dataset, count=21)


def test_a_small_set_holds_the_nearest_other_picture_of_every_target(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    frozen(store, dataset, count=4)
    found = read_set(store, "cars-test", SIZE)
    crops, _ = read_both(store, dataset)
    for target in found.triplets["target_crop"].to_pylist():
        row = crops["crop_id"].to_pylist().index(target)
        rows = [
            other for other in range(len(crops))
            if other != row and crops["clip_id"][other] == crops["clip_id"][row]
        ]  # fmt: skip
        turns = {turn(crops, other, row) for other in rows}
        here = [
            place for place, clip in enumerate(found.crops["clip_id"])
            if clip == crops["clip_id"][row] and found.crops["crop_id"][place].as_py() != target
        ]  # fmt: skip
        held = {
            abs((found.views.azimuth_deg[p] - crops["azimuth_deg"][row].as_py() + 180) % 360 - 180)
            for p in here
        }
        assert min(held) == min(turns)


def turn(crops: pa.Table, one: int, other: int) -> float:
    azimuth = crops["azimuth_deg"]
    return float(abs((azimuth[one].as_py() - azimuth[other].as_py() + 180) % 360 - 180))


def test_a_freezing_that_was_cut_off_stands_in_no_ones_way(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    frozen(store, dataset, count=20)
    store.delete("evaluation-sets/cars-test/set.json")
    assert "cars-test" not in set_names(store)
    frozen(store, dataset, count=6)
    assert len(read_set(store, "cars-test", SIZE)) == 6
    files = set(store.list("evaluation-sets/cars-test"))
    with pytest.raises(DatasetError, match="a frozen set is never changed"):
        frozen(store, dataset, count=7)
    assert set(store.list("evaluation-sets/cars-test")) == files


def test_sets_that_cannot_be_used(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    with pytest.raises(DatasetError, match=r"no evaluation set 'cars-test'.*none"):
        read_set(store, "cars-test", SIZE)
    triplets = frozen(store, dataset, count=20)
    manifest = read_manifest(store, dataset)
    with pytest.raises(DatasetError, match="not made of training data"):
        freeze_set(store, "x", manifest, "train", triplets, 0)
    with pytest.raises(DatasetError, match="is no name"):
        freeze_set(store, "../x", manifest, "test", triplets, 0)
    with pytest.raises(DatasetError, match="is empty"):
        freeze_set(store, "x", manifest, "test", triplets.slice(0, 0), 0)
    foreign = triplets.set_column(
        1, triplets.schema.field("id_crop"), [["nobody"] * triplets.num_rows]
    )
    with pytest.raises(DatasetError, match="the crop nobody is not in the split"):
        freeze_set(store, "x", manifest, "test", foreign, 0)
    pictures = next(p for p in store.list("evaluation-sets/cars-test") if "pictures" in p)
    store.replace(pictures, store.read(pictures)[:-3])
    with pytest.raises(DamageError, match="is damaged: put back"):
        read_set(store, "cars-test", SIZE)
    store.delete(pictures)
    with pytest.raises(DamageError, match="is missing: put back"):
        read_set(store, "cars-test", SIZE)
    info = json.loads(store.read("evaluation-sets/cars-test/set.json"))
    store.replace("evaluation-sets/cars-test/set.json", json.dumps({**info, "name": "y"}).encode())
    with pytest.raises(DamageError, match="it is of y"):
        read_set(store, "cars-test", SIZE)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("id_crop", "target_crop", "the ID picture is the target"),
        ("pose_identity", "identity", "the pose picture shows the target's object"),
        ("review", "perhaps", "a mark is none"),
        ("triplet_id", "same", "stands in it twice"),
    ],
)
def test_mixed_up_triplets(tmp_path: Path, column: str, value: str, message: str) -> None:
    store, dataset = world(tmp_path)
    triplets = frozen(store, dataset, count=6)
    values = triplets[value].to_pylist() if value in triplets.column_names else [value] * 6
    place = triplets.schema.get_field_index(column)
    wrong = triplets.set_column(place, triplets.schema.field(column), [values])
    with pytest.raises(DatasetError, match=message):
        check_triplets(wrong, "this set")


def test_known_objects_count_as_one_across_videos(tmp_path: Path) -> None:
    store, dataset = world(tmp_path, objects=lambda clip: "taxi" if clip.endswith("c0") else None)
    frozen(store, dataset, count=50)
    found = read_set(store, "cars-test", SIZE)
    names = {
        "taxi" if "c0" in crop else crop[:7]
        for row in found.triplets.to_pylist()
        for crop in (row["id_crop"], row["pose_crop"])
    }
    assert len(np.unique(found.objects)) == len(names) == 4


def test_freezing_again_restores_what_is_damaged(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    frozen(store, dataset, count=9)
    files = [path for path in store.list("evaluation-sets") if path.endswith(".parquet")]
    intact = {path: store.read(path) for path in files}
    store.replace(files[0], intact[files[0]][:100])
    store.delete(files[1])
    with pytest.raises(DamageError, match="freeze it again in the same way"):
        read_set(store, "cars-test", SIZE)
    frozen(store, dataset, count=9)
    assert {path: store.read(path) for path in files} == intact
    assert len(read_set(store, "cars-test", SIZE)) == 9


@pytest.mark.parametrize(
    "change",
    [
        {"files": None}, {"files": []}, {"files": ["a"]}, {"files": [{}]}, {"seed": None},
        {"triplets": 8}, {"triplets": "9"}, {"split": None}, {"chosen_by": None}, {"format": 2},
        {"dataset": {"name": 5, "version": "1"}}, {"name": "other"},
    ],
)  # fmt: skip
def test_an_edited_description_is_one_clear_error(
    tmp_path: Path, change: dict[str, object]
) -> None:
    store, dataset = world(tmp_path)
    frozen(store, dataset, count=9)
    path = "evaluation-sets/cars-test/set.json"
    store.replace(path, json.dumps({**json.loads(store.read(path)), **change}).encode())
    with pytest.raises(DamageError, match="put back a copy of it"):
        read_set(store, "cars-test", SIZE)


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    frozen(store, dataset, count=9)
    path = "evaluation-sets/cars-test/set.json"
    info = json.loads(store.read(path))
    store.replace(path, json.dumps({**info, "files": [*info["files"], info["files"][1]]}).encode())
    with pytest.raises(DamageError, match="names pictures twice"):
        read_set(store, "cars-test", SIZE)


def test_a_name_that_leads_elsewhere_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no evaluation set '\.\./x'"):
        read_set(Store(tmp_path), "../x", SIZE)


def test_sets_from_before_objects_were_kept_are_read(tmp_path: Path) -> None:
    store, dataset = world(tmp_path, objects=lambda clip: clip)
    frozen(store, dataset, count=9)
    path = "evaluation-sets/cars-test/set.json"
    info = json.loads(store.read(path))
    old = to_parquet(from_parquet(store.read(info["files"][1]["path"])).drop_columns(["object"]))
    store.publish("evaluation-sets/cars-test/pictures-00000.parquet", old)
    info["files"][1] = file_entry("evaluation-sets/cars-test/pictures-00000.parquet", old)
    store.replace(path, json.dumps(info).encode())
    assert len(np.unique(read_set(store, "cars-test", SIZE).objects)) == 3
