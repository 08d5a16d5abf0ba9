"""Results of global stages: who cannot compute one anew does not remove it."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.datasets import DatasetError
from storage.digests import sha256
from storage.objects import Store
from storage.results import read_result, result


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_damaged_result_is_told_and_kept_at_reading(store: Store) -> None:
    result(store, "spaces/x", "space", "bin", lambda: b"fitted")
    (path,) = store.list("spaces")
    store.replace(path, b"fittee")
    with pytest.raises(DatasetError, match=f"{path} is damaged: put back a copy"):
        read_result(store, "spaces/x", "space")
    assert store.read(path) == b"fittee"
    assert read_result(store, "spaces/y", "space") is None


def test_a_damaged_result_stays_where_it_cannot_be_computed_anew(store: Store) -> None:
    result(store, "spaces/x", "space", "bin", lambda: b"fitted")
    (path,) = store.list("spaces")
    store.replace(path, b"fittee")

    def fails() -> bytes:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        result(store, "spaces/x", "space", "bin", fails)
    assert store.read(path) == b"fittee"


@pytest.mark.parametrize(
    "name",
    [
        "space.notes.txt",
        "space.safetensors",
        f"space.{'0' * 63}.bin",
        f"space.{'G' * 64}.bin",
        f"old/space.{'0' * 64}.bin",
        f"space.{'0' * 64}.bin.bak",
        f"spaces.{'0' * 64}.bin",
    ],
)
def test_other_files_are_neither_results_nor_removed(name: str, store: Store) -> None:
    store.publish(f"spaces/x/{name}", b"mine")
    assert result(store, "spaces/x", "space", "bin", lambda: b"fitted") == (b"fitted", True)
    assert store.read(f"spaces/x/{name}") == b"mine"
    assert store.exists(f"spaces/x/space.{sha256(b'fitted')}.bin")


def test_an_intact_result_beside_a_damaged_one_serves(store: Store) -> None:
    result(store, "spaces/x", "space", "bin", lambda: b"fitted")
    store.publish(f"spaces/x/space.{'0' * 64}.bin", b"damaged")
    assert read_result(store, "spaces/x", "space") == b"fitted"
