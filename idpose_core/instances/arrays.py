"""What the backends share: from arrays of boxes to detections, and repeatable sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from idpose_core.instances.boxes import Box, Detection
from idpose_core.instances.suppression import suppress


def to_detections(
    *,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    names: Sequence[str | None],
    frame_size: tuple[int, int],
    floor: float,
    max_iou: float = 0.5,
) -> tuple[Detection, ...]:
    """Turns a network's output into detections.

    Args:
        boxes: [N, 4] as x1, y1, x2, y2 in pixels.
        scores: [N] in [0, 1].
        names: N class names; None drops the row.
        frame_size: Width and height in pixels.
        floor: Rows with a lower score are dropped.
        max_iou: Of boxes of one class that overlap more than this, the best remains. Networks that
            suppress within classes themselves have left only car, bus and truck to do.

    Returns:
        Detections clipped to the frame, sorted by falling score, each vehicle once.
    """
    width, height = frame_size
    relative = np.clip(boxes / np.array([width, height, width, height]), 0.0, 1.0)
    detections = (
        Detection(name, float(score), Box(float(x1), float(x2), float(y1), float(y2)))
        for name, score, (x1, y1, x2, y2) in zip(names, scores, relative, strict=True)
        if name is not None and score >= floor
    )
    return suppress((d for d in detections if d.box.area > 0), max_iou=max_iou)


@contextmanager
def single_thread(device: str) -> Iterator[None]:
    """On the CPU one torch thread, because the number of threads changes the order of sums."""
    if not device.startswith("cpu"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
