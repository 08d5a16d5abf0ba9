"""Statuses and measures in words, for people who see them for the first time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.reasons import Status

STATUSES: dict[str, str] = {
    Status.OK: "used",
    Status.FORGOTTEN: "it was forgotten on request and is not looked at",
    Status.BAD_ID: "no video can have this id",
    Status.NOT_FOUND: "its source does not have it",
    Status.REMOVED: "it was removed from its source",
    Status.UNAVAILABLE: "its source says that it is unavailable",
    Status.PRIVATE: "its uploader made it private",
    Status.MEMBERS_ONLY: "only members, or who pays, can see it",
    Status.AGE_RESTRICTED: "its source asks for a grown-up's account",
    Status.REGION_BLOCKED: "it cannot be seen from this country",
    Status.LIVE: "a live stream; the next build tries again",
    Status.PREMIERE: "announced for later; the next build tries again",
    Status.NO_FORMAT: "it cannot be had as one file",
    Status.TOO_LARGE: "the file is larger than allowed",
    Status.TOO_LONG: "the video is longer than allowed",
    Status.ADDRESS_REFUSED: "it leads to a private address",
    Status.BAD_REDIRECT: "its address leads nowhere",
    Status.RATE_LIMITED: "its source asked to wait; the next build tries again",
    Status.BOT_CHECK: "its source took us for a robot; the next build tries again",
    Status.FORBIDDEN: "its source refused it; tried in five builds at most",
    Status.SERVER_ERROR: "its source was out of order; the next build tries again",
    Status.CONNECTION_FAILED: "its source could not be reached; the next build tries again",
    Status.INCOMPLETE: "the connection broke; the next build goes on where it ended",
    Status.STALLED: "its source fell silent; the next build tries again",
    Status.DOWNLOAD_TIMEOUT: "fetching took too long; the next build goes on where it ended",
    Status.DOWNLOAD_FAILED: "an answer that is not known; tried in five builds at most",
    Status.DUPLICATE: "the same bytes as another file",
    Status.NEAR_DUPLICATE: "shows the same footage as another video",
    Status.EMPTY_FILE: "the file has no bytes",
    Status.UNREADABLE: "the file could not be read; the next build tries again",
    Status.NOT_A_VIDEO: "not a video",
    Status.NO_VIDEO_STREAM: "a media file without pictures",
    Status.DECODE_FAILED: "not one frame could be decoded",
    Status.DECODE_TIMEOUT: "decoding took too long; the next build tries again",
    Status.DECODER_CRASHED: "the decoder died on it; the next build tries again",
    Status.NOT_AS_PUBLISHED: "files of the object are missing or of another form",
    Status.FRAME_TOO_SMALL: "the frames are too small",
    Status.FRAME_TOO_LARGE: "the frames are too large",
    Status.NO_ANNOTATION: "the annotation file does not name it",
    Status.NO_DETECTION: "nothing of the wanted classes was found in it",
    Status.NO_TRACK: "what was found could not be followed over time",
    Status.TOO_SHORT: "the object is not seen for long enough",
    Status.TOO_FEW_CROPS: "too few good pictures of the object",
    Status.TOO_SMALL: "the object is too small in the frame",
    Status.TOUCHES_BORDER: "the object is cut off by the edge of the frame",
    Status.BAD_ASPECT: "the box is too wide or too tall for one object",
    Status.TOO_DARK: "the picture is nearly black",
    Status.LOW_CONTRAST: "the picture is flat: haze, a fade, or nothing to see",
    Status.PADDED: "too much of the crop lies beyond the frame",
    Status.DETAIL: "the box holds a detail, not the whole object",
    Status.APPEARANCE_JUMP: "the clip goes over to something that looks different",
    Status.BLURRED: "the pictures are blurred",
    Status.STATIC: "the picture does not change",
    Status.INTERNAL_ERROR: "a defect of idpose: please report it",
}

MEASURES: dict[str, str] = {
    "rows": "triplets",
    "pool_pairs": "pairs of ID picture and target that there were to choose from",
    "level": "rows that each pose pair gives, where it has as many",
    "exactness": "most rows by which a pose pair differs from the best possible; at most 1",
    "entropy": "evenness of the pose pairs: 1 = all equally frequent",
    "raw_entropy": "the same without balancing",
    "coverage": "share of all pose pairs that occur",
    "saturated_share": "share of the pose pairs of which everything was taken",
    "max_clip_share": "largest share of the rows that one clip gives",
    "max_reuse": "rows that the most used pose picture serves",
    "reuse_skewness": "skewness of the use of pose pictures; high = a few serve most rows",
    "diagonal_share": "share of rows whose two balanced pictures show the same pose",
}

LEFT_OUT: dict[str, str] = {
    "no_neighbour": "no picture of another video and object can serve the target",
    "other_direction": "the pose picture is read as facing elsewhere than the target",
    "low_trust": "the pose picture is not trusted enough (triplets.min_trust)",
    "same_cluster": "both poses are of one cluster (triplets.exclude_diagonal)",
    "turns_little": "the clip turns too little to give more (triplets.clip_rows)",
    "pose_spent": "the pose pictures that it could have serve as many rows as they may",
    "thinned": "the clip has more pairs than are looked at",
    "not_drawn": "its pair of poses has enough rows",
}


def pose_feature(config: Mapping[str, Any]) -> str:
    """Which feature finds the pose pictures of a dataset, and what it knows.

    Args:
        config: Of the dataset's manifest.
    """
    embedder = config.get("embedder", {"kind": "unknown"})
    kind, classes = embedder["kind"], "/".join(config.get("classes", ("unknown",)))
    if kind == "car-view":
        return f"car-view, which reads how a car faces, since the classes are {classes}"
    if embedder.get("reads_azimuth"):
        return f"{kind}, with a reader of azimuths beside it"
    return f"{kind}, which knows no classes and cannot tell front from rear (classes: {classes})"
