from __future__ import annotations

import pytest

from idpose_core.instances.boxes import Box, Detection, FrameDetections
from idpose_core.instances.linking import follow_annotation, tracks_from_annotation
from idpose_core.video.annotations import AnnotationTrack

CAR = frozenset({"car"})
ANNOTATION = AnnotationTrack(
    video_id="v",
    class_name="car",
    object_id="3",
    timestamps_ms=(1000, 2000, 3000, 4000),
    boxes=(Box(0.1, 0.3, 0.4, 0.6), Box(0.3, 0.5, 0.4, 0.6), None, Box(0.5, 0.7, 0.4, 0.6)),
)


def frame(timestamp_ms: int, *detections: Detection) -> FrameDetections:
    return FrameDetections(timestamp_ms, 640, 360, False, detections)


def car(xmin: float, score: float = 0.9, name: str = "car") -> Detection:
    return Detection(name, score, Box(xmin, xmin + 0.2, 0.4, 0.6))


def test_the_detection_on_the_interpolated_box_is_followed_not_the_largest_or_surest() -> None:
    large = Detection("car", 0.99, Box(0.4, 1.0, 0.0, 1.0))
    frames = [frame(1500, large, car(0.21)), frame(1750, large, car(0.26))]
    track = follow_annotation(frames, ANNOTATION, classes=CAR, threshold=0.5)
    assert track is not None
    assert (track.class_name, track.object_id) == ("car", "3")
    assert [o.detection for o in track.observations] == [car(0.21), car(0.26)]
    assert track.observations[0].timestamp_ms == 1500


def test_of_two_that_fit_the_better_overlap_wins() -> None:
    frames = [frame(1000, car(0.14, score=0.99), car(0.11, score=0.6))]
    track = follow_annotation(frames, ANNOTATION, classes=CAR, threshold=0.5)
    assert track is not None
    assert [o.detection for o in track.observations] == [car(0.11, score=0.6)]


@pytest.mark.parametrize(
    ("timestamp_ms", "detection"),
    [
        (1000, car(0.1, score=0.49)),  # not confident
        (1000, car(0.2)),  # IoU 1/3
        (1000, car(0.1, name="person")),
        (999, car(0.1)),  # before the annotation
        (3000, car(0.4)),  # marked as absent
        (2500, car(0.4)),  # on the way to absence
        (4001, car(0.5)),
    ],
)
def test_what_is_not_followed(timestamp_ms: int, detection: Detection) -> None:
    frames = [frame(timestamp_ms, detection)]
    assert follow_annotation(frames, ANNOTATION, classes=CAR, threshold=0.5) is None


def test_a_car_that_the_detector_takes_for_a_truck_is_followed_as_a_car() -> None:
    frames = [frame(1000, car(0.1, name="truck"))]
    track = follow_annotation(frames, ANNOTATION, classes=CAR, threshold=0.5)
    assert track is not None
    assert track.class_name == "car"
    assert track.observations[0].detection.class_name == "truck"


def test_an_overlap_of_exactly_the_least_one_counts() -> None:
    half = Detection("car", 0.9, Box(0.1, 0.2, 0.4, 0.6))
    frames = [frame(1000, half)]
    assert follow_annotation(frames, ANNOTATION, classes=CAR, threshold=0.5, min_iou=0.49)
    assert not follow_annotation(frames, ANNOTATION, classes=CAR, threshold=0.5, min_iou=0.51)


def test_the_annotations_own_boxes_as_a_track() -> None:
    frames = [frame(t) for t in (500, 1000, 1500, 2000, 2500, 3000, 4000, 4500)]
    track = tracks_from_annotation(frames, ANNOTATION)
    assert track is not None
    assert (track.class_name, track.object_id) == ("car", "3")
    assert [o.timestamp_ms for o in track.observations] == [1000, 1500, 2000, 4000]
    middle = track.observations[1].detection
    assert (middle.class_name, middle.score) == ("car", 1.0)
    assert middle.box.xmin == pytest.approx(0.2)


def test_an_annotation_outside_of_the_frames_gives_no_track() -> None:
    assert tracks_from_annotation([frame(0), frame(9000)], ANNOTATION) is None
    assert tracks_from_annotation([], ANNOTATION) is None
