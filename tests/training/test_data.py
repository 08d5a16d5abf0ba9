"""Triplets and pictures from a dataset, and every way in which it can be unusable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from idpose_core.training.augmentation import Augmentation
from idpose_core.training.data import TripletData, batches
from idpose_core.training.sampling import Sampler
from storage import schemas
from storage.datasets import read_manifest
from storage.errors import DatasetError
from storage.export import ROLES
from storage.objects import Store
from tests.training.worlds import SIDE, commit_world, encode, pixels


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("root"))
    commit_world(store)
    return store


def expected_pictures(data: TripletData, rows: list[int]) -> np.ndarray[Any, Any]:
    return np.stack(
        [[pixels(data.triplets[f"{role}_crop"][row].as_py()) for row in rows] for role in ROLES]
    )


@pytest.mark.parametrize("held", [{}, {"decoded": True}, {"memory": 0}, {"memory": 30_000}])
def test_pictures_are_those_of_the_rows(world: Store, held: dict[str, Any]) -> None:
    data = TripletData(world, "cars", **held)
    assert (len(data), data.size) == (4 * 2 * 12, (SIDE, SIDE))
    rows = [0, 95, 17, 17]
    assert np.array_equal(data.pictures(rows), expected_pictures(data, rows))
    assert np.array_equal(data.pictures(rows), data.pictures(np.array(rows)))


def test_a_remote_root_gives_the_same(world: Store) -> None:
    remote = Store("memory://training-data")
    commit_world(remote)
    here, there = TripletData(world, "cars"), TripletData(remote, "cars")
    assert here.version == there.version
    assert np.array_equal(here.pictures([3, 4]), there.pictures([3, 4]))


def test_rows_are_sorted_by_triplet(world: Store) -> None:
    ids = TripletData(world, "cars").triplets["triplet_id"].to_pylist()
    assert ids == sorted(ids)


def test_classes_are_the_training_clips(world: Store) -> None:
    data = TripletData(world, "cars")
    assert data.classes == tuple(f"train-v{v}-c{c}" for v in range(4) for c in range(2))
    batch = data.raw_batch(0, np.arange(len(data)), np.arange(len(data)))
    for column, indices in (("clip_id", batch.clip), ("pose_clip_id", batch.pose_clip)):
        assert [data.classes[i] for i in indices] == data.triplets[column].to_pylist()


def test_clips_of_one_video_can_be_one_class(world: Store) -> None:
    data = TripletData(world, "cars", merge_videos=True)
    assert data.classes == tuple(f"train-v{v}" for v in range(4))
    batch = data.raw_batch(0, np.arange(len(data)), np.arange(len(data)))
    assert [data.classes[i] for i in batch.clip] == data.triplets["video_id"].to_pylist()


def test_test_clips_are_no_classes(world: Store) -> None:
    data = TripletData(world, "cars", "test")
    assert (data.classes, len(data)) == ((), 2 * 2 * 12)
    assert data.raw_batch(0, np.array([0, 5]), np.arange(2)).clip.tolist() == [-1, -1]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_come_in_order_whatever_decodes_them(world: Store, threads: int) -> None:
    data = TripletData(world, "cars")
    sampler = Sampler(len(data), 5, seed=3)
    found = list(batches(data, sampler, 17, 40, threads=threads))
    assert [batch.step for batch in found] == list(range(17, 40))
    for batch in found:
        rows, slots = sampler.share(batch.step)
        assert np.array_equal(batch.slots, slots)
        assert torch.equal(batch.pictures, torch.from_numpy(data.pictures(rows)))
        assert batch.clip.dtype == torch.int64


def test_batches_stop_when_nobody_wants_more(world: Store) -> None:
    data = TripletData(world, "cars")
    endless = batches(data, Sampler(len(data), 5, seed=3), 0)
    assert next(endless).step == 0
    endless.close()


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store, test_videos=0)
    with pytest.raises(DatasetError, match="no triplets in its split 'test'"):
        TripletData(store, "cars", "test")


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset 'cars'"):
        TripletData(Store(tmp_path), "cars")


def files(store: Store, table: str) -> list[str]:
    entries = read_manifest(store, "cars")["tables"][table]
    return [entry["path"] for entry in entries]


@pytest.mark.parametrize("table", ["triplets", "crops", "pictures"])
@pytest.mark.parametrize("damage", ["missing", "altered", "cut"])
def test_damage_is_told_before_the_first_step(tmp_path: Path, table: str, damage: str) -> None:
    store = Store(tmp_path)
    commit_world(store, test_videos=0)
    path = files(store, table)[-1]
    file = tmp_path / path
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "altered":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[:-9])
    with pytest.raises(DatasetError, match=f"{path} is (missing|damaged)"):
        TripletData(store, "cars")


def other_than(crop: str, data: bytes) -> Callable[[str], bytes]:
    return lambda crop_id: data if crop_id == crop else encode(crop_id)


def png(picture: np.ndarray[Any, Any]) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not decode"),
        (b"no picture at all", "does not decode"),
        (png(np.zeros((SIDE, SIDE), np.uint8)), "uint8 24x24, not three channels"),
        (png(np.zeros((SIDE, SIDE, 4), np.uint8)), "uint8 24x24x4, not three channels"),
        (png(np.zeros((SIDE, SIDE, 3), np.uint16)), "uint16 24x24x3, not three channels"),
        (png(np.zeros((SIDE, 20, 3), np.uint8)), "is 24x20x3, the first one 24x24x3"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    store = Store(tmp_path)
    commit_world(store, test_videos=0, encoded=other_than("train-v2-c1-3", data))
    with pytest.raises(DatasetError, match=f"crop train-v2-c1-3 of cars@.* {message}"):
        TripletData(store, "cars")


def test_a_picture_that_only_begins_well_is_named_at_its_step(tmp_path: Path) -> None:
    store, head = Store(tmp_path), png(np.zeros((SIDE, SIDE, 3), np.uint8))[:40]
    commit_world(store, test_videos=0, encoded=other_than("train-v2-c1-3", head))
    opened = TripletData(store, "cars")
    sampler = Sampler(len(opened), len(opened), seed=0)
    with pytest.raises(DatasetError, match=r"crop train-v2-c1-3 of cars@.* does not decode"):
        next(batches(opened, sampler, 0))
    with pytest.raises(DatasetError, match=r"crop train-v2-c1-3 of cars@.* does not decode"):
        TripletData(store, "cars", decoded=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_crop": "train-v0-c1-1"},  # of another clip
        {"id_crop": "train-v1-c0-0"},
        {"pose_crop": "train-v0-c0-2"},  # of the target's own video
        {"target_crop": "train-v0-c0-0"},  # the ID picture itself
        {"pose_video_id": "train-v3"},
    ],
)
def test_a_triplet_whose_crops_are_of_other_clips_is_named(
    tmp_path: Path, wrong: dict[str, str]
) -> None:
    def spoil(triplet: dict[str, Any]) -> None:
        if (triplet["id_crop"], triplet["target_crop"]) == ("train-v0-c0-0", "train-v0-c0-1"):
            triplet |= wrong

    store = Store(tmp_path)
    commit_world(store, change=spoil)
    with pytest.raises(DatasetError, match="is not two crops of one clip and one of another"):
        TripletData(store, "cars")


def test_decoded_pictures_beyond_the_bound_are_refused(world: Store) -> None:
    with pytest.raises(DatasetError, match=r"32 decoded pictures need .* hold them encoded"):
        TripletData(world, "cars", decoded=True, memory=32 * SIDE * SIDE * 3 - 1)


def test_a_shard_that_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = commit_world(store, test_videos=0)
    file = tmp_path / "datasets" / name.replace("@", "/") / "manifest.json"
    listed = files(store, "pictures")[0]
    text = file.read_text().replace(listed, listed.replace("crop/", "crop/not-"))
    file.write_text(text)
    with pytest.raises(DatasetError, match="does not list the shard"):
        TripletData(store, "cars")


def with_trust(triplet: dict[str, Any]) -> None:
    """Trust by the target's second: 0.2, 0.4, 0.6, and not known for the last."""
    second = triplet["target_ms"] // 1000
    triplet["trust"] = None if second == 3 else 0.2 * (second + 1)


def test_rows_weigh_by_their_trust_over_its_mean(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store, change=with_trust)
    data = TripletData(store, "cars", weigh_by_trust=True)
    rows = np.arange(len(data))
    weight = data.raw_batch(0, rows, rows).weight
    assert weight is not None and weight.dtype == torch.float32
    expected = {0: 0.5, 1000: 1.0, 2000: 1.5, 3000: 1.0}
    seconds = data.triplets["target_ms"].to_pylist()
    torch.testing.assert_close(weight, torch.tensor([expected[s] for s in seconds]))
    assert TripletData(store, "cars").raw_batch(0, rows, rows).weight is None
    augmented = Augmentation(16, seed=0)(data.raw_batch(3, rows[:5], rows[:5]))
    torch.testing.assert_close(augmented.weight, weight[:5])


def test_triplets_without_trust_cannot_weigh_by_it(world: Store) -> None:
    with pytest.raises(DatasetError, match=r"no trust to weigh by.*weigh_by_trust=false"):
        TripletData(world, "cars", weigh_by_trust=True)


def test_versions_made_before_there_was_trust_can_be_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = pa.schema([f for f in schemas.TRIPLETS if f.name not in ("target_cluster", "trust")])
    monkeypatch.setitem(schemas.TABLES, "triplets", older)
    monkeypatch.setattr("tests.training.worlds.TRIPLETS", older)
    store = Store(tmp_path)
    commit_world(store)
    monkeypatch.undo()
    data = TripletData(store, "cars")
    assert "trust" not in data.triplets.column_names
    assert data.raw_batch(0, np.arange(2), np.arange(2)).weight is None
    with pytest.raises(DatasetError, match="no trust to weigh by"):
        TripletData(store, "cars", weigh_by_trust=True)
