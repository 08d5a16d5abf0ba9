"""The embed stage: crops of a clip are heard together by their times, single views are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from idpose_core.pose.embedding import load_embedder
from idpose_core.stages.crop import encode_png
from idpose_core.stages.embed import EmbedCrops
from storage.objects import Store
from storage.parquet import to_parquet
from tests.pose.car_view_files import fields, save_reader, save_trunk

SIZE = 64
TIMES = np.array([500, 0, 250])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> EmbedCrops:
    folder = tmp_path_factory.mktemp("weights")
    trunk, reader = save_trunk(folder / "t.safetensors"), save_reader(folder / "r.safetensors")
    return EmbedCrops(
        kind="car-view", weights_path=str(trunk), weights_sha256="t", masked=False,
        silhouette=False, image_size=SIZE, device="cpu", azimuth_path=str(reader),
        azimuth_sha256="r",
    )  # fmt: skip


@pytest.fixture
def location(tmp_path: Path) -> dict[str, Any]:
    """Three crops of one clip, not in the order of time; there are no masks."""
    crops = [
        {
            "crop_id": f"crop-{time}", "timestamp_ms": time,
            "image": {"bytes": encode_png(picture), "path": None},
        }
        for time, picture in zip(TIMES.tolist(), fields(3, SIZE), strict=True)
    ]  # fmt: skip
    store = Store(tmp_path)
    store.publish("crops.parquet", to_parquet(pa.Table.from_pylist(crops)))
    place = {"root": store.location, "shard": "crops.parquet", "first_row": 0, "rows": 3}
    return {"crops": place, "masks": None}


def features(rows: Any) -> bytes:
    return b"".join(row["feature"] for row in rows)


def test_the_crops_of_a_clip_are_embedded_by_their_times(
    stage: EmbedCrops, location: dict[str, Any]
) -> None:
    assert stage.weights_path and stage.azimuth_path
    embedder = load_embedder(
        "car-view", Path(stage.weights_path), azimuth=Path(stage.azimuth_path), image_size=SIZE
    )
    expected, readings = embedder.embed_clip(fields(3, SIZE), None, TIMES)
    rows = stage.compute({}, location)
    assert [row["crop_id"] for row in rows] == ["crop-500", "crop-0", "crop-250"]
    assert features(rows) == expected.tobytes()
    assert readings is not None and [row["reading"] for row in rows] == readings.tolist()
    table = pa.Table.from_pylist([dict(row) for row in rows], EmbedCrops.columns)
    np.testing.assert_array_equal(np.array(table["reading"].to_pylist(), np.float32), readings)


def test_single_views_are_embedded_each_by_itself_and_have_no_reading(
    stage: EmbedCrops, location: dict[str, Any]
) -> None:
    views = replace(stage, turning=False)
    assert stage.weights_path and stage.azimuth_path
    embedder = load_embedder(
        "car-view", Path(stage.weights_path), azimuth=Path(stage.azimuth_path), image_size=SIZE
    )
    rows = views.compute({}, location)
    assert features(rows) == embedder.embed(fields(3, SIZE), None).tobytes()
    assert [row["reading"] for row in rows] == [None] * 3
    assert features(rows) != features(stage.compute({}, location))
    assert views.settings() != stage.settings()  # so their results have other keys


def test_an_embedder_that_reads_no_directions_gives_none(location: dict[str, Any]) -> None:
    plain = EmbedCrops(
        kind="grey-pixels", weights_path=None, weights_sha256=None, masked=False,
        silhouette=False, image_size=SIZE, device="cpu",
    )  # fmt: skip
    rows = plain.compute({}, location)
    assert [row["reading"] for row in rows] == [None] * 3
    assert features(rows) == features(replace(plain, turning=False).compute({}, location))
    assert plain.weights() == {}


def test_both_networks_are_in_the_keys(stage: EmbedCrops) -> None:
    assert stage.weights() == {"car-view": "t", "azimuth": "r"}
