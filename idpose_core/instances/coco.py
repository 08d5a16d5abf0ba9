"""The class names of COCO, in the two orders that detectors use.

Detectors number the classes differently (a car is 2 for detectron2 and YOLOX, 3 for torchvision),
so everything outside a detector's own file speaks of names. Source: the COCO categories, as listed
in detectron2 ``data/datasets/builtin_meta.py`` and torchvision ``models/_meta.py``.
"""

from __future__ import annotations

COCO_CLASSES: tuple[str, ...] = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)
"""The 80 classes, contiguous and 0-based: the order of detectron2 and YOLOX."""

_UNUSED_CATEGORY_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})


def _by_category_id() -> tuple[str | None, ...]:
    names = iter(COCO_CLASSES)
    return (None, *(None if i in _UNUSED_CATEGORY_IDS else next(names) for i in range(1, 91)))


COCO_CATEGORIES: tuple[str | None, ...] = _by_category_id()
"""Names by COCO category id, 0 = background, unused ids None: the order of torchvision."""

VEHICLES: frozenset[str] = frozenset({"car", "bus", "truck"})
"""Classes between which detectors flip on one and the same vehicle."""
