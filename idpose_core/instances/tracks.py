"""One object followed over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from idpose_core.instances.boxes import Detection
from idpose_core.instances.coco import VEHICLES


@dataclass(frozen=True)
class Observation:
    """The object in one frame.

    Attributes:
        timestamp_ms: Presentation time stamp of the frame.
        width: Frame width in pixels.
        height: Frame height in pixels.
        detection: Where it is, as what class and how surely.
    """

    timestamp_ms: int
    width: int
    height: int
    detection: Detection


@dataclass(frozen=True)
class Track:
    """One object, observed in order of time.

    Attributes:
        class_name: What it is, by the annotation or by the weight of the detections.
        object_id: Unique among the tracks of one video.
        observations: At least one, time stamps strictly increasing.
    """

    class_name: str
    object_id: str
    observations: tuple[Observation, ...]

    @property
    def start_ms(self) -> int:
        """Time stamp of the first observation."""
        return self.observations[0].timestamp_ms

    @property
    def end_ms(self) -> int:
        """Time stamp of the last observation."""
        return self.observations[-1].timestamp_ms


def majority_class(observations: Iterable[Observation]) -> str:
    """The class with the largest sum of scores; of equals the first in the alphabet."""
    votes: defaultdict[str, float] = defaultdict(float)
    for observation in observations:
        votes[observation.detection.class_name] += observation.detection.score
    return min(votes, key=lambda name: (-votes[name], name))


def confusable(classes: frozenset[str]) -> frozenset[str]:
    """The classes as which a detector may report one of ``classes``: all vehicles for a vehicle."""
    return classes | VEHICLES if classes & VEHICLES else classes
