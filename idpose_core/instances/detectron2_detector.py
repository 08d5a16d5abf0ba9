"""Detectron2's model-zoo Faster R-CNN: an optional backend, imported when used.

Detectron2 is not on PyPI; its main branch builds from source. Its conventions differ from
torchvision's: pictures in BGR and 0..255, classes numbered from 0 without gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from idpose_core.instances.arrays import single_thread, to_detections
from idpose_core.instances.boxes import Detection
from idpose_core.instances.coco import COCO_CLASSES
from idpose_core.instances.weight_files import load_into, unusable_weights

MODEL_ZOO_CONFIG = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"

# Constants of the architecture: older files carry them, newer models do not
_CONSTANTS = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors")


class Detectron2Detector:
    """A detectron2 model that was trained on COCO's 80 classes in their contiguous order."""

    name = "detectron2"

    def __init__(
        self, model: Any, resize: Any, *, floor: float, weights_sha256: str | None, device: str
    ) -> None:
        """Wraps a model.

        Args:
            model: Takes a list of {"image": float BGR [3, h, w] in 0..255, "height", "width"} and
                returns for each {"instances"} with boxes in the frame of height and width.
            resize: Detectron2 augmentation that scales a picture to the model's test size.
            floor: Detections with a lower score are not reported.
            weights_sha256: Digest of the file that the weights came from.
            device: Torch device that the model is on.
        """
        self.weights_sha256 = weights_sha256
        self._model = model
        self._resize = resize
        self._floor = floor
        self._device = device

    @torch.inference_mode()
    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[Detection, ...]]:
        """Finds objects; see :class:`idpose_core.instances.detectors.Detector`.

        One picture at a time, as detectron2's own DefaultPredictor does.
        """
        with single_thread(self._device):
            return [self._detect_one(image) for image in images]

    def _detect_one(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        height, width = image.shape[:2]
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        resized = self._resize.get_transform(bgr).apply_image(bgr)
        blob = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)).astype(np.float32))
        (output,) = self._model([{"image": blob, "height": height, "width": width}])
        found = output["instances"].to("cpu")
        return to_detections(
            boxes=found.pred_boxes.tensor.numpy(),
            scores=found.scores.numpy(),
            names=[COCO_CLASSES[index] for index in found.pred_classes.tolist()],
            frame_size=(width, height),
            floor=self._floor,
        )


def build_model_zoo_faster_rcnn(*, floor: float, device: str) -> tuple[Any, Any]:
    """The model of ``MODEL_ZOO_CONFIG``, untrained, and the resizing that belongs to it.

    Raises:
        ImportError: Detectron2 is not installed, or pkg_resources is missing.
    """
    try:
        from detectron2 import model_zoo
        from detectron2.config import get_cfg
        from detectron2.data.transforms import ResizeShortestEdge
        from detectron2.modeling import build_model
    except ImportError as error:
        raise ImportError(
            f"the detectron2 detector cannot be imported ({error}): pip install 'setuptools<81' "
            "wheel ninja, then pip install --no-build-isolation "
            "git+https://github.com/facebookresearch/detectron2"
        ) from error
    config = get_cfg()
    config.merge_from_file(model_zoo.get_config_file(MODEL_ZOO_CONFIG))
    config.MODEL.WEIGHTS = ""  # else it would be downloaded
    config.MODEL.DEVICE = device
    config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = floor
    if config.INPUT.FORMAT != "BGR":
        raise RuntimeError(f"{MODEL_ZOO_CONFIG} expects {config.INPUT.FORMAT}, not BGR")
    shortest = config.INPUT.MIN_SIZE_TEST
    resize = ResizeShortestEdge([shortest, shortest], config.INPUT.MAX_SIZE_TEST)
    return build_model(config).eval(), resize


def load_model_zoo_faster_rcnn(weights: Path, *, floor: float, device: str) -> Detectron2Detector:
    """The model zoo's Faster R-CNN R50-FPN 3x with weights from a local file.

    Raises:
        ImportError: Detectron2 is not installed.
        ValueError: The weights are missing, damaged, of another network, or a pickle.
    """
    if weights.suffix == ".pkl":
        raise unusable_weights(
            weights,
            "model-zoo .pkl files are pickles, which can run code when they are read; "
            "convert it with idpose_core.instances.model_zoo_pickle.convert(SOURCE, DESTINATION), "
            "which reads arrays only",
        )
    model, resize = build_model_zoo_faster_rcnn(floor=floor, device=device)
    sha256 = load_into(model, weights, ignored=_CONSTANTS)
    return Detectron2Detector(model, resize, floor=floor, weights_sha256=sha256, device=device)
