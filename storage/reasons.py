"""The closed set of statuses that a row can carry.

A video or clip that could not be used keeps its row, with one of these words as its status and
the original message beside it. Each reason is permanent (asking again gives the same answer) or
transient (a later build retries the row).
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Status of a row: ``ok``, or why there is no result."""

    OK = "ok"

    # A file as a whole
    DUPLICATE = "duplicate"  # the same bytes as another file of this source
    NEAR_DUPLICATE = "near_duplicate"  # shows the same footage as another video
    EMPTY_FILE = "empty_file"
    UNREADABLE = "unreadable"  # permissions or I/O
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    DECODE_FAILED = "decode_failed"  # not one frame could be decoded
    DECODE_TIMEOUT = "decode_timeout"
    DECODER_CRASHED = "decoder_crashed"  # the child process died: signal or memory limit
    FRAME_TOO_SMALL = "frame_too_small"
    FRAME_TOO_LARGE = "frame_too_large"

    # What is seen in a video
    NO_ANNOTATION = "no_annotation"  # an annotation file is given and does not name this video
    NO_DETECTION = "no_detection"  # nothing of the wanted classes at the threshold
    NO_TRACK = "no_track"  # detections that do not link over time or to the annotation

    # One clip
    TOO_SHORT = "too_short"
    TOO_FEW_CROPS = "too_few_crops"
    TOO_SMALL = "too_small"
    TOUCHES_BORDER = "touches_border"
    BAD_ASPECT = "bad_aspect"
    BLURRED = "blurred"
    STATIC = "static"  # identical frames only

    INTERNAL_ERROR = "internal_error"  # a defect of idpose: the traceback is in the detail

    @property
    def retryable(self) -> bool:
        """Whether a later build should try this row again."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {Status.UNREADABLE, Status.DECODE_TIMEOUT, Status.DECODER_CRASHED, Status.INTERNAL_ERROR}
)


class Unusable(Exception):  # noqa: N818 - it names a state of the input, not a defect
    """One input row cannot be used. It becomes a row with this status, and the build goes on."""

    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status.value}: {self.detail}" if self.detail else self.status.value
