"""Statuses and measures in words, for people who see them for the first time."""

from __future__ import annotations

from storage.reasons import Status

STATUSES: dict[str, str] = {
    Status.OK: "used",
    Status.DUPLICATE: "the same bytes as another file",
    Status.NEAR_DUPLICATE: "shows the same footage as another video",
    Status.EMPTY_FILE: "the file has no bytes",
    Status.UNREADABLE: "the file could not be read; the next build tries again",
    Status.NOT_A_VIDEO: "not a video",
    Status.NO_VIDEO_STREAM: "a media file without pictures",
    Status.DECODE_FAILED: "not one frame could be decoded",
    Status.DECODE_TIMEOUT: "decoding took too long; the next build tries again",
    Status.DECODER_CRASHED: "the decoder died on it; the next build tries again",
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
    Status.BLURRED: "the pictures are blurred",
    Status.STATIC: "the picture does not change",
    Status.INTERNAL_ERROR: "a defect of idpose: please report it",
}

MEASURES: dict[str, str] = {
    "rows": "triplets",
    "pool_pairs": "pairs of ID and pose picture that there were to choose from",
    "level": "rows that each pose pair gives, where it has as many",
    "exactness": "most rows by which a pose pair differs from the best possible; at most 1",
    "entropy": "evenness of the pose pairs: 1 = all equally frequent",
    "raw_entropy": "the same without balancing",
    "coverage": "share of all pose pairs that occur",
    "saturated_share": "share of the pose pairs of which everything was taken",
    "max_clip_share": "largest share of the rows that one clip gives",
    "max_reuse": "rows that the most used pose picture serves",
    "reuse_skewness": "skewness of the use of pose pictures; high = a few serve most rows",
    "diagonal_share": "share of rows whose ID and pose picture show the same pose",
}
