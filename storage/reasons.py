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
    FORGOTTEN = "forgotten"  # `idpose forget` named it: it is not looked at any more

    # A video on the network: what its source says of it
    BAD_ID = "bad_id"  # no video can have this id, so nothing was asked
    NOT_FOUND = "not_found"
    REMOVED = "removed"  # by the uploader, the site or a claim of copyright
    UNAVAILABLE = "unavailable"  # the source says no more than that
    PRIVATE = "private"
    MEMBERS_ONLY = "members_only"  # members of a channel, or who pays
    AGE_RESTRICTED = "age_restricted"
    REGION_BLOCKED = "region_blocked"
    LIVE = "live"  # a stream that goes on or is not published yet
    PREMIERE = "premiere"  # announced, to be seen later
    NO_FORMAT = "no_format"  # nothing that could be fetched as one file: DRM, streams only
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"
    ADDRESS_REFUSED = "address_refused"  # a private address, or no web address at all
    BAD_REDIRECT = "bad_redirect"

    # A video on the network: why it could not be had now
    RATE_LIMITED = "rate_limited"
    BOT_CHECK = "bot_check"
    FORBIDDEN = "forbidden"
    SERVER_ERROR = "server_error"
    CONNECTION_FAILED = "connection_failed"
    INCOMPLETE = "incomplete"  # the connection ended before the file did
    STALLED = "stalled"
    DOWNLOAD_TIMEOUT = "download_timeout"
    DOWNLOAD_FAILED = "download_failed"  # a text or an answer that idpose does not know

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
    NOT_AS_PUBLISHED = (
        "not_as_published"  # an object of an image set: files missing or of another form
    )

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
    PADDED = "padded"  # too much of the square lies beyond the picture
    DETAIL = "detail"  # the box shows a part of the object only, or its inside
    BLURRED = "blurred"
    TOO_DARK = "too_dark"
    LOW_CONTRAST = "low_contrast"  # flat or washed out
    APPEARANCE_JUMP = "appearance_jump"  # other colours than the rest of the clip: another object
    STATIC = "static"  # identical frames only

    INTERNAL_ERROR = "internal_error"  # a defect of idpose: the traceback is in the detail

    @property
    def retryable(self) -> bool:
        """Whether a later build should try this row again."""
        return self in _TRANSIENT

    def retryable_after(self, attempts: int) -> bool:
        """Whether a later build should try this row again after so many attempts."""
        return self.retryable and attempts < _MOST_ATTEMPTS.get(self, attempts + 1)


_TRANSIENT = frozenset(
    {
        Status.UNREADABLE,
        Status.DECODE_TIMEOUT,
        Status.DECODER_CRASHED,
        Status.INTERNAL_ERROR,
        Status.LIVE,
        Status.PREMIERE,
        Status.RATE_LIMITED,
        Status.BOT_CHECK,
        Status.FORBIDDEN,
        Status.SERVER_ERROR,
        Status.CONNECTION_FAILED,
        Status.INCOMPLETE,
        Status.STALLED,
        Status.DOWNLOAD_TIMEOUT,
        Status.DOWNLOAD_FAILED,
    }
)
# What may be final under another name is not asked for ever; "try again later" always is.
_MOST_ATTEMPTS = {Status.FORBIDDEN: 5, Status.DOWNLOAD_FAILED: 5}


class Unusable(Exception):  # noqa: N818 - it names a state of the input, not a defect
    """One input row cannot be used. It becomes a row with this status, and the build goes on."""

    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status.value}: {self.detail}" if self.detail else self.status.value
