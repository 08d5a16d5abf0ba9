"""Download: from a video's id to bytes below ROOT/media whose digest is known (method section 11).

Each video is fetched once, however many of its segments are wanted: the whole file in the smallest
form that serves. Segments are cut later, by presentation time stamp, when frames are sampled.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from idpose_core.download.addresses import AddressPolicy, Deadline
from idpose_core.download.answers import Refused
from idpose_core.download.budget import Budget, Pace
from idpose_core.download.cookies import cookie_headers
from idpose_core.download.partial import Note, Partial, partial_file, remove_partial
from idpose_core.download.transfer import Limits, Target, Transfer
from idpose_core.download.whole import check_whole
from idpose_core.download.youtube import WATCH, Lookup, check_installed, look_up_video
from idpose_core.video.decoding import probe
from idpose_core.video.frames import VideoInfo
from storage.copies import local_copy, working_path
from storage.digests import digest, file_sha256
from storage.objects import Store
from storage.reasons import Status, Unusable
from storage.shards import RowStage
from storage.tombstones import video_digest

Kind = Literal["http", "youtube"]
MEDIA = "media"
PARTIAL = "media/partial"

_YOUTUBE = WATCH.removesuffix("{video_id}")
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_NOT_NOW = (Status.LIVE, Status.PREMIERE, Status.DOWNLOAD_TIMEOUT)
# Many videos in a row that end so say that the source is down, or wants nothing of us any more.
_OF_THE_SOURCE = (
    Status.CONNECTION_FAILED,
    Status.SERVER_ERROR,
    Status.STALLED,
    Status.INCOMPLETE,
    Status.FORBIDDEN,
    Status.DOWNLOAD_FAILED,
)
_PROGRESS = 1 << 20  # bytes that make a try one that did not fail
_LONGEST_BACKOFF_S = 300.0
_EXTENSIONS = {"mov": "mp4", "matroska": "mkv", "mpegts": "ts", "mpeg": "mpg", "asf": "wmv"}


@dataclass(frozen=True)
class Manner:
    """How videos are fetched; nothing of it enters a key.

    Attributes:
        limits: What one video may take.
        pace: How fast the source may be asked.
        budget: Name of the source's budget below ROOT: all who ask it share one.
        lookup: How yt-dlp is asked.
        max_seconds: Longest video.
        tries: Tries that bring nothing new, before a later build is left to try again.
        backoff_s: Wait before the second try; it doubles from there.
        private: Host and port of the source that may have a private address.
        cookies: Cookie file in Netscape's format.
        proxy: Address of a proxy, with its credentials.
    """

    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=lambda: Pace(None))
    budget: str = "http"
    lookup: Lookup = field(default_factory=Lookup)
    max_seconds: float = 4 * 3600.0
    tries: int = 4
    backoff_s: float = 5.0
    private: tuple[str, int] | None = None
    cookies: str | None = None
    proxy: str | None = None


@dataclass(frozen=True)
class DownloadVideos(RowStage):
    """Fetch one video.

    Fetching is an observation: the row says what was asked for, and everything later depends on
    the digest of the bytes alone.

    Row: ``video_id``, ``url`` without anything secret. Location: ``root`` of the store, and the
    ``url`` to ask. What is not all there yet lies on this machine, see ``working_path``.
    """

    kind: Kind
    manner: Manner = field(default_factory=Manner)
    min_height: int = 0
    avoid: tuple[str, ...] = ()

    name: ClassVar[str] = "download"
    version: ClassVar[int] = 2  # 2: a stream without time stamps is refused
    shard_rows: ClassVar[int] = 16
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("media_sha256", pa.string()),
            pa.field("media", pa.string()),
            pa.field("bytes", pa.int64()),
            pa.field("duration_ms", pa.int64()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("codec", pa.string()),
            pa.field("form", pa.string()),
            pa.field("licence", pa.string()),
        ]
    )

    def settings(self) -> Mapping[str, Any]:
        """Which form of a video is chosen, where there is a choice."""
        if self.kind == "http":
            return {"kind": self.kind}
        return {"kind": self.kind, "min_height": self.min_height, "avoid": self.avoid}

    def prepare(self) -> None:
        """Read the cookies, and see that yt-dlp is there where it is needed."""
        _cookies(self.manner.cookies)
        if self.kind == "youtube":
            check_installed(self.manner.lookup)

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row with the name and the digest of the file below ROOT/media."""
        check_id(row["video_id"], location["url"])
        store = Store(location["root"])
        path = partial_path(store, row)
        with partial_file(path, patience_s=self.manner.limits.deadline_s) as partial:
            note = partial.note
            if note.media is not None and store.exists(f"{MEDIA}/{note.media}"):
                # Fetched before a kill, and not yet in a shard: nothing is asked for again.
                with local_copy(store, f"{MEDIA}/{note.media}", note.media.split(".")[0]) as file:
                    return [_row(note, store, probe(str(file)))]
            try:
                if not partial.is_published:
                    self._fetch(location["url"], store, partial)
                info = self._check(partial)
            except Unusable as unusable:
                # What is kept of it names the video as the row does, without a key.
                status, detail = unusable.status, unusable.detail
                detail = detail.replace(location["url"], row["url"])
                if not status.retryable:
                    remove_partial(path)
                elif status in _OF_THE_SOURCE and not isinstance(unusable, _Unasked):
                    note = replace(partial.note, failure=status.value, failure_detail=detail)
                    partial.describe(note)
                raise Unusable(status, detail) from unusable
            return [_row(self._publish(store, partial, info), store, info)]

    def _fetch(self, url: str, store: Store, partial: Partial) -> None:
        """Fetch what is missing, patiently, and note the video's licence."""
        manner, before = self.manner, partial.note
        budget = Budget(working_path(store, f"budgets/{manner.budget}.json"), manner.pace)
        failures, spent = 0, 0.0
        while True:
            _wait(budget, before)
            size, began = partial.size, time.monotonic()
            try:
                licence = self._try(url, partial, Deadline(manner.limits.deadline_s - spent))
                budget.served()
                partial.describe(replace(partial.note, licence=licence))
                return
            except Refused as refused:
                budget.refused(refused.retry_after_s)
                error: Unusable = refused
            except Unusable as unusable:
                error = unusable
            spent += time.monotonic() - began
            failures = 0 if partial.size - size >= _PROGRESS else failures + 1
            late = spent >= manner.limits.deadline_s
            if not _try_again(error) or failures >= manner.tries or late:
                _tell(budget, error, before)
                raise error
            if not isinstance(error, Refused):  # else the budget waits
                backoff = manner.backoff_s * 2.0 ** max(0, failures - 1)
                time.sleep(min(backoff, _LONGEST_BACKOFF_S))

    def _try(self, url: str, partial: Partial, deadline: Deadline) -> str | None:
        """One try. Returns the licence that the site names."""
        manner = self.manner
        target, licence = Target(url), None
        if self.kind == "youtube":
            lookup = replace(
                manner.lookup,
                min_height=self.min_height,
                avoid=self.avoid,
                private=manner.private,
                cookies=manner.cookies,
                proxy=manner.proxy,
                stall_s=manner.limits.stall_s,
            )
            found = look_up_video(url, lookup, deadline)
            if found.duration_s is not None:
                self._check_duration(found.duration_s)
            target, licence = found.target, found.licence
        transfer = Transfer(
            AddressPolicy(manner.private),
            manner.limits,
            proxy=manner.proxy,
            cookies=_cookies(manner.cookies) if self.kind == "http" else lambda url: None,
        )
        transfer.fetch(target, partial, deadline)
        return licence

    def _check(self, partial: Partial) -> VideoInfo:
        """See that what arrived is a video."""
        partial.sync()
        if partial.note.length is None:
            check_whole(partial.path)
        info = probe(str(partial.path))
        self._check_duration(info.duration_ms / 1000)
        return info

    def _check_duration(self, seconds: float) -> None:
        if seconds > self.manner.max_seconds:
            raise Unusable(
                Status.TOO_LONG, f"{seconds:.0f} s, at most {self.manner.max_seconds:.0f}"
            )

    def _publish(self, store: Store, partial: Partial, info: VideoInfo) -> Note:
        """Give the file its name, then note it, then let go of the partial file."""
        first = info.container.split(",")[0]
        media = f"{file_sha256(partial.path)}.{_EXTENSIONS.get(first, first)}"
        store.publish_file(f"{MEDIA}/{media}", partial.path)
        note = replace(partial.note, media=media)
        partial.describe(note)
        partial.path.unlink()
        return note


def partial_path(store: Store, row: Mapping[str, Any]) -> Path:
    """Where a video lies while it is fetched; no part of its id is in the name."""
    # Its first half is that of the video's tombstone, by which it is found to be forgotten.
    name = f"{video_digest(row['video_id'])[:16]}-{digest(row)[:16]}"
    return working_path(store, f"{PARTIAL}/{name}.part")


def check_id(video_id: str, url: str) -> None:
    """Refuse an id that no video can have, before anything is asked.

    Raises:
        Unusable: BAD_ID.
    """
    if url.startswith(_YOUTUBE) and not _YOUTUBE_ID.fullmatch(video_id):
        raise Unusable(Status.BAD_ID, f"not an id of YouTube: {video_id[:40]!r}")
    if {"/", "\\"} & set(video_id) or not video_id.strip(". ") or not video_id.isprintable():
        raise Unusable(Status.BAD_ID, f"not the name of a file: {video_id[:40]!r}")


class _Unasked(Unusable):
    """The source was left alone, and what is known of the video is what was known before."""


def _wait(budget: Budget, before: Note) -> None:
    """Wait for a place; who gets none and failed before keeps the reason that he had."""
    try:
        budget.acquire()
    except Unusable as unasked:
        if before.failure is None:
            raise
        detail = f"{before.failure_detail} ({unasked.detail})"
        raise _Unasked(Status(before.failure), detail) from unasked


def _tell(budget: Budget, unusable: Unusable, before: Note) -> None:
    """Let all who ask the source know how it ended with a video."""
    if isinstance(unusable, Refused):
        return  # told at once
    if unusable.status not in _OF_THE_SOURCE:
        budget.served()
    elif before.failure is None:
        # A build that takes up what is left asks for many that fail again, one after the other:
        # that is not a source that is down.
        budget.failed()


def _try_again(unusable: Unusable) -> bool:
    return unusable.status.retryable and unusable.status not in _NOT_NOW


def _row(note: Note, store: Store, info: VideoInfo) -> dict[str, Any]:
    assert note.media is not None
    return {
        "media_sha256": note.media.split(".")[0],
        "media": note.media,
        "bytes": store.size(f"{MEDIA}/{note.media}"),
        "duration_ms": info.duration_ms,
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "form": note.variant or None,
        "licence": note.licence,
    }


@functools.lru_cache(maxsize=1)
def _cookies(file: str | None) -> Callable[[str], str | None]:
    return cookie_headers(Path(file)) if file is not None else lambda url: None
