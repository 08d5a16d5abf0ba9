"""A small dataset that was never built: two videos, two pictures, two triplets."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from storage.datasets import Draft
from storage.digests import sha256
from storage.objects import Store
from storage.parquet import to_parquet
from storage.schemas import CLIPS, CROPS, IMAGE, TRIPLETS, VIDEOS

_WHERE = {"score": 1.0, "xmin": 0.0, "xmax": 1.0, "ymin": 0.0, "ymax": 1.0}
_HOW = {"detector": "annotations", "transform": [0.0, 0.0, 8.0, 8.0], "sharpness": 1.0}
SPACE = "0123456789abcdef"


def draft(store: Store, *, lost: tuple[str, ...] = (), documents: bool = True) -> Draft:
    """A draft whose pictures and pose space are in the store.

    Args:
        store: The root.
        lost: Names of further videos that could not be read.
        documents: Whether there are a card and a page; both show what was lost.
    """
    shard = _publish_pictures(store)
    space = b"a pose space"
    store.publish(f"pose-spaces/{SPACE}/space.{sha256(space)}.safetensors", space)
    return Draft(
        name="cars",
        config={"seed": 1},
        tables=_tables(shard, lost),
        pictures=[shard],
        pose_space=SPACE,
        statistics={},
        stages={},
        environment={},
        lineage={},
        **({"documents": _documents} if documents else {}),
    )


def picture(number: int) -> bytes:
    """Bytes in the place of a picture's, which no compression changes."""
    return hashlib.shake_256(bytes([number])).digest(3000)


def _documents(tables: Any) -> dict[str, bytes]:
    seen = sorted(tables["videos"]["source_uri"].to_pylist())
    return {"README.md": f"# cars\n\n{seen}\n".encode(), "report.html": f"{seen}".encode()}


def _publish_pictures(store: Store) -> str:
    images = [{"bytes": picture(n), "path": None} for n in range(2)]
    table = pa.table({"row_key": ["a", "b"], "image": pa.array(images, IMAGE)})
    data = to_parquet(table)
    path = f"shards/crop/{sha256(data)}.parquet"
    store.publish(path, data)
    return path


def _tables(shard: str, lost: tuple[str, ...]) -> dict[str, pa.Table]:
    splits = ("train", "test")
    videos = [_video(f"{split}-video", split, "ok") for split in splits]
    videos += [_video(name, None, "empty_file") for name in lost]
    clips = [
        {
            "clip_id": f"{split}-clip", "video_id": f"{split}-video", "split": split,
            "class_name": "car", "object_id": "0", "start_ms": 0, "end_ms": 9, "status": "ok",
            "retryable": False, "frames": 1, "crops": 1,
        }
        for split in splits
    ]  # fmt: skip
    crops = [
        {
            **_WHERE, **_HOW, "crop_id": f"{split}-crop", "clip_id": f"{split}-clip",
            "video_id": f"{split}-video", "split": split, "timestamp_ms": 0, "class_name": "car",
            "frame_width": 8, "frame_height": 8, "picture_path": shard, "picture_row": row,
        }
        for row, split in enumerate(splits)
    ]  # fmt: skip
    triplets = [
        {
            **{f"{role}_crop": f"{split}-crop" for role in ("id", "pose", "target")},
            **{f"{role}_ms": 0 for role in ("id", "pose", "target")},
            "triplet_id": split, "split": split, "clip_id": f"{split}-clip",
            "pose_clip_id": f"{split}-clip", "video_id": f"{split}-video",
            "pose_video_id": f"{split}-video", "id_cluster": 0, "pose_cluster": 0,
            "similarity": 1.0,
        }
        for split in splits
    ]  # fmt: skip
    rows = {"videos": (videos, VIDEOS), "clips": (clips, CLIPS), "crops": (crops, CROPS)}
    rows["triplets"] = (triplets, TRIPLETS)
    return {
        name: pa.Table.from_pylist(found, schema=schema) for name, (found, schema) in rows.items()
    }


def _video(name: str, split: str | None, status: str) -> dict[str, Any]:
    return {
        "video_id": name, "source_uri": f"{name}.mp4", "media_sha256": name if split else None,
        "split": split, "status": status, "retryable": False, "attempts": 1, "clips": 1,
    }  # fmt: skip
