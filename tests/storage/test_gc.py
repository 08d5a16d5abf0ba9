"""What goes and what stays: by brute force over random roots, and a few known answers."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.claims import claim, live_claims
from storage.datasets import commit, read_manifest, verify
from storage.digests import sha256
from storage.errors import DatasetError, ToldError
from storage.gc import collect, find_orphans
from storage.lineage import read_lineage, record_lineage, rename_in_lineages
from storage.objects import Store
from storage.parquet import to_parquet
from tests.storage.drafts import draft

DAY = 86_400.0


def age(root: Path, days: float = 3.0) -> None:
    """Let every object look as old as this."""
    then = time.time() - days * DAY
    for path in root.rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)


def orphans_of(store: Store) -> set[str]:
    return {orphan.path for orphan in find_orphans(store).orphans}


@dataclass
class World:
    """A root, and beside it the graph of who names what, which no part of gc reads."""

    root: Path
    names: dict[str, set[str]] = field(default_factory=dict)
    roots: set[str] = field(default_factory=set)
    never: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store = Store(self.root)

    def put(self, path: str, data: bytes, *named: str) -> str:
        self.store.publish(path, data)
        self.names[path] = set(named)
        return path

    def reached(self, more: set[str]) -> set[str]:
        seen, waiting = set(), deque(self.roots | self.never | more)
        while waiting:
            path = waiting.popleft()
            if path not in seen:
                seen.add(path)
                waiting.extend(self.names.get(path, ()))
        return seen


def fill(world: World, draw: st.DrawFn) -> None:
    """Media, shards, pose spaces; datasets, models, sets and runs that name some of them."""
    store = world.store
    media = [world.put(f"media/{sha256(bytes([n]))}.mp4", bytes([n])) for n in range(4)]
    shards, crops, spaces = [], [], []
    for n in range(3):
        of = draw(st.lists(st.sampled_from(media), max_size=2, unique=True))
        names = [path[6:70] for path in of]
        rows = {"row_key": [f"{n}{name}" for name in names], "media_sha256": names}
        data = to_parquet(pa.table(rows, pa.schema([(k, pa.string()) for k in rows])))
        shards.append(world.put(f"shards/download/{sha256(data)}.parquet", data, *of))
        data = to_parquet(pa.table({"row_key": [str(n)]}))
        crops.append(world.put(f"shards/crop/{sha256(data)}.parquet", data))
        space = f"pose-spaces/{n:016x}/space.{sha256(bytes([n]))}.safetensors"
        spaces.append(world.put(space, bytes([n])))
    result = world.put(f"shards/retrieval/{7:032x}.{sha256(b'7')}.parquet", b"7")
    some = st.lists(st.sampled_from([*shards, *crops, result]), min_size=1, unique=True)
    for n in range(draw(st.integers(0, 3))):
        pictures = draw(st.lists(st.sampled_from(crops), min_size=1, unique=True))
        made_of = draw(some)
        space = draw(st.sampled_from(spaces))
        before = {found.path for found in store.details("")}
        made = replace(
            draft(store), name=f"d{n}", pictures=pictures, made_of=made_of,
            pose_space=space.split("/")[1],
        )  # fmt: skip
        base = {found.path for found in store.details("")}
        world.names |= {path: set() for path in base - before}  # named by nobody
        committed = commit(store, made)
        new = {found.path for found in store.details("")} - base
        manifest = f"{committed.path}/manifest.json"
        world.never |= {path for path in new if "/log/" in path or path.endswith("latest")}
        world.names |= {path: set() for path in new}
        world.names[manifest] = new | {*pictures, *made_of, space}
        if draw(st.booleans()):
            world.roots.add(manifest)
            world.never.add(manifest)
        else:  # killed before its end
            store.delete(manifest)
            del world.names[manifest]
    for n in range(draw(st.integers(0, 2))):
        weights = world.put(f"models/m/{n:012x}/model.safetensors", b"weights")
        last = draw(st.integers(0, 4)) * 4
        if draw(st.booleans()):
            told = {"config": {"run": f"run{n}", "steps": 8}, "weights": {"path": weights}}
            world.never.add(
                world.put(f"models/m/{n:012x}/model.json", json.dumps(told).encode(), weights)
            )
        finished = f"models/m/{n:012x}/model.json" in world.names and last - 4 <= 8
        for step in range(0, last, 4):
            tensors = f"runs/run{n}/checkpoints/{step:09d}-abcd.safetensors"
            told = {"step": step, "tensors": {"path": tensors, "bytes": 1}}
            document = f"runs/run{n}/checkpoints/{step:09d}.json"
            pair = {world.put(tensors, b"t"), world.put(document, json.dumps(told).encode())}
            if not finished or step == last - 4:
                world.never |= pair
        world.never.add(world.put(f"runs/run{n}/metrics.jsonl", b"{}"))
    file = world.put("evaluation-sets/s/triplets-0.parquet", b"triplets")
    if draw(st.booleans()):
        told = {"files": [{"path": file}]}
        world.never.add(world.put("evaluation-sets/s/set.json", json.dumps(told).encode(), file))
    always = (
        "judges/a.b.safetensors", "weights/w.pth", "logs/l.jsonl", "shards/crop/mine.txt",
        "forgotten/media/a.json", "models/m/promotions/00000001.json", "notes.txt",
    )  # fmt: skip
    for path in always:
        world.never.add(world.put(path, b"{}"))
    world.put("media/partial/x.part", b"half")


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_goes_is_what_brute_force_does_not_reach(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        data.draw(st.composite(lambda draw: fill(world, draw))())
        age(world.root)
        paths = sorted(world.names)
        young = data.draw(st.sets(st.sampled_from(paths), max_size=3))
        for path in young:
            os.utime(world.root / path)
        claimed = data.draw(st.sets(st.sampled_from(["shards", "media", "models/m"]), max_size=2))
        alive = data.draw(st.booleans())
        store = world.store
        claim_file = f"claims/{'a' * 8}.json"
        store.publish(claim_file, json.dumps({"run": "a", "folders": sorted(claimed)}).encode())
        if not alive:
            then = time.time() - 3 * DAY
            os.utime(world.root / claim_file, (then, then))
        # What is young stays, and what it names does not stay for it: nobody reads it.
        own = {p for p in paths if alive and any(p.startswith(f"{c}/") for c in claimed)}
        kept = world.reached(set()) | young | own
        expected = set(paths) - kept | ({claim_file} if not alive else set())
        survey = find_orphans(store)
        assert {orphan.path for orphan in survey.orphans} == expected
        assert all(
            orphan.bytes == store.size(orphan.path) and orphan.reason for orphan in survey.orphans
        )
        assert {orphan.path for orphan in collect(store, survey)} == expected
        assert {found.path for found in store.details("")} == (set(paths) | {claim_file}) - expected
        assert orphans_of(store) == set()
        for manifest in world.roots:
            name, version = manifest.split("/")[1:3]
            assert verify(store, read_manifest(store, f"{name}@{version}")) == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def committed(store: Store, *, recorded: bool = True) -> str:
    made = draft(store)
    return commit(store, replace(made, made_of=made.pictures if recorded else ())).path


def old_shard(store: Store, text: bytes = b"x") -> str:
    data = to_parquet(pa.table({"row_key": [text.decode()]}))
    path = f"shards/detect/{sha256(data)}.parquet"
    store.publish(path, data)
    local = store.local_path(".")
    assert local is not None
    age(local)
    return path


def test_a_version_that_does_not_say_what_it_was_made_of_keeps_every_shard(store: Store) -> None:
    folder = committed(store, recorded=False)
    shard = old_shard(store)
    survey = find_orphans(store)
    assert survey.orphans == [] and survey.unrecorded == ["@".join(folder.split("/")[1:])]
    committed(store)  # the same build again
    assert orphans_of(store) == {shard}
    assert find_orphans(store).unrecorded == []


@pytest.mark.parametrize("lost", ["manifest.json", "lineage/00000001.json", "videos"])
def test_what_cannot_be_read_stops_it(store: Store, lost: str) -> None:
    folder = committed(store)
    old_shard(store)
    path = next(p for p in store.list(folder) if p.startswith(f"{folder}/{lost}"))
    store.replace(path, b"{")
    with pytest.raises(DatasetError, match=path):
        find_orphans(store)


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    committed(store)
    shard = old_shard(store)
    root = tmp_path / "root"
    elsewhere = tmp_path / "elsewhere"
    (root / "shards/detect").rename(elsewhere)
    (root / "shards/detect").symlink_to(elsewhere)
    (root / "media").mkdir()
    (root / "media" / f"{'a' * 64}.mp4").symlink_to(elsewhere / shard.rsplit("/", 1)[-1])
    age(root)
    assert orphans_of(store) == set()
    (root / "datasets/cars").rename(tmp_path / "cars")
    (root / "datasets/cars").symlink_to(tmp_path / "cars")
    with pytest.raises(ToldError, match="is a symbolic link"):
        find_orphans(store)


def test_a_run_that_claims_its_folder_meanwhile_keeps_it_though_it_ends(store: Store) -> None:
    committed(store)
    old_shard(store, b"x"), old_shard(store, b"y")
    survey = find_orphans(store)
    assert len(survey.orphans) == 2
    going = collect(store, survey)
    assert next(going) == survey.orphans[0]
    with claim(store, "build", ("shards",)):
        assert [alive.run for alive in live_claims(store)] == ["build"]
        assert list(going) == []
    assert live_claims(store) == [] and store.exists(survey.orphans[1].path)


def test_a_claim_outlives_what_the_store_does_to_it(store: Store) -> None:
    with claim(store, "a", ("shards",)):
        store.delete("claims/a.json")
    store.publish("claims", b"a file in the place of the folder")
    with claim(store, "a", ("shards",)):
        pass


def test_a_claim_that_cannot_be_read_claims_all(store: Store) -> None:
    committed(store)
    old_shard(store)
    store.publish("claims/b.json", b"{")
    assert orphans_of(store) == set()


def test_what_killed_writers_left_goes_after_a_day(store: Store, tmp_path: Path) -> None:
    committed(store)
    root = tmp_path / "root"
    left = root / "shards/crop" / f".tmp-{'0' * 32}"
    left.write_bytes(b"half")
    assert orphans_of(store) == set()
    age(root)
    assert orphans_of(store) == {str(left.relative_to(root))}


def test_a_lineage_says_a_thing_once_and_follows_what_is_rewritten(store: Store) -> None:
    folder = "datasets/cars/0"
    for _ in range(2):
        record_lineage(store, folder, ["shards/a/1.parquet", "shards/b/2.x.parquet"])
    assert store.list(folder) == [f"{folder}/lineage/00000001.json"]
    assert read_lineage(store, folder) == {"shards/a/1", "shards/b/2"}
    rename_in_lineages(store, {"shards/a/1.parquet": "shards/a/3.parquet"})
    assert read_lineage(store, folder) == {"shards/a/3", "shards/b/2"}
    rename_in_lineages(store, {"shards/a/3.parquet": None})
    assert read_lineage(store, folder) == {"shards/b/2"}
    assert read_lineage(store, "datasets/cars/1") is None
