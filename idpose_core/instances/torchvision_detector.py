"""Torchvision's detection models: the default detector, Faster R-CNN R50-FPN v2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from idpose_core.instances.arrays import single_thread, to_detections
from idpose_core.instances.boxes import Detection
from idpose_core.instances.coco import COCO_CATEGORIES
from idpose_core.instances.small_faster_rcnn import class_names_of, small_faster_rcnn
from idpose_core.instances.weight_files import load_into


class TorchvisionDetector:
    """Any model with torchvision's detection interface.

    The model takes a list of float pictures [3, H, W] in [0, 1], RGB, and returns for each a
    dictionary of ``boxes`` (x1, y1, x2, y2 in pixels), ``labels`` and ``scores``.
    """

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str | None] = COCO_CATEGORIES,
        *,
        floor: float,
        name: str = "torchvision",
        weights_sha256: str | None = None,
        device: str = "cpu",
    ) -> None:
        """Wraps a model.

        Args:
            model: Its own score threshold should not lie above ``floor``.
            class_names: Name by label; None for labels that name nothing (the background).
            floor: Detections with a lower score are not reported.
            name: Name under which its detections are recorded.
            weights_sha256: Digest of the file that its weights came from.
            device: Torch device to run on.
        """
        self.name = name
        self.weights_sha256 = weights_sha256
        self._model = model.to(device).eval()
        self._class_names = tuple(class_names)
        self._floor = floor
        self._device = device

    @torch.inference_mode()
    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[Detection, ...]]:
        """Finds objects; see :class:`idpose_core.instances.detectors.Detector`.

        One picture at a time: in a batch a picture is padded to its neighbours' size, which would
        make its detections depend on them.
        """
        with single_thread(self._device):
            return [self._detect_one(image) for image in images]

    def _detect_one(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        picture = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        (found,) = self._model([picture.to(self._device).float() / 255])
        return to_detections(
            boxes=found["boxes"].cpu().numpy(),
            scores=found["scores"].cpu().numpy(),
            names=[self._class_names[label] for label in found["labels"].tolist()],
            frame_size=(image.shape[1], image.shape[0]),
            floor=self._floor,
        )


def load_faster_rcnn(weights: Path, *, floor: float, device: str) -> TorchvisionDetector:
    """A Faster R-CNN from a local file: R50-FPN v2 with COCO weights, or the small one.

    A file of the small network says so (``small_faster_rcnn.class_names_of``).

    Source: Li et al., "Benchmarking Detection Transfer Learning with Vision Transformers" 2021, as
    ``torchvision.models.detection.fasterrcnn_resnet50_fpn_v2`` (46.7 box AP).

    Raises:
        ValueError: The weights are missing, damaged or of another network.
    """
    class_names = class_names_of(weights)
    if class_names is not None:
        small = small_faster_rcnn(len(class_names), floor=floor)
        sha256 = load_into(small, weights)
        labels = (None, *class_names)
        return TorchvisionDetector(small, labels, floor=floor, weights_sha256=sha256, device=device)
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    model = fasterrcnn_resnet50_fpn_v2(
        weights=None,
        weights_backbone=None,
        num_classes=len(COCO_CATEGORIES),
        box_score_thresh=floor,
    )
    sha256 = load_into(model, weights)
    return TorchvisionDetector(model, floor=floor, weights_sha256=sha256, device=device)
