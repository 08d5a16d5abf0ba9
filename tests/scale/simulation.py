"""A source of many videos that fail at the rates of real life, and a build that fetches them.

    python -m tests.scale.simulation ROOT IDS URL_TEMPLATE PER_HOUR

fetches every video of a list and prints, as one line of JSON, the statuses and the memory used.
What becomes of a video is decided by its id alone.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from flows.configs import find_config
from flows.progress import TerminalProgress
from flows.runners import LocalRunner
from flows.steps.context import Context
from flows.steps.sources import fetch_source
from storage.objects import Store
from tests.download.server import Behaviour, answer, page, redirect, silence, video
from tests.flows.builds import BOX_CARS

# Per mille of the videos, and the status that each ends with. A third of the videos of such data
# sets is gone by now; what heals does so at the second request.
KINDS: dict[str, tuple[int, str]] = {
    "missing": (150, "not_found"),
    "removed": (120, "removed"),
    "page": (20, "not_a_video"),
    "sound": (10, "no_video_stream"),
    "private": (10, "address_refused"),
    "forbidden": (3, "forbidden"),
    "silent": (1, "stalled"),
    "hiccup": (40, "ok"),
    "dropped": (30, "ok"),
    "busy": (1, "ok"),
    "good": (615, "ok"),
}
assert sum(share for share, _ in KINDS.values()) == 1000
PER_MILLE = [kind for kind, (share, _) in KINDS.items() for _ in range(share)]


def video_ids(count: int) -> list[str]:
    return [f"video-{number:06d}" for number in range(count)]


def kind_of(video_id: str) -> str:
    hashed = hashlib.sha256(video_id.encode()).digest()
    return PER_MILLE[int.from_bytes(hashed[:8], "big") % 1000]


def status_of(video_id: str) -> str:
    return KINDS[kind_of(video_id)][1]


class ManyVideos:
    """Behaves for every path as its video does; counts the requests of each."""

    def __init__(self, film: bytes, sound: bytes) -> None:
        self._film = film
        self._sound = sound
        self.requests: Counter[str] = Counter()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        video_id = handler.path.rsplit("/", 1)[-1].removesuffix(".mp4")
        self.requests[video_id] += 1
        self._behaviour(video_id, self.requests[video_id] == 1)(handler)

    def _behaviour(self, video_id: str, first: bool) -> Behaviour:
        kind, film = kind_of(video_id), self.film(video_id)
        sick: dict[str, Behaviour] = {
            "missing": answer(404),
            "removed": answer(410),
            "page": page(),
            "sound": video(self._sound),
            "private": redirect("http://10.0.0.1/x.mp4"),
            "forbidden": answer(403),
            "silent": video(film, stop_at=500, then=silence),
        }
        if kind in sick:
            return sick[kind]
        if first and kind == "hiccup":
            return answer(503)
        if first and kind == "busy":
            return answer(429, Retry_After="1")
        return video(film, stop_at=700 if first and kind == "dropped" else None)

    def film(self, video_id: str) -> bytes:
        """One short film, whose last box makes each file another one."""
        mark = video_id.encode()
        return self._film + (8 + len(mark)).to_bytes(4, "big") + b"free" + mark


def context(root: Path, ids: Path, template: str, per_hour: float) -> Context:
    config = find_config(
        BOX_CARS,
        {
            "source.kind": "http",
            "source.url_template": template,
            "source.path": str(ids),
            "source.allow_private": True,
            "detector.kind": "yolox",  # a list of ids comes without boxes; nothing is detected
            "download.per_hour": per_hour,
            "download.stall_seconds": 1.0,  # a busy machine must not look like a silent server
            "download.backoff_seconds": 0.01,
            "download.pause_seconds": 0.1,
            "download.tries": 2,
            "run.workers": 2,
            "run.shard_rows": 16,
        },
    )
    return Context(config, Store(root), LocalRunner(config.run), TerminalProgress())


def main() -> None:
    root, ids, template, per_hour = sys.argv[1:]
    build = context(Path(root), Path(ids), template, float(per_hour))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with build.runner as runner:  # type: ignore[attr-defined]
        assert runner is build.runner
        videos, _ = fetch_source(build)
    found: dict[str, Any] = {
        "videos": len(videos),
        "statuses": Counter(video.status.value for video in videos),
        "shards": build.shards,
        "megabytes_before": before / 1000,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "megabytes_worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
