"""The small Faster R-CNN: what its files say, that it learns, and how it is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from idpose_core.instances.boxes import Box, Detection
from idpose_core.instances.detector_training import (
    LabelledFrame,
    detection_quality,
    train_detector,
)
from idpose_core.instances.detectors import load_detector
from idpose_core.instances.small_faster_rcnn import (
    class_names_of,
    save_small_faster_rcnn,
    small_faster_rcnn,
)


def frames(count: int, seed: int = 0) -> list[LabelledFrame]:
    """Grey noise with one red or green rectangle."""
    draws = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        image = draws.integers(90, 130, (96, 128, 3), dtype=np.uint8)
        left, top = draws.integers(8, 60), draws.integers(8, 40)
        width, height = draws.integers(36, 56), draws.integers(28, 44)
        name = str(draws.choice(["red", "green"]))
        image[top : top + height, left : left + width] = (200, 30, 30) if name == "red" else (
            30, 180, 40,
        )  # fmt: skip
        box = Box(left / 128, (left + width) / 128, top / 96, (top + height) / 96)
        made.append(LabelledFrame(image, [box], [name]))
    return made


def test_a_file_names_its_network_and_classes_and_gives_the_same_boxes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = small_faster_rcnn(2).eval()
    path = tmp_path / "small.safetensors"
    save_small_faster_rcnn(network, ["red", "green"], path)
    assert path.stat().st_size < 8_000_000
    assert class_names_of(path) == ["red", "green"]
    detector = load_detector("torchvision", path, floor=0.0)
    assert detector.weights_sha256
    image = frames(1)[0].image
    [found] = detector.detect([image])
    again = load_detector("torchvision", path, floor=0.0).detect([image, image])
    assert again == [found, found]
    assert {detection.class_name for detection in found} <= {"red", "green"}


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x10\0\0\0\0\0\0\0{}"])
def test_other_files_are_not_of_this_network(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    assert class_names_of(path) is None
    assert class_names_of(tmp_path / "missing.safetensors") is None
    assert class_names_of(tmp_path / "other.pth") is None


@pytest.mark.slow
def test_it_learns_to_find_and_to_name(tmp_path: Path) -> None:
    losses: list[float] = []
    network = train_detector(
        frames(60), ["red", "green"], steps=150, batch_size=4, report=lambda _, x: losses.append(x)
    )
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    path = tmp_path / "small.safetensors"
    save_small_faster_rcnn(network, ["red", "green"], path)
    detector = load_detector("torchvision", path)
    held_out = frames(30, seed=1)
    seen = detector.detect([frame.image for frame in held_out])
    quality = detection_quality(seen, [frame.boxes for frame in held_out], [[]] * 30, threshold=0.5)
    assert quality.recall >= 0.9 and quality.precision >= 0.9
    named = [s[0].class_name == f.class_names[0] for s, f in zip(seen, held_out, strict=True) if s]
    assert np.mean(named) >= 0.9


def test_training_is_a_function_of_its_seed_and_refuses_what_it_cannot_name() -> None:
    first, second = (
        train_detector(frames(4), ["red", "green"], steps=2, batch_size=2, seed=3).state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ValueError, match="no frames"):
        train_detector([], ["red"], steps=1)
    with pytest.raises(ValueError, match="green"):
        train_detector(frames(8), ["red"], steps=1)


def test_quality_counts_each_object_once() -> None:
    box, far = Box(0.1, 0.5, 0.1, 0.5), Box(0.6, 0.9, 0.6, 0.9)
    hidden = Box(0.6, 0.8, 0.1, 0.3)
    seen = [
        Detection("car", 0.95, box),
        Detection("car", 0.94, box),  # the same car again
        Detection("car", 0.93, hidden),  # may be found, need not be
        Detection("car", 0.20, far),  # below the threshold
    ]
    quality = detection_quality([seen], [[box, far]], [[hidden]], threshold=0.9)
    assert (quality.objects, quality.found) == (2, 1)
    assert (quality.reported, quality.correct) == (3, 2)
    nothing = detection_quality([[]], [[]], [[]], threshold=0.9)
    assert np.isnan(nothing.recall) and np.isnan(nothing.precision)
