"""What must hold for every dataset that a test builds."""

from __future__ import annotations

from typing import Any

import numpy as np

from idpose_core.pose.balance import check_invariants
from storage.datasets import read_manifest, read_table, verify
from storage.objects import Store
from storage.parquet import from_parquet

SAMPLE = 200
AGREEMENT = 0.99


def check_dataset(store: Store, dataset: str) -> None:
    """Assert the invariants of a committed version: files, rows, balance, neighbours."""
    manifest = read_manifest(store, dataset)
    assert verify(store, manifest) == []
    crops, triplets = (columns(store, manifest, table) for table in ("crops", "triplets"))
    clips = read_table(store, manifest, "clips").to_pylist()
    shown = {clip["clip_id"]: clip.get("identity") for clip in clips}
    crops["identity"] = np.asarray([shown[clip] for clip in crops["clip_id"].tolist()], object)
    options = manifest["config"]["triplets"]
    by_target = options.get("balance", "paper") == "target"
    crops["read_azimuth_deg"] = crops["read_azimuth_deg"].astype(np.float64)  # None becomes NaN
    violations = check_invariants(
        triplets,
        crops=crops,
        min_gap_ms=options["min_gap_ms"],
        pools={s: np.asarray(p) for s, p in manifest["statistics"]["pools"].items()},
        exclude_diagonal=options["exclude_diagonal"],
        second="target_cluster" if by_target else "pose_cluster",
        max_turn_deg=options["max_turn_deg"] if by_target else None,
    )
    assert violations == []
    assert neighbour_agreement(store, crops, triplets, options["top_k"]) >= AGREEMENT


def columns(store: Store, manifest: dict[str, Any], table: str) -> dict[str, np.ndarray]:
    found = read_table(store, manifest, table)
    return {name: np.asarray(found[name].to_pylist()) for name in found.column_names}


def neighbour_agreement(
    store: Store, crops: dict[str, np.ndarray], triplets: dict[str, np.ndarray], top_k: int
) -> float:
    """The share of sampled targets whose pose picture is the true nearest neighbour.

    Brute force over the full features in float64; ties count as equal. With top_k above one any
    of the nearest top_k may serve, since the cap on reuse passes a target on.
    """
    features = read_features(store, set(crops["crop_id"].tolist()))
    place = {crop: row for row, crop in enumerate(crops["crop_id"].tolist())}
    matrix = np.stack([features[crop] for crop in crops["crop_id"].tolist()]).astype(np.float64)
    pairs = dict(zip(triplets["target_crop"].tolist(), triplets["pose_crop"].tolist(), strict=True))
    targets = sorted(pairs)
    agree = []
    for index in np.random.default_rng(0).permutation(len(targets))[:SAMPLE]:
        row, pose = place[targets[index]], place[pairs[targets[index]]]
        cosine = matrix @ matrix[row]
        cosine[crops["video_id"] == crops["video_id"][row]] = -np.inf
        cosine[crops["split"] != crops["split"][row]] = -np.inf
        if crops["identity"][row] is not None:
            cosine[crops["identity"] == crops["identity"][row]] = -np.inf
        agree.append(np.sort(cosine)[-top_k] - cosine[pose] <= 1e-6)
    return float(np.mean(agree)) if agree else 1.0


def read_features(store: Store, wanted: set[str]) -> dict[str, np.ndarray]:
    """The stored features float16 [D] of the crops; a root of one embedder is assumed."""
    found: dict[str, np.ndarray] = {}
    for path in store.list("shards/embed"):
        rows = from_parquet(store.read(path), ["crop_id", "feature"]).to_pylist()
        for row in rows:
            if row["crop_id"] in wanted:
                found[row["crop_id"]] = np.frombuffer(row["feature"], "<f2")
    assert set(found) == wanted
    return found
