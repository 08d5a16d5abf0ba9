"""Many simulated videos, fetched by builds that are killed: no row lost, the budget held."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.steps.downloads import download_items, download_stage
from storage.digests import sha256
from storage.shards import find_outcomes, list_shards, read_rows
from tests.download.server import LocalServer
from tests.scale.simulation import ManyVideos, context, kind_of, status_of, video_ids
from tests.video.make_videos import numbered_frames, write_sound, write_video

WINDOW_S = 10


def film(folder: Path) -> bytes:
    frames = numbered_frames(3, width=64, height=48)
    front = {"movflags": "faststart"}
    return write_video(folder / "v.mp4", frames, fps=3, container_options=front).read_bytes()


class Simulation:
    """A server, a root, and builds in processes of their own."""

    def __init__(self, folder: Path, server: LocalServer, count: int, per_hour: float) -> None:
        sound = write_sound(folder / "s.mp4", seconds=0.1).read_bytes()
        self.source = ManyVideos(film(folder), sound)
        self.server = server
        server.otherwise = self.source
        self.ids = video_ids(count)
        self.list = folder / "ids.txt"
        self.list.write_text("\n".join(self.ids))
        self.root = folder / "root"
        self.template = server.url("/v/{video_id}.mp4")
        self.per_hour = per_hour
        self.build = context(self.root, self.list, self.template, per_hour)

    def start(self) -> subprocess.Popen[str]:
        program = [sys.executable, "-m", "tests.scale.simulation"]
        words = [str(self.root), str(self.list), self.template, str(self.per_hour)]
        return subprocess.Popen(
            [*program, *words], text=True, stdout=subprocess.PIPE, start_new_session=True
        )

    def shards(self) -> int:
        return len(list_shards(self.build.store, "download"))

    def kill_after(self, shards: int) -> int:
        """Run until so many shards are there and a moment longer, then kill every process."""
        process = self.start()
        while self.shards() < shards and process.poll() is None:
            time.sleep(0.5)  # the server is a part of this process, and a look at the folder costs
        time.sleep(random.random() * 0.3)
        alive = process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return alive

    def finish(self) -> dict[str, Any]:
        out, _ = self.start().communicate()
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def outcomes(self) -> dict[str, Any]:
        items = download_items(self.build, self.ids)
        stage = download_stage(self.build)
        keys = [stage.key(item.row) for item in items]
        found, damaged = find_outcomes(self.build.store, stage.name, keys)
        assert not damaged
        return {name: found[key] for name, key in zip(self.ids, keys, strict=True)}


def simulate(folder: Path, count: int, kills: int, per_hour: float) -> dict[str, Any]:
    """The whole of it, with what was measured."""
    began = time.monotonic()
    with LocalServer() as server:
        run = Simulation(folder, server, count, per_hour)
        shards, killed = -(-count // 16), 0
        for kill in range(1, kills + 1):
            killed += run.kill_after(shards * kill // (kills + 1))
        done = run.finish()
        took = time.monotonic() - began
        check_rows(run)
        requests, retryable = len(server.asked), names_to_retry(run)
        check_pace([asked.at for asked in server.asked], per_hour)
        again = run.finish()
        assert names_asked(server, requests) == retryable
    assert done["videos"] == again["videos"] == count
    return {**done, "kills": killed, "seconds": took, "requests": requests}


def check_rows(run: Simulation) -> None:
    """Every video has its row with the right reason, and its bytes where it has any."""
    outcomes = run.outcomes()
    wrong = {
        name: (outcome.status.value, outcome.detail)
        for name, outcome in outcomes.items()
        if outcome.status != status_of(name)
    }
    assert not wrong, list(wrong.items())[:5]
    media = {path.name.split(".")[0] for path in (run.root / "media").iterdir()}
    expected = {sha256(run.source.film(name)) for name in run.ids if status_of(name) == "ok"}
    assert media - {"partial"} == expected
    rows = read_rows(run.build.store, outcomes.values(), ["media_sha256"])
    assert {row[0]["media_sha256"] for _, row in rows} == expected
    # What was fetched is not fetched again: only what was under way at a kill is.
    good = Counter(run.source.requests[name] for name in run.ids if kind_of(name) == "good")
    assert sum(n * (times - 1) for times, n in good.items()) <= 40 + len(run.ids) // 1000


def check_pace(moments: list[float], per_hour: float) -> None:
    """In no window more than the budget gives, and a few that were late."""
    moments = sorted(moments)
    most = max(
        bisect_left(moments, start + WINDOW_S) - index for index, start in enumerate(moments)
    )
    assert most <= per_hour / 3600 * WINDOW_S * 1.1 + 3


def names_to_retry(run: Simulation) -> set[str]:
    """The silent ones always, the forbidden ones until the fifth build that met them."""
    found = {name for name, outcome in run.outcomes().items() if outcome.retryable}
    assert found <= {name for name in run.ids if kind_of(name) in ("silent", "forbidden")}
    assert found >= {name for name in run.ids if kind_of(name) == "silent"}
    return found


def names_asked(server: LocalServer, since: int) -> set[str]:
    return {asked.path.rsplit("/", 1)[-1].removesuffix(".mp4") for asked in server.asked[since:]}


@pytest.mark.faults
def test_two_hundred_videos_and_two_kills(tmp_path: Path) -> None:
    found = simulate(tmp_path, 200, kills=2, per_hour=72_000)
    assert found["kills"] == 2


@pytest.mark.scale
def test_a_hundred_thousand_videos_and_ten_kills(tmp_path: Path) -> None:
    count = int(os.environ.get("IDPOSE_SIMULATED_VIDEOS", 100_000))
    found = simulate(tmp_path, count, kills=10, per_hour=144_000)
    print(json.dumps(found))
    assert found["kills"] == 10
    assert found["megabytes"] - found["megabytes_before"] < 500
    assert found["megabytes_worker"] < 1500
