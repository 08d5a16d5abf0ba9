"""Videos and a dataset that the tests of the flows share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.builds import VIDEOS, build
from tests.flows.prefect_server import serving
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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a client of a server and a worker that run until the test ends."""
    with serving(tmp_path) as (env, _):
        yield env
