"""YouTube: yt-dlp's texts, the choice of a format, and the child process against a local server."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from idpose_core.config import ConfigError
from idpose_core.download.addresses import Deadline
from idpose_core.download.answers import Refused
from idpose_core.download.youtube import Found, Lookup, check_installed, look_up_video
from idpose_core.download.youtube_format import smallest_that_serves
from idpose_core.download.youtube_reasons import classify, meaning
from storage.reasons import Status, Unusable
from tests.download.server import LocalServer, answer, redirect, silence, video

with (Path(__file__).parent / "youtube_texts.csv").open(newline="", encoding="utf-8") as file:
    TEXTS = list(csv.DictReader(file))
STUB = ("-m", "tests.download.stub_site")


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: f"{row['status']} {row['where']}")
def test_stored_texts_of_real_failures(row: dict[str, str]) -> None:
    assert classify(row["text"]) == row["status"]


def test_the_stored_texts_cover_what_must_be_told_apart() -> None:
    covered = {row["status"] for row in TEXTS}
    assert covered >= {
        "private", "removed", "unavailable", "age_restricted", "region_blocked", "members_only",
        "bot_check", "rate_limited", "live", "premiere", "download_failed",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "ERROR: ", "a text of next year", "ERROR: [youtube] abc: Überraschung", "x" * 9999]
)
def test_an_unknown_text_is_transient_and_bounded(text: str) -> None:
    status = classify(text)
    assert status is Status.DOWNLOAD_FAILED
    assert [status.retryable_after(n) for n in (1, 4, 5, 6)] == [True, True, False, False]


def test_try_again_later_is_never_dead() -> None:
    assert all(Status.RATE_LIMITED.retryable_after(n) for n in (1, 100))
    assert all(Status.BOT_CHECK.retryable_after(n) for n in (1, 100))


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("EOF occurred in violation of protocol (_ssl.c:1000)", Status.CONNECTION_FAILED),
        ("Unable to download API page: HTTP Error 404: Not Found", Status.DOWNLOAD_FAILED),
        ("Unable to download tv client config: HTTP Error 410: Gone", Status.DOWNLOAD_FAILED),
    ],
)
def test_trouble_on_the_way_is_not_taken_for_dead(said: str, status: Status) -> None:
    assert classify(f"ERROR: [youtube] abcdefghijk: {said}") is status
    assert status.retryable


def test_an_id_says_nothing() -> None:
    """An id may hold any word."""
    assert classify("ERROR: [youtube] removed-a-b: Premieres in 2 hours") is Status.PREMIERE
    assert classify("ERROR: [youtube] private-vid: Video unavailable") is Status.UNAVAILABLE


def test_the_remarks_of_yt_dlp_say_nothing() -> None:
    text = "ERROR: [youtube] x: Odd thing. Use --cookies for the authentication; private video"
    assert meaning(text) == "odd thing"


def form(name: str, height: int | None, size: int | None = None, **more: Any) -> dict[str, Any]:
    base = {"format_id": name, "url": f"https://a.example/{name}", "height": height}
    return {**base, "filesize": size, "protocol": "https", "vcodec": "avc1.4d401e", **more}


FORMATS = [
    form("sb0", 90, ext="mhtml", vcodec="none"),
    form("140", None, 10, vcodec="none"),
    form("160", 144, 1_000),
    form("134", 360, 5_000),
    form("396", 360, 3_000, vcodec="av01.0.01M.08"),
    form("18", 360, 9_000),
    form("243", 360, None, tbr=200.0, vcodec="vp9"),
    form("93", 360, 1, protocol="m3u8_native"),
    form("drm", 360, 1, has_drm=True),
    form("135", 480, 2_000),
    form("137", 1080, 90_000),
]


@pytest.mark.parametrize(
    ("min_height", "avoid", "chosen"),
    [
        (360, (), "396"),
        (360, ("av01",), "134"),
        (361, (), "135"),
        (144, (), "160"),
        (720, (), "137"),
        (2160, (), "137"),  # none has so many: the best there is
    ],
)
def test_the_smallest_format_that_serves(min_height: int, avoid: tuple[str], chosen: str) -> None:
    for order in (FORMATS, FORMATS[::-1]):
        found = smallest_that_serves(order, min_height, avoid)
        assert found is not None and found["format_id"] == chosen


def test_a_video_that_stands_upright_counts_by_its_width() -> None:
    upright = [form("a", 640, 1, width=360), form("b", 1280, 9, width=720)]
    found = smallest_that_serves(upright, 480)
    assert found is not None and found["format_id"] == "b"


def test_no_format_serves() -> None:
    assert smallest_that_serves([form("140", None, vcodec="none")], 360) is None
    assert smallest_that_serves([], 360) is None


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


def lookup(server: LocalServer, **more: Any) -> Lookup:
    options = {"extractors": ("stub-site",), "command": STUB, **more}
    return Lookup(360, private=("127.0.0.1", server.port), stall_s=2, **options)


def ask(server: LocalServer, video_id: str = "abc", seconds: float = 30, **more: Any) -> Found:
    url = server.url(f"/watch?v={video_id}")
    return look_up_video(url, lookup(server, **more), Deadline(seconds))


def fails(server: LocalServer, seconds: float = 30, **more: Any) -> Unusable:
    with pytest.raises(Unusable) as caught:
        ask(server, seconds=seconds, **more)
    return caught.value


def test_a_video_is_found_with_its_licence(server: LocalServer) -> None:
    licence = "Creative Commons Attribution license (reuse allowed)"
    told = {"formats": FORMATS, "duration": 20, "license": licence}
    server.routes["/api/abc"] = answer(200, json.dumps(told).encode())
    found = ask(server)
    assert found.target.url == "https://a.example/396"
    assert found.target.variant == "stub-site:396"
    assert (found.bytes, found.duration_s, found.licence) == (3000, 20, licence)
    assert "User-Agent" in found.target.headers
    assert server.asked[0].path == "/api/abc"


@pytest.mark.parametrize("row", TEXTS[::9], ids=lambda row: row["status"])
def test_an_error_keeps_its_words(server: LocalServer, row: dict[str, str]) -> None:
    said = meaning(row["text"])
    server.routes["/api/abc"] = answer(200, json.dumps({"error": said}).encode())
    failure = fails(server)
    assert failure.status == row["status"]
    assert said in failure.detail
    assert isinstance(failure, Refused) == (row["status"] in ("rate_limited", "bot_check"))


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"formats": FORMATS, "live_status": "is_live"}, Status.LIVE),
        ({"formats": FORMATS, "live_status": "is_upcoming"}, Status.LIVE),
        ({"formats": FORMATS[:2]}, Status.NO_FORMAT),
        ({"_type": "playlist", "entries": []}, Status.DOWNLOAD_FAILED),
    ],
)
def test_what_is_no_video_to_fetch(
    server: LocalServer, told: dict[str, Any], status: Status
) -> None:
    server.routes["/api/abc"] = answer(200, json.dumps(told).encode())
    assert fails(server).status is status


def test_no_format_after_a_warning_is_not_final(server: LocalServer) -> None:
    """yt-dlp only warns where no JavaScript runtime solved the site's puzzle."""
    warning = "n challenge solving failed: Some formats may be missing"
    told = {"formats": FORMATS[:2], "warnings": [warning]}
    server.routes["/api/abc"] = answer(200, json.dumps(told).encode())
    failure = fails(server)
    assert failure.status is Status.DOWNLOAD_FAILED
    assert warning in failure.detail and "format is not available" in failure.detail


@pytest.mark.parametrize("runtime", ["deno:/nowhere/deno", "node:/etc/passwd"])
def test_a_runtime_that_is_not_there_is_told_before_anything_is_asked(runtime: str) -> None:
    with pytest.raises(ConfigError, match="js_runtime"):
        check_installed(Lookup(js_runtime=runtime))
    check_installed(Lookup(js_runtime=f"node:{sys.executable}"))


@pytest.mark.parametrize(
    ("code", "status"),
    [(404, Status.NOT_FOUND), (429, Status.RATE_LIMITED), (503, Status.SERVER_ERROR)],
)
def test_answers_of_the_site_itself(server: LocalServer, code: int, status: Status) -> None:
    server.routes["/api/abc"] = answer(code)
    assert fails(server).status is status


def test_the_site_falls_silent(server: LocalServer) -> None:
    server.routes["/api/abc"] = silence
    assert fails(server).status is Status.CONNECTION_FAILED
    began = time.monotonic()
    assert fails(server, seconds=1.0).status is Status.DOWNLOAD_TIMEOUT
    assert time.monotonic() - began < 5


def test_yt_dlp_cannot_be_led_to_a_private_address(server: LocalServer) -> None:
    with LocalServer() as other:
        server.routes["/api/abc"] = redirect(other.url("/secret"))
        failure = fails(server)
        assert failure.status is Status.ADDRESS_REFUSED, failure
        assert other.asked == []


def test_without_leave_not_even_the_site_itself(server: LocalServer) -> None:
    url = server.url("/watch?v=abc")
    with pytest.raises(Unusable) as caught:
        look_up_video(url, Lookup(360, command=STUB, extractors=("stub-site",)), Deadline(30))
    assert caught.value.status is Status.ADDRESS_REFUSED
    assert server.asked == []


def test_only_the_named_extractors_are_used(server: LocalServer) -> None:
    server.routes["/watch"] = video(b"\0" * 100)
    command = ("-m", "idpose_core.download.youtube_process")
    failure = fails(server, extractors=("youtube",), command=command)
    assert failure.status is Status.DOWNLOAD_FAILED
    assert "Unsupported URL" in failure.detail or "No suitable extractor" in failure.detail
    assert server.asked == []


def test_the_generic_extractor_finds_a_direct_link(server: LocalServer) -> None:
    """The real process and a real extractor of yt-dlp."""
    server.routes["/watch"] = answer(200, b"\0" * 2000, Content_Type="video/mp4")
    command = ("-m", "idpose_core.download.youtube_process")
    found = ask(server, extractors=("generic",), command=command)
    assert found.target.url == server.url("/watch?v=abc")
    assert found.target.variant.startswith("generic:")


def test_cookies_reach_the_site_and_the_file(server: LocalServer, tmp_path: Path) -> None:
    file = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t2000000000\tsession\tsecret\n"
    file.write_text(text)
    media = form("18", 360, 9, url=server.url("/media"))
    server.routes["/api/abc"] = answer(200, json.dumps({"formats": [media]}).encode())
    found = ask(server, cookies=str(file))
    assert "session=secret" in server.asked[0].headers["cookie"]
    assert found.target.headers["Cookie"] == "session=secret"
    assert file.read_text() == text  # never written back


def test_the_settings_reach_yt_dlp(server: LocalServer, tmp_path: Path) -> None:
    chosen = {"proxy": "http://127.0.0.1:3128", "js_runtime": "node:/opt/node", "sleep_s": 1.5}
    found = ask(server, "options", cache=str(tmp_path), **chosen)
    assert found.licence is not None
    assert json.loads(found.licence) == {
        "proxy": "http://127.0.0.1:3128",
        "js_runtimes": {"node": {"path": "/opt/node"}},
        "sleep_interval_requests": 1.5,
        "socket_timeout": 2,
        "cachedir": str(tmp_path),
    }


def test_a_process_that_says_nothing(server: LocalServer) -> None:
    failure = fails(server, command=("-c", "import sys; sys.exit('no memory')"))
    assert failure.status is Status.DOWNLOAD_FAILED
    assert "no memory" in failure.detail


def ask_in_vain(code: str) -> None:
    look_up_video("http://a.example", Lookup(360, command=("-c", code)), Deadline(60))


def test_it_does_not_outlive_who_asked(tmp_path: Path) -> None:
    """A worker that is killed leaves no yt-dlp behind."""
    note = tmp_path / "pid"
    code = (
        "import os, sys, time\n"
        "from idpose_core.processes import die_with\n"
        "die_with(int(sys.argv[1]))\n"
        f"open({str(note)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    asking = multiprocessing.get_context("spawn").Process(target=ask_in_vain, args=(code,))
    asking.start()
    while not (note.exists() and note.read_text()):
        time.sleep(0.02)
    child = int(note.read_text())
    asking.kill()
    asking.join()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("yt-dlp's process lives on")
