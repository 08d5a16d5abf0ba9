"""What a build knows of each video and clip; every input keeps its record, whatever befalls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.reasons import Status


@dataclass
class Video:
    """One file of the source.

    Attributes:
        source_uri: Path relative to the source.
        path: Where the file is on this machine.
        video_id: The source's id; for a folder the SHA-256 of the bytes.
        split: ``train`` or ``test``; None where the bytes could not be had.
    """

    source_uri: str
    path: str
    video_id: str
    status: Status = Status.OK
    detail: str | None = None
    attempts: int = 1
    media_sha256: str | None = None
    split: str | None = None
    duration_ms: int | None = None
    width: int | None = None
    height: int | None = None

    def reject(self, status: Status, detail: str | None) -> None:
        """Keep the record, with the reason why nothing comes of it."""
        self.status, self.detail = status, detail


@dataclass
class Clip:
    """One object followed through a span of one video.

    Attributes:
        observations: Rows of the link stage: time stamp, class, score and box of each frame.
        crops: Rows of the crop stage without the pictures, each with its picture's place.
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
    crops: Sequence[Mapping[str, Any]] = ()

    def reject(self, status: Status, detail: str | None) -> None:
        """Keep the record, with the reason why nothing comes of it."""
        self.status, self.detail = status, detail
