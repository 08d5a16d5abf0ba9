"""Tombstones: videos that were forgotten on request, by digests that do not tell their ids.

Every plan consults them: a row about a forgotten video is neither computed nor read. Bytes that
come back under another id are known by their SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.digests import canonical, digest
from storage.objects import Store

_VIDEOS = "forgotten/videos"
_MEDIA = "forgotten/media"


@dataclass(frozen=True)
class Tombstones:
    """What was forgotten.

    Attributes:
        videos: ``video_digest`` of each id.
        media: SHA-256 of each file.
    """

    videos: frozenset[str] = frozenset()
    media: frozenset[str] = frozenset()

    def cover(self, about: Mapping[str, str | None]) -> bool:
        """Whether a row is about a forgotten video: ``video_id`` or ``media_sha256`` is one."""
        if not self.videos and not self.media:
            return False
        video_id = about.get("video_id")
        named = video_id is not None and video_digest(video_id) in self.videos
        return named or about.get("media_sha256") in self.media


def read_tombstones(store: Store) -> Tombstones:
    """The tombstones of a root."""
    return Tombstones(_names(store, _VIDEOS), _names(store, _MEDIA))


def bury(store: Store, video_id: str, media: Iterable[str], reason: str) -> None:
    """Write the tombstones of a video; those that stand already stay as they are.

    Args:
        store: The root.
        video_id: Id of the video.
        media: SHA-256 of the files that it was.
        reason: Kept beside it.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    name = video_digest(video_id)
    for sha256 in sorted(media):
        store.publish(f"{_MEDIA}/{sha256}.json", canonical({"at": at, "video": name}) + b"\n")
    store.publish(f"{_VIDEOS}/{name}.json", canonical({"at": at, "reason": reason}) + b"\n")


def buried_media(store: Store, video_id: str) -> set[str]:
    """SHA-256 of the files that earlier tombstones of this video name."""
    mark = canonical({"video": video_digest(video_id)})[1:-1]
    return {
        sha256 for sha256 in _names(store, _MEDIA) if mark in store.read(f"{_MEDIA}/{sha256}.json")
    }


def video_digest(video_id: str) -> str:
    """The name under which a video is remembered as forgotten."""
    return digest({"forgotten": video_id})


def _names(store: Store, folder: str) -> frozenset[str]:
    return frozenset(path.rsplit("/", 1)[-1].removesuffix(".json") for path in store.list(folder))
