from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    fasterrcnn_resnet50_fpn_v2,
)

from idpose_core.instances.coco import COCO_CATEGORIES, COCO_CLASSES
from idpose_core.instances.detectors import load_detector
from idpose_core.instances.torchvision_detector import TorchvisionDetector


def test_the_names_are_torchvisions() -> None:
    theirs = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
    assert len(COCO_CATEGORIES) == len(theirs) == 91
    for ours, name in zip(COCO_CATEGORIES, theirs, strict=True):
        assert ours == (None if name in ("__background__", "N/A") else name)
    assert [COCO_CATEGORIES.index(name) for name in ("car", "bus", "truck")] == [3, 6, 8]
    assert [COCO_CLASSES.index(name) for name in ("car", "bus", "truck")] == [2, 5, 7]


class StandInModel(nn.Module):
    """Not a detector: answers with fixed boxes and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.seen += images
        answer = {
            "boxes": torch.tensor(
                [
                    [10.0, 20.0, 60.0, 40.0],  # car
                    [10.0, 20.0, 60.0, 41.0],  # truck, the same vehicle
                    [-5.0, 50.0, 30.0, 120.0],  # bus, beyond the frame
                    [0.0, 0.0, 9.0, 9.0],  # label 12, which names nothing
                    [70.0, 0.0, 90.0, 20.0],  # person below the floor
                    [70.0, 5.0, 70.0, 20.0],  # empty
                ]
            ),
            "labels": torch.tensor([3, 8, 6, 12, 1, 3]),
            "scores": torch.tensor([0.9, 0.8, 0.95, 0.9, 0.2, 0.9]),
        }
        return [answer for _ in images]


def test_boxes_names_floor_and_clipping_with_a_stand_in_model() -> None:
    model = StandInModel()
    detector = TorchvisionDetector(model, floor=0.3, name="stand-in")
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :] = (255, 0, 51)
    (found,) = detector.detect([image])
    assert [(d.class_name, round(d.score, 3)) for d in found] == [("bus", 0.95), ("car", 0.9)]
    bus, car = found
    assert (bus.box.xmin, bus.box.ymax) == (0, 1)
    box = (car.box.xmin, car.box.xmax, car.box.ymin, car.box.ymax)
    assert box == pytest.approx((0.05, 0.3, 0.2, 0.4))
    (shown,) = model.seen
    assert shown.shape == (3, 100, 200)
    torch.testing.assert_close(shown[:, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    assert (detector.name, detector.weights_sha256) == ("stand-in", None)


def test_the_number_of_threads_is_as_before() -> None:
    before = torch.get_num_threads()
    TorchvisionDetector(StandInModel(), floor=0.3).detect([np.zeros((9, 9, 3), np.uint8)])
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_the_real_architecture_with_random_weights(tmp_path: Path, real_data: Path) -> None:
    """Through files and back: the same boxes as torchvision's own model gives."""
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=91, box_score_thresh=0.012
    ).eval()
    path = tmp_path / "fasterrcnn.pth"
    torch.save(model.state_dict(), path)
    picture = cv2.imread(str(real_data / "stills" / "000000001532.jpg"))[:, :, ::-1].copy()
    detector = load_detector("torchvision", path, floor=0.012)
    (found,) = detector.detect([picture])
    with torch.inference_mode():
        (expected,) = model([torch.from_numpy(picture.transpose(2, 0, 1).copy()).float() / 255])
    width = picture.shape[1]
    theirs = {
        (COCO_CATEGORIES[label], round(score, 4), round(box[0] / width, 3))
        for label, score, box in zip(
            expected["labels"].tolist(),
            expected["scores"].tolist(),
            expected["boxes"].tolist(),
            strict=True,
        )
    }
    assert len(found) > 0
    for d in found:
        assert (d.class_name, round(d.score, 4), round(d.box.xmin, 3)) in theirs
    assert detector.detect([picture]) == [found]
    assert detector.weights_sha256 is not None

    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(ValueError, match="damaged"):
        load_detector("torchvision", truncated)
    other = tmp_path / "other.pth"
    torch.save({k: v for k, v in model.state_dict().items() if "roi_heads" not in k}, other)
    with pytest.raises(ValueError, match="missing, the first is roi_heads"):
        load_detector("torchvision", other)
