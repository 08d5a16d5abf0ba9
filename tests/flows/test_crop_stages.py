"""From a video with black bars to its crops: the bars are found, said, and in no crop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from idpose_core.instances.boxes import Area, FrameDetections
from idpose_core.instances.cropping import GREY
from idpose_core.instances.filters import ClipFilters
from idpose_core.stages.crop import CropInstances, decode_png
from idpose_core.stages.detect import DetectObjects
from idpose_core.stages.link import describe_bars
from storage.digests import file_sha256
from storage.reasons import Status, Unusable
from tests.video.make_videos import write_video
from tests.video.test_footage import scenery

FILTERS = ClipFilters(min_crops=3, min_seconds=0.5, min_sharpness=0, min_contrast=0)


@pytest.fixture
def letterboxed(tmp_path: Path) -> Path:
    frames = [np.maximum(image, 70) for image in scenery(1, 24)]
    for image in frames:
        image[:40] = image[150:] = 0
    return write_video(tmp_path / "letterboxed.mp4", frames, fps=12)


def look(path: Path, **options: Any) -> list[dict[str, Any]]:
    chosen = {"cut_contrast": 0.8, "dissolve_error": 0.2, "max_bar": 0.4, **options}
    stage = DetectObjects(
        kind="annotations", weights_path=None, weights_sha256=None, floor=0.1, fps=4,
        decoder="pyav", device="cpu", deadline_s=60, **chosen,
    )  # fmt: skip
    row = {"windows_ms": None, "media_sha256": file_sha256(path)}
    return [dict(found) for found in stage.compute(row, {"path": str(path)})]


def crops(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    box = {"xmin": 0.3, "xmax": 0.7, "ymin": 0.25, "ymax": 0.75, "class_name": "car", "score": 1.0}
    seen = [{**box, "timestamp_ms": r["timestamp_ms"], "picture": r["picture"]} for r in rows]
    stage = CropInstances(size=64, scale=1.25, filters=FILTERS, decoder="pyav", deadline_s=60)
    row = {"clip_id": "clip", "observations": seen, "media_sha256": file_sha256(path)}
    return [dict(crop) for crop in stage.compute(row, {"path": str(path)})]


def test_a_bar_is_in_no_crop(letterboxed: Path) -> None:
    rows = look(letterboxed)
    pictures = {tuple(row["picture"]) for row in rows}
    assert len(pictures) == 1
    top, bottom = (next(iter(pictures))[i] for i in (1, 3))
    assert abs(top - 40) <= 1
    assert abs(bottom - 150) <= 1
    made = crops(letterboxed, rows)
    assert len(made) == len(rows)
    for crop in made:
        picture = decode_png(crop["image"]["bytes"])
        assert picture.min() > 24
        assert np.all(picture[0] == GREY)
        assert np.all(picture[-1] == GREY)
        # relative to the full frame, whatever the bars
        assert (crop["ymin"], crop["ymax"], crop["frame_height"]) == (0.25, 0.75, 180)


def test_without_the_setting_the_bar_shows(letterboxed: Path) -> None:
    rows = look(letterboxed, max_bar=0)
    assert {tuple(row["picture"]) for row in rows} == {(0, 0, 320, 180)}
    picture = decode_png(crops(letterboxed, rows)[0]["image"]["bytes"])
    assert picture.min() < 10


def test_a_clip_says_what_was_cut_off() -> None:
    frame = FrameDetections(0, 320, 180, False, (), Area(0, 40, 320, 150))
    said = "black bars cut off: 0 pixels left, 0 right, 40 above, 30 below"
    assert describe_bars([frame]) == said
    assert describe_bars([FrameDetections(0, 320, 180, False, ())]) is None


def test_a_clip_of_darkness_has_its_reason(tmp_path: Path) -> None:
    dark = [(image * 0.1).astype(np.uint8) for image in scenery(1, 24)]
    path = write_video(tmp_path / "dark.mp4", dark, fps=12)
    with pytest.raises(Unusable) as raised:
        crops(path, look(path))
    assert raised.value.status is Status.TOO_DARK
    assert "too_dark" in raised.value.detail
