"""One's own pictures are cut as the build of the model's dataset cuts its own."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from idpose_core.composition.framing import Framing, detectors_for
from idpose_core.composition.objects import NoObjectError, corners, find_objects, marked
from idpose_core.config import BuildConfig
from idpose_core.instances.boxes import Box, Detection
from idpose_core.instances.cropping import crop_square

VIEWS = {"source": {"kind": "rendered-views"}, "classes": ["car"], "image": {"size": 72}}


def street() -> np.ndarray:
    """A red ellipse on natural noise, 200 wide and 100 high in a frame of 400 x 300."""
    draws = np.random.default_rng(0)
    frame = draws.integers(60, 120, (300, 400, 3), dtype=np.uint8)
    cv2.ellipse(frame, (200, 150), (100, 50), 0, 0, 360, (220, 20, 20), -1)
    return frame


CAR = Box(0.25, 0.75, 1 / 3, 2 / 3)


def test_the_framing_of_a_video_dataset_is_its_crop_stage() -> None:
    config = BuildConfig(name="x", image={"size": 96, "scale": 1.4}).identity()
    framing = Framing.of(config)
    assert (framing.size, framing.scale, framing.studio) == (96, 1.4, None)
    assert (framing.classes, framing.detector, framing.threshold) == (("car",), "torchvision", 0.9)
    crop, transform = framing.cut(street(), CAR)
    wanted, square = crop_square(street(), CAR, size=96, scale=1.4)
    assert (crop == wanted).all() and transform == square


def test_what_a_manifest_does_not_say_is_the_default() -> None:
    framing = Framing.of({"seed": 1})
    assert (framing.size, framing.scale, framing.source) == (160, 1.25, "folder")


def test_a_set_of_views_shows_the_object_alone_at_the_sets_scale() -> None:
    framing = Framing.of(VIEWS)
    assert framing.studio is not None
    crop, transform = framing.cut(street(), CAR)
    wide = 200 / 0.83, 100 / 0.4
    assert transform.side == round(max(wide))
    size = len(crop)
    rows, columns = np.mgrid[:size, :size] + 0.5 - size / 2
    scale = size / transform.side
    away = np.hypot(columns / (100 * scale), rows / (50 * scale))
    assert (crop[away > 1.15] == 231).all()
    assert (abs(crop[away < 0.85].astype(int) - (220, 20, 20)) <= 1).all()


def test_a_car_from_its_end_is_not_blown_up() -> None:
    framing = Framing.of(VIEWS)
    _, front = framing.cut(street(), Box(0.4, 0.65, 1 / 3, 2 / 3))  # 100 x 100
    _, side = framing.cut(street(), CAR)  # 200 x 100
    assert front.side == side.side  # one height, one scale


class Detector:
    name, weights_sha256 = "known", None

    def __init__(self, *found: Detection) -> None:
        self.found = found

    def detect(self, images: list[np.ndarray]) -> list[tuple[Detection, ...]]:
        return [self.found for _ in images]


SMALL, LARGE = Box(0.1, 0.2, 0.1, 0.2), Box(0.3, 0.9, 0.3, 0.8)


def chosen(*found: Detection) -> Detection:
    return find_objects(street(), Detector(*found), ("car",), 0.5)[0]


def test_the_object_with_the_highest_score_times_area_is_meant() -> None:
    small, large = Detection("car", 0.9, SMALL), Detection("car", 0.6, LARGE)
    assert chosen(small, large) == large
    assert chosen(small, Detection("car", 0.4, LARGE)) == small  # below the threshold


def test_a_vehicle_of_another_name_is_meant_where_there_is_none_of_the_class() -> None:
    car, bus = Detection("car", 0.6, SMALL), Detection("bus", 0.9, LARGE)
    assert chosen(car, bus) == car
    assert chosen(bus, Detection("dog", 0.9, LARGE)) == bus


def test_no_object_names_the_classes_and_the_remedy() -> None:
    with pytest.raises(NoObjectError, match=r"no car is found .* mark it with --box x0,y0,x1,y1"):
        chosen(Detection("dog", 0.9, LARGE))
    with pytest.raises(NoObjectError, match=r"has 0\.41: mark it with --box 120,90,360,240"):
        chosen(Detection("car", 0.41, LARGE))


def test_a_person_marks_pixels() -> None:
    found = marked(street(), (100, 100, 300, 200))
    assert found.box == CAR and corners(found.box, street()) == (100, 100, 300, 200)


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 10), (10, 10, 5, 20), (-1, 0, 5, 5), (0, 0, 401, 10), (0, float("nan"), 9, 9)]
)
def test_a_box_outside_of_the_picture_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(NoObjectError, match="none in a picture of 400 x 300"):
        marked(street(), box)


def test_the_builds_own_detector_comes_first_and_none_of_the_rendered_world() -> None:
    def kinds(source: str, detector: str = "torchvision") -> list[str]:
        config = {"source": {"kind": source}, "detector": {"kind": detector, "threshold": 0.8}}
        return [weights or kind for kind, weights, _ in detectors_for(Framing.of(config))]

    assert kinds("folder", "detectron2")[0] == "detectron2"
    assert kinds("rendered")[0] == "yolox" and kinds("rendered")[-1] == "rendered-detector"
    assert kinds("rendered-views") == ["yolox", "torchvision", "detectron2"]
    own = detectors_for(Framing.of({"detector": {"kind": "yolox", "threshold": 0.8}}))[0]
    assert own == ("yolox", None, 0.8)
