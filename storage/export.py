"""Export: a dataset as self-contained Parquet shards that other tools open by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from storage.datasets import DatasetError, read_manifest, read_table
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from storage.schemas import IMAGE

ROLES = ("id", "pose", "target")
_ROWS_PER_SHARD = 500  # about 60 MB with three pictures of 160 x 160 a row


def export_dataset(
    store: Store, dataset: str, destination: Store, *, pictures: bool
) -> dict[str, Any]:
    """Write the triplets of a version, by split, with or without their pictures.

    With pictures each row carries three Image columns (``id_image``, ``pose_image``,
    ``target_image``) in the Hugging Face convention, and the folder opens with
    ``datasets.load_dataset(DEST)``.

    Returns:
        The number of files and rows.

    Raises:
        DatasetError: There is no such dataset, it is damaged, or ``destination`` is not empty.
    """
    manifest = read_manifest(store, dataset)
    if destination.list(""):
        raise DatasetError(f"{destination.root} is not empty: give a new folder")
    files = rows = 0
    splits = []
    for split in ("train", "test"):
        triplets = read_table(store, manifest, "triplets", split=split)
        if not triplets.num_rows:
            continue
        splits.append(split)
        shards = -(-triplets.num_rows // _ROWS_PER_SHARD)
        for index in range(shards):
            part = triplets.slice(index * _ROWS_PER_SHARD, _ROWS_PER_SHARD)
            if pictures:
                part = _with_pictures(store, manifest, split, part)
            path = f"data/{split}-{index:05d}-of-{shards:05d}.parquet"
            destination.publish(path, to_parquet(part, row_group_rows=100))
            files, rows = files + 1, rows + part.num_rows
    destination.publish("README.md", _card(store, manifest, splits).encode())
    return {"files": files, "rows": rows, "version": manifest["version"]}


def read_pictures(
    store: Store, places: Mapping[str, tuple[str, int]]
) -> Iterator[tuple[str, bytes]]:
    """The encoded pictures of crops, each shard read once.

    Args:
        store: The root.
        places: For each crop id the shard's path and the row in it.

    Yields:
        Crop id and PNG bytes.
    """
    by_shard: dict[str, list[tuple[int, str]]] = {}
    for crop_id, (path, row) in places.items():
        by_shard.setdefault(path, []).append((row, crop_id))
    for path in sorted(by_shard):
        with store.open(path) as file:
            images = from_parquet(file, ["image"])["image"]
        for row, crop_id in sorted(by_shard[path]):
            yield crop_id, images[row].as_py()["bytes"]


def picture_places(crops: pa.Table) -> dict[str, tuple[str, int]]:
    """Where the picture of each crop of a crops table lies."""
    columns = (crops[name].to_pylist() for name in ("crop_id", "picture_path", "picture_row"))
    return {crop_id: (path, row) for crop_id, path, row in zip(*columns, strict=True)}


def _with_pictures(
    store: Store, manifest: Mapping[str, Any], split: str, triplets: pa.Table
) -> pa.Table:
    columns = ["crop_id", "picture_path", "picture_row"]
    places = picture_places(read_table(store, manifest, "crops", split=split, columns=columns))
    wanted = {crop for role in ROLES for crop in triplets[f"{role}_crop"].to_pylist()}
    found = dict(read_pictures(store, {crop: places[crop] for crop in sorted(wanted)}))
    for role in ROLES:
        images = [
            {"bytes": found[crop], "path": f"{crop}.png"}
            for crop in triplets[f"{role}_crop"].to_pylist()
        ]
        triplets = triplets.append_column(f"{role}_image", pa.array(images, IMAGE))
    features = {
        **{field.name: _feature(field.type) for field in triplets.schema},
        **{f"{role}_image": {"_type": "Image"} for role in ROLES},
    }
    info = json.dumps({"info": {"features": features}})
    return triplets.replace_schema_metadata({"huggingface": info})


def _feature(kind: pa.DataType) -> dict[str, str]:
    return {"_type": "Value", "dtype": "float32" if pa.types.is_float32(kind) else str(kind)}


def _card(store: Store, manifest: Mapping[str, Any], splits: list[str]) -> str:
    text = store.read(f"datasets/{manifest['name']}/{manifest['version']}/README.md").decode()
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*" for split in splits)
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n{text}"
