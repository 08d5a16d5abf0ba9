"""Videos and a dataset that the tests of the flows share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flows.builds import VIDEOS, build
from tests.worlds.box_cars import write_box_car_videos


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_box_car_videos(folder, videos=VIDEOS, seconds=3.0)
    return folder


@pytest.fixture(scope="session")
def built(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    root = tmp_path_factory.mktemp("root")
    found = build(videos, root, "run.workers=2")
    assert found["counts"]["triplets"] > 100
    return found, root
