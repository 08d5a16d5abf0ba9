"""A build of many clips whose row stages cost nothing: what is left is orchestration.

    python -m tests.scale.clips FOLDER CLIPS

makes a source of ``CLIPS`` clips (two a video, three crops each, of 16 numbers and a picture of a
few bytes), builds it, plans and builds it again unchanged, inspects it, and looks for garbage. It
prints one line of JSON: seconds of CPU and megabytes of each. Everything but what the stages
compute is the program's own: keys, shards, plans, tables, search, sampling, commit.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from flows.build_dataset import build_dataset
from flows.configs import find_config
from flows.inspection import summary
from flows.progress import TerminalProgress
from idpose_core.stages.crop import CropInstances, encode_png
from idpose_core.stages.detect import DetectObjects
from idpose_core.stages.embed import EmbedCrops
from idpose_core.stages.fetch import FetchFolder
from idpose_core.stages.link import LinkClips
from storage.digests import digest, sha256
from storage.gc import find_orphans
from storage.objects import Store
from storage.shards import read_located
from tests.flows.builds import BOX_CARS, InThisProcess

CLIPS_A_VIDEO, CROPS_A_CLIP, NUMBERS = 2, 3, 16
_PICTURE = {"bytes": encode_png(np.zeros((8, 8, 3), np.uint8)), "path": None}
_BOX = {"xmin": 0.2, "xmax": 0.8, "ymin": 0.2, "ymax": 0.8}
Row = Mapping[str, Any]


def fetch(stage: FetchFolder, row: Row, location: Row) -> Sequence[Row]:
    media = {"media_sha256": sha256(row["relative_path"].encode()), "codec": "none"}
    return [{**media, "duration_ms": 3000, "width": 64, "height": 64}]


def detect(stage: DetectObjects, row: Row, location: Row) -> Sequence[Row]:
    hashes = [int(digest([row["media_sha256"], n])[:16], 16) for n in range(CROPS_A_CLIP)]
    return [
        {
            "timestamp_ms": 1000 * n, "width": 64, "height": 64, "cut": False, "picture": None,
            "footage_hash": footage, "detections": [],
        }
        for n, footage in enumerate(hashes)
    ]  # fmt: skip


def link(stage: LinkClips, row: Row, location: Row) -> Sequence[Row]:
    seen = {"class_name": "car", "score": 1.0, **_BOX, "picture": None}
    return [
        {
            "clip_id": digest([row["video_id"], n])[:16], "class_name": "car",
            "object_id": str(n), "start_ms": 0, "end_ms": 3000, "frames": CROPS_A_CLIP,
            "clip_status": "ok", "clip_detail": None,
            "observations": [{"timestamp_ms": 1000 * n, **seen} for n in range(CROPS_A_CLIP)],
        }
        for n in range(CLIPS_A_VIDEO)
    ]  # fmt: skip


def crop(stage: CropInstances, row: Row, location: Row) -> Sequence[Row]:
    return [
        {
            **seen, "frame_width": 64, "frame_height": 64, "transform": [0.0, 0.0, 64.0, 64.0],
            "crop_id": digest([row["clip_id"], n])[:24], "image": _PICTURE, "sharpness": 20.0,
        }
        for n, seen in enumerate(row["observations"])
    ]  # fmt: skip


def embed(stage: EmbedCrops, row: Row, location: Row) -> Sequence[Row]:
    names = [found["crop_id"] for found in read_located(location["crops"], ["crop_id"])]
    features = [np.random.default_rng(int(name, 16)).standard_normal(NUMBERS) for name in names]
    return [
        {
            "crop_id": name, "reading": None,
            "feature": (feature / np.linalg.norm(feature)).astype("<f2").tobytes(),
        }
        for name, feature in zip(names, features, strict=True)
    ]  # fmt: skip


SIMULATED = {
    FetchFolder: fetch, DetectObjects: detect, LinkClips: link, CropInstances: crop,
    EmbedCrops: embed,
}  # fmt: skip


def measure(folder: Path, clips: int) -> dict[str, Any]:
    """Build, plan and build again, inspect, look for garbage."""
    for stage, compute in SIMULATED.items():
        stage.compute = compute  # type: ignore[attr-defined]
        stage.prepare = lambda self: None  # type: ignore[attr-defined]
    source, root = folder / "videos", folder / "root"
    source.mkdir(parents=True)
    for number in range(clips // CLIPS_A_VIDEO):
        (source / f"{number:07d}.mp4").write_bytes(b"%d" % number)
    config = find_config(
        BOX_CARS,
        {
            "source.path": str(source), "embedder.kind": "grey-pixels", "embedder.masks": "none",
            "pose.clusters": 16, "pose.dimensions": NUMBERS, "detector.kind": "yolox",
            "detector.weights": str(source / "0000000.mp4"),
        },
    )  # fmt: skip
    found: dict[str, Any] = {"clips": clips}

    @contextmanager
    def measured(what: str) -> Any:
        began, wall = time.process_time(), time.monotonic()
        yield
        found[what] = round(time.process_time() - began, 1)
        found[f"{what}_wall"] = round(time.monotonic() - wall, 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found[f"{what}_megabytes"] = round(peak / 1000)

    def build() -> dict[str, Any]:
        return build_dataset(config, str(root), InThisProcess(), TerminalProgress()).to_dict()

    with measured("first"):
        first = build()
    with measured("again"):
        again = build()
    assert again["version"] == first["version"] and again["shards"]["computed"] == 0
    store = Store(root)
    with measured("inspect"):
        assert summary(store, config.name)["problems"] == []
    with measured("gc"):
        assert find_orphans(store).orphans == []
    objects = list(store.details(""))
    return {
        **found,
        "stages": again["seconds"],
        "objects": len(objects),
        "megabytes": round(sum(one.bytes for one in objects) / 1e6),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
