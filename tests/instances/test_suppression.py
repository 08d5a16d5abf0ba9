from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from idpose_core.instances.boxes import Box, Detection
from idpose_core.instances.suppression import suppress

BOX = Box(0.2, 0.6, 0.2, 0.6)


def test_one_vehicle_read_as_car_and_truck_is_one_detection() -> None:
    car, truck = Detection("car", 0.6, BOX), Detection("truck", 0.7, BOX)
    assert suppress([car, truck]) == (truck,)


def test_other_classes_do_not_suppress_each_other() -> None:
    car, driver = Detection("car", 0.6, BOX), Detection("person", 0.7, BOX)
    assert suppress([car, driver]) == (driver, car)


def test_two_vehicles_side_by_side_both_remain() -> None:
    left, right = Detection("car", 0.6, Box(0, 0.5, 0, 1)), Detection("bus", 0.7, Box(0.4, 1, 0, 1))
    assert suppress([left, right]) == (right, left)


@st.composite
def detection_lists(draw: st.DrawFn) -> list[Detection]:
    count = draw(st.integers(0, 12))
    # distinct scores: the reference breaks ties in its own way
    scores = draw(st.lists(st.integers(1, 999), min_size=count, max_size=count, unique=True))
    detections = []
    for score in scores:
        x, y = draw(st.integers(0, 6)), draw(st.integers(0, 6))
        w, h = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        name = draw(st.sampled_from(["car", "bus", "truck", "person"]))
        box = Box(x / 10, (x + w) / 10, y / 10, (y + h) / 10)
        detections.append(Detection(name, score / 1000, box))
    return detections


@given(detection_lists(), st.randoms(use_true_random=False))
def test_agrees_with_torchvision_and_ignores_the_order(detections, random) -> None:  # type: ignore[no-untyped-def]
    max_iou = 0.47  # no two boxes on this grid overlap by exactly that
    shuffled = list(detections)
    random.shuffle(shuffled)
    kept = suppress(shuffled, max_iou=max_iou)
    if not detections:
        assert kept == ()
        return
    keep = batched_nms(
        torch.tensor([[d.box.xmin, d.box.ymin, d.box.xmax, d.box.ymax] for d in detections]),
        torch.tensor([d.score for d in detections]),
        torch.tensor([int(d.class_name == "person") for d in detections]),
        max_iou,
    )
    assert kept == tuple(detections[i] for i in keep.tolist())
    assert suppress(kept, max_iou=max_iou) == kept


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_single_box_is_kept_whatever_its_score(score: float) -> None:
    assert suppress([Detection("car", score, BOX)]) == (Detection("car", score, BOX),)
