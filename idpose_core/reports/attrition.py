"""How many videos came how far, beside what the paper had (method section 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage.reasons import Status

# Clips of YouTube-BoundingBoxes after the detector at 0.9, training and test (paper section 4).
PAPER_CLIPS = {"car": (2233, 186), "bus": (3008, 302), "truck": (1833, 137)}

_NOT_DECODED = {
    Status.NO_VIDEO_STREAM,
    Status.DECODE_FAILED,
    Status.DECODE_TIMEOUT,
    Status.DECODER_CRASHED,
    Status.FRAME_TOO_SMALL,
    Status.FRAME_TOO_LARGE,
    Status.NOT_AS_PUBLISHED,
}
_NOT_DETECTED = {
    Status.DUPLICATE,
    Status.NEAR_DUPLICATE,
    Status.NO_ANNOTATION,
    Status.NO_DETECTION,
    Status.NO_TRACK,
}
_NOT_KEPT = {
    Status.TOO_SHORT,
    Status.TOO_FEW_CROPS,
    Status.TOO_SMALL,
    Status.TOUCHES_BORDER,
    Status.BAD_ASPECT,
    Status.BLURRED,
    Status.STATIC,
    Status.INTERNAL_ERROR,
}


def steps(videos: Mapping[str, int]) -> dict[str, int]:
    """How many videos were requested, available, decoded, detected and kept.

    Args:
        videos: How many have each status.
    """
    counts = {Status(name): count for name, count in videos.items()}
    kept = counts.get(Status.OK, 0)
    detected = kept + _count(counts, _NOT_KEPT)
    decoded = detected + _count(counts, _NOT_DETECTED)
    available = decoded + _count(counts, _NOT_DECODED)
    found = {"available": available, "decoded": decoded, "detected": detected, "kept": kept}
    return {"requested": sum(counts.values()), **found}


def clips_beside_the_paper(
    clips: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> dict[str, dict[str, int]]:
    """Kept clips by class and split, and the paper's, for classes that the paper has.

    Args:
        clips: Rows of the clips table.
        config: Of the dataset; only annotated footage compares with the paper's.
    """
    if not config["source"].get("annotated") or config["source"]["kind"] == "rendered":
        return {}
    found = {}
    for name in set(config["classes"]) & set(PAPER_CLIPS):
        kept = [c["split"] for c in clips if c["status"] == Status.OK and c["class_name"] == name]
        train, test = PAPER_CLIPS[name]
        found[name] = {
            "train": kept.count("train"),
            "test": kept.count("test"),
            "paper_train": train,
            "paper_test": test,
        }
    return found


def _count(counts: Mapping[Status, int], statuses: set[Status]) -> int:
    return sum(counts.get(status, 0) for status in statuses)
