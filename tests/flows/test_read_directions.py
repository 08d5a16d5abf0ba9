"""Builds whose embedder reads directions: what is published, what is left out, what is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows import inspection
from flows.build_dataset import build_dataset
from flows.progress import TerminalProgress
from flows.steps import pose
from idpose_core.config import parse_config
from idpose_core.pose.embedding import PictureEmbedder
from idpose_core.pose.trust import FEATURES, TrustModel
from storage import schemas
from storage.datasets import content_columns, read_manifest, read_table
from storage.objects import Store
from tests.flows.builds import InThisProcess
from tests.flows.invariants import check_dataset
from tests.golden.test_stage_versions import CONFIG
from tests.training import worlds

PLACEHOLDER = TrustModel(0.0, {**dict.fromkeys(FEATURES, 0.0), "similarity": 1.0, "angle": -9.0})
"""Made up: no shipped number."""


def read_by_brightness(
    self: PictureEmbedder, pictures: np.ndarray, masks: np.ndarray | None, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A made-up reading that depends on each picture alone."""
    angle = np.radians(pictures.mean((1, 2, 3)) * 3.0)
    front, side = np.cos(angle), np.sin(angle)
    return self.embed(pictures, masks), np.stack([front, front, side], axis=1).astype(np.float32)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(PictureEmbedder, "embed_clip", read_by_brightness)
    monkeypatch.setattr(pose, "shipped_trust", lambda reader: PLACEHOLDER)
    yield


def build(name: str, **triplets: Any) -> tuple[Store, str]:
    """Build the golden videos. Returns the root and what is in the dataset's manifest."""
    root = f"memory://{name}"
    config = parse_config({**CONFIG, "triplets": {"top_k": 5, **triplets}})
    version = build_dataset(config, root, InThisProcess(), TerminalProgress()).committed.version
    return Store(root), f"golden@{version}"


def rows(store: Store, dataset: str, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(
        store, read_manifest(store, dataset), table
    ).to_pylist()
    return found


@pytest.mark.usefixtures("reading")
def test_what_is_read_is_published_and_is_content() -> None:
    store, dataset = build("read")
    check_dataset(store, dataset)
    manifest = read_manifest(store, dataset)
    crops = {row["crop_id"]: row for row in rows(store, dataset, "crops")}
    assert all(0 <= row["read_azimuth_deg"] < 360 for row in crops.values())
    assert all(row["certainty"] == pytest.approx(1, abs=1e-3) for row in crops.values())
    triplets = rows(store, dataset, "triplets")
    assert triplets
    for row in triplets:
        assert row["target_cluster"] == crops[row["target_crop"]]["pose_cluster"]
        assert 0 < row["trust"] < 1
    tables = {name: read_table(store, manifest, name) for name in ("crops", "triplets")}
    assert content_columns("crops", tables["crops"])[-1] == "read_azimuth_deg"
    assert content_columns("triplets", tables["triplets"])[-1] == "trust"

    told = "\n".join(inspection.describe(inspection.summary(store, dataset)))
    assert "train, triplets.balance=target: " in told and "as read" in told
    assert "not used, to compare" in told and "by truth" not in told
    shown = inspection.page(store, dataset)
    assert "balance=paper (not used, to compare)" in shown
    assert "with the pose of the target (column)" in shown and ", trust 0." in shown


@pytest.mark.usefixtures("reading")
def test_the_least_trust_keeps_just_the_trusted_pairs() -> None:
    store, dataset = build("trusted")
    trusts = sorted(row["trust"] for row in rows(store, dataset, "triplets"))
    least = trusts[len(trusts) // 2]
    other, higher = build("trusted", min_trust=round(least, 3))
    found = rows(other, higher, "triplets")
    assert found and all(row["trust"] >= np.float32(round(least, 3)) for row in found)
    sampling = read_manifest(other, higher)["statistics"]["sampling"]["train"]
    assert sampling["left_out"].get("low_trust", 0) > 0
    none = build("trusted", min_trust=1.0)
    [line] = [
        line for line in inspection.describe(inspection.summary(*none)) if "only 0 triplets" in line
    ]
    assert "a lower triplets.min_trust" in line


def test_a_least_trust_asks_nothing_of_what_reads_no_directions() -> None:
    store, dataset = build("no-reading", min_trust=0.9)
    assert rows(store, dataset, "triplets")
    sampling = read_manifest(store, dataset)["statistics"]["sampling"]["train"]
    assert "low_trust" not in sampling["left_out"]


def test_versions_made_before_there_were_directions_can_be_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their tables lack the columns, and their statistics the report."""
    added = {"crops": ("read_azimuth_deg", "certainty"), "triplets": ("target_cluster", "trust")}
    with monkeypatch.context() as older:
        for table, columns in added.items():
            kept = pa.schema([f for f in schemas.TABLES[table] if f.name not in columns])
            older.setitem(schemas.TABLES, table, kept)
            older.setattr(worlds, table.upper(), kept)
        store = Store("memory://older")
        dataset = worlds.commit_world(store, azimuths=True)
    triplets = read_table(store, read_manifest(store, dataset), "triplets")
    assert not {"target_cluster", "trust"} & set(triplets.column_names)
    monkeypatch.setattr(inspection, "clips_beside_the_paper", lambda *_: {})  # it has no source
    found = inspection.summary(store, dataset)
    assert found["sampling"] == {} and found["problems"] == []
    assert "triplets.balance" not in "\n".join(inspection.describe(found))
    assert "with the pose of the pose picture (column)" in inspection.page(store, dataset)
