"""The whole way on a root at S3: what comes out is what a local root gives, byte for byte."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.build_dataset import build_dataset
from flows.configs import find_config
from flows.inspection import page, summary
from flows.progress import TerminalProgress
from flows.train import train_dataset
from idpose_core.config import parse_override
from idpose_core.training.published import names, promote, versions
from storage.datasets import read_manifest, read_table
from storage.errors import StoreError
from storage.export import export_dataset
from storage.forget import forget_video
from storage.objects import Store
from tests.download.server import LocalServer, video
from tests.evaluation.test_sets import world
from tests.flows.builds import BOX_CARS, InThisProcess, run
from tests.flows.invariants import check_dataset
from tests.flows.network import QUICK, write_table
from tests.flows.test_evaluate import publish
from tests.flows.test_rendered import build_rendered
from tests.flows.test_rendered_views import build_views
from tests.storage.s3 import (
    KEY,
    SECRET,
    TOKEN,
    FaultyProxy,
    cut_body,
    every,
    lose_reply,
    refuse,
    slow,
)
from tests.training.tiny import SETTINGS

STORM = (
    refuse(500, "InternalError"),
    refuse(503, "SlowDown"),
    lose_reply,
    cut_body,
    refuse(409, "ConditionalRequestConflict"),
    slow(1.0),
)


@pytest.fixture
def site(videos: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings of a build of six box cars from a server on this machine."""
    with (videos / "annotations.csv").open(newline="") as file:
        rows = [row for row in csv.reader(file) if row and row[0] in _CARS]
    table = write_table(tmp_path / "cars.csv", rows)
    with LocalServer() as server:
        for name in _CARS:
            server.routes[f"/v/{name}.mp4"] = video((videos / f"{name}.mp4").read_bytes())
        words = [
            "source.kind=http",
            f"source.url_template={server.url('/v/{video_id}.mp4')}",
            "source.allow_private=true",
            f"source.annotations={table}",
            "split=hash",
            "test_share=0.4",
            "embedder.kind=grey-pixels",
            "pose.clusters=3",
            "image.size=36",
            *QUICK,
        ]
        yield dict(map(parse_override, words))


_CARS = [f"car-{number:03d}" for number in range(6)]


def build(site: dict[str, Any], root: str | Path, **changes: Any) -> dict[str, Any]:
    config = find_config(BOX_CARS, {**site, **changes})
    return build_dataset(config, str(root), InThisProcess(), TerminalProgress()).to_dict()


def objects(root: str | Path) -> dict[str, bytes]:
    """What a root holds, without what names times, machines and processes."""
    store = Store(root)
    kept = ("shards/", "media/", "datasets/", "pose-spaces/")
    paths = [path for path in store.list("") if path.startswith(kept)]
    own = ("manifest.json", "/log/", "/lineage/", "media/partial/")
    return {path: store.read(path) for path in paths if not any(part in path for part in own)}


def planted_in(data: bytes) -> bool:
    return any(word.encode() in data for word in (KEY, SECRET, TOKEN))


def check_no_credentials(root: str, cache: Path) -> None:
    store = Store(root)
    assert not [path for path in store.list("") if planted_in(store.read(path))]
    assert not [f for f in cache.rglob("*") if f.is_file() and planted_in(f.read_bytes())]


def train(root: str | Path, steps: int) -> Any:
    changed = {"training.checkpoint_every": 2, "training.measure_every": 100}
    overrides = {**SETTINGS, **changed, "training.steps": steps}
    return train_dataset(str(root), "box-cars", None, overrides, say=lambda line: None)


def test_a_build_from_the_network_and_a_training_that_goes_on(
    site: dict[str, Any],
    proxy: FaultyProxy,
    s3_root: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here, there = build(site, tmp_path / "local"), build(site, s3_root)
    assert (there["version"], there["content_digest"]) == (here["version"], here["content_digest"])
    assert there["counts"] == here["counts"] and here["counts"]["triplets"] > 20
    assert objects(s3_root) == objects(tmp_path / "local")
    assert build(site, s3_root)["shards"]["computed"] == 0

    assert train(s3_root, 3).resumed_from == 0
    before = len(proxy.asked)
    assert train(s3_root, 6).resumed_from == 3
    shards = [a for a in proxy.asked[before:] if a.method == "GET" and "/shards/" in a.path]
    assert shards == []  # the pictures are here since the first time

    check_no_credentials(s3_root, tmp_path / "cache")
    told = capfd.readouterr()
    assert not planted_in((told.out + told.err).encode())


@pytest.mark.faults
def test_what_follows_a_build(
    site: dict[str, Any], proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    local, store = tmp_path / "local", Store(s3_root)
    here, trained = build(site, local), []
    build(site, s3_root)
    check_dataset(store, "box-cars")
    assert summary(store, "box-cars")["problems"] == []
    assert "<html" in page(store, "box-cars")
    for root, name in ((local, "a"), (s3_root, "b")):
        export_dataset(Store(root), "box-cars", Store(tmp_path / name), pictures=True)
        train(root, 3)
        trained.append(train(root, 6).model)
    assert objects_of(tmp_path / "a") == objects_of(tmp_path / "b")
    assert trained[0].version == trained[1].version
    assert trained[0].info["weights"] == trained[1].info["weights"]
    [name] = names(store)
    promote(store, name, trained[1].version)

    videos = read_table(store, read_manifest(store, "box-cars"), "videos", split="train")
    gone = videos.to_pylist()[0]
    forgotten = forget_video(store, gone["video_id"])
    assert forgotten.models and forgotten.withdrawn
    assert not [path for path in store.list("media") if gone["media_sha256"] in path]
    assert not (tmp_path / "cache" / "copies" / gone["media_sha256"]).exists()
    again = build(site, s3_root)
    assert again["counts"]["videos"] == here["counts"]["videos"] - 1
    assert again["attrition"]["videos"]["forgotten"] == 1


def objects_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.faults
def test_rendered_worlds_give_the_versions_of_a_local_root(
    proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    for build_world in (lambda root: build_rendered(root, rendered__scenes=1), build_views):
        here = build_world(tmp_path / "local")
        there = build_world(s3_root)
        assert there["version"] == here["version"]
        assert there["content_digest"] == here["content_digest"]
    assert objects(s3_root) == objects(tmp_path / "local")
    # A file that is gone is rendered again.
    store = Store(s3_root)
    lost = store.list("media")[0]
    store.delete(lost)
    assert build_rendered(s3_root, rendered__scenes=1)["version"]  # type: ignore[arg-type]
    assert store.exists(lost)


@pytest.mark.faults
def test_yt_dlp_on_a_remote_root(
    site: dict[str, Any], proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    changes = {"source.kind": "youtube", "download.per_hour": 100_000}
    here = build(site, tmp_path / "local", **changes)
    there = build(site, s3_root, **changes)
    assert there["version"] == here["version"] and there["counts"]["triplets"] > 20
    assert objects(s3_root) == objects(tmp_path / "local")


@pytest.mark.faults
def test_a_model_is_measured(proxy: FaultyProxy, s3_root: str, tmp_path: Path) -> None:
    rows = []
    for root in (str(tmp_path / "local"), s3_root):
        store, dataset = world(root)  # type: ignore[arg-type]
        torch.manual_seed(0)  # the same weights
        model = publish(store, dataset)
        promote(store, *model.split("@"))
        words = [
            "--triplets",
            "12",
            "--training-steps",
            "1",
            "--metric",
            "id-score-small",
            "--json",
        ]
        done = run(["evaluate", model, "--root", root, *words])
        assert done.returncode == 0, done.stderr
        assert not planted_in((done.stdout + done.stderr).encode())
        rows.append(json.loads(done.stdout.splitlines()[-1])["rows"])
        for command in (["models", "list"], ["table"]):
            done = run([*command, "--root", root])
            assert done.returncode == 0, done.stderr
    assert [row["value"] for row in rows[0]] == [row["value"] for row in rows[1]] and rows[0]


@pytest.mark.faults
def test_a_build_and_a_training_through_a_storm(
    site: dict[str, Any], proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    here = build(site, tmp_path / "local")
    train(tmp_path / "local", 6)
    proxy.rule = every(8, *STORM)
    there = build(site, s3_root)
    train(s3_root, 4)
    train(s3_root, 6)
    assert {fault.__name__ for fault in STORM} == set(proxy.hit)
    print(f"{len(proxy.hit)} faults in {len(proxy.asked)} requests")
    proxy.rule = lambda method, path: None
    assert there["version"] == here["version"]
    assert objects(s3_root) == objects(tmp_path / "local")
    store = Store(s3_root)
    assert len(store.list("datasets/box-cars/log")) == 1  # no entry is doubled
    [name] = names(store)
    [undisturbed] = versions(Store(tmp_path / "local"), name)
    assert undisturbed in versions(store, name) and len(versions(store, name)) == 2
    check_no_credentials(s3_root, tmp_path / "cache")


@pytest.mark.faults
def test_credentials_that_expire_end_a_build_and_new_ones_go_on(
    site: dict[str, Any], proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    here = build(site, tmp_path / "local")
    expired = refuse(400, "ExpiredToken", "The provided token has expired.")
    for late in (20, 60, 100):
        since = len(proxy.asked)
        proxy.rule = lambda m, p, end=since + late: expired if len(proxy.asked) > end else None
        with pytest.raises(StoreError, match="set or renew the credentials"):
            build(site, s3_root)
    assert len(proxy.hit) >= 3
    proxy.rule = lambda method, path: None
    assert build(site, s3_root)["version"] == here["version"]
    assert objects(s3_root) == objects(tmp_path / "local")


@pytest.mark.faults
def test_two_builds_of_one_name_at_once(
    site: dict[str, Any], proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    found: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: found.append(build(site, s3_root))) for _ in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    here = build(site, tmp_path / "local")
    assert [each["version"] for each in found] == [here["version"]] * 2
    assert objects(s3_root).keys() >= objects(tmp_path / "local").keys()
    check_dataset(Store(s3_root), "box-cars")


@pytest.mark.faults
def test_a_killed_build_goes_on(
    site: dict[str, Any], proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    sets = [word for key, value in site.items() for word in ("--set", f"{key}={value}")]
    words = ["build", BOX_CARS, "--root", s3_root, "--set", "run.workers=1", *sets]
    program = [sys.executable, "-c", "from flows.cli import main; main()", *words]
    for stage in ("shards/download", "shards/detect", "shards/crop", "datasets/"):
        seen = threading.Event()

        def look(method: str, path: str, mark: str = stage, seen: Any = seen) -> None:
            if method == "PUT" and mark in path:
                seen.set()

        proxy.rule = look
        process = subprocess.Popen(program, env=os.environ.copy(), stderr=subprocess.DEVNULL)
        assert seen.wait(120)
        process.kill()
        process.wait()
    proxy.rule = lambda method, path: None
    here = build(site, tmp_path / "local")
    assert build(site, s3_root)["version"] == here["version"]
    check_dataset(Store(s3_root), "box-cars")
