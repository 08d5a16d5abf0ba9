"""`idpose datasets`: which version is the latest, and going back; a source that shrank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from storage.datasets import Draft, read_manifest
from storage.errors import DatasetError
from storage.objects import Store
from storage.versions import check_size, latest_version
from tests.training.worlds import commit_world


def idpose(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def listed(root: str) -> dict[str, Any]:
    done = idpose("datasets", "list", "--root", root, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_versions_are_listed_and_rolled_back(tmp_path: Path) -> None:
    root, store = str(tmp_path), Store(str(tmp_path))
    old, middle, new = (commit_world(store, train_videos=n).partition("@")[2] for n in (4, 5, 6))
    assert {one["version"] for one in listed(root)["versions"]} == {old, middle, new}
    assert listed(root)["latest"] == {"cars": new}
    assert f"* cars@{new}" in idpose("datasets", "list", "--root", root).stdout

    for version in (middle, old):
        done = idpose("datasets", "rollback", "cars", "--root", root, "--reason", "poisoned")
        assert done.exit_code == 0 and f"cars@{version} is the latest again" in done.stdout
        assert read_manifest(store, "cars")["version"] == version
        assert store.read("datasets/cars/latest").decode().strip() == version
    done = idpose("datasets", "rollback", "cars", "--root", root)
    assert done.exit_code == 1 and "no version of dataset 'cars' was the latest" in done.output
    assert idpose("datasets", "rollback", "cars", new, "--root", root).exit_code == 0
    assert latest_version(store, "cars") == new
    assert {one["version"] for one in listed(root)["versions"]} == {old, middle, new}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cars", "0123456789ab"], "no committed version '0123456789ab'"),
        (["none"], "no version of dataset 'none' was the latest before: name one"),
    ],
)
def test_what_cannot_be_rolled_back_is_named(
    tmp_path: Path, words: list[str], message: str
) -> None:
    commit_world(Store(str(tmp_path)))
    done = idpose("datasets", "rollback", *words, "--root", str(tmp_path))
    assert done.exit_code == 1 and message in done.output.replace("\n", " ")


def draft(
    videos: int, triplets: int, *, space: str = "fit", seed: int = 1, name: str = "cars"
) -> Draft:
    statistics = {
        "attrition": {"videos": {"ok": videos, "empty_file": 100}},
        "counts": {"triplets": {"train": triplets, "test": 0}},
    }
    config = {"seed": seed, "pose": {"clusters": 8, "space": space}}
    return Draft(name, config, {}, [], "", statistics, {}, {}, {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose latest version of cars has 100 videos and 1,000 triplets."""
    store, latest = Store(str(tmp_path)), draft(100, 1000)
    path = f"datasets/{commit_world(store).replace('@', '/')}/manifest.json"
    manifest = json.loads(store.read(path))
    changed = {**manifest, "config": latest.config, "statistics": latest.statistics}
    store.replace(path, json.dumps(changed).encode())
    return store


@pytest.mark.parametrize(
    ("next_one", "what"),
    [
        (draft(49, 1000), "49 usable videos"),
        (draft(100, 499), "499 usable triplets"),
        (draft(0, 0), "0 usable videos"),
        (draft(49, 1000, space="0123456789abcdef"), "49 usable videos"),
    ],
)
def test_a_version_much_smaller_than_the_latest_is_refused(
    store: Store, next_one: Draft, what: str
) -> None:
    with pytest.raises(DatasetError, match=f"{what}.*run.allow_smaller=true"):
        check_size(store, next_one.name, next_one.config, next_one.statistics)


@pytest.mark.parametrize(
    "next_one",
    [draft(50, 500), draft(1, 1, seed=2), draft(1, 1, name="trucks"), draft(200, 9000)],
    ids=["half", "of another configuration", "of another name", "larger"],
)
def test_other_versions_pass(store: Store, next_one: Draft) -> None:
    check_size(store, next_one.name, next_one.config, next_one.statistics)
