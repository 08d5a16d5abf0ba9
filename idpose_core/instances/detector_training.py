"""Training of the small Faster R-CNN on frames whose boxes are known.

The recipe is Faster R-CNN's own (Ren et al. 2015: region proposals and box head trained jointly),
with AdamW and a cosine schedule, since the network starts from nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.transforms.v2 import functional as transforms

from idpose_core.instances.boxes import Box, Detection, iou
from idpose_core.instances.small_faster_rcnn import small_faster_rcnn

_TRAINING_SIDES = (192, 224, 256, 288, 320)  # shorter sides of the frame, so that sizes vary
_WARM_UP = 100


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A frame with the boxes of everything in it that a detector should find.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        boxes: Fractions of the frame.
        class_names: One for each box.
    """

    image: NDArray[np.uint8]
    boxes: Sequence[Box]
    class_names: Sequence[str]


def train_detector(
    frames: Sequence[LabelledFrame],
    class_names: Sequence[str],
    *,
    steps: int,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> FasterRCNN:
    """Train the small Faster R-CNN from nothing.

    Args:
        frames: Frames that hold no unlabelled object of the classes.
        class_names: The classes, in the order of their labels.
        steps: Optimizer steps.
        batch_size: Frames a step.
        learning_rate: Highest learning rate of the schedule.
        seed: Chooses weights, frames and augmentation.
        report: Called with the step and the loss.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: There are no frames, or a frame holds a class that is not in the list.
    """
    if not frames:
        raise ValueError("there are no frames to train on")
    label = {name: place + 1 for place, name in enumerate(class_names)}
    unknown = {name for frame in frames for name in frame.class_names} - label.keys()
    if unknown:
        raise ValueError(f"frames hold {sorted(unknown)}, which is not among {list(class_names)}")
    torch.manual_seed(seed)
    network = small_faster_rcnn(len(class_names))
    evaluation_side = network.transform.min_size
    network.transform.min_size = _TRAINING_SIDES
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    draws = np.random.default_rng(seed)
    network.train()
    for step in range(steps):
        chosen = [frames[int(index)] for index in draws.integers(len(frames), size=batch_size)]
        examples = [_augmented(frame, label, draws) for frame in chosen]
        losses = network([picture for picture, _ in examples], [boxes for _, boxes in examples])
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if report is not None:
            report(step, float(loss.detach()))
    network.transform.min_size = evaluation_side
    return network.eval()


@dataclass(frozen=True)
class DetectionQuality:
    """How many of the true boxes were found, and how many of the found boxes are true.

    Attributes:
        objects: True boxes that should be found.
        found: Of these, how many were.
        reported: Boxes above the threshold.
        correct: Of these, how many lie on an object, be it one that need not be found.
    """

    objects: int
    found: int
    reported: int
    correct: int

    @property
    def recall(self) -> float:
        """Share of the objects that were found."""
        return self.found / self.objects if self.objects else math.nan

    @property
    def precision(self) -> float:
        """Share of the reported boxes that lie on an object."""
        return self.correct / self.reported if self.reported else math.nan


def detection_quality(
    detections: Sequence[Sequence[Detection]],
    wanted: Sequence[Sequence[Box]],
    tolerated: Sequence[Sequence[Box]],
    *,
    threshold: float,
    min_iou: float = 0.5,
) -> DetectionQuality:
    """Compare detections with the truth, frame by frame; one detection an object, the best first.

    Args:
        detections: Of each frame.
        wanted: Boxes that should be found, of each frame.
        tolerated: Boxes that may be found: objects too small or too hidden to be asked for.
        threshold: Detections below this score do not count.
        min_iou: Least overlap of a detection with its object.
    """
    objects = found = reported = correct = 0
    for seen, must, may in zip(detections, wanted, tolerated, strict=True):
        free = [(box, True) for box in must] + [(box, False) for box in may]
        objects += len(must)
        for detection in sorted(seen, key=lambda d: -d.score):
            if detection.score < threshold:
                break
            reported += 1
            best = max(free, key=lambda true: iou(detection.box, true[0]), default=None)
            if best is not None and iou(detection.box, best[0]) >= min_iou:
                free.remove(best)
                correct += 1
                found += best[1]
    return DetectionQuality(objects, found, reported, correct)


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _augmented(
    frame: LabelledFrame, label: dict[str, int], draws: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture float [3, H, W] in [0, 1] with its boxes in pixels; mirrored half of the time."""
    height, width = frame.image.shape[:2]
    picture = torch.from_numpy(frame.image.transpose(2, 0, 1).copy()).float() / 255
    boxes = torch.tensor(
        [[b.xmin * width, b.ymin * height, b.xmax * width, b.ymax * height] for b in frame.boxes]
    ).reshape(-1, 4)
    if draws.random() < 0.5:
        picture = picture.flip(2)
        boxes = torch.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1
        )
    brightness, contrast, saturation = draws.uniform(0.7, 1.3, size=3)
    picture = transforms.adjust_brightness(picture, float(brightness))
    picture = transforms.adjust_contrast(picture, float(contrast))
    picture = transforms.adjust_saturation(picture, float(saturation))
    labels = torch.tensor([label[name] for name in frame.class_names], dtype=torch.int64)
    return picture, {"boxes": boxes, "labels": labels}
