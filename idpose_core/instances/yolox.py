"""YOLOX through onnxruntime: a COCO detector that is fast enough without a GPU.

Input and output conventions follow the published ONNX exports (Megvii-BaseDetection/YOLOX,
``demo/ONNXRuntime`` and ``yolox/utils/demo_utils.py``): BGR in 0..255, letterboxed into the upper
left corner with grey 114, boxes coded on grids of stride 8, 16 and 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.arrays import to_detections
from idpose_core.instances.boxes import Detection
from idpose_core.instances.coco import COCO_CLASSES
from idpose_core.instances.weight_files import file_sha256, unusable_weights

CALIBRATED_THRESHOLD = 0.5
"""Score at which YOLOX-nano stands where Faster R-CNN stands at 0.9.

At 0.5 it finds 34 of 35 annotated boxes of two YouTube-BoundingBoxes videos (0.4: 35, 0.6: 32,
0.9: 4) and every box there is right. Of all boxes of 32 real clips with a side of 64 pixels, looked
at one by one, 2 of 47 between 0.5 and 0.6 show no vehicle, 3 of 30 between 0.4 and 0.5, 7 of 32
between 0.3 and 0.4.
Measured by ``tests/benchmarks/detector_ytbb.py``.
"""

_STRIDES = (8, 16, 32)
_PAD_VALUE = 114
_NMS_IOU = 0.45  # the exports' own demo


class YoloxDetector:
    """A YOLOX network in ONNX form, with COCO's 80 classes.

    One thread and one picture at a time, so that the same picture always gives the same bits.
    """

    name = "yolox"

    def __init__(self, weights: Path, *, floor: float) -> None:
        """Opens the network.

        Args:
            weights: The ``.onnx`` file.
            floor: Detections with a lower score are not reported.

        Raises:
            ImportError: onnxruntime is not installed.
            ValueError: The file is missing, damaged, or not a YOLOX network for COCO.
        """
        self.weights_sha256: str | None = file_sha256(weights)
        self._floor = floor
        self._session = _open_session(weights)
        self._size = _input_size(self._session, weights)

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[Detection, ...]]:
        """Finds objects; see :class:`idpose_core.instances.detectors.Detector`."""
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        blob, scale = letterbox(image, self._size)
        name = self._session.get_inputs()[0].name
        (output,) = self._session.run(None, {name: blob})
        return decode(
            np.asarray(output, dtype=np.float32)[0],
            size=self._size,
            scale=scale,
            frame_size=(image.shape[1], image.shape[0]),
            floor=self._floor,
        )


def decode(
    raw: NDArray[np.float32],
    *,
    size: int,
    scale: float,
    frame_size: tuple[int, int],
    floor: float,
) -> tuple[Detection, ...]:
    """Turns the network's output into detections.

    Args:
        raw: [N, 85], a row for each grid cell: centre offset in cells, log of width and height in
            cells, objectness, 80 class scores (both in [0, 1]).
        size: Side of the network's square input in pixels.
        scale: Network pixels per frame pixel, from :func:`letterbox`.
        frame_size: Width and height of the frame in pixels.
        floor: Detections with a lower score (objectness times class score) are dropped.

    Returns:
        Detections after non-maximum suppression, sorted by falling score.
    """
    scores = raw[:, 4:5] * raw[:, 5:]
    classes = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), classes]
    keep = best >= floor
    cells, strides = grid(size)
    centres = (raw[keep, :2] + cells[keep]) * strides[keep] / scale
    sizes = np.exp(raw[keep, 2:4]) * strides[keep] / scale
    return to_detections(
        boxes=np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1),
        scores=best[keep],
        names=[COCO_CLASSES[index] for index in classes[keep]],
        frame_size=frame_size,
        floor=floor,
        max_iou=_NMS_IOU,
    )


def letterbox(image: NDArray[np.uint8], size: int) -> tuple[NDArray[np.float32], float]:
    """Scales a picture into the upper left of a grey square, as YOLOX was trained.

    Args:
        image: RGB picture, uint8 [H, W, 3].
        size: Side of the square in pixels.

    Returns:
        The BGR blob, float32 [1, 3, size, size] in 0..255, and the scale that was applied.
    """
    height, width = image.shape[:2]
    scale = min(size / height, size / width)
    target = (max(1, int(width * scale)), max(1, int(height * scale)))
    square = np.full((size, size, 3), _PAD_VALUE, dtype=np.uint8)
    square[: target[1], : target[0]] = cv2.resize(image, target, interpolation=cv2.INTER_LINEAR)
    blob = square[:, :, ::-1].transpose(2, 0, 1)[None]
    return np.ascontiguousarray(blob, dtype=np.float32), scale


def grid(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cell indices (x, y) and stride of every output row: float32 [N, 2] and [N, 1]."""
    cells, strides = [], []
    for stride in _STRIDES:
        side = size // stride
        y, x = np.mgrid[:side, :side]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((side * side, 1), stride))
    return (
        np.concatenate(cells).astype(np.float32),
        np.concatenate(strides).astype(np.float32),
    )


def _open_session(weights: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "the yolox detector needs onnxruntime: pip install 'idpose[yolox]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    try:
        return onnxruntime.InferenceSession(
            str(weights), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises a dozen unrelated types for a damaged file
        raise unusable_weights(weights, f"onnxruntime cannot open it ({error})") from error


def _input_size(session: Any, weights: Path) -> int:
    """Side of the square input; the network's shapes must be those of YOLOX with 80 classes."""
    shape = session.get_inputs()[0].shape
    output = session.get_outputs()[0].shape
    if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] and isinstance(shape[2], int):
        size = shape[2]
        rows = sum((size // stride) ** 2 for stride in _STRIDES)
        if list(output[1:]) == [rows, 5 + len(COCO_CLASSES)]:
            return int(size)
    raise unusable_weights(
        weights, f"not a YOLOX network for COCO: input {list(shape)}, output {list(output)}"
    )
