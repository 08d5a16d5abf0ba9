"""Non-maximum suppression, with car, bus and truck counted as one class."""

from __future__ import annotations

from collections.abc import Iterable

from idpose_core.instances.boxes import Detection, iou
from idpose_core.instances.coco import VEHICLES


def rank(detection: Detection) -> tuple[float, str, float, float, float, float]:
    """Sort key: falling score, ties broken by class and box, so that input order never matters."""
    box = detection.box
    return (-detection.score, detection.class_name, box.xmin, box.xmax, box.ymin, box.ymax)


def same_object_class(a: str, b: str) -> bool:
    """Whether two class names may be readings of one object."""
    return a == b or (a in VEHICLES and b in VEHICLES)


def suppress(detections: Iterable[Detection], *, max_iou: float = 0.5) -> tuple[Detection, ...]:
    """Greedy non-maximum suppression per class; car, bus and truck suppress each other.

    A detector that is unsure whether a vehicle is a car or a truck reports both boxes; class-wise
    suppression would keep two objects where there is one.

    Args:
        detections: In any order.
        max_iou: A box overlapping a better one of its class by more than this is dropped.

    Returns:
        The surviving detections, sorted by falling score.
    """
    kept: list[Detection] = []
    for candidate in sorted(detections, key=rank):
        if all(
            not same_object_class(candidate.class_name, better.class_name)
            or iou(candidate.box, better.box) <= max_iou
            for better in kept
        ):
            kept.append(candidate)
    return tuple(kept)
