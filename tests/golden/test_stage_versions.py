"""Stage versions: the digest of a fixed input's output stands beside the version.

A change of a stage's code that gives other output for equal input must raise the stage's version,
or shards of the old code would be taken for results of the new one. After raising it, write the
new digests with `python -m tests.golden.test_stage_versions`.

The input is three small generated videos that are kept as files, so that no encoder enters. The
networks are not in it: they have known answers of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.build_dataset import build_dataset
from flows.progress import TerminalProgress
from idpose_core.config import parse_config
from idpose_core.pose.space import PoseSpace
from idpose_core.stages.crop import decode_png, encode_png
from idpose_core.stages.mask import TrueMasks
from idpose_core.stages.views import CropViews
from storage.datasets import read_manifest, read_table
from storage.digests import digest, sha256
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from tests.flows.builds import InThisProcess
from tests.worlds.discs import Discs

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "stages.json"
ROW_STAGES = ("fetch", "detect", "link", "crop", "mask", "embed")
CONFIG = {
    "name": "golden",
    "source": {
        "path": str(FOLDER / "videos"),
        "annotations": str(FOLDER / "videos" / "annotations.csv"),
    },
    "test_share": 0.0,
    "detector": {"kind": "annotations"},
    "sampling": {"fps": 3},
    "clips": {"min_side": 24, "min_sharpness": 0, "min_crops": 3, "min_seconds": 1},
    "image": {"size": 64},
    "embedder": {"kind": "grey-pixels"},
    "pose": {"clusters": 3, "dimensions": 8},
    "triplets": {"top_k": 2},
}


def test_output_and_version_of_every_stage_change_together() -> None:
    kept, found = json.loads(GOLDEN.read_text()), stage_digests()
    assert set(kept) == set(found)
    for stage, now in found.items():
        if now != kept[stage]:
            raised = now["version"] > kept[stage]["version"]
            pytest.fail(
                f"stage {stage}: "
                + (
                    "its version was raised: write the new digest"
                    if raised
                    else f"other output at version {now['version']}: raise the version"
                )
                + " (see the head of this file)"
            )


def stage_digests() -> dict[str, dict[str, Any]]:
    """Version and digest of the output of every stage, for the fixed input."""
    root = f"memory://golden-{id(object())}"
    build_dataset(parse_config(CONFIG), root, InThisProcess(), TerminalProgress())
    store = Store(root)
    manifest = read_manifest(store, "golden")
    outputs: dict[str, Any] = {stage: sorted(shard_rows(store, stage)) for stage in ROW_STAGES}
    [space] = store.list("pose-spaces")
    outputs["pose_space"] = space_values(PoseSpace.from_bytes(store.read(space)))
    outputs["retrieval"] = sorted(
        digest(rounded(row))
        for path in store.list("shards/retrieval")
        for row in from_parquet(store.read(path)).to_pylist()
    )
    outputs["triplets"] = sorted(
        digest(rounded(row)) for row in read_table(store, manifest, "triplets").to_pylist()
    )
    versions = {
        **manifest["stages"], "views": CropViews.version, "true-mask": TrueMasks.version
    }  # fmt: skip
    outputs["true-mask"] = [digest(rounded(without_keys(row))) for row in true_masks(store)]
    outputs["views"] = [digest(rounded(without_keys(row))) for row in viewed_crops()]
    return {
        stage: {"version": versions[stage], "digest": digest(output)}
        for stage, output in outputs.items()
    }


def viewed_crops() -> Iterator[dict[str, Any]]:
    """Crops of a set whose views are cut around the box, and of one whose views are taken whole."""
    for whole in (False, True):
        yield from CropViews(Discs(whole=whole), 64, 1.25).compute({"object": "disc-1"}, {})


def true_masks(store: Store) -> Sequence[dict[str, Any]]:
    """Masks of two crops: of the first there is a truth, a disc; of the second there is none."""
    mask = np.zeros((60, 80), np.uint8)
    mask[15:45, 20:50] = np.hypot(*np.mgrid[-14.5:15, -14.5:15]) < 15
    box = {"xmin": 0.25, "xmax": 0.625, "ymin": 0.25, "ymax": 0.75}
    crop = {
        **box, "transform": [16, 11, 38, 64], "frame_width": 80, "frame_height": 60,
        "image": {"bytes": encode_png(np.full((64, 64, 3), 90, np.uint8)), "path": None},
    }  # fmt: skip
    crops = [{**crop, "crop_id": f"crop-{time}", "timestamp_ms": time} for time in (0, 1000)]
    truth = [{**box, "timestamp_ms": 0, "mask_png": encode_png(mask * 255)}]
    places = {}
    for name, rows in (("crops", crops), ("truth", truth)):
        store.publish(f"golden/{name}.parquet", to_parquet(pa.Table.from_pylist(rows)))
        place = {"shard": f"golden/{name}.parquet", "first_row": 0, "rows": len(rows)}
        places[name] = {"root": store.location, **place}
    return [dict(row) for row in TrueMasks().compute({}, places)]


def shard_rows(store: Store, stage: str) -> Iterator[str]:
    for path in store.list(f"shards/{stage}"):
        for row in from_parquet(store.read(path)).to_pylist():
            yield digest(rounded(without_keys(row)))


def without_keys(row: dict[str, Any]) -> dict[str, Any]:
    """An output row without its key, which names the version, and with pictures as pixels."""
    beside = ("row_key", "attempt", "origin")
    kept = {name: value for name, value in row.items() if name not in beside}
    for name in ("image", "mask"):
        if kept.get(name) is not None:
            data = kept[name]["bytes"] if name == "image" else kept[name]
            kept[name] = sha256(decode_png(data).tobytes())
    if "feature" in kept:
        kept["feature"] = np.frombuffer(kept["feature"], "<f2").astype(float).tolist()
    return kept


def rounded(value: Any) -> Any:
    """Floats to four decimals: processors differ in the last bits of a sum."""
    if isinstance(value, float):
        return round(value, 4) + 0.0
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [rounded(item) for item in value]
    return value


def space_values(space: PoseSpace) -> list[Any]:
    arrays = (space.mean, space.components, space.centroids)
    return [rounded(array.astype(float).tolist()) for array in arrays]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(stage_digests(), indent=1, sort_keys=True) + "\n")
