"""Objects: create-if-absent, atomic, never outside the root."""

from __future__ import annotations

import os
import pickle
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.objects import Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path / "root" if request.param == "local" else f"memory://{uuid.uuid4()}")


def test_the_first_writer_wins_and_the_loser_learns_it(store: Store) -> None:
    assert store.publish("a/b.txt", b"first")
    assert not store.publish("a/b.txt", b"second")
    assert store.read("a/b.txt") == b"first"


def test_listing_is_sorted_recursive_and_empty_for_a_missing_folder(store: Store) -> None:
    for name in ("x/b", "x/a", "x/y/c", "z"):
        store.publish(name, b"")
    assert store.list("x") == ["x/a", "x/b", "x/y/c"]
    assert store.list("") == ["x/a", "x/b", "x/y/c", "z"]
    assert store.list("nowhere") == []


def test_delete_is_idempotent_and_replace_overwrites(store: Store) -> None:
    store.replace("p", b"1")
    store.replace("p", b"2")
    assert store.read("p") == b"2"
    assert store.size("p") == 1
    store.delete("p")
    store.delete("p")
    assert not store.exists("p")
    with pytest.raises(FileNotFoundError):
        store.read("p")


def test_a_folder_is_not_an_object(store: Store) -> None:
    store.publish("folder/object", b"")
    assert not store.exists("folder")


def test_of_many_racing_writers_exactly_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.publish("one", bytes([i])), range(32)))
    assert sum(won) == 1
    assert store.read("one") == bytes([won.index(True)])


def test_no_temporary_file_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.publish("a", b"1")
    store.publish("a", b"2")
    store.replace("a", b"3")
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    for write in (Store(tmp_path).publish, Store(tmp_path).replace):
        with pytest.raises(OSError, match="No space") as raised:
            write("a", b"1")
        assert raised.value.filename == str(tmp_path / "a")
        assert list(tmp_path.iterdir()) == []


def test_leftover_temporary_files_are_not_objects(tmp_path: Path) -> None:
    (tmp_path / ".tmp-123").write_bytes(b"half")
    assert Store(tmp_path).list("") == []


def test_a_store_travels_to_another_process(store: Store) -> None:
    store.publish("a", b"1")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"1"


def test_a_relative_root_stays_the_same_folder_after_chdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("data")
    store.publish("a", b"1")
    other = pickle.dumps(store)
    monkeypatch.chdir("/")
    assert pickle.loads(other).read("a") == b"1"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", "a/.."])
def test_no_path_leaves_the_root(tmp_path: Path, path: str) -> None:
    store = Store(tmp_path / "root")
    with pytest.raises(ValueError, match="not a path below the root"):
        store.publish(path, b"1")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_name_stays_below_the_root_or_is_refused(name: str) -> None:
    root = Path(f"/tmp/idpose-test-{os.getpid()}")
    store = Store(root)
    try:
        path = store.local_path(name)
    except ValueError:
        return
    assert path is not None
    assert Path(os.path.normpath(path)).is_relative_to(root)
