"""What a build knows of each video and clip; every input keeps its record, whatever befalls it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from storage.reasons import Status
from storage.shards import Outcome


@dataclass
class Video:
    """One file of the source, or one object of a set of views.

    Attributes:
        source_uri: Path relative to the source.
        location: Where its bytes are, as ``storage.copies.media_file`` takes it; empty for an
            object.
        video_id: The source's id; for a folder the SHA-256 of the bytes.
        split: ``train`` or ``test``; None where the bytes could not be had.
        name: What annotations call it; by default the stem of ``source_uri``.
        licence: Its own, where the source names one.
        truth: Rows of the rendered world's truth; empty for videos of the real one.
        truth_outcome: Where these rows lie, with the masks.
    """

    source_uri: str
    location: Mapping[str, Any]
    video_id: str
    status: Status = Status.OK
    detail: str | None = None
    attempts: int = 1
    media_sha256: str | None = None
    split: str | None = None
    duration_ms: int | None = None
    width: int | None = None
    height: int | None = None
    name: str = ""
    licence: str | None = None
    truth: Sequence[Mapping[str, Any]] = ()
    truth_outcome: Outcome | None = None

    @property
    def annotated_as(self) -> str:
        """The id under which annotations name this video."""
        return self.name or PurePath(self.source_uri).stem

    @property
    def about(self) -> dict[str, str | None]:
        """Whose rows are made from it: see ``storage.shards.Item``."""
        return {"video_id": self.video_id, "media_sha256": self.media_sha256}

    def reject(self, status: Status, detail: str | None) -> None:
        """Keep the record, with the reason why nothing comes of it."""
        self.status, self.detail = status, detail


@dataclass
class Clip:
    """One object followed through a span of one video.

    Attributes:
        identity: The object that is seen, across clips and videos; None where the source does not
            know. A pose picture never shows the target's own.
        observations: Rows of the link stage: time stamp, class, score and box of each frame.
        crops: Rows of the crop or views stage without the pictures, each with its picture's place.
        media_sha256: Of its video.
    """

    clip_id: str
    video_id: str
    class_name: str
    object_id: str
    start_ms: int
    end_ms: int
    frames: int
    split: str
    observations: Sequence[Mapping[str, Any]]
    status: Status = Status.OK
    detail: str | None = None
    identity: str | None = None
    crops: Sequence[Mapping[str, Any]] = ()
    media_sha256: str | None = None

    @property
    def about(self) -> dict[str, str | None]:
        """Whose rows are made from it: see ``storage.shards.Item``."""
        ids = {"video_id": self.video_id, "clip_id": self.clip_id}
        return {**ids, "media_sha256": self.media_sha256}

    def reject(self, status: Status, detail: str | None) -> None:
        """Keep the record, with the reason why nothing comes of it."""
        self.status, self.detail = status, detail


@dataclass(frozen=True)
class Observed:
    """What a source gave, up to the crops.

    Attributes:
        videos: Every input, the unusable ones included.
        clips: Every object that was followed, the rejected ones included.
        crops: For each good clip the result that holds its pictures.
        masks: The same for its masks, where the source brings them.
    """

    videos: Sequence[Video]
    clips: Sequence[Clip]
    crops: Mapping[str, Outcome]
    masks: Mapping[str, Outcome]


def reject_videos_without_clips(videos: Sequence[Video], clips: Sequence[Clip]) -> None:
    """Give every good video that made no clip the reason of its longest-followed object."""
    followed: dict[str, list[Clip]] = {}
    for clip in clips:
        followed.setdefault(clip.video_id, []).append(clip)
    for video in videos:
        mine = followed.get(video.video_id, [])
        if video.status is Status.OK and mine and not any(clip.crops for clip in mine):
            longest = max(mine, key=lambda clip: (clip.frames, clip.clip_id))
            video.reject(longest.status, _in_words(mine, longest))


def what_became(videos: Sequence[Video], clips: Sequence[Clip]) -> Iterator[str]:
    """What became of the input, in lines: counts by status, and for each reason its first case."""
    rooms: tuple[tuple[str, Sequence[Video | Clip]], ...] = (("videos", videos), ("clips", clips))
    for what, records in rooms:
        counts = Counter(record.status.value for record in records)
        yield f"  {what}: " + (", ".join(f"{n} {s}" for s, n in counts.most_common()) or "none")
        first = {record.status: record.detail for record in reversed(records)}
        for status, detail in sorted(first.items()):
            if status is not Status.OK and detail:
                # Of a traceback the last line says what happened.
                yield f"    {status.value}, the first: {detail.strip().splitlines()[-1]}"


def _in_words(clips: Sequence[Clip], longest: Clip) -> str:
    counts = Counter(clip.status.value for clip in clips)
    reasons = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return (
        f"{len(clips)} objects followed: {reasons}; the longest, a {longest.class_name}: "
        f"{longest.detail or longest.status.value}"
    )
