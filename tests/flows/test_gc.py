"""idpose gc on real roots: what was made stays usable, and the same command finds its work done."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows.evaluate import evaluate_model
from flows.train import train_dataset
from idpose_core.evaluation.generators import load_subject
from storage.claims import live_claims
from storage.datasets import read_manifest, verify
from storage.forget import forget_video
from storage.gc import collect, find_orphans
from storage.lineage import read_lineage, record_lineage
from storage.objects import Store
from tests.download.server import LocalServer, video
from tests.evaluation.test_sets import world
from tests.flows.builds import run, settings
from tests.flows.test_downloads import build as build_from
from tests.flows.test_downloads import rows_of, write_table
from tests.flows.test_forget import build, training_video
from tests.storage.test_gc import age
from tests.training.tiny import SETTINGS


@pytest.fixture
def root(built: tuple[dict[str, Any], Path], tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(built[1], copy)
    return copy


def collected(root: Path, *words: str) -> dict[str, Any]:
    done = run(["gc", "--root", str(root), "--json", *words])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_no_dataset_is_made_of_goes_and_an_unchanged_build_computes_nothing(
    videos: Path, root: Path, built: tuple[dict[str, Any], Path]
) -> None:
    store, first = Store(root), built[0]
    before = {found.path for found in store.details("")}
    build(videos, root, "name=other", "clips.min_side=60", "pose.clusters=3")
    shutil.rmtree(root / "datasets/other")  # as if it had been killed before its commit
    more = {found.path for found in store.details("")} - before
    age(root)
    wanted = {path for path in more if path.startswith(("shards/", "pose-spaces/"))}
    assert {path.split("/")[1] for path in wanted} >= {"link", "retrieval"}
    listed = collected(root, "--dry-run")
    assert {orphan["path"] for orphan in listed["orphans"]} == wanted
    assert listed["bytes"] == sum(store.size(path) for path in wanted)
    assert before | more == {found.path for found in store.details("")}
    assert collected(root)["objects"] == len(wanted)
    assert (before | more) - wanted == {found.path for found in store.details("")}
    again = build(videos, root)
    assert again["version"] == first["version"] and again["shards"]["computed"] == 0
    assert collected(root)["objects"] == 0


@pytest.mark.slow
def test_without_its_shards_the_same_build_gives_the_same_version(
    videos: Path, root: Path, built: tuple[dict[str, Any], Path]
) -> None:
    version = f"{root}/datasets/box-cars/{built[0]['version']}"
    Path(f"{version}/manifest.json").unlink()
    age(root)
    gone = collected(root)
    assert not Store(root).list("shards") and not Store(root).list("pose-spaces")
    assert gone["objects"] > 10
    again = build(videos, root)
    assert again["version"] == built[0]["version"] and again["shards"]["reused"] == 0


def test_what_is_left_after_forgetting_stays(videos: Path, root: Path) -> None:
    store = Store(root)
    name = training_video(store)["video_id"]
    forgotten = forget_video(store, name)
    assert forgotten.shards > 3
    age(root)
    assert not [p for p in collected(root)["orphans"] if p["path"].startswith("shards/")]
    again = build(videos, root)
    assert again["shards"]["computed"] == 1  # the file is opened to see which video it is


@pytest.mark.faults
def test_a_build_claims_what_it_works_on(videos: Path, root: Path) -> None:
    """And a killed one is told from a live one by its silence."""
    words = ["build", "tests/flows/box-cars.yaml", "--root", str(root), *settings(videos)]
    words += ["--set", "sampling.fps=4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", *words], stderr=subprocess.DEVNULL, start_new_session=True
    )
    store = Store(root)
    while not (alive := live_claims(store)):
        assert process.poll() is None
        time.sleep(0.05)
    assert alive[0].folders == ("shards", "media", "pose-spaces", "datasets/box-cars")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert live_claims(store) == alive
    age(root)
    assert live_claims(store) == []
    gone = [orphan.path for orphan in collect(store, find_orphans(store))]
    assert f"claims/{alive[0].run}.json" in gone
    assert verify(store, read_manifest(store, "box-cars")) == []


@pytest.mark.slow
def test_videos_of_a_dataset_stay_and_others_go(
    videos: Path, server: LocalServer, tmp_path: Path
) -> None:
    rows = rows_of((videos / "annotations.csv").read_text())
    for name in {row[0] for row in rows}:
        server.routes[f"/v/{name}.mp4"] = video((videos / f"{name}.mp4").read_bytes())
    root, sets = tmp_path / "root", ["test_share=0.4", "pose.clusters=4"]
    table = write_table(tmp_path / "all.csv", rows)
    first = build_from(server, table, root, *sets)
    age(root)
    assert collected(root)["objects"] == 0
    before = len(server.asked)
    again = build_from(server, table, root, *sets)
    assert again["version"] == first["version"] and server.asked[before:] == []
    shutil.rmtree(root / "datasets")
    age(root)
    gone = {orphan["path"].split("/")[0] for orphan in collected(root)["orphans"]}
    assert gone == {"media", "shards", "pose-spaces"}
    assert Store(root).list("media") == []
    assert build_from(server, table, root, *sets)["version"] == first["version"]


@pytest.fixture
def server() -> Any:
    with LocalServer() as found:
        yield found


@pytest.mark.slow
def test_a_trained_and_measured_model_stays_what_it_is(tmp_path: Path) -> None:
    root, quiet = str(tmp_path), lambda line: None
    _, dataset = world(tmp_path)
    store = Store(root)
    manifest = read_manifest(store, dataset)
    folder = f"datasets/{manifest['name']}/{manifest['version']}"
    record_lineage(store, folder, [entry["path"] for entry in manifest["tables"]["pictures"]])
    assert read_lineage(store, folder)
    done = train_dataset(root, "cars", overrides=SETTINGS, say=quiet)
    assert done is not None and done.model is not None
    words: dict[str, Any] = {"metrics": ["id-score-small"], "training_steps": 1, "triplets": 9}
    first = evaluate_model(root, done.run, device="cpu", say=quiet, **words)
    before = {found.path for found in store.details("")}
    age(tmp_path)
    gone = {orphan.path for orphan in collect(store, find_orphans(store))}
    assert gone and all(path.startswith(f"runs/{done.run}/checkpoints/") for path in gone)
    assert {found.path for found in store.details("")} == before - gone
    assert verify(store, manifest) == []
    assert load_subject(store, done.run).steps == 12
    again = evaluate_model(root, done.run, device="cpu", say=quiet, **words)
    value = {(row["method"], row["metric"]): row["value"] for row in first.rows}
    assert value == {(row["method"], row["metric"]): row["value"] for row in again.rows}
    once_more = train_dataset(root, "cars", overrides=SETTINGS, say=quiet)
    assert once_more is not None and once_more.model is not None
    assert (once_more.resumed_from, once_more.model.version) == (12, done.model.version)
