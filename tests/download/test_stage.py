"""The download stage: tries and waits, what is kept through kills, and rows for every failure."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from idpose_core.download.budget import Pace
from idpose_core.download.partial import remove_partial
from idpose_core.download.transfer import Limits
from idpose_core.download.youtube import Lookup
from idpose_core.stages.download import DownloadVideos, Manner, check_id, partial_path
from storage.objects import Store
from storage.reasons import Status, Unusable
from storage.shards import Item, Outcome, collect_outcomes, compute_shard, plan_stage, read_rows
from tests.download.server import (
    Behaviour,
    LocalServer,
    answer,
    in_turn,
    page,
    redirect,
    silence,
    video,
)
from tests.download.test_youtube import STUB, form
from tests.video.make_videos import numbered_frames, write_sound, write_video


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "v.mp4"
    front = {"movflags": "faststart"}
    return write_video(path, numbered_frames(20), fps=10, container_options=front).read_bytes()


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


class World:
    """A root, a server, and a stage that is in a hurry."""

    def __init__(self, root: Path, server: LocalServer) -> None:
        self.store = Store(root)
        self.server = server
        limits = Limits(connect_s=2, stall_s=0.5, deadline_s=5, max_bytes=1_000_000)
        manner = Manner(limits, Pace(None, pause_s=0.2), backoff_s=0.01, tries=3)
        self.stage = DownloadVideos("http", replace(manner, private=("127.0.0.1", server.port)))

    def manner(self, **changes: Any) -> None:
        self.stage = replace(self.stage, manner=replace(self.stage.manner, **changes))

    def item(self, name: str) -> Item:
        url = self.server.url(f"/{name}")
        place = {"root": self.store.location, "url": url}
        return Item({"video_id": name, "url": url}, place, {"video_id": name})

    def fetch(self, name: str = "v") -> dict[str, Any]:
        item = self.item(name)
        [row] = self.stage.compute(item.row, item.location)
        return dict(row)

    def fails(self, name: str = "v") -> Unusable:
        with pytest.raises(Unusable) as caught:
            self.fetch(name)
        return caught.value

    def build(self, names: Sequence[str]) -> tuple[list[Outcome], dict[str, int]]:
        plan = plan_stage(self.store, self.stage, [self.item(name) for name in names])
        written = [compute_shard(self.store, self.stage, tasks) for tasks in plan.todo]
        return collect_outcomes(self.store, plan, written), plan.counts

    @property
    def partial(self) -> Path:
        return partial_path(self.store, self.item("v").row)

    def media(self) -> list[str]:
        return [path for path in self.store.list("media") if not path.startswith("media/partial")]


@pytest.fixture
def world(tmp_path: Path, server: LocalServer) -> World:
    return World(tmp_path / "root", server)


def test_a_video_is_fetched_under_the_digest_of_its_bytes(
    world: World, server: LocalServer, film: bytes
) -> None:
    server.routes["/v"] = video(film)
    row = world.fetch()
    assert world.media() == [f"media/{row['media_sha256']}.mp4"]
    assert world.store.read(world.media()[0]) == film
    assert (row["bytes"], row["duration_ms"], row["width"]) == (len(film), 2000, 192)


def test_what_heals_is_healed_within_one_build(
    world: World, server: LocalServer, film: bytes
) -> None:
    server.routes["/v"] = in_turn(answer(503), answer(503), video(film))
    assert world.fetch()["bytes"] == len(film)
    server.routes["/w"] = in_turn(video(film, stop_at=2000), video(film))
    assert world.fetch("w")["bytes"] == len(film)
    assert server.asked[-1].headers["range"] == "bytes=2000-"
    assert len(world.media()) == 1  # the same bytes once


def test_tries_are_bounded(world: World, server: LocalServer) -> None:
    server.routes["/v"] = answer(503)
    assert world.fails().status is Status.SERVER_ERROR
    assert len(server.asked) == 3


def test_tries_that_bring_something_do_not_count(
    world: World, server: LocalServer, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idpose_core.stages.download._PROGRESS", 1000)
    server.routes["/v"] = in_turn(
        *[video(film, stop_at=1000 * n) for n in range(1, 7)], video(film)
    )
    assert world.fetch()["bytes"] == len(film)


def test_a_final_answer_is_not_asked_for_twice(world: World, server: LocalServer) -> None:
    server.routes["/v"] = answer(410)
    assert world.fails().status is Status.REMOVED
    assert len(server.asked) == 1


def test_retry_after_is_waited_for(world: World, server: LocalServer, film: bytes) -> None:
    server.routes["/v"] = in_turn(answer(429, Retry_After="1"), video(film))
    world.fetch()
    first, second = server.asked
    assert second.at - first.at >= 1.0


def test_a_wait_beyond_all_patience_is_a_row(world: World, server: LocalServer) -> None:
    server.routes["/v"] = answer(429, Retry_After="86400")
    failure = world.fails()
    assert failure.status is Status.RATE_LIMITED and "not asked" in failure.detail
    assert len(server.asked) == 1
    assert world.fails("w").status is Status.RATE_LIMITED  # nor is anything else of this source
    assert len(server.asked) == 1


def test_what_is_no_video_leaves_nothing(world: World, server: LocalServer) -> None:
    server.routes["/v"] = page()
    assert world.fails().status is Status.NOT_A_VIDEO
    assert world.store.list("media") == []
    server.routes["/v"] = video(b"\x00" * 5000)
    assert world.fails().status is Status.NOT_A_VIDEO
    assert world.store.list("media") == []


def test_sound_and_long_videos_are_refused(
    world: World, server: LocalServer, film: bytes, tmp_path: Path
) -> None:
    server.routes["/v"] = video(write_sound(tmp_path / "s.mp4").read_bytes())
    assert world.fails().status is Status.NO_VIDEO_STREAM
    server.routes["/v"] = video(film)
    world.manner(max_seconds=1.5)
    assert world.fails().status is Status.TOO_LONG
    assert world.store.list("media") == []


def test_what_was_fetched_before_a_kill_is_not_fetched_again(
    world: World, server: LocalServer, film: bytes
) -> None:
    """The shard was never written; the file and its note are there."""
    server.routes["/v"] = video(film)
    first = world.fetch()
    assert world.fetch() == first
    assert len(server.asked) == 1
    remove_partial(world.partial)  # as a build does once its shards are there
    assert world.fetch() == first
    assert len(server.asked) == 2


@pytest.mark.parametrize("point", ["sync", "file_sha256", "publish_file", "published", "unlink"])
def test_a_kill_anywhere_around_publication_loses_nothing(
    world: World, server: LocalServer, film: bytes, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/v"] = video(film)
    pid = os.fork()
    if pid == 0:
        where = {
            "sync": "idpose_core.download.partial.Partial.sync",
            "file_sha256": "idpose_core.stages.download.file_sha256",
            "publish_file": "storage.objects.Store.publish_file",
            "published": "storage.objects._sync_folder",
            "unlink": "pathlib.Path.unlink",
        }[point]
        monkeypatch.setattr(where, lambda *rest, **more: os.kill(os.getpid(), 9))
        try:
            world.fetch()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 9
    assert world.fetch()["bytes"] == len(film)
    assert [world.store.read(path) for path in world.media()] == [film]
    assert len(server.asked) == 1  # all of it was there


def test_two_who_want_one_video_fetch_it_once(
    world: World, server: LocalServer, film: bytes
) -> None:
    server.routes["/v"] = video(film)
    world.manner(limits=replace(world.stage.manner.limits, stall_s=60, deadline_s=60))
    rows: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: rows.append(world.fetch())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 4 and all(row == rows[0] for row in rows)
    assert len(server.asked) == 1


FAILURES: dict[str, tuple[Behaviour, Status]] = {
    "missing": (answer(404), Status.NOT_FOUND),
    "gone": (answer(410), Status.REMOVED),
    "busy": (answer(429, Retry_After="0"), Status.RATE_LIMITED),
    "page": (page(), Status.NOT_A_VIDEO),
    "silent": (silence, Status.STALLED),
    "private": (redirect("http://10.0.0.1/"), Status.ADDRESS_REFUSED),
    "odd": (answer(418), Status.DOWNLOAD_FAILED),
}


def test_every_video_has_its_row_and_only_some_are_tried_again(
    world: World, server: LocalServer, film: bytes
) -> None:
    world.manner(tries=1)
    server.routes |= {f"/{name}": behave for name, (behave, _) in FAILURES.items()}
    server.routes["/good"] = video(film)
    names = ["good", *FAILURES]
    outcomes, counts = world.build(names)
    assert counts == {"computed": 1, "reused": 0, "retried": 0}
    found = dict(zip(names, outcomes, strict=True))
    for name, (_, status) in FAILURES.items():
        assert found[name].status is status
        assert found[name].detail
    before = len(server.asked)
    server.routes["/busy"] = video(film)
    again, _ = world.build(names)
    assert {asked.path for asked in server.asked[before:]} == {"/busy", "/silent", "/odd"}
    found = dict(zip(names, again, strict=True))
    assert found["busy"].status is Status.OK
    assert (found["good"].attempt, found["missing"].attempt, found["odd"].attempt) == (1, 1, 2)


def test_what_is_tried_again_does_not_hold_up_the_source(
    world: World, server: LocalServer, film: bytes
) -> None:
    """Many that fail again in a row are no news; what was never asked for comes first."""
    tail = [f"tail-{number}" for number in range(6)]
    server.routes |= {f"/{name}": answer(503) for name in tail}
    world.manner(pace=Pace(None, pause_s=60.0), tries=1)
    world.build(tail)
    server.asked.clear()
    names = [*tail, *(f"new-{number}" for number in range(16))]
    server.routes |= {f"/{name}": video(film) for name in names[6:]}
    began = time.monotonic()
    for _ in range(3):
        outcomes, _ = world.build(names)
    assert time.monotonic() - began < 30  # ten failures in a row would have paused for a minute
    assert [outcome.status for outcome in outcomes] == [Status.SERVER_ERROR] * 6 + [Status.OK] * 16
    assert outcomes[0].attempt == 4


def test_a_source_that_is_down_is_still_noticed(world: World, server: LocalServer) -> None:
    names = [f"v-{number}" for number in range(12)]
    server.routes |= {f"/{name}": answer(503) for name in names}
    world.manner(pace=Pace(None, pause_s=60.0, patience_s=1.0), tries=1)
    outcomes, _ = world.build(names)
    assert [outcome.status for outcome in outcomes[:10]] == [Status.SERVER_ERROR] * 10
    assert {outcome.status for outcome in outcomes[10:]} == {Status.RATE_LIMITED}


def test_who_is_not_asked_keeps_the_reason_that_he_had(world: World, server: LocalServer) -> None:
    names = [f"v-{number}" for number in range(14)]
    server.routes |= {f"/{name}": answer(500) for name in names}
    world.manner(pace=Pace(None, pause_s=60.0, patience_s=1.0), tries=1)
    first, _ = world.build(names)
    second, _ = world.build(names)
    assert [outcome.status for outcome in first[:10]] == [Status.SERVER_ERROR] * 10
    assert [outcome.status for outcome in second[:10]] == [Status.SERVER_ERROR] * 10
    assert "HTTP 500" in str(second[0].detail) and "not asked" in str(second[0].detail)
    assert {outcome.status for outcome in second[10:]} == {Status.RATE_LIMITED}


@pytest.mark.parametrize("code", [403, 401, 500, 400])
def test_ten_videos_in_a_row_without_a_final_answer_pause_the_source(
    world: World, server: LocalServer, code: int
) -> None:
    server.otherwise = answer(code)
    world.manner(pace=Pace(None, pause_s=60.0, patience_s=1.0), tries=2)
    outcomes, _ = world.build([f"v-{number}" for number in range(14)])
    assert len(server.asked) == 2 * 10
    assert [o.status is Status.RATE_LIMITED for o in outcomes] == [False] * 10 + [True] * 4


def test_an_empty_answer_and_a_packed_one(world: World, server: LocalServer) -> None:
    server.routes["/v"] = answer(200)
    assert world.fails().status is Status.EMPTY_FILE
    server.routes["/v"] = answer(200, b"x" * 2000, Content_Encoding="gzip")
    assert world.fails().status is Status.DOWNLOAD_FAILED


def test_what_ends_with_its_connection_is_looked_through(
    world: World, server: LocalServer, film: bytes
) -> None:
    server.routes["/v"] = in_turn(
        *[video(film, length=False, etag=None, stop_at=len(film) * 3 // 5)] * 2,
        video(film, length=False, etag=None),
    )
    world.manner(tries=1)
    assert world.fails().status is Status.INCOMPLETE
    assert world.fails().status is Status.INCOMPLETE
    assert world.fetch()["bytes"] == len(film)


def test_a_published_file_is_never_written_into(
    world: World, server: LocalServer, film: bytes
) -> None:
    """Killed between the name and the note, then cut off while it is fetched once more."""
    server.routes["/v"] = video(film, etag=None)
    server.routes["/w"] = in_turn(video(film, etag=None), video(film, etag=None, stop_at=2000))
    pid = os.fork()
    if pid == 0:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("storage.objects._sync_folder", lambda *rest: os.kill(os.getpid(), 9))
            try:
                world.fetch("w")
            finally:
                os._exit(0)
    assert os.waitpid(pid, 0)[1] == 9
    assert world.fetch("v")["bytes"] == world.fetch("w")["bytes"] == len(film)
    assert [world.store.read(path) for path in world.media()] == [film]
    assert server.count("/w") == 1


def test_an_unknown_answer_is_tried_in_five_builds(world: World, server: LocalServer) -> None:
    world.manner(tries=1)
    server.routes["/v"] = answer(418)
    for build in range(1, 8):
        [outcome], _ = world.build(["v"])
        assert outcome.attempt == min(build, 5)
        assert outcome.status is Status.DOWNLOAD_FAILED and "418" in (outcome.detail or "")
    assert len(server.asked) == 5


def test_the_shard_says_whose_row_it_is(world: World, server: LocalServer, film: bytes) -> None:
    server.routes["/v"] = video(film)
    outcomes, _ = world.build(["v"])
    [(_, [row])] = read_rows(world.store, outcomes, ["origin", "media"])
    assert row["origin"] == "v" and row["media"].endswith(".mp4")


def test_a_full_disk_is_no_property_of_a_video(
    world: World, server: LocalServer, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*rest: Any) -> int:
        raise OSError(28, "No space left on device")

    server.routes["/v"] = video(film)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        world.build(["v"])


@pytest.mark.parametrize("name", ["../../x", "..", ".", "", " ", "a/b", "a\\b", "a\0b", "a\nb"])
def test_ids_that_no_file_can_have(world: World, server: LocalServer, name: str) -> None:
    assert world.fails(name).status is Status.BAD_ID
    assert server.asked == [] and world.store.list("") == []


@pytest.mark.parametrize(
    "name", ["-dash", "-rf", "--", "ünïcode", "車", "a b", "$(touch x)", "a;b"]
)
def test_odd_ids_are_ids(world: World, server: LocalServer, film: bytes, name: str) -> None:
    server.otherwise = video(film)
    item = replace(world.item(name), location={**world.item("v").location})
    [row] = world.stage.compute(item.row, item.location)
    assert row["bytes"] == len(film)
    names = [Path(path).name for path in world.store.list("")]
    assert not any(name in found for found in names)


def youtube(world: World, **changes: Any) -> None:
    lookup = Lookup(0, extractors=("stub-site",), command=STUB)
    world.stage = replace(
        world.stage, kind="youtube", manner=replace(world.stage.manner, lookup=lookup, **changes)
    )


def told(server: LocalServer, **info: Any) -> Behaviour:
    forms = [form("18", 360, 9, url=server.url("/media")), form("22", 720, 99)]
    return answer(200, json.dumps({"formats": forms, **info}).encode())


ID = "abcdefghi-_"


@pytest.fixture
def tube(world: World, server: LocalServer) -> World:
    youtube(world, limits=replace(world.stage.manner.limits, deadline_s=60, stall_s=2))
    return world


def test_youtube_the_whole_way(tube: World, server: LocalServer, film: bytes) -> None:
    server.routes[f"/api/{ID}"] = told(server, license="CC BY", duration=2)
    server.routes["/media"] = in_turn(video(film, stop_at=3000), video(film))
    item = replace(
        tube.item(ID),
        location={"root": tube.store.location, "url": server.url(f"/watch?v={ID}")},
    )
    [row] = tube.stage.compute(item.row, item.location)
    assert row["licence"] == "CC BY" and row["form"] == "stub-site:18"
    assert tube.store.read(f"media/{row['media']}") == film
    assert server.count(f"/api/{ID}") == 2  # looked up anew: its addresses grow old
    assert server.asked[-1].headers["range"] == "bytes=3000-"


def test_youtube_failures(tube: World, server: LocalServer) -> None:
    item = replace(
        tube.item(ID),
        location={"root": tube.store.location, "url": server.url(f"/watch?v={ID}")},
    )
    for info, status in (
        ({"error": "Private video. Sign in"}, Status.PRIVATE),
        ({"error": "Premieres in 2 hours"}, Status.PREMIERE),
        ({"formats": [form("18", 360, 9)], "duration": 99_999}, Status.TOO_LONG),
    ):
        server.routes[f"/api/{ID}"] = answer(200, json.dumps(info).encode())
        with pytest.raises(Unusable) as caught:
            tube.stage.compute(item.row, item.location)
        assert caught.value.status is status
    assert server.count(f"/api/{ID}") == 3


@pytest.mark.parametrize("name", ["abc", "abcdefghijk&x=1", "../../../x", "abcdefghijé", "-" * 12])
def test_youtube_ids_are_eleven_letters(name: str) -> None:
    with pytest.raises(Unusable) as caught:
        check_id(name, f"https://www.youtube.com/watch?v={name}")
    assert caught.value.status is Status.BAD_ID
    check_id("-_bcdefghij", "https://www.youtube.com/watch?v=-_bcdefghij")


def test_manners_enter_no_key(world: World) -> None:
    row = world.item("v").row
    other = replace(world.stage, manner=Manner(proxy="http://user:secret@proxy", cookies="c"))
    assert other.key(row) == world.stage.key(row)
    assert "secret" not in json.dumps(dict(other.settings()))
    assert replace(world.stage, kind="youtube").key(row) != world.stage.key(row)
