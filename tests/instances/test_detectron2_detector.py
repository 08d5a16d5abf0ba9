"""Detectron2: conventions with a stand-in model, and the real thing where it is installed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from idpose_core.instances.coco import COCO_CLASSES
from idpose_core.instances.detectors import load_detector
from idpose_core.instances.detectron2_detector import (
    Detectron2Detector,
    build_model_zoo_faster_rcnn,
)


class StandInInstances:
    """Has the fields of detectron2's Instances that are read."""

    def __init__(self) -> None:
        self.pred_boxes = SimpleNamespace(
            tensor=torch.tensor([[20.0, 10.0, 60.0, 40.0], [100.0, 10.0, 210.0, 60.0]])
        )
        self.scores = torch.tensor([0.9, 0.8])
        self.pred_classes = torch.tensor([2, 7])

    def to(self, device: str) -> StandInInstances:
        assert device == "cpu"
        return self


class StandInResize:
    """Doubles the picture, where detectron2 would bring its shorter side to 800."""

    def get_transform(self, image: np.ndarray) -> Any:
        return SimpleNamespace(apply_image=lambda picture: picture.repeat(2, 0).repeat(2, 1))


def test_bgr_class_order_and_frame_coordinates_with_a_stand_in_model() -> None:
    shown: list[dict[str, Any]] = []

    def model(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        shown.extend(inputs)
        return [{"instances": StandInInstances()} for _ in inputs]

    detector = Detectron2Detector(
        model, StandInResize(), floor=0.1, weights_sha256=None, device="cpu"
    )
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :] = (255, 128, 7)
    (found,) = detector.detect([image])
    assert [d.class_name for d in found] == ["car", "truck"]
    car, truck = (d.box for d in found)
    assert (car.xmin, car.xmax, car.ymin, car.ymax) == pytest.approx((0.1, 0.3, 0.1, 0.4))
    assert (truck.xmin, truck.xmax) == (0.5, 1.0)
    (only,) = shown
    assert (only["height"], only["width"]) == (100, 200)
    assert only["image"].shape == (3, 200, 400)
    assert only["image"].dtype == torch.float32
    assert only["image"][:, 0, 0].tolist() == [7.0, 128.0, 255.0]


def test_without_detectron2_the_error_says_what_to_install(tmp_path: Path) -> None:
    try:
        import detectron2  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pip install --no-build-isolation"):
            load_detector("detectron2", tmp_path / "w.pth")
    else:
        pytest.skip("detectron2 is installed")


@pytest.mark.slow
def test_the_real_detectron2_with_random_weights(tmp_path: Path, real_data: Path) -> None:
    """Built from its public source: the model-zoo architecture, through a file and back."""
    pytest.importorskip("detectron2")
    from detectron2.data import MetadataCatalog
    from detectron2.engine import DefaultPredictor

    assert MetadataCatalog.get("coco_2017_val").thing_classes == list(COCO_CLASSES)

    floor = 0.0125  # random weights give every class about 1 in 81
    torch.manual_seed(0)
    model, _ = build_model_zoo_faster_rcnn(floor=floor, device="cpu")
    path = tmp_path / "model_final.pth"
    torch.save({"model": model.state_dict()}, path)
    bgr = cv2.imread(str(real_data / "stills" / "000000001532.jpg"))
    height, width = bgr.shape[:2]
    detector = load_detector("detectron2", path, floor=floor)
    (found,) = detector.detect([np.ascontiguousarray(bgr[:, :, ::-1])])
    assert len(found) > 0

    predictor = _default_predictor(DefaultPredictor, path, floor)
    expected = predictor(bgr)["instances"]
    theirs = {
        (COCO_CLASSES[label], round(score, 4), *(round(x, 1) for x in box))
        for label, score, box in zip(
            expected.pred_classes.tolist(),
            expected.scores.tolist(),
            expected.pred_boxes.tensor.tolist(),
            strict=True,
        )
    }
    for d in found:
        corners = (d.box.xmin * width, d.box.ymin * height, d.box.xmax * width, d.box.ymax * height)
        assert (d.class_name, round(d.score, 4), *(round(x, 1) for x in corners)) in theirs
    assert detector.detect([np.ascontiguousarray(bgr[:, :, ::-1])]) == [found]


def _default_predictor(predictor: Any, weights: Path, floor: float) -> Any:
    """Detectron2's own way from a configuration and a file to predictions on BGR pictures."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    config = get_cfg()
    config.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"))
    config.MODEL.WEIGHTS = str(weights)
    config.MODEL.DEVICE = "cpu"
    config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = floor
    return predictor(config)
