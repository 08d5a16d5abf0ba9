"""A small dataset in a store, with pictures whose colour tells the crop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from idpose_core.stages.crop import encode_png
from storage.objects import Store
from storage.parquet import to_parquet
from storage.reasons import Status
from storage.schemas import CLIPS, CROPS, IMAGE, TRIPLETS, VIDEOS

CLUSTERS = 3
CROPS_PER_CLIP = 6


class CountingStore(Store):
    """Remembers what is opened."""

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []

    def open(self, path: str) -> Any:
        self.opened.append(path)
        return super().open(path)


def colour(number: int) -> tuple[int, int, int]:
    """RGB of a crop, far enough from that of others to survive JPEG."""
    return (40 + 37 * number % 200, 30 + 71 * number % 200, 20 + 113 * number % 200)


def video(name: str, status: Status = Status.OK, **more: Any) -> dict[str, Any]:
    return {
        "video_id": name,
        "source_uri": f"{name}.mp4",
        "split": "train",
        "status": status.value,
        "retryable": status.retryable,
        "attempts": 1,
        "clips": int(status is Status.OK),
        **more,
    }


def clip(video_id: str, split: str, status: Status = Status.OK, **more: Any) -> dict[str, Any]:
    return {
        "clip_id": f"clip-{video_id}",
        "video_id": video_id,
        "class_name": "car",
        "object_id": "0",
        "start_ms": 0,
        "end_ms": 5000,
        "split": split,
        "status": status.value,
        "retryable": False,
        "frames": 8,
        "crops": CROPS_PER_CLIP if status is Status.OK else 0,
        **more,
    }


def crop(number: int, video_id: str, split: str) -> dict[str, Any]:
    return {
        "crop_id": f"crop-{number:03d}",
        "clip_id": f"clip-{video_id}",
        "video_id": video_id,
        "split": split,
        "timestamp_ms": 1000 * (number % CROPS_PER_CLIP),
        "class_name": "car",
        "detector": "annotations",
        "score": 1.0,
        **dict.fromkeys(("xmin", "ymin"), 0.2),
        **dict.fromkeys(("xmax", "ymax"), 0.8),
        "frame_width": 320,
        "frame_height": 240,
        "transform": [0.0, 0.0, 200.0, 160.0],
        "sharpness": 100.0,
        "pose_cluster": number % CLUSTERS,
        "picture_path": f"shards/crop/{video_id}.parquet",
        "picture_row": number % CROPS_PER_CLIP,
    }


def triplet(own: dict[str, Any], pose: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    return {
        "triplet_id": f"{own['crop_id']}|{pose['crop_id']}|{target['crop_id']}",
        "split": own["split"],
        "id_crop": own["crop_id"],
        "pose_crop": pose["crop_id"],
        "target_crop": target["crop_id"],
        "id_ms": own["timestamp_ms"],
        "pose_ms": pose["timestamp_ms"],
        "target_ms": target["timestamp_ms"],
        "clip_id": own["clip_id"],
        "pose_clip_id": pose["clip_id"],
        "video_id": own["video_id"],
        "pose_video_id": pose["video_id"],
        "id_cluster": own["pose_cluster"],
        "pose_cluster": pose["pose_cluster"],
        "similarity": 0.75,
    }


def dataset(
    root: Path, *, side: int = 64
) -> tuple[CountingStore, dict[str, pa.Table], dict[str, Any]]:
    """Four videos of train and two of test, each with a clip of six crops in a shard of its own."""
    store = CountingStore(root)
    names = [(f"video-{i}", "train" if i < 4 else "test") for i in range(6)]
    crops = []
    for place, (name, split) in enumerate(names):
        numbers = range(place * CROPS_PER_CLIP, (place + 1) * CROPS_PER_CLIP)
        crops += [crop(number, name, split) for number in numbers]
        images = [
            {"bytes": encode_png(np.full((side, side, 3), colour(n), np.uint8)), "path": None}
            for n in numbers
        ]
        store.publish(
            f"shards/crop/{name}.parquet", to_parquet(pa.table({"image": pa.array(images, IMAGE)}))
        )
    triplets = [
        triplet(own, pose, target)
        for own in crops
        for target in crops
        for pose in crops
        if own["clip_id"] == target["clip_id"]
        and abs(own["timestamp_ms"] - target["timestamp_ms"]) > 2000
        and pose["split"] == own["split"]
        and pose["video_id"] != own["video_id"]
        and pose["pose_cluster"] == target["pose_cluster"]
    ]
    tables = {
        "videos": pa.Table.from_pylist(
            [video(name, split=split) for name, split in names], schema=VIDEOS
        ),
        "clips": pa.Table.from_pylist([clip(*name) for name in names], schema=CLIPS),
        "crops": pa.Table.from_pylist(crops, schema=CROPS),
        "triplets": pa.Table.from_pylist(triplets, schema=TRIPLETS),
    }
    pool = np.full((CLUSTERS, CLUSTERS), 40)
    statistics = {
        "crops_per_clip": {"max": 6.0, "min": 6.0, "median": 6.0, "p90": 6.0},
        "cluster_sizes": {"train": [8] * CLUSTERS, "test": [4] * CLUSTERS},
        "balance": {"train": {"rows": 5, "entropy": 0.9}, "test": {"rows": 2, "entropy": 0.8}},
        "pools": {"train": pool.tolist(), "test": pool.tolist()},
    }
    return store, tables, statistics


def empty_tables() -> dict[str, pa.Table]:
    schemas = {"videos": VIDEOS, "clips": CLIPS, "crops": CROPS, "triplets": TRIPLETS}
    return {name: schema.empty_table() for name, schema in schemas.items()}
