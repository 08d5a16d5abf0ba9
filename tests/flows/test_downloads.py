"""Builds from the network through the command line, against a server on this machine.

Eight invented videos fail in eight ways beside the good ones: every video ends with the right
reason, crops come from the good ones, and a second run asks only for what is worth another try.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.build_dataset import build_dataset
from flows.configs import find_config
from flows.dry_run import check_room, describe, estimate
from flows.progress import TerminalProgress
from flows.steps.context import BuildError
from flows.steps.downloads import download_items, download_stage, wanted_ids
from flows.steps.sources import fetch_source
from idpose_core.config import ConfigError, parse_override
from storage.copies import media_file
from storage.datasets import latest_observation, read_manifest, read_table
from storage.objects import Store
from storage.reasons import Status
from tests.download.server import (
    LocalServer,
    answer,
    in_turn,
    page,
    redirect,
    silence,
    video,
)
from tests.flows.builds import BOX_CARS, InThisProcess, run
from tests.flows.invariants import check_dataset
from tests.flows.network import QUICK, context, invented, write_table

REASONS = {
    "fail404_aaa": "not_found",
    "fail410_aaa": "removed",
    "busy429_aaa": "rate_limited",
    "page_aaaaaa": "not_a_video",
    "circles_aaa": "bad_redirect",
    "stall_aaaaa": "stalled",
    "private_aaa": "address_refused",
}
HEALING = ("heal503_aaa", "-dropped_aa")
TRANSIENT = {"busy429_aaa", "stall_aaaaa"}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def other() -> Iterator[LocalServer]:
    with LocalServer("127.0.0.2") as other:
        yield other


def serve_failures(server: LocalServer, other: LocalServer, healing: tuple[bytes, bytes]) -> None:
    heals, drops = healing
    behaviours = {
        "fail404_aaa": answer(404),
        "fail410_aaa": answer(410),
        "busy429_aaa": answer(429, Retry_After="1"),
        "page_aaaaaa": page(),
        "circles_aaa": redirect("/v/circles_aaa.mp4?token=secret"),
        "stall_aaaaa": video(heals, stop_at=1000, then=silence),
        "private_aaa": redirect(other.url("/secret.mp4")),
        "heal503_aaa": in_turn(answer(503), answer(503), video(heals)),
        "-dropped_aa": in_turn(video(drops, stop_at=len(drops) // 2), video(drops)),
    }
    server.routes |= {f"/v/{name}.mp4": behave for name, behave in behaviours.items()}


def rows_of(table: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(table)) if row and row[0] != "youtube_id"]


def settings(server: LocalServer, table: Path, *sets: str) -> list[str]:
    return [
        "source.kind=http",
        f"source.url_template={server.url('/v/{video_id}.mp4')}?token=secret",
        "source.allow_private=true",
        f"source.annotations={table}",
        "embedder.kind=grey-pixels",
        "split=hash",
        *QUICK,
        *sets,
    ]


def build_by_command(server: LocalServer, table: Path, root: Path, *sets: str) -> dict[str, Any]:
    words = [word for pair in settings(server, table, *sets) for word in ("--set", pair)]
    done = run(["build", BOX_CARS, "--root", str(root), "--json", *words])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def build(server: LocalServer, table: Path, root: Path, *sets: str) -> dict[str, Any]:
    config = find_config(BOX_CARS, dict(map(parse_override, settings(server, table, *sets))))
    return build_dataset(config, str(root), InThisProcess(), TerminalProgress()).to_dict()


def observed(root: Path, name: str) -> dict[str, dict[str, Any]]:
    store = Store(root)
    videos = latest_observation(store, read_manifest(store, name))["videos"]
    return {row["video_id"]: row for row in videos.to_pylist()}


def check_reasons(root: Path, name: str, other: LocalServer) -> None:
    seen = observed(root, name)
    for video_id, reason in REASONS.items():
        assert seen[video_id]["status"] == reason, seen[video_id]
        assert seen[video_id]["reason_detail"]
        assert seen[video_id]["retryable"] == (video_id in TRANSIENT)
    for video_id in HEALING:
        assert seen[video_id]["media_sha256"]
    assert "Retry-After: 1 s" in seen["busy429_aaa"]["reason_detail"]
    assert other.asked == []


def asked_paths(server: LocalServer, since: int = 0) -> set[str]:
    return {asked.path.split("?")[0] for asked in server.asked[since:]}


@pytest.fixture
def cars(videos: Path, server: LocalServer, other: LocalServer) -> list[list[str]]:
    """The box cars under their ids, two of them under those that heal; returns their table."""
    rows = rows_of((videos / "annotations.csv").read_text())
    names = sorted({row[0] for row in rows})
    files = {name: (videos / f"{name}.mp4").read_bytes() for name in names}
    renamed = dict(zip(names[:2], HEALING, strict=True))
    serve_failures(server, other, (files[names[0]], files[names[1]]))
    for name in names[2:]:
        server.routes[f"/v/{name}.mp4"] = video(files[name])
    return [[renamed.get(row[0], row[0]), *row[1:]] for row in rows]


def test_eight_ways_to_fail(
    cars: list[list[str]], server: LocalServer, other: LocalServer, tmp_path: Path
) -> None:
    root, sets = tmp_path / "root", ["test_share=0.4", "pose.clusters=4"]
    failing = [row for name in REASONS for row in invented(name)]
    failing.append(["broken", "0", "23", "car", "0", "present", "9", "9", "9", "9"])
    table = write_table(tmp_path / "all.csv", [*failing, *cars])
    first = build_by_command(server, table, root, *sets)
    check_dataset(Store(root), f"box-cars@{first['version']}")
    check_reasons(root, "box-cars", other)
    seen = observed(root, "box-cars")
    assert all(seen[name]["status"] == "ok" and seen[name]["clips"] for name in HEALING)
    assert server.count("/v/heal503_aaa.mp4?token=secret") == 3
    resumed = [a for a in server.asked if "-dropped_aa" in a.path]
    assert len(resumed) == 2 and "range" in resumed[1].headers
    assert list((root / "media" / "partial").glob("*.part"))  # what stalled is kept
    assert len(list((root / "media").glob("*.mp4"))) == 10

    shown = run(["inspect", "box-cars", "--root", str(root)]).stdout
    assert "17 requested, 10 available, 10 decoded, 10 detected, 10 kept" in shown
    assert "the paper has 2,233 and 186" in shown
    assert "10 videos: generated by idpose, Apache-2.0" in shown
    assert f"{len(failing) + len(cars)} rows, 1 malformed" in shown
    [log] = (root / "logs").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["run"] for line in lines} == {log.stem}
    logged = {line["video_id"]: line for line in lines if line["stage"] == "download"}
    assert {name: logged[name]["status"] for name in REASONS} == REASONS
    assert all(line["clip_id"] and line["video_id"] for line in lines if line["stage"] == "crop")

    # A second run asks only for what is worth another try.
    before = len(server.asked)
    again = build(server, table, root, *sets, "download.tries=1")
    assert again["version"] == first["version"]
    assert asked_paths(server, before) == {f"/v/{name}.mp4" for name in TRANSIENT}
    assert again["shards"]["computed"] == 0 and again["shards"]["retried"] == 2
    stalled = [a for a in server.asked[before:] if "stall" in a.path]
    assert stalled[0].headers["range"] == "bytes=1000-"

    # What is gone from ROOT/media is fetched again, and what is final where that is asked for.
    gone = next((root / "media").glob("*.mp4"))
    gone.unlink()
    before = len(server.asked)
    once = ["download.tries=1", "download.retry=[not_found]"]
    third = build(server, table, root, *sets, *once)
    assert third["version"] == first["version"] and gone.exists()
    named = TRANSIENT | {"fail404_aaa"}
    assert len(asked_paths(server, before) - {f"/v/{name}.mp4" for name in named}) == 1
    assert server.count("/v/fail404_aaa.mp4?token=secret") == 2

    kept = [path for path in root.rglob("*") if path.is_file() and "media" not in path.parts]
    assert not any(b"token=secret" in path.read_bytes() for path in kept)


def test_genuine_rows_and_videos(
    real_data: Path, server: LocalServer, other: LocalServer, tmp_path: Path
) -> None:
    """Two videos of YouTube-BoundingBoxes and a real detector, beside the eight."""
    ytbb = real_data / "ytbb"
    genuine = rows_of((ytbb / "ytbb_subset.csv").read_text())
    names = {row[0] for row in genuine if row[3] == "car"}
    for name in names:
        server.routes[f"/v/{name}.mp4"] = video((ytbb / f"{name}.mp4").read_bytes())
    healing = ("davis_car-turn_480.mp4", "davis_red_bmw.mp4")
    clips = [(real_data / "clips" / name).read_bytes() for name in healing]
    serve_failures(server, other, (clips[0], clips[1]))
    failing = [row for name in (*REASONS, *HEALING) for row in invented(name)[:1]]
    table = write_table(tmp_path / "all.csv", [*genuine, *failing])
    root = tmp_path / "root"
    weights = real_data / "detector" / "yolox_nano.onnx"
    sets = ["detector.kind=yolox", f"detector.weights={weights}", "detector.threshold=0.4"]
    sets += ["pose.clusters=4", "name=ytbb"]
    first = build_by_command(server, table, root, *sets)
    check_reasons(root, "ytbb", other)
    seen = observed(root, "ytbb")
    assert {name for name, row in seen.items() if row["status"] == "ok"} == names
    for name in HEALING:  # fetched; that their one invented box gives no clip is as it should be
        assert seen[name]["status"] in ("no_detection", "too_few_crops")
    store = Store(root)
    crops = read_table(store, read_manifest(store, "ytbb"), "crops").to_pylist()
    assert {crop["video_id"] for crop in crops} == names
    assert len(crops) >= 20
    before = len(server.asked)
    again = build_by_command(server, table, root, *sets, "download.tries=1")
    assert again["version"] == first["version"]
    assert asked_paths(server, before) == {f"/v/{name}.mp4" for name in TRANSIENT}


def test_the_split_of_the_source(
    cars: list[list[str]], server: LocalServer, tmp_path: Path
) -> None:
    names = sorted({row[0] for row in cars})
    held_out = set(names[:4])
    train = write_table(tmp_path / "t.csv", [row for row in cars if row[0] not in held_out])
    test = write_table(tmp_path / "v.csv", [row for row in cars if row[0] in held_out])
    sets = ["split=source", f"source.test_annotations={test}", "pose.clusters=4"]
    build(server, train, tmp_path / "root", *sets)
    seen = observed(tmp_path / "root", "box-cars")
    assert {name for name, row in seen.items() if row["split"] == "test"} == held_out
    with pytest.raises(ConfigError, match=r"source\.test_annotations"):
        build(server, train, tmp_path / "root", "split=source")
    both = write_table(tmp_path / "b.csv", cars)
    with pytest.raises(ConfigError, match="would turn into training data"):
        build(server, both, tmp_path / "root", *sets)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["source.url_template=null"], "source.url_template, such as"),
        (["source.url_template=http://a.example/v.mp4"], "no {video_id}"),
        (["source.url_template=http://a.example/#{video_id}"], "no {video_id}"),
        (["source.url_template=http://{video_id}.example/{video_id}"], "no place in the host"),
        (["source.url_template=http://me:secret@a.example/{video_id}"], "credentials"),
        (["source.url_template=ftp://a.example/{video_id}"], "not an http"),
        (["source.url_template=http://a.example/ü/{video_id}"], "%XX"),
        (["download.proxy=http://me:secret@proxy:3128"], "$IDPOSE_PROXY"),
        (["download.proxy=socks5://proxy"], "no http address"),
        (["download.cookies=/nowhere/cookies.txt"], "the download stage cannot run: no cookies"),
        (["download.retry=[nonsense]"], "no reason is called 'nonsense'"),
        (["download.per_hour=0"], "download.per_hour"),
        (["download.bytes_per_second=0"], "download.bytes_per_second"),
        (["download.js_runtime=nodejs"], "download.js_runtime"),
        (["source.test_annotations=x.csv"], "needs split=source"),
    ],
)
def test_a_wrong_setup_is_one_message(sets: list[str], message: str, tmp_path: Path) -> None:
    table = write_table(tmp_path / "all.csv", invented("a"))
    words = ["source.kind=http", "source.url_template=http://a.example/{video_id}"]
    words += [
        f"source.annotations={table}",
        "detector.kind=annotations",
        "embedder.kind=grey-pixels",
    ]
    with pytest.raises(ConfigError) as caught:
        config = find_config(BOX_CARS, dict(map(parse_override, [*words, *sets])))
        build_dataset(config, str(tmp_path / "root"), InThisProcess(), TerminalProgress())
    assert message in str(caught.value) and "secret" not in str(caught.value)


def test_a_list_of_ids_stands_in_for_annotations(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("b\n\n  a \r\nb\n-c\n")
    build = context(tmp_path, f"source.path={tmp_path / 'ids.txt'}")
    assert wanted_ids(build, None) == ["-c", "a", "b"]
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")  # as an editor may save it
    assert wanted_ids(build, None) == ["a", "b"]
    (tmp_path / "ids.txt").write_text("\n")
    for path in (tmp_path / "ids.txt", tmp_path / "nothing.txt"):
        with pytest.raises(ConfigError, match=r"source\.path"):
            wanted_ids(context(tmp_path, f"source.path={path}"), None)
    with pytest.raises(ConfigError, match=r"needs source\.annotations"):
        wanted_ids(context(tmp_path), None)


def test_what_is_published_of_an_address(tmp_path: Path) -> None:
    template = "https://a.example/{video_id}/v.mp4?key=secret&v={video_id}#secret"
    [item] = download_items(context(tmp_path, f"source.url_template={template}"), ["a/é"])
    assert item.row["url"] == "https://a.example/a%2F%C3%A9/v.mp4?v=a%2F%C3%A9"
    assert item.location["url"].endswith("?key=secret&v=a%2F%C3%A9#secret")
    [item] = download_items(
        context(tmp_path, "source.kind=youtube", "source.url_template=null"), ["-b"]
    )
    assert item.row["url"] == "https://www.youtube.com/watch?v=-b"


def test_credentials_of_a_proxy_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDPOSE_PROXY", "http://me:secret@proxy.example:3128")
    build = context(tmp_path, "download.proxy=http://other.example:1")
    stage = download_stage(build)
    assert stage.manner.proxy == "http://me:secret@proxy.example:3128"
    assert "secret" not in json.dumps(build.config.model_dump(mode="json"))
    assert "download" not in build.config.identity()


def test_guests_of_youtube_keep_to_300_an_hour(tmp_path: Path) -> None:
    youtube = ["source.kind=youtube", "source.url_template=null"]
    stage = download_stage(context(tmp_path, *youtube))
    assert stage.manner.pace.per_hour == 300
    assert stage.manner.budget == "youtube"
    assert stage.manner.lookup.extractors == ("youtube",)
    assert stage.avoid == ()
    chosen = download_stage(context(tmp_path, *youtube, "download.per_hour=900", "decoder=decord"))
    assert chosen.manner.pace.per_hour == 900
    assert chosen.avoid == ("av01",)
    assert download_stage(context(tmp_path)).manner.pace.per_hour is None


def test_yt_dlp_finds_what_any_site_serves(
    videos: Path, server: LocalServer, tmp_path: Path
) -> None:
    """The real extractor for direct links, and the real process around it."""
    data = (videos / "car-000.mp4").read_bytes()
    server.routes["/watch"] = video(data)
    table = write_table(tmp_path / "all.csv", invented("abc"))
    build = context(
        tmp_path,
        "source.kind=youtube",
        f"source.url_template={server.url('/watch?v={video_id}')}",
        "source.allow_private=true",
        f"source.annotations={table}",
    )
    [found], _ = fetch_source(build)
    assert found.status is Status.OK, found
    with media_file(found.location, found.media_sha256 or "") as file:
        assert Path(file).read_bytes() == data
    assert found.source_uri == server.url("/watch?v=abc")


def test_a_dry_run_asks_nothing_and_counts_what_it_would_ask(
    videos: Path, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (videos / "car-000.mp4").read_bytes()
    server.routes["/v/a.mp4"] = video(data)
    rows = [row for name in ("a", "b", "c") for row in invented(name)]
    sets = [
        f"source.url_template={server.url('/v/{video_id}.mp4')}",
        "source.allow_private=true",
        "embedder.kind=grey-pixels",
        f"source.annotations={write_table(tmp_path / 'all.csv', rows)}",
        *QUICK,
    ]
    build = context(tmp_path, *sets, "download.per_hour=7200")
    found = estimate(build.config, build.store.root)
    assert server.asked == [] and build.store.list("") == []
    assert (found["requests"], found["request_hours"]) == (3, 3 / 7200)
    assert found["clips"] == 3 and found["hours"] == pytest.approx(6 / 3600)
    download = found["stages"][0]
    assert (download["stage"], download["rows"], download["known"]) == ("download", 3, 0)
    assert download["seconds"] == pytest.approx(1.5)  # however many processes
    assert "3 videos to ask the network for, 7200 an hour" in "\n".join(describe(found))
    check_room(found)

    fetch_source(build)
    after = estimate(build.config, build.store.root)
    assert after["requests"] == 0
    assert after["stages"][0]["bytes"] == len(data)  # what is known counts, not a guess

    class Disk:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk)
    with pytest.raises(BuildError, match="1 kB free"):
        check_room(estimate(build.config, str(tmp_path / "elsewhere")))
