"""The networks that idpose brings along for the rendered world do their work there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from idpose_core.datasets.rendered.detector import TruthfulFrame, read_frames
from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.truth import box_of_row
from idpose_core.datasets.rendered.videos import write_rendered_videos
from idpose_core.instances.detector_training import detection_quality
from idpose_core.instances.detectors import load_detector
from idpose_core.pose.embedding import load_embedder
from idpose_core.weights import find_weights


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[TruthfulFrame]:
    folder = tmp_path_factory.mktemp("world")
    models = models_of("car", "test")[:6]
    write_rendered_videos(folder, models=models, scenes_per_model=1, seconds=2, fps=2, seed=77)
    return read_frames(folder)


def test_the_detector_finds_cars_that_it_never_saw(frames: list[TruthfulFrame]) -> None:
    detector = load_detector("torchvision", find_weights("rendered-detector", Path()))
    quality = detection_quality(
        detector.detect([frame.image for frame in frames]),
        [[box_of_row(row) for row in frame.wanted] for frame in frames],
        [[box_of_row(row) for row in frame.tolerated] for frame in frames],
        threshold=0.9,
    )
    # The measurement is tests/benchmarks/rendered_detector.py; this is only a guard.
    assert quality.recall >= 0.75 and quality.precision >= 0.9


def test_the_pose_feature_loads_and_tells_pictures_apart(frames: list[TruthfulFrame]) -> None:
    weights = find_weights("rendered-rotnet", Path())
    embedder = load_embedder("rotnet", weights, image_size=64, masked=False, silhouette=False)
    pictures = np.stack([frame.image[100:164, 100:164] for frame in frames])
    features = embedder.embed(pictures, None).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-2)
    assert np.linalg.norm(features[0] - features[-1]) > 0.1
