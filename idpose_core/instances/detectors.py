"""Detectors behind one small protocol.

The paper finds objects with a Faster R-CNN trained on COCO (section 4). Scores are not calibrated
between detectors, so a threshold belongs to one of them: 0.9 keeps other boxes of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.boxes import Detection

DetectorKind = Literal["torchvision", "detectron2", "yolox"]


class Detector(Protocol):
    """Finds the objects of all COCO classes in pictures."""

    @property
    def name(self) -> str:
        """Name under which its detections are recorded."""

    @property
    def weights_sha256(self) -> str | None:
        """Digest of the weights file, None where the network did not come from a file."""

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[Detection, ...]]:
        """Finds objects.

        Args:
            images: RGB pictures, uint8 [H, W, 3], of any sizes.

        Returns:
            For each picture its detections with COCO class names and a score of at least the
            detector's floor, sorted by falling score, boxes clipped to the picture; one vehicle
            seen as car and as truck is reported once, under the better score.
        """


def load_detector(
    kind: DetectorKind, weights: Path | None, *, floor: float = 0.1, device: str = "cpu"
) -> Detector:
    """Loads a COCO detector from local weights.

    Args:
        kind: ``torchvision`` (Faster R-CNN R50-FPN v2), ``detectron2`` (model-zoo Faster R-CNN
            R50-FPN 3x) or ``yolox`` (an ONNX file).
        weights: Path of the weights. Nothing is ever downloaded.
        floor: Detections with a lower score are not reported. Keep it well below the threshold at
            which crops are made: weaker boxes bridge gaps when linking over time.
        device: Torch device; the yolox backend runs on the CPU only.

    Raises:
        ImportError: The backend's package is not installed; the message has the pip command.
        ValueError: No weights, weights that are missing, damaged or of another network, an
            unknown kind, or a device that the backend cannot use.
    """
    if kind not in ("torchvision", "detectron2", "yolox"):
        raise ValueError(f"unknown detector kind {kind!r}: torchvision, detectron2 or yolox")
    if weights is None:
        raise ValueError(
            f"the {kind} detector needs weights: import a file with "
            "`idpose weights import NAME PATH` "
            "and set detector.weights"
        )
    if kind == "torchvision":
        from idpose_core.instances.torchvision_detector import load_faster_rcnn

        return load_faster_rcnn(weights, floor=floor, device=device)
    if kind == "detectron2":
        from idpose_core.instances.detectron2_detector import load_model_zoo_faster_rcnn

        return load_model_zoo_faster_rcnn(weights, floor=floor, device=device)
    if device != "cpu":
        raise ValueError(f"the yolox detector runs on the CPU only, not on {device!r}")
    from idpose_core.instances.yolox import YoloxDetector

    return YoloxDetector(weights, floor=floor)
