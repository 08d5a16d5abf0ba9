"""YOLOX: decoding on known rows, then the published network against an independent reading."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from idpose_core.instances.boxes import Detection
from idpose_core.instances.coco import COCO_CLASSES
from idpose_core.instances.detectors import load_detector
from idpose_core.instances.yolox import decode, grid, letterbox

ROWS = 52 * 52 + 26 * 26 + 13 * 13


def test_letterbox_puts_a_bgr_picture_into_the_upper_left() -> None:
    image = np.zeros((208, 832, 3), np.uint8)
    image[:, :] = (10, 20, 30)
    blob, scale = letterbox(image, 416)
    assert scale == 0.5
    assert blob.shape == (1, 3, 416, 416)
    assert blob.dtype == np.float32
    assert np.all(blob[0, :, :104, :] == np.array([30, 20, 10])[:, None, None])
    assert np.all(blob[0, :, 104:, :] == 114)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1)])
def test_letterbox_of_extreme_pictures(shape: tuple[int, int]) -> None:
    blob, _ = letterbox(np.zeros((*shape, 3), np.uint8), 416)
    assert blob.shape == (1, 3, 416, 416)


def test_the_grid_runs_along_rows_stride_by_stride() -> None:
    cells, strides = grid(416)
    assert cells.shape == (ROWS, 2)
    assert cells[:3].tolist() == [[0, 0], [1, 0], [2, 0]]
    assert cells[52].tolist() == [0, 1]
    assert strides[52 * 52 - 1] == 8
    assert cells[52 * 52].tolist() == [0, 0]
    assert strides[52 * 52] == 16
    assert cells[-1].tolist() == [12, 12]
    assert strides[-1] == 32


def rows(*entries: tuple[int, float, float, float, float, float, str, float]) -> np.ndarray:
    """(row, x and y offset, width and height in cells, objectness, class, class score)."""
    raw = np.zeros((ROWS, 85), np.float32)
    for row, x, y, w, h, objectness, name, score in entries:
        raw[row, :5] = (x, y, math.log(w), math.log(h), objectness)
        raw[row, 5 + COCO_CLASSES.index(name)] = score
    return raw


def decoded(raw: np.ndarray, floor: float = 0.1) -> tuple[Detection, ...]:
    return decode(raw, size=416, scale=0.5, frame_size=(832, 416), floor=floor)


def test_a_known_row_becomes_a_known_box() -> None:
    row = 52 * 52 + 3 * 26 + 10  # stride 16, cell x=10, y=3
    (found,) = decoded(rows((row, 0.5, 0.25, 4, 2, 0.8, "bus", 0.5)))
    # centre (10.5, 3.25) * 16 / 0.5 = (336, 104); size (4, 2) * 16 / 0.5 = (128, 64)
    assert found.class_name == "bus"
    assert found.score == pytest.approx(0.4)
    box = found.box
    expected = (272 / 832, 400 / 832, 72 / 416, 136 / 416)
    assert (box.xmin, box.xmax, box.ymin, box.ymax) == pytest.approx(expected)


def test_boxes_are_clipped_to_the_frame() -> None:
    (found,) = decoded(rows((0, 0, 0, 10, 10, 0.9, "car", 0.9)))
    box = found.box
    assert (box.xmin, box.ymin) == (0, 0)
    assert (box.xmax, box.ymax) == pytest.approx((80 / 832, 80 / 416))


def test_the_floor_counts_objectness_times_class_score() -> None:
    raw = rows((0, 5, 5, 4, 4, 0.5, "car", 0.5))
    assert decoded(raw, floor=0.26) == ()
    assert len(decoded(raw, floor=0.25)) == 1


def test_car_and_truck_on_one_vehicle_are_one_detection_but_its_driver_remains() -> None:
    found = decoded(
        rows(
            (20, 9, 9, 8, 8, 0.9, "car", 0.8),
            (21, 8, 9, 8, 8, 0.9, "truck", 0.9),
            (22, 7, 9, 8, 8, 0.9, "person", 0.7),
        )
    )
    assert [d.class_name for d in found] == ["truck", "person"]


@pytest.fixture(scope="module")
def weights(real_data: Path) -> Path:
    pytest.importorskip("onnxruntime")
    return real_data / "detector" / "yolox_nano.onnx"


def stills(real_data: Path) -> list[np.ndarray]:
    pictures = [cv2.imread(str(path)) for path in sorted((real_data / "stills").glob("*.jpg"))]
    return [np.ascontiguousarray(picture[:, :, ::-1]) for picture in pictures]


def independent(weights: Path, image: np.ndarray, floor: float) -> list[tuple[str, float, list]]:  # type: ignore[type-arg]
    """Cell by cell, with torchvision's suppression; car, bus and truck as one class."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    height, width = image.shape[:2]
    scale = min(416 / width, 416 / height)
    square = np.full((416, 416, 3), 114, np.uint8)
    small = cv2.resize(image[:, :, ::-1], (int(width * scale), int(height * scale)))
    square[: small.shape[0], : small.shape[1]] = small
    raw = session.run(None, {"images": square.transpose(2, 0, 1)[None].astype(np.float32)})[0][0]
    boxes, scores, labels, row = [], [], [], 0
    for stride in (8, 16, 32):
        for y in range(416 // stride):
            for x in range(416 // stride):
                cx, cy = (raw[row, 0] + x) * stride / scale, (raw[row, 1] + y) * stride / scale
                w, h = (math.exp(v) * stride / scale for v in raw[row, 2:4])
                label = int(raw[row, 5:].argmax())
                score = raw[row, 4] * raw[row, 5 + label]
                if score >= floor:
                    corners = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
                    limits = (width, height, width, height)
                    boxes.append([min(max(c, 0), m) for c, m in zip(corners, limits, strict=True)])
                    scores.append(score)
                    labels.append(label)
                row += 1
    groups = torch.tensor([2 if label in (2, 5, 7) else label for label in labels])
    keep = batched_nms(torch.tensor(boxes), torch.tensor(scores), groups, 0.45)
    return [(COCO_CLASSES[labels[i]], float(scores[i]), boxes[i]) for i in keep.tolist()]


def test_the_published_network_against_an_independent_reading(
    weights: Path, real_data: Path
) -> None:
    detector = load_detector("yolox", weights, floor=0.3)
    pictures = stills(real_data)
    names = set()
    for image, found in zip(pictures, detector.detect(pictures), strict=True):
        height, width = image.shape[:2]
        expected = independent(weights, image, 0.3)
        assert [d.class_name for d in found] == [name for name, _, _ in expected]
        assert [d.score for d in found] == pytest.approx([s for _, s, _ in expected], abs=1e-5)
        for detection, (_, _, box) in zip(found, expected, strict=True):
            b = detection.box
            pixels = [b.xmin * width, b.ymin * height, b.xmax * width, b.ymax * height]
            assert pixels == pytest.approx(box, abs=0.01)
        names |= {d.class_name for d in found}
    assert names & {"car", "bus", "truck"}


def test_the_same_picture_gives_the_same_bits_alone_and_among_others(
    weights: Path, real_data: Path
) -> None:
    pictures = stills(real_data)
    together = load_detector("yolox", weights).detect(pictures)
    alone = [load_detector("yolox", weights).detect([picture])[0] for picture in pictures]
    assert together == alone
    assert load_detector("yolox", weights).detect([]) == []


def test_name_and_digest(weights: Path) -> None:
    detector = load_detector("yolox", weights)
    assert detector.name == "yolox"
    assert detector.weights_sha256 == (
        "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14"
    )


def test_pictures_of_a_pixel_and_of_nothing_but_black(weights: Path) -> None:
    detector = load_detector("yolox", weights, floor=0.5)
    black = np.zeros((480, 640, 3), np.uint8)
    assert detector.detect([np.zeros((1, 1, 3), np.uint8), black]) == [(), ()]


def test_a_damaged_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "yolox.onnx"
    path.write_bytes(b"\x08not a network")
    with pytest.raises(ValueError, match="onnxruntime cannot open it") as error:
        load_detector("yolox", path)
    assert "idpose weights import" in str(error.value)
