"""Forgetting a video: nothing of it stays, the rest is as it was, and no build takes it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.build_dataset import build_dataset
from flows.configs import find_config
from flows.progress import TerminalProgress
from idpose_core.config import parse_override
from storage.datasets import latest_observation, read_manifest, read_table
from storage.errors import DatasetError
from storage.forget import Forgotten, forget_video
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from tests.download.server import LocalServer, video
from tests.flows.builds import BOX_CARS, InThisProcess, run
from tests.flows.builds import settings as folder_settings
from tests.flows.invariants import check_dataset
from tests.flows.test_downloads import build as build_from
from tests.flows.test_downloads import rows_of, write_table
from tests.training.tiny import set_options


def build(videos: Path, root: Path, *sets: str) -> dict[str, Any]:
    words = folder_settings(videos, sets)[1::2]
    config = find_config(BOX_CARS, dict(map(parse_override, words)))
    return build_dataset(config, str(root), InThisProcess(), TerminalProgress()).to_dict()


@pytest.fixture
def root(built: tuple[dict[str, Any], Path], tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(built[1], copy)
    return copy


def training_video(store: Store, name: str = "box-cars") -> dict[str, Any]:
    videos = read_table(store, read_manifest(store, name), "videos", split="train").to_pylist()
    return next(video for video in videos if video["clips"])


def crops_of(store: Store, video_id: str, name: str = "box-cars") -> set[str]:
    crops = read_table(store, read_manifest(store, name), "crops").to_pylist()
    return {crop["crop_id"] for crop in crops if crop["video_id"] == video_id}


def left_of(root: Path, words: set[str]) -> list[str]:
    """The files of a root in which one of the words stands, Parquet looked into."""
    found = []
    for path in root.rglob("*"):
        if not path.is_file():
            continue
        text = str(path.relative_to(root))
        if path.suffix == ".parquet":
            for row in from_parquet(path.read_bytes()).to_pylist():
                plain = {k: v for k, v in row.items() if k not in ("image", "mask", "feature")}
                text += json.dumps(plain, default=str)
        else:
            text += path.read_bytes().decode("latin-1")
        if any(word in text for word in words):
            found.append(str(path.relative_to(root)))
    return found


def test_nothing_of_it_stays_and_the_rest_is_reused(
    videos: Path, built: tuple[dict[str, Any], Path], root: Path, tmp_path: Path
) -> None:
    store = Store(root)
    forgotten = training_video(store)
    crops = crops_of(store, forgotten["video_id"])
    assert crops
    done = run(["forget", forgotten["video_id"], "--root", str(root), "--json"])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["withdrawn"] == [f"box-cars@{built[0]['version']}"]
    assert report["shards"] >= 6 and report["results"] >= 1 and not report["unknown"]
    tombstone = f"forgotten/media/{forgotten['media_sha256']}.json"
    assert left_of(root, {forgotten["video_id"], *crops}) == [tombstone]

    shown = run(["inspect", "box-cars", "--root", str(root)])
    assert shown.returncode == 1 and "was withdrawn" in shown.stderr

    again = build(videos, root)
    assert again["shards"]["computed"] == 1  # the folder is looked at, and that is all
    check_dataset(store, "box-cars")
    rows = latest_observation(store, read_manifest(store, "box-cars"))["videos"].to_pylist()
    statuses = {row["source_uri"]: row["status"] for row in rows}
    assert statuses.pop(forgotten["source_uri"]) == "forgotten"
    assert set(statuses.values()) == {"ok"}

    without = tmp_path / "without"
    shutil.copytree(videos, without)
    (without / forgotten["source_uri"]).unlink()
    assert build(without, tmp_path / "fresh")["version"] == again["version"]

    # The same call again finds nothing to do, and leaves the new version alone.
    second = forget_video(store, forgotten["video_id"])
    assert (second.shards, second.to_rebuild, second.unknown) == (1, [], [])  # of the folder's look
    assert build(videos, root)["version"] == again["version"]


def test_a_version_that_shared_a_shard_comes_back_as_it_was(
    videos: Path, root: Path, tmp_path: Path
) -> None:
    store = Store(root)
    forgotten = training_video(store)
    without = tmp_path / "without"
    shutil.copytree(videos, without)
    (without / forgotten["source_uri"]).unlink()
    other = build(without, root, "name=other")
    before = read_manifest(store, "other")
    found = forget_video(store, forgotten["video_id"])
    assert found.to_rebuild == [f"other@{other['version']}"]
    with pytest.raises(DatasetError, match="was withdrawn"):
        read_manifest(store, "other")
    again = build(without, root, "name=other")
    assert again["version"] == other["version"]
    after = read_manifest(store, f"other@{again['version']}")
    assert after["content_digest"] == before["content_digest"]
    assert after["tables"]["pictures"] != before["tables"]["pictures"]
    assert run(["inspect", "other", "--root", str(root)]).returncode == 0


def test_models_runs_and_evaluation_sets(root: Path) -> None:
    store = Store(root)
    version = read_manifest(store, "box-cars")["version"]
    forgotten = training_video(store)
    for name, dataset in (("a", "box-cars"), ("b", "other")):
        info = {"name": name, "version": "1", "dataset": {"name": dataset, "version": version}}
        store.publish(f"models/{name}/1/model.json", json.dumps(info).encode())
        config = {"dataset": f"{dataset}@{version}"}
        store.publish(f"runs/run-{name}/config.json", json.dumps(config).encode())
        shown = forgotten["video_id"] if name == "a" else "another"
        table = to_parquet(pa.table({"video_id": [shown], "crop_id": ["x"]}))
        store.publish(f"evaluation-sets/set-{name}/pictures-00000.parquet", table)
        store.publish(f"evaluation-sets/set-{name}/set.json", b"{}")
    store.publish("models/broken/1/model.json", b"not JSON")
    log = [{"video_id": forgotten["video_id"]}, {"video_id": "another"}]
    text = "".join(json.dumps(line) + "\n" for line in log)
    store.publish("logs/x.jsonl", text.encode())

    found = forget_video(store, forgotten["video_id"], "asked by its uploader")
    assert found.models == ["a@1"] and found.runs == ["run-a"]
    assert found.evaluation_sets == ["set-a"]
    assert store.list("evaluation-sets/set-a") == ["evaluation-sets/set-a/withdrawn/00000001.json"]
    assert len(store.list("evaluation-sets/set-b")) == 2
    assert json.loads(store.read("logs/x.jsonl")) == {"video_id": "another"}
    entry = json.loads(store.read(f"datasets/box-cars/{version}/withdrawn/00000001.json"))
    assert entry["reason"] == "asked by its uploader"
    assert entry["manifest"]["config"]["classes"] == ["car"]
    # A video of a version that was withdrawn before: its models are still known.
    other = forget_video(store, read_table_of_the_past(entry))
    assert other.models == []


def test_a_model_that_was_trained_on_it_says_so(root: Path) -> None:
    """Trained for two steps by the command line, on the built dataset."""
    store = Store(root)
    forgotten = training_video(store)
    small = set_options(training__steps=2, training__batch_size=2)
    trained = run(["train", "box-cars", "--root", str(root), "--json", *small])
    assert trained.returncode == 0, trained.stderr
    model = json.loads(trained.stdout.splitlines()[-1])["model"]
    before = run(["models", "list", "--root", str(root), "--json"])
    [info] = json.loads(before.stdout.splitlines()[-1])["models"]
    assert info["dataset"]["withdrawn_at"] is None

    done = run(["forget", forgotten["video_id"], "--root", str(root), "--json"])
    assert json.loads(done.stdout.splitlines()[-1])["models"] == [model]
    again = run(["forget", forgotten["video_id"], "--root", str(root)])
    assert f"trained on it: model {model}" in again.stdout + again.stderr
    after = run(["models", "list", "--root", str(root)])
    told = " ".join((after.stdout + after.stderr).split())
    assert model in told and "trained on a video that was forgotten" in told
    shown = run(["models", "show", model, "--root", str(root)])
    assert "withdrawn_at: '20" in shown.stdout


def read_table_of_the_past(entry: dict[str, Any]) -> str:
    assert len(entry["videos"]) == 10
    return "a video that was never there"


@pytest.mark.parametrize("survives", range(0, 30, 6))
def test_killed_anywhere_the_same_call_ends_it(
    videos: Path, root: Path, survives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies before its n-th change of the root."""
    store, calls = Store(root), 0
    forgotten = training_video(store)
    words = {forgotten["video_id"], *crops_of(store, forgotten["video_id"])}

    def mortal(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*rest: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > survives:
                raise KeyboardInterrupt
            return change(*rest)

        return call

    with monkeypatch.context() as patched:
        for name in ("publish", "replace", "delete"):
            patched.setattr(Store, name, mortal(getattr(Store, name)))
        try:
            forget_video(store, forgotten["video_id"])
        except KeyboardInterrupt:
            assert survives < 30
    found: Forgotten = forget_video(store, forgotten["video_id"])
    assert found.withdrawn
    assert left_of(root, words) == [f"forgotten/media/{forgotten['media_sha256']}.json"]


def test_a_video_of_the_network_is_not_asked_for_again(videos: Path, tmp_path: Path) -> None:
    rows = rows_of((videos / "annotations.csv").read_text())
    names = sorted({row[0] for row in rows})
    with LocalServer() as server:
        for name in names:
            server.routes[f"/v/{name}.mp4"] = video((videos / f"{name}.mp4").read_bytes())
        root, sets = tmp_path / "root", ["test_share=0.4", "pose.clusters=4"]
        table = write_table(tmp_path / "all.csv", rows)
        build_from(server, table, root, *sets)
        store = Store(root)
        name = training_video(store)["video_id"]
        words = {name, *crops_of(store, name)}
        found = forget_video(store, name)
        assert len(found.media) == 1
        assert left_of(root, words) == []
        assert len(list((root / "media").glob("*.mp4"))) == len(names) - 1

        # Neither by its id nor, uploaded again, by its bytes.
        again = [["uploaded-again", *row[1:]] for row in rows if row[0] == name]
        server.routes["/v/uploaded-again.mp4"] = server.routes[f"/v/{name}.mp4"]
        before = len(server.asked)
        build_from(server, write_table(table, [*rows, *again]), root, *sets)
        assert {a.path.split("?")[0] for a in server.asked[before:]} == {"/v/uploaded-again.mp4"}
        seen = latest_observation(store, read_manifest(store, "box-cars"))["videos"].to_pylist()
        statuses = {row["video_id"]: row["status"] for row in seen}
        assert statuses[name] == statuses["uploaded-again"] == "forgotten"
        assert len(list((root / "media").glob("*.mp4"))) == len(names) - 1
        before = len(server.asked)
        build_from(server, table, root, *sets)
        assert server.asked[before:] == []


def test_a_build_that_began_before_is_not_committed(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    from flows import build_dataset as module

    publish = module.publish

    def late(*rest: Any) -> Any:
        build, records = rest[0], rest[1]
        forget_video(build.store, next(v.video_id for v in records if v.split == "train"))
        return publish(*rest)

    monkeypatch.setattr(module, "publish", late)
    with pytest.raises(DatasetError, match="forgotten while this build ran"):
        build(videos, root)
    monkeypatch.undo()
    assert build(videos, root)["counts"]["videos"] == 9


@pytest.mark.parametrize("video_id", ["nothing", "-dash", "../../x", "a b\n", "ü"])
def test_what_was_never_here_gets_its_tombstone(video_id: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    found = forget_video(store, video_id)
    assert (found.media, found.withdrawn, found.shards) == ([], [], 0)
    [tombstone] = store.list("")
    assert tombstone.startswith("forgotten/videos/")
