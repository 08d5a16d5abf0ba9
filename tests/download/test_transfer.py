"""Transfers from a server on this machine: resumed, checked, bounded, each failure by its name."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from idpose_core.download.addresses import AddressPolicy, Deadline
from idpose_core.download.answers import Refused, retry_after_s
from idpose_core.download.cookies import cookie_headers
from idpose_core.download.partial import Note, Partial, partial_file, remove_partial
from idpose_core.download.transfer import Limits, Target, Transfer
from storage.reasons import Status, Unusable
from tests.download.server import (
    Behaviour,
    LocalServer,
    answer,
    drip,
    in_turn,
    page,
    redirect,
    silence,
    video,
)

DATA = bytes(range(256)) * 4000
LIMITS = Limits(connect_s=2, stall_s=0.5, deadline_s=5, max_bytes=2_000_000)


class Fetched:
    """What a try left behind."""

    def __init__(self, folder: Path, server: LocalServer) -> None:
        self.path = folder / "partial" / "file.part"
        self.server = server

    def transfer(self, **options: object) -> Transfer:
        policy = AddressPolicy(("127.0.0.1", self.server.port))
        return Transfer(policy, LIMITS, **options)  # type: ignore[arg-type]

    def fetch(self, path: str = "/v", **target: object) -> bytes:
        with partial_file(self.path, patience_s=1) as partial:
            self.transfer().fetch(
                Target(self.server.url(path), **target),  # type: ignore[arg-type]
                partial,
                Deadline(LIMITS.deadline_s),
            )
            return partial.path.read_bytes()

    def fails(self, path: str = "/v", **target: object) -> Unusable:
        with pytest.raises(Unusable) as caught:
            self.fetch(path, **target)
        return caught.value


@pytest.fixture
def server() -> LocalServer:
    with LocalServer() as server:
        yield server


@pytest.fixture
def one(server: LocalServer, tmp_path: Path) -> Fetched:
    return Fetched(tmp_path, server)


def test_a_file_arrives_byte_for_byte(one: Fetched, server: LocalServer) -> None:
    server.routes["/v"] = video(DATA)
    assert one.fetch() == DATA
    assert one.fetch() == DATA
    assert len(server.asked) == 1  # what is complete is not asked for again


def test_what_was_dropped_is_continued(one: Fetched, server: LocalServer) -> None:
    server.routes["/v"] = in_turn(video(DATA, stop_at=300_000), video(DATA))
    assert one.fails().status is Status.INCOMPLETE
    assert one.path.stat().st_size == 300_000
    assert one.fetch() == DATA
    assert server.asked[1].headers["range"] == "bytes=300000-"
    assert server.asked[1].headers["if-range"] == '"v1"'


@pytest.mark.parametrize(
    "second",
    [
        video(DATA[::-1], etag='"v2"'),
        video(DATA[::-1], etag='"v2"', ranges=False),
        video(DATA[:-5], etag='"v1"'),
        video(DATA[:200_000], etag='"v1"'),  # 416
    ],
)
def test_a_changed_file_is_never_continued(
    one: Fetched, server: LocalServer, second: Behaviour
) -> None:
    server.routes["/v"] = in_turn(video(DATA, stop_at=300_000), second)
    one.fails()
    for _ in range(2):
        try:
            found = one.fetch()
            break
        except Unusable as unusable:
            assert unusable.status is Status.INCOMPLETE
    assert found in (DATA[::-1], DATA[:-5], DATA[:200_000])


def test_a_server_that_ignores_the_validator_is_caught(one: Fetched, server: LocalServer) -> None:
    """It answers 206 for a file of another ETag, in spite of If-Range."""
    other = DATA[::-1]
    tail = f"bytes 300000-{len(DATA) - 1}/{len(DATA)}"
    wrong = answer(206, other[300_000:], ETag='"v2"', Content_Range=tail)
    server.routes["/v"] = in_turn(video(DATA, stop_at=300_000), wrong, video(other, etag='"v2"'))
    one.fails()
    assert one.fails().status is Status.INCOMPLETE
    assert one.path.stat().st_size == 0
    assert one.fetch() == other


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_strong_validator_it_starts_again(
    one: Fetched, server: LocalServer, etag: str | None
) -> None:
    server.routes["/v"] = in_turn(video(DATA, etag=etag, stop_at=1000), video(DATA, etag=etag))
    one.fails()
    assert one.fetch() == DATA
    assert "range" not in server.asked[1].headers


def test_the_time_of_change_is_a_validator(one: Fetched, server: LocalServer) -> None:
    when = "Tue, 24 Nov 2026 10:00:00 GMT"
    options = {"etag": None, "changed": when}
    server.routes["/v"] = in_turn(video(DATA, stop_at=1000, **options), video(DATA, **options))  # type: ignore[arg-type]
    one.fails()
    assert one.fetch() == DATA
    assert server.asked[1].headers["if-range"] == when


def test_another_variant_is_not_a_continuation(one: Fetched, server: LocalServer) -> None:
    server.routes["/v"] = video(DATA, stop_at=1000)
    server.routes["/w"] = video(DATA[::-1])
    one.fails(variant="360p")
    assert one.fetch("/w", variant="480p") == DATA[::-1]
    assert "range" not in server.asked[1].headers


def test_a_file_without_its_note_starts_again(one: Fetched, server: LocalServer) -> None:
    server.routes["/v"] = in_turn(video(DATA, stop_at=1000), video(DATA))
    one.fails()
    one.path.with_suffix(".json").write_text("{")
    assert one.fetch() == DATA


@pytest.mark.parametrize("etag", ['"v1"', None])
def test_chunks(one: Fetched, server: LocalServer, etag: str | None) -> None:
    server.routes["/v"] = video(DATA, etag=etag)
    assert one.fetch(chunk_bytes=400_000) == DATA
    asked = [asked.headers["range"] for asked in server.asked]
    assert asked == ["bytes=0-399999", "bytes=400000-799999", "bytes=800000-1199999"]


def test_a_length_that_is_not_told(one: Fetched, server: LocalServer) -> None:
    server.routes["/v"] = video(DATA, length=False)
    assert one.fetch() == DATA


@pytest.mark.parametrize(
    ("behaviour", "status", "words"),
    [
        (answer(404), Status.NOT_FOUND, "HTTP 404 Not Found"),
        (answer(410, b"taken  down\n", Content_Type="text/plain"), Status.REMOVED, "taken down"),
        (answer(451), Status.REMOVED, "451"),
        (answer(403), Status.FORBIDDEN, "403"),
        (answer(401), Status.FORBIDDEN, "401"),
        (answer(429, Retry_After="7"), Status.RATE_LIMITED, "Retry-After: 7 s"),
        (answer(503, Retry_After="7"), Status.RATE_LIMITED, "Retry-After: 7 s"),
        (answer(502, Retry_After="7"), Status.SERVER_ERROR, "Retry-After: 7 s"),
        (answer(403, Retry_After="7"), Status.FORBIDDEN, "Retry-After: 7 s"),
        (answer(503), Status.SERVER_ERROR, "503"),
        (answer(500), Status.SERVER_ERROR, "500"),
        (answer(418), Status.DOWNLOAD_FAILED, "418"),
        (answer(204), Status.DOWNLOAD_FAILED, "204"),
        (answer(304), Status.DOWNLOAD_FAILED, "304"),
        (page(), Status.NOT_A_VIDEO, "<!doctype html>"),
        (answer(200, b'  {"error": "quota"}'), Status.NOT_A_VIDEO, "quota"),
        (answer(200, b"#EXTM3U\n"), Status.NOT_A_VIDEO, "#EXTM3U"),
        (silence, Status.STALLED, "ReadTimeout"),
        (video(DATA, stop_at=5000, then=silence), Status.STALLED, "ReadTimeout"),
        (video(DATA, stop_at=5000), Status.INCOMPLETE, ""),
        (drip([b"nonsense\r\n\r\n"], 0), Status.CONNECTION_FAILED, "ProtocolError"),
        (drip([], 0), Status.CONNECTION_FAILED, ""),
        (video(bytes(2_000_001)), Status.TOO_LARGE, "2000001 bytes"),
        (video(bytes(2_000_001), length=False), Status.TOO_LARGE, "more than 2000000"),
        (answer(206, b"x"), Status.DOWNLOAD_FAILED, "without its range"),
        (redirect("/v"), Status.BAD_REDIRECT, "over 8 redirects"),
        (redirect("http://[::1/v"), Status.BAD_REDIRECT, "no web address"),
        (redirect("ftp://a.example/v"), Status.ADDRESS_REFUSED, "ftp://"),
        (redirect("file:///etc/passwd"), Status.ADDRESS_REFUSED, "file:"),
        (redirect("http://10.0.0.1/v"), Status.ADDRESS_REFUSED, "10.0.0.1"),
        (redirect("http://169.254.169.254/latest"), Status.ADDRESS_REFUSED, "169.254"),
        (redirect("http://localhost/v"), Status.ADDRESS_REFUSED, "localhost:80"),
        (redirect("http://[::1]/v"), Status.ADDRESS_REFUSED, "::1"),
        (redirect("http://[::ffff:127.0.0.1]/v"), Status.ADDRESS_REFUSED, "::ffff:127.0.0.1"),
        (redirect("http://0.0.0.0/v"), Status.ADDRESS_REFUSED, "0.0.0.0"),
        (redirect("http://2130706433/v"), Status.ADDRESS_REFUSED, "127.0.0.1"),
        (redirect("http://name.invalid/v"), Status.CONNECTION_FAILED, "name.invalid"),
    ],
)
def test_every_failure_has_its_name_and_its_words(
    one: Fetched, server: LocalServer, behaviour: Behaviour, status: Status, words: str
) -> None:
    server.routes["/v"] = behaviour
    failure = one.fails()
    assert failure.status is status, failure
    assert words in failure.detail
    if status is Status.RATE_LIMITED:
        assert isinstance(failure, Refused) and failure.retry_after_s == 7


def test_a_redirect_to_the_same_place_is_followed(one: Fetched, server: LocalServer) -> None:
    server.routes["/v"] = redirect("/elsewhere?a=1", 307)
    server.routes["/elsewhere"] = video(DATA)
    assert one.fetch() == DATA


def test_a_redirect_to_another_private_server_is_not_followed(
    one: Fetched, server: LocalServer
) -> None:
    with LocalServer() as other:
        server.routes["/v"] = redirect(other.url("/v"))
        assert one.fails().status is Status.ADDRESS_REFUSED
        assert other.asked == []


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_drip_ends_with_the_deadline(one: Fetched, server: LocalServer, part: str) -> None:
    """Each byte comes before the stall limit, the whole after the deadline."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"
    pieces = [head, b"X-A: "] if part == "headers" else [head, b"\r\n"]
    server.routes["/v"] = drip([*pieces, *[b"a"] * 100], 0.1)
    with partial_file(one.path, patience_s=1) as partial, pytest.raises(Unusable) as caught:
        one.transfer().fetch(Target(server.url("/v")), partial, deadline := Deadline(1.0))
    assert caught.value.status is Status.DOWNLOAD_TIMEOUT
    assert deadline.left == 0


def test_a_transfer_keeps_to_its_pace(one: Fetched, server: LocalServer) -> None:
    server.routes["/v"] = video(DATA)
    limits = replace(LIMITS, bytes_per_s=2 * len(DATA))
    transfer = Transfer(AddressPolicy(("127.0.0.1", server.port)), limits)
    began = time.monotonic()
    with partial_file(one.path, patience_s=1) as partial:
        transfer.fetch(Target(server.url("/v")), partial, Deadline(5))
    assert one.path.read_bytes() == DATA
    assert time.monotonic() - began >= 0.5


def test_nobody_listens(one: Fetched, server: LocalServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with partial_file(one.path, patience_s=1) as partial, pytest.raises(Unusable) as caught:
        Transfer(AddressPolicy(("127.0.0.1", port)), LIMITS).fetch(
            Target(f"http://127.0.0.1:{port}/v"), partial, Deadline(5)
        )
    assert caught.value.status is Status.CONNECTION_FAILED
    assert "refused" in caught.value.detail


def test_only_one_process_fills_a_file(one: Fetched, server: LocalServer) -> None:
    server.routes["/v"] = video(DATA)
    with partial_file(one.path, patience_s=1), pytest.raises(Unusable) as caught:
        one.fetch()
    assert caught.value.status is Status.DOWNLOAD_TIMEOUT
    assert one.fetch() == DATA


def test_who_waited_for_a_file_that_was_removed_makes_a_new_one(one: Fetched) -> None:
    found: list[Partial] = []

    def wait() -> None:
        with partial_file(one.path, patience_s=5) as partial:
            found.append(partial)
            partial.append(b"new")

    with partial_file(one.path, patience_s=1) as partial:
        partial.append(b"old")
        waiting = threading.Thread(target=wait)
        waiting.start()
        remove_partial(one.path)
    waiting.join()
    assert one.path.read_bytes() == b"new"


def test_a_note_survives(one: Fetched) -> None:
    with partial_file(one.path, patience_s=1) as partial:
        assert partial.note == Note()
        partial.describe(note := Note("v", 10, '"e"', "a.mp4"))
        assert partial.note == note


def test_cookies_go_where_they_belong(one: Fetched, server: LocalServer, tmp_path: Path) -> None:
    file = tmp_path / "cookies.txt"
    file.write_text(
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t2000000000\tsession\tsecret\n"
        ".other.example\tTRUE\t/\tFALSE\t2000000000\tother\tsecret\n"
    )
    server.routes["/v"] = video(DATA)
    with partial_file(one.path, patience_s=1) as partial:
        one.transfer(cookies=cookie_headers(file)).fetch(
            Target(server.url("/v")), partial, Deadline(5)
        )
    assert server.asked[0].headers["cookie"] == "session=secret"
    file.write_text("not cookies")
    with pytest.raises(ValueError, match="Netscape"):
        cookie_headers(file)


def test_a_given_cookie_does_not_follow_a_redirect_elsewhere(tmp_path: Path) -> None:
    """Seen from a proxy that is both places."""
    with LocalServer() as server:
        server.routes["http://one.example/v"] = redirect("http://two.example/v")
        server.routes["http://two.example/v"] = video(DATA)
        transfer = Transfer(AddressPolicy(), LIMITS, proxy=server.url())
        target = Target("http://one.example/v", headers={"Cookie": "a=1", "X-Kept": "1"})
        with partial_file(tmp_path / "p", patience_s=1) as partial:
            transfer.fetch(target, partial, Deadline(5))
            assert partial.path.read_bytes() == DATA
        first, second = server.asked
        assert first.headers["cookie"] == "a=1" and "cookie" not in second.headers
        assert second.headers["x-kept"] == "1"


def test_through_a_proxy_private_addresses_are_refused_as_well(tmp_path: Path) -> None:
    with LocalServer() as server:
        transfer = Transfer(AddressPolicy(), LIMITS, proxy=server.url())
        with (
            partial_file(tmp_path / "p", patience_s=1) as partial,
            pytest.raises(Unusable) as caught,
        ):
            transfer.fetch(Target("http://10.0.0.1/v"), partial, Deadline(5))
        assert caught.value.status is Status.ADDRESS_REFUSED
        assert server.asked == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Tue, 24 Nov 2026 10:01:00 GMT", 60.0),
        ("Tue, 24 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    now = 1_795_514_400.0  # 2026-11-24 10:00 UTC
    assert retry_after_s(text, now=now) == seconds


@pytest.mark.parametrize("place", ["/a film.mp4", "/fülm 車.mp4", "/a%20b.mp4"])
def test_redirects_with_letters_that_no_address_may_have(
    one: Fetched, server: LocalServer, place: str
) -> None:
    raw = place.encode("utf-8").decode("latin-1")  # as careless servers send it
    server.routes["/v"] = redirect(raw)
    server.otherwise = video(b"\0" * 2000)
    assert one.fetch() == b"\0" * 2000
    assert server.asked[-1].path == quote(place, safe="/%")
