"""Dataset versions: commits, damage of every file that a manifest names, logs, read-only roots."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage import objects
from storage.datasets import (
    DatasetError,
    commit,
    latest_observation,
    read_manifest,
    read_table,
    verify,
)
from storage.export import export_dataset
from storage.objects import Store
from tests.storage.drafts import SPACE, draft


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


@pytest.fixture
def manifest(store: Store) -> dict[str, Any]:
    return dict(commit(store, draft(store)).manifest)


def folder(manifest: dict[str, Any]) -> str:
    return f"datasets/cars/{manifest['version']}"


def damage(store: Store, path: str, how: str) -> None:
    if how == "deleted":
        store.delete(path)
    else:
        store.replace(path, store.read(path)[:-3])


def test_a_commit_is_read_back(store: Store, manifest: dict[str, Any]) -> None:
    assert read_manifest(store, "cars") == manifest
    assert read_table(store, manifest, "triplets").num_rows == 2
    assert verify(store, manifest) == []


# -- the manifest


def without(field: str) -> Any:
    def change(manifest: dict[str, Any]) -> None:
        del manifest[field]

    return change


def put(table: str, entries: Any) -> Any:
    def change(manifest: dict[str, Any]) -> None:
        manifest["tables"][table] = entries

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *((without(f), f"no {f}") for f in ("name", "version", "tables", "statistics", "config")),
        (lambda manifest: manifest.update(tables={}), "no tables.videos"),
        (lambda manifest: manifest.update(tables=[]), "tables is not of type dict"),
        (put("videos", [{}]), r"no tables\.videos\[0\]\.path"),
        (put("pictures", ["x"]), r"tables\.pictures\[0\] is not a JSON object"),
        (lambda manifest: manifest.update(documents=[{"path": "x"}]), r"no documents\[0\]\.bytes"),
        (lambda manifest: manifest.update(pose_space_file={}), "no pose_space_file.path"),
    ],
)
def test_a_manifest_without_what_readers_need_is_named_and_kept(
    change: Any, message: str, store: Store, manifest: dict[str, Any], tmp_path: Path
) -> None:
    path = f"{folder(manifest)}/manifest.json"
    changed = json.loads(store.read(path))
    change(changed)
    store.replace(path, json.dumps(changed).encode())
    before = store.read(path)
    for use in (
        lambda: read_manifest(store, "cars"),
        lambda: commit(store, draft(store)),
        lambda: export_dataset(store, "cars", Store(tmp_path / "out"), pictures=False),
    ):
        with pytest.raises(DatasetError, match=f"manifest.json is damaged .*{message}.*move it"):
            use()
    assert store.read(path) == before


@pytest.mark.parametrize("text", ["{}", "[]", "xx", "", "null", '{"tables": {}}'])
def test_a_manifest_that_is_none_is_an_error(
    text: str, store: Store, manifest: dict[str, Any]
) -> None:
    store.replace(f"{folder(manifest)}/manifest.json", text.encode())
    with pytest.raises(DatasetError, match=r"manifest\.json is damaged"):
        read_manifest(store, "cars")


def test_the_remedy_for_a_damaged_manifest_holds(store: Store, manifest: dict[str, Any]) -> None:
    path = f"{folder(manifest)}/manifest.json"
    store.delete(path)
    store.publish(f"{path}.away", b"{}")
    again = commit(store, draft(store))
    assert again.created and again.version == manifest["version"]
    assert {**again.manifest, "created_at": 0} == {**manifest, "created_at": 0}
    assert verify(store, again.manifest) == []


def test_a_manifest_of_a_later_schema_asks_for_an_update(
    store: Store, manifest: dict[str, Any]
) -> None:
    path = f"{folder(manifest)}/manifest.json"
    store.replace(path, json.dumps({"schema_version": 2, "tables": "otherwise"}).encode())
    with pytest.raises(DatasetError, match="update idpose"):
        read_manifest(store, "cars")


# -- the log


@pytest.mark.parametrize("text", ["{}", "xx", "", "[1]", '{"version": 3}'])
def test_a_damaged_log_entry_is_named_with_its_remedy(
    text: str, store: Store, manifest: dict[str, Any]
) -> None:
    path = "datasets/cars/log/00000002.json"
    store.publish(path, text.encode())
    for use in (lambda: read_manifest(store, "cars"), lambda: commit(store, draft(store))):
        with pytest.raises(DatasetError, match=f"{path} is not an entry .*move it away"):
            use()
    store.delete(path)
    assert read_manifest(store, "cars") == manifest


def test_a_rollback_is_an_entry_with_a_version(store: Store, manifest: dict[str, Any]) -> None:
    entry = json.dumps({"version": manifest["version"]}).encode()
    store.publish("datasets/cars/log/00000002.json", entry)
    assert read_manifest(store, "cars") == manifest
    assert latest_observation(store, manifest)["videos"].num_rows == 2
    assert commit(store, draft(store)).version == manifest["version"]
    assert read_manifest(store, "cars") == manifest


def test_a_rollback_to_nowhere_tells_what_there_is(store: Store, manifest: dict[str, Any]) -> None:
    store.publish("datasets/cars/log/00000002.json", b'{"version": "ffff"}')
    with pytest.raises(DatasetError, match=f"'ffff'.*committed are cars@{manifest['version']}"):
        read_manifest(store, "cars")


def test_other_files_in_the_log_are_no_entries(store: Store, manifest: dict[str, Any]) -> None:
    for name in ("9.json", "00000009", "00000009.txt", "old/00000009.json", "٠٠٠٠٠٠٠٩.json"):
        store.publish(f"datasets/cars/log/{name}", b"{}")
    assert read_manifest(store, "cars") == manifest


@pytest.mark.parametrize("observed", [[], {"videos": {}}, {"videos": 1, "clips": 2}, "x"])
def test_a_damaged_observation_is_named(
    observed: Any, store: Store, manifest: dict[str, Any]
) -> None:
    entry = {"version": manifest["version"], "observed": observed}
    store.publish("datasets/cars/log/00000002.json", json.dumps(entry).encode())
    with pytest.raises(DatasetError, match="observed"):
        latest_observation(store, manifest)


# -- documents


@pytest.mark.parametrize("name", ["README.md", "report.html"])
@pytest.mark.parametrize("how", ["deleted", "truncated"])
@pytest.mark.parametrize("lost", [(), ("new",)])
def test_card_and_page_are_verified_and_restored_as_they_were(
    name: str, how: str, lost: tuple[str, ...], store: Store, manifest: dict[str, Any]
) -> None:
    path = f"{folder(manifest)}/{name}"
    before = store.read(path)
    damage(store, path, how)
    assert any(name in problem for problem in verify(store, manifest))
    again = commit(store, draft(store, lost=lost))  # a build that meets another broken file
    assert not again.created
    assert store.read(path) == before
    assert verify(store, manifest) == []


def test_what_somebody_wrote_into_the_card_is_kept(store: Store, manifest: dict[str, Any]) -> None:
    path = f"{folder(manifest)}/README.md"
    store.replace(path, b"my notes")
    commit(store, draft(store))
    assert b"my notes" in [store.read(p) for p in store.list(folder(manifest)) if "kept" in p]


def test_a_card_that_another_idpose_makes_otherwise_goes_beside(
    store: Store, manifest: dict[str, Any], tmp_path: Path
) -> None:
    store.delete(f"{folder(manifest)}/README.md")
    later = replace(draft(store), documents=lambda tables: {"README.md": b"a later card"})
    commit(store, later)
    assert verify(store, manifest) == []
    export_dataset(store, "cars", Store(tmp_path / "out"), pictures=False)
    assert (tmp_path / "out" / "README.md").read_text().endswith("a later card")


def test_documents_left_by_a_stopped_build_do_not_stand_in_the_way(store: Store) -> None:
    other = draft(store, lost=("other",))
    store.publish(f"datasets/cars/{other.version}/README.md", b"of a build that was stopped")
    committed = commit(store, draft(store))
    assert verify(store, committed.manifest) == []


def test_manifests_without_documents_stay_readable(store: Store, tmp_path: Path) -> None:
    manifest = dict(commit(store, draft(store)).manifest)
    path = f"{folder(manifest)}/manifest.json"
    for field in ("documents", "pose_space_file", "observed"):
        del manifest[field]
    store.replace(path, json.dumps(manifest).encode())
    store.delete(f"{folder(manifest)}/README.md")
    assert verify(store, manifest) == []
    with pytest.raises(DatasetError, match=r"README\.md is missing: the same build restores it"):
        export_dataset(store, "cars", Store(tmp_path / "out"), pictures=True)
    commit(store, draft(store))
    export_dataset(store, "cars", Store(tmp_path / "out"), pictures=True)


# -- tables and the pose space


@pytest.mark.parametrize("how", ["deleted", "truncated"])
def test_every_table_file_is_restored(how: str, store: Store, manifest: dict[str, Any]) -> None:
    paths = [path for path in store.list(folder(manifest)) if path.endswith(".parquet")]
    before = {path: store.read(path) for path in paths}
    for path in paths:
        damage(store, path, how)
    assert len(verify(store, manifest)) == len(paths) == 8
    commit(store, draft(store))
    assert {path: store.read(path) for path in paths} == before


def test_a_table_that_lies_beside_a_stopped_builds_is_restored(store: Store) -> None:
    path = f"datasets/cars/{draft(store).version}/videos/train-00000-of-00001.parquet"
    store.publish(path, b"of a build that was stopped")
    manifest = commit(store, draft(store)).manifest
    (entry,) = (e for e in manifest["tables"]["videos"] if "/train-" in e["path"])
    assert entry["path"] != path
    store.delete(entry["path"])
    commit(store, draft(store))
    assert verify(store, manifest) == []


@pytest.mark.parametrize("how", ["deleted", "truncated"])
def test_the_pose_space_is_verified(how: str, store: Store, manifest: dict[str, Any]) -> None:
    (path,) = store.list(f"pose-spaces/{SPACE}")
    assert manifest["pose_space_file"]["path"] == path
    damage(store, path, how)
    (problem,) = verify(store, manifest)
    assert path in problem and "the same build restores it" in problem


def test_nothing_is_committed_without_its_pose_space(store: Store) -> None:
    ready = draft(store)
    (path,) = store.list(f"pose-spaces/{SPACE}")
    store.delete(path)
    with pytest.raises(DatasetError, match=r"pose space .* vanished"):
        commit(store, ready)
    assert not store.exists(f"datasets/cars/{ready.version}/manifest.json")


# -- roots that cannot be written


def test_an_unchanged_commit_writes_nothing(
    store: Store, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(objects, "_write_temporary", read_only)
    assert commit(store, draft(store)).version == manifest["version"]


def test_latest_follows_the_log(store: Store, manifest: dict[str, Any]) -> None:
    store.replace("datasets/cars/latest", b"elsewhere\n")
    commit(store, draft(store))
    assert store.read("datasets/cars/latest").decode() == manifest["version"] + "\n"
