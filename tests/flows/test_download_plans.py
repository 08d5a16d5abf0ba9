"""What a build and its dry run make of what they know: asked again, told apart, counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.build_dataset import build_dataset
from flows.dry_run import describe, estimate
from flows.progress import TerminalProgress
from flows.steps.context import Context
from flows.steps.downloads import download_items, download_stage
from flows.steps.sources import fetch_source
from idpose_core.download.budget import Budget
from storage.reasons import Status
from tests.download.server import Behaviour, LocalServer, answer, redirect, video
from tests.flows.builds import InThisProcess
from tests.flows.network import QUICK, context, invented, write_table

UNTOLD = video(bytes(9000), length=False)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def data(videos: Path) -> bytes:
    return (videos / "car-000.mp4").read_bytes()


def from_server(server: LocalServer, folder: Path, names: str, *sets: str) -> Context:
    rows = [row for name in names for row in invented(name)]
    return context(
        folder,
        f"source.url_template={server.url('/v/{video_id}.mp4')}",
        "source.allow_private=true",
        "embedder.kind=grey-pixels",
        f"source.annotations={write_table(folder / 'all.csv', rows)}",
        *QUICK,
        *sets,
    )


def fetched(server: LocalServer, folder: Path, *sets: str) -> tuple[Status, str, int]:
    """How the video ``a`` ends, why, and how often the server was asked."""
    before = len(server.asked)
    [[found], _] = fetch_source(from_server(server, folder, "a", *sets))
    return found.status, found.detail or "", len(server.asked) - before


@pytest.mark.parametrize(
    ("refusing", "allowing", "length", "reason"),
    [
        ("source.allow_private=false", "source.allow_private=true", True, "address_refused"),
        ("download.max_seconds=1", "download.max_seconds=3", True, "too_long"),
        ("download.max_bytes=1000", "download.max_bytes=1000000", True, "too_large"),
        ("download.max_bytes=1000", "download.max_bytes=1000000", False, "too_large"),
    ],
)
def test_what_a_limit_refused_is_asked_for_when_it_is_no_more(
    refusing: str,
    allowing: str,
    length: bool,
    reason: str,
    data: bytes,
    server: LocalServer,
    tmp_path: Path,
) -> None:
    server.routes["/v/a.mp4"] = video(data, length=length)
    assert fetched(server, tmp_path, refusing)[0].value == reason
    assert fetched(server, tmp_path, refusing)[2] == 0
    assert estimate_of(server, tmp_path, allowing)["requests"] == 1
    assert fetched(server, tmp_path, allowing) == (Status.OK, "", 1)
    assert fetched(server, tmp_path, allowing)[2] == 0


def estimate_of(server: LocalServer, folder: Path, *sets: str) -> dict[str, float]:
    build = from_server(server, folder, "a", *sets)
    return estimate(build.config, build.store.root)


@pytest.mark.parametrize(
    ("behave", "sets", "asked"),
    [
        # Known to be too much for the new limit as well
        (video(bytes(9000)), ("download.max_bytes=1000", "download.max_bytes=2000"), 0),
        # Not known, so that it has to be tried, once
        (UNTOLD, ("download.max_bytes=1000", "download.max_bytes=2000"), 1),
        (UNTOLD, ("download.max_bytes=2000", "download.max_bytes=1000"), 0),
        (redirect("http://127.0.0.2:9/a"), ("download.tries=1", "source.allow_private=true"), 0),
    ],
)
def test_what_is_refused_again_is_not_asked_for_again_and_again(
    behave: Behaviour, sets: tuple[str, str], asked: int, server: LocalServer, tmp_path: Path
) -> None:
    server.routes["/v/a.mp4"] = behave
    before, after = sets
    first = fetched(server, tmp_path, before)
    assert first[0] in (Status.TOO_LARGE, Status.ADDRESS_REFUSED) and first[2] == 1
    assert fetched(server, tmp_path, after)[::2] == (first[0], asked)
    assert fetched(server, tmp_path, after)[::2] == (first[0], 0)


def test_templates_that_differ_in_their_query_are_two_sources(tmp_path: Path) -> None:
    def asked(query: str) -> tuple[str, str]:
        build = context(tmp_path, f"source.url_template=https://a.example/get?{query}")
        [item] = download_items(build, ["a"])
        return download_stage(build).key(item.row), item.row["url"]

    cars, buses = asked("set=cars&v={video_id}"), asked("set=buses&v={video_id}")
    assert cars[0] != buses[0] and cars[1] != buses[1]
    assert cars == asked("v={video_id}&set=cars")
    assert asked("v={video_id}")[1] == "https://a.example/get?v=a"
    for _, url in (cars, buses):  # nobody knows which values are secret
        assert url.startswith("https://a.example/get?v=a#query-") and "cars" not in url
    for name in (
        "token", "access_token", "key", "api-key", "apikey", "sig", "signature", "auth",
        "password", "X-Amz-Date", "X-Goog-Expires", "Key-Pair-Id", "Policy", "Expires",
    ):  # fmt: skip
        assert asked(f"set=cars&v={{video_id}}&{name}=secret") == cars, name
    for name in ("keyword", "author", "design", "passage", "tokyo", "flag"):
        assert asked(f"set=cars&v={{video_id}}&{name}=") != cars, name


def test_a_dry_run_counts_every_request_and_the_pause(
    data: bytes, server: LocalServer, tmp_path: Path
) -> None:
    server.routes |= {"/v/a.mp4": video(data), "/v/b.mp4": video(data), "/v/c.mp4": answer(404)}
    build = from_server(server, tmp_path, "abc")
    fetch_source(build)
    assert estimate(build.config, build.store.root)["requests"] == 0

    [media] = (tmp_path / "root" / "media").glob("*.mp4")
    media.unlink()
    manner = download_stage(build).manner
    budget = tmp_path / "root" / "budgets" / f"{manner.budget}.json"
    Budget(budget, manner.pace).refused(7200)
    build = from_server(server, tmp_path, "abc", "download.retry=[not_found]")
    found = estimate(build.config, build.store.root)
    assert found["requests"] == 3
    assert found["stages"][0]["known"] == 0
    assert found["pause_hours"] == pytest.approx(2, abs=0.1)
    assert "left alone for 2.0 h more" in "\n".join(describe(found))


def needed_by(build: Context, root: Path) -> int:
    needed: int = estimate(build.config, str(root))["disk"]["needed_bytes"]
    return needed


def test_what_another_dataset_has_on_the_disk_is_not_what_a_build_has_done(
    videos: Path, data: bytes, server: LocalServer, tmp_path: Path
) -> None:
    def folder(source: Path) -> Context:
        words = [f"source.path={source}", f"source.annotations={videos / 'annotations.csv'}"]
        sets = ["source.kind=folder", "embedder.kind=grey-pixels", "pose.clusters=4"]
        return context(tmp_path, *sets, "source.url_template=null", "test_share=0.4", *words)

    root, network = tmp_path / "root", from_server(server, tmp_path, "ab")
    before = needed_by(folder(videos), root), needed_by(network, root)
    build_dataset(folder(videos).config, str(root), InThisProcess(), TerminalProgress())
    (root / "media").mkdir(exist_ok=True)
    (root / "media" / "other.mp4").write_bytes(bytes(10_000_000))

    # The other build needs what it needed, and the same build less by what is there of it.
    assert needed_by(network, root) == before[1]
    crops = sum(path.stat().st_size for path in (root / "shards" / "crop").iterdir())
    assert 0 < needed_by(folder(videos), root) <= before[0] - crops

    server.routes["/v/a.mp4"] = video(data + b"\0\0\0\x08free")  # of which nothing is known
    fetch_source(network)
    assert needed_by(network, root) == before[1] - 2 * 12_000_000  # b is not there: 404
