"""Which detections of successive frames are one and the same object.

Without an annotation, boxes are linked by overlap. A clip in which the identity changes is worse
than a short one, since ID picture and target are drawn from one clip: wherever two readings are
possible, a track ends and new ones begin. Weak boxes may carry a track over a few frames, as in
ByteTrack (Zhang et al., ECCV 2022), but neither start a track nor become crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from idpose_core.instances.boxes import (
    Box,
    Detection,
    FrameDetections,
    interpolate,
    intersection,
    iou,
)
from idpose_core.instances.suppression import rank, same_object_class
from idpose_core.instances.tracks import Observation, Track, confusable, majority_class

if TYPE_CHECKING:
    from idpose_core.video.annotations import AnnotationTrack

_BRIDGE = 0.5  # boxes with a score of at least this share of the threshold may bridge
_MIN_OVERLAP = 0.1  # a link must be thinkable under both motions
_RIVAL = 0.3  # a second reading with this share of the best one's overlap makes a link ambiguous
_MAX_SIZE_CHANGE = 2.0  # of width or height from one observation to the next
_MAX_COVERED = 0.3  # share of a box under another one's from which it shows two objects


def link_over_time(
    frames: Sequence[FrameDetections],
    *,
    classes: frozenset[str],
    threshold: float,
    min_iou: float = 0.3,
    max_gap_ms: int = 1500,
) -> list[Track]:
    """Links detections into tracks, one for each object that can be followed without doubt.

    A box continues a track if it overlaps the track's last box, or the place to which the track
    moves at constant speed, by ``min_iou``, and if no other box and no other track compares with
    that. When frames are missing in between, the place ahead decides: where a vehicle was a second
    ago there may by now be the next one.

    Args:
        frames: In order of time, all detections down to the detector's floor, each object once
            (see :func:`idpose_core.instances.suppression.suppress`); no frame is left out for being
            empty.
        classes: Names of the wanted classes. Car, bus and truck are linked as one object.
        threshold: Score from which a detection may start a track and be an observation.
        min_iou: Overlap in [0, 1] that makes a link.
        max_gap_ms: A track that was not seen for longer has ended.

    Returns:
        Tracks of the wanted classes (by majority) in order of their start, with the object ids
        "0", "1" and so on. The order of detections within a frame makes no difference.

    Raises:
        ValueError: Time stamps do not increase.
    """
    for earlier, later in pairwise(frames):
        if later.timestamp_ms <= earlier.timestamp_ms:
            raise ValueError(f"time stamps do not increase at {later.timestamp_ms} ms")
    accepted = confusable(classes)
    finished: list[_Path] = []
    running: list[_Path] = []
    for index, frame in enumerate(frames):
        ended = {p for p in running if frame.cut or p.age(frame.timestamp_ms) > max_gap_ms}
        running, lapsed = _split(running, ended)
        boxes = sorted(
            (
                d
                for d in frame.detections
                if d.class_name in accepted and d.score >= _BRIDGE * threshold and d.box.area > 0
            ),
            key=rank,
        )
        links, ambiguous = _associate(running, boxes, frame.timestamp_ms, index, min_iou)
        running, doubtful = _split(running, ambiguous)
        finished += lapsed + doubtful
        for j, box in enumerate(boxes):
            observed = box.score >= threshold and not _covered(j, boxes)
            if j in links:
                links[j].extend(frame, index, box, observed=observed)
            elif box.score >= threshold:
                # A covered box starts a path too: no observation yet, but a rival to others
                running.append(_Path())
                running[-1].extend(frame, index, box, observed=observed)
    return _to_tracks(finished + running, classes)


def _split(paths: Sequence[_Path], leaving: set[_Path]) -> tuple[list[_Path], list[_Path]]:
    """Those that stay and those that leave, each in the old order."""
    return [p for p in paths if p not in leaving], [p for p in paths if p in leaving]


@dataclass(eq=False)
class _Path:
    """A track in the making: every linked box, and those that are confident and uncovered."""

    places: list[tuple[int, Box]] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    class_name: str = ""
    last_index: int = -1

    def extend(
        self, frame: FrameDetections, index: int, detection: Detection, *, observed: bool
    ) -> None:
        self.places.append((frame.timestamp_ms, detection.box))
        self.class_name = detection.class_name
        self.last_index = index
        if observed:
            self.observations.append(
                Observation(frame.timestamp_ms, frame.width, frame.height, detection)
            )

    def age(self, timestamp_ms: int) -> int:
        return timestamp_ms - self.places[-1][0]

    def ahead(self, timestamp_ms: int) -> Box | None:
        """Where the last two boxes lead at constant speed; None after a single box."""
        if len(self.places) < 2:
            return None
        (time_a, a), (time_b, b) = self.places[-2:]
        return interpolate(a, b, (timestamp_ms - time_a) / (time_b - time_a))


def _associate(
    paths: Sequence[_Path],
    boxes: Sequence[Detection],
    timestamp_ms: int,
    index: int,
    min_iou: float,
) -> tuple[dict[int, _Path], set[_Path]]:
    """The path that box j continues, where each is the other's only reading; and doubtful paths."""
    overlap = [[0.0] * len(boxes) for _ in paths]
    possible: list[tuple[int, int]] = []
    for i, path in enumerate(paths):
        last = path.places[-1][1]
        ahead = path.ahead(timestamp_ms)
        seen_just_before = path.last_index == index - 1
        for j, box in enumerate(boxes):
            if not same_object_class(path.class_name, box.class_name):
                continue
            near = iou(last, box.box)
            far = near if ahead is None else iou(ahead, box.box)
            overlap[i][j] = max(near, far)
            if seen_just_before:
                fits = max(near, far) >= min_iou
            else:
                fits = ahead is not None and far >= min_iou
            if fits and min(near, far) >= _MIN_OVERLAP and _similar_size(last, box.box):
                possible.append((i, j))

    links: dict[int, _Path] = {}
    ambiguous: set[_Path] = set()
    for i, j in possible:
        best = overlap[i][j]
        other_boxes = [overlap[i][k] for k in range(len(boxes)) if k != j]
        other_paths = [overlap[k][j] for k in range(len(paths)) if k != i]
        rival = max(other_boxes + other_paths, default=0.0)
        if rival < _RIVAL * best:
            links[j] = paths[i]
        elif rival <= best:  # else the better reading is judged in its own turn
            ambiguous |= {paths[k] for k in range(len(paths)) if overlap[k][j] >= _RIVAL * best}
    return {j: path for j, path in links.items() if path not in ambiguous}, ambiguous


def _covered(index: int, boxes: Sequence[Detection]) -> bool:
    """Whether another object's box lies over so much of a box that it shows both objects."""
    box = boxes[index].box
    return any(
        intersection(box, other.box) > _MAX_COVERED * box.area
        for k, other in enumerate(boxes)
        if k != index
    )


def _similar_size(a: Box, b: Box) -> bool:
    """Whether width and height change by no more than ``_MAX_SIZE_CHANGE``."""
    ratios = (a.width / b.width, a.height / b.height)
    return all(1 / _MAX_SIZE_CHANGE <= ratio <= _MAX_SIZE_CHANGE for ratio in ratios)


def _to_tracks(paths: Sequence[_Path], classes: frozenset[str]) -> list[Track]:
    def order(path: _Path) -> tuple[object, ...]:
        first = path.observations[0]
        return (first.timestamp_ms, *rank(first.detection))

    wanted = [p for p in paths if p.observations and majority_class(p.observations) in classes]
    return [
        Track(majority_class(path.observations), str(number), tuple(path.observations))
        for number, path in enumerate(sorted(wanted, key=order))
    ]


def follow_annotation(
    frames: Sequence[FrameDetections],
    annotation: AnnotationTrack,
    *,
    classes: frozenset[str],
    threshold: float,
    min_iou: float = 0.5,
) -> Track | None:
    """The detections that are the annotated object.

    In each frame the confident detection that overlaps the annotation's box at that time most, if
    by at least ``min_iou``. The annotation says which object it is, so detections of any class
    that its class is mistaken for are taken.

    Args:
        frames: In order of time.
        annotation: Boxes of one object, interpolated between annotated times.
        classes: Names of the wanted classes.
        threshold: Least score of a detection.
        min_iou: Least overlap with the annotation's box, in [0, 1].

    Returns:
        The track under the annotation's class and object id, or None if no detection fits.
    """
    accepted = confusable(classes)
    observations = []
    for frame in frames:
        truth = annotation.box_at(frame.timestamp_ms)
        if truth is None:
            continue
        fitting = [
            (-iou(d.box, truth), rank(d), d)
            for d in frame.detections
            if d.class_name in accepted and d.score >= threshold and iou(d.box, truth) >= min_iou
        ]
        if fitting:
            _, _, best = min(fitting)
            observations.append(Observation(frame.timestamp_ms, frame.width, frame.height, best))
    return _annotated(annotation, observations)


def tracks_from_annotation(
    frames: Sequence[FrameDetections], annotation: AnnotationTrack
) -> Track | None:
    """The annotation's own boxes as a track, without a detector (``detector.kind=annotations``).

    Args:
        frames: In order of time; only their times and sizes are used.
        annotation: Boxes of one object, interpolated between annotated times.

    Returns:
        The track with scores of 1, or None if no frame lies within the annotation.
    """
    observations = []
    for frame in frames:
        box = annotation.box_at(frame.timestamp_ms)
        if box is not None and box.area > 0:
            detection = Detection(annotation.class_name, 1.0, box)
            observations.append(
                Observation(frame.timestamp_ms, frame.width, frame.height, detection)
            )
    return _annotated(annotation, observations)


def _annotated(annotation: AnnotationTrack, observations: Sequence[Observation]) -> Track | None:
    if not observations:
        return None
    return Track(annotation.class_name, annotation.object_id, tuple(observations))
