"""Exports: whole or not at all, never into the root, damaged shards by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage import export
from storage.datasets import DatasetError, commit
from storage.export import export_dataset
from storage.objects import Store
from tests.storage.drafts import draft, picture


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "root")
    commit(store, draft(store))
    return store


def test_a_failed_export_leaves_nothing_and_a_retry_works(store: Store, tmp_path: Path) -> None:
    out = Store(tmp_path / "out")
    (card,) = (path for path in store.list("datasets") if path.endswith("README.md"))
    text = store.read(card)
    store.delete(card)
    with pytest.raises(DatasetError, match=r"README\.md is missing"):
        export_dataset(store, "cars", out, pictures=False)
    assert out.list("") == []
    store.publish(card, text)
    assert export_dataset(store, "cars", out, pictures=False)["rows"] == 2


def test_what_was_written_before_a_full_disk_is_taken_away(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = Store(tmp_path / "out"), []
    original = export.to_parquet

    def full(*arguments: Any, **named: Any) -> bytes:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return original(*arguments, **named)

    monkeypatch.setattr(export, "to_parquet", full)
    with pytest.raises(OSError, match="No space"):
        export_dataset(store, "cars", out, pictures=False)
    assert len(calls) == 2 and out.list("") == []
    assert export_dataset(store, "cars", out, pictures=False)["files"] == 2


@pytest.mark.parametrize("place", ["", "datasets/cars/export", "export", "../root/x"])
def test_no_export_into_the_root(place: str, store: Store, tmp_path: Path) -> None:
    before = store.list("")
    with pytest.raises(DatasetError, match=r"lies in the root .* outside"):
        export_dataset(store, "cars", Store(tmp_path / "root" / place), pictures=False)
    assert store.list("") == before


def test_no_export_into_the_root_through_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "root")
    with pytest.raises(DatasetError, match="lies in the root"):
        export_dataset(store, "cars", Store(tmp_path / "link" / "export"), pictures=False)


def test_remote_roots_are_told_apart_by_whole_names() -> None:
    store = Store("memory://export-root")
    commit(store, draft(store))
    with pytest.raises(DatasetError, match="lies in the root"):
        export_dataset(store, "cars", Store("memory://export-root/x/"), pictures=False)
    assert export_dataset(store, "cars", Store("memory://export-root-2"), pictures=False)["rows"]


@pytest.mark.parametrize("how", ["missing", "damaged", "damaged at its end"])
def test_a_bad_shard_of_pictures_is_named(how: str, store: Store, tmp_path: Path) -> None:
    (path,) = store.list("shards/crop")
    data = bytearray(store.read(path))
    if how == "missing":
        store.delete(path)
    else:
        data[-5 if how.endswith("end") else data.index(picture(0)[1000:1100])] ^= 1
        store.replace(path, bytes(data))
    out = Store(tmp_path / "out")
    with pytest.raises(DatasetError, match=rf"{path} is {how.split()[0]}: the same build restores"):
        export_dataset(store, "cars", out, pictures=True)
    assert out.list("") == []
