"""A small committed dataset with real pictures, made without a build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.datasets import Draft, commit
from storage.digests import sha256
from storage.objects import Store
from storage.parquet import to_parquet
from storage.schemas import CLIPS, CROPS, IMAGE, TRIPLETS, VIDEOS

SIDE = 24
CROPS_PER_CLIP = 4
_SPACE = "0123456789abcdef"
_WHERE = {"score": 1.0, "xmin": 0.0, "xmax": 1.0, "ymin": 0.0, "ymax": 1.0}
_HOW = {"detector": "annotations", "transform": [0.0, 0.0, 8.0, 8.0], "sharpness": 1.0}


def pixels(crop_id: str) -> NDArray[np.uint8]:
    """The picture of a crop, RGB uint8 [SIDE, SIDE, 3]: noise that its name seeds."""
    seed = int.from_bytes(crop_id.encode(), "little")
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def encode(crop_id: str) -> bytes:
    return bytes(cv2.imencode(".png", pixels(crop_id)[..., ::-1])[1])


def commit_world(
    store: Store,
    *,
    train_videos: int = 4,
    test_videos: int = 2,
    encoded: Callable[[str], bytes] = encode,
    licence: str | None = "CC-BY-4.0",
    azimuths: bool = False,
    embedder: str | None = None,
    objects: Callable[[str], str | None] = lambda clip: None,
    change: Callable[[dict[str, Any]], None] = lambda triplet: None,
) -> str:
    """Commit a dataset ``cars`` with two clips a video and four crops a clip, one second apart.

    Each ordered pair of a clip's crops is a triplet with a pose from the next video of the split.
    With azimuths, every object turns by 90 degrees a second; ``objects`` tells which a clip shows.

    Returns:
        The name of the version, ``cars@...``.
    """
    videos: list[dict[str, Any]] = []
    clips: list[dict[str, Any]] = []
    crops: list[dict[str, Any]] = []
    triplets: list[dict[str, Any]] = []
    for split, amount in (("train", train_videos), ("test", test_videos)):
        names = [f"{split}-v{number}" for number in range(amount)]
        videos += [_video(name, split, licence) for name in names]
        for place, video in enumerate(names):
            other = names[(place + 1) % amount]
            for part in range(2):
                clip, pose_clip = f"{video}-c{part}", f"{other}-c{part}"
                clips.append(_clip(clip, video, split))
                crops += [_crop(f"{clip}-{t}", clip, video, split, t) for t in range(4)]
                triplets += [
                    _triplet(split, video, other, clip, pose_clip, i, t)
                    for i in range(CROPS_PER_CLIP)
                    for t in range(CROPS_PER_CLIP)
                    if i != t
                ]
    for triplet in triplets:
        change(triplet)
    for clip in clips:
        clip["identity"] = objects(clip["clip_id"])
    for crop in crops if azimuths else ():
        crop["azimuth_deg"] = 90.0 * (crop["timestamp_ms"] // 1000)
    shards = _publish_pictures(store, crops, encoded)
    space = b"a pose space"
    store.publish(f"pose-spaces/{_SPACE}/space.{sha256(space)}.safetensors", space)
    rows = {
        "videos": (videos, VIDEOS),
        "clips": (clips, CLIPS),
        "crops": (crops, CROPS),
        "triplets": (triplets, TRIPLETS),
    }
    draft = Draft(
        name="cars",
        config={"seed": 1, **({"embedder": {"kind": embedder}} if embedder else {})},
        tables={
            k: pa.Table.from_pylist(found, schema=schema) for k, (found, schema) in rows.items()
        },
        pictures=shards,
        pose_space=_SPACE,
        statistics={},
        stages={},
        environment={},
        lineage={},
    )
    return f"cars@{commit(store, draft).version}"


def _publish_pictures(
    store: Store, crops: list[dict[str, Any]], encoded: Callable[[str], bytes]
) -> list[str]:
    """One shard a video."""
    paths = []
    for video in sorted({crop["video_id"] for crop in crops}):
        mine = [crop for crop in crops if crop["video_id"] == video]
        images = [{"bytes": encoded(crop["crop_id"]), "path": None} for crop in mine]
        keys = [crop["crop_id"] for crop in mine]
        data = to_parquet(pa.table({"row_key": keys, "image": pa.array(images, IMAGE)}))
        path = f"shards/crop/{sha256(data)}.parquet"
        store.publish(path, data)
        paths.append(path)
        for row, crop in enumerate(mine):
            crop.update(picture_path=path, picture_row=row)
    return paths


def _video(name: str, split: str, licence: str | None) -> dict[str, Any]:
    return {
        "video_id": name, "source_uri": f"{name}.mp4", "media_sha256": name, "split": split,
        "status": "ok", "retryable": False, "attempts": 1, "clips": 2, "licence": licence,
    }  # fmt: skip


def _clip(clip: str, video: str, split: str) -> dict[str, Any]:
    return {
        "clip_id": clip, "video_id": video, "class_name": "car", "object_id": "0", "start_ms": 0,
        "end_ms": 3000, "split": split, "status": "ok", "retryable": False, "frames": 4, "crops": 4,
    }  # fmt: skip


def _crop(crop: str, clip: str, video: str, split: str, second: int) -> dict[str, Any]:
    return {
        **_WHERE, **_HOW, "crop_id": crop, "clip_id": clip, "video_id": video, "split": split,
        "timestamp_ms": 1000 * second, "class_name": "car", "frame_width": 8, "frame_height": 8,
    }  # fmt: skip


def _triplet(
    split: str, video: str, other: str, clip: str, pose_clip: str, i: int, t: int
) -> dict[str, Any]:
    return {
        "triplet_id": f"{clip}-{i}-{t}", "split": split, "id_crop": f"{clip}-{i}",
        "target_crop": f"{clip}-{t}", "pose_crop": f"{pose_clip}-{t}", "clip_id": clip,
        "pose_clip_id": pose_clip, "video_id": video, "pose_video_id": other, "id_ms": 1000 * i,
        "target_ms": 1000 * t, "pose_ms": 1000 * t, "id_cluster": i, "pose_cluster": t,
        "similarity": 1.0,
    }  # fmt: skip
