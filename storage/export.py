"""Export: a dataset as self-contained Parquet shards that other tools open by themselves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from storage.datasets import read_manifest, read_table
from storage.errors import DatasetError
from storage.manifests import read_document
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
        DatasetError: There is no such dataset, it is damaged, or ``destination`` is not empty
            or inside the root. Nothing that was written stays then.
    """
    manifest = read_manifest(store, dataset)
    if _is_inside(destination, store):
        raise DatasetError(
            f"{destination.root} lies in the root {store.root}: give a folder outside of it"
        )
    if destination.list(""):
        raise DatasetError(
            f"{destination.root} is not empty: give a new folder, or delete what a stopped export "
            "left there"
        )
    card = read_document(store, manifest, "README.md").decode()
    splits: dict[str, int] = {}
    written: list[str] = []
    try:
        for split, path, part in _parts(store, manifest, pictures):
            _write(destination, path, to_parquet(part, row_group_rows=100), written)
            splits[split] = splits.get(split, 0) + part.num_rows
        files = len(written)
        _write(destination, "README.md", f"{_data_files(splits)}{card}".encode(), written)
    except BaseException:
        # Half an export is of no use, and would stand in the way of the next try.
        for path in written:
            with contextlib.suppress(OSError):
                destination.delete(path)
        raise
    return {"files": files, "rows": sum(splits.values()), "version": manifest["version"]}


def read_pictures(
    store: Store, places: Mapping[str, tuple[str, int]]
) -> Iterator[tuple[str, bytes]]:
    """The encoded pictures of crops, each shard read once.

    Args:
        store: The root.
        places: For each crop id the shard's path and the row in it.

    Yields:
        Crop id and PNG bytes.

    Raises:
        DatasetError: A shard is missing or damaged.
    """
    by_shard: dict[str, list[tuple[int, str]]] = {}
    for crop_id, (path, row) in places.items():
        by_shard.setdefault(path, []).append((row, crop_id))
    for path in sorted(by_shard):
        rows = sorted(by_shard[path])
        try:
            with store.open(path) as file:
                images = from_parquet(file, ["image"])["image"]
            found = [(crop_id, images[row].as_py()["bytes"]) for row, crop_id in rows]
        except FileNotFoundError as error:
            raise DatasetError(f"{path} is missing: the same build restores it") from error
        except (pa.ArrowException, OSError, IndexError, KeyError, TypeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise DatasetError(f"{path} cannot be read: {error}") from error
            raise DatasetError(f"{path} is damaged: the same build restores it") from error
        yield from found


def picture_places(crops: pa.Table) -> dict[str, tuple[str, int]]:
    """Where the picture of each crop of a crops table lies."""
    columns = (crops[name].to_pylist() for name in ("crop_id", "picture_path", "picture_row"))
    return {crop_id: (path, row) for crop_id, path, row in zip(*columns, strict=True)}


def _parts(
    store: Store, manifest: Mapping[str, Any], pictures: bool
) -> Iterator[tuple[str, str, pa.Table]]:
    """The shards of an export: split, path, rows."""
    for split in ("train", "test"):
        triplets = read_table(store, manifest, "triplets", split=split)
        shards = -(-triplets.num_rows // _ROWS_PER_SHARD)
        for index in range(shards):
            part = triplets.slice(index * _ROWS_PER_SHARD, _ROWS_PER_SHARD)
            if pictures:
                part = _with_pictures(store, manifest, split, part)
            yield split, f"data/{split}-{index:05d}-of-{shards:05d}.parquet", part


def _write(destination: Store, path: str, data: bytes, written: list[str]) -> None:
    if not destination.publish(path, data):
        raise DatasetError(f"{path} appeared in {destination.root} meanwhile: give a new folder")
    written.append(path)


def _is_inside(inner: Store, outer: Store) -> bool:
    folder, path = inner.local_path(""), outer.local_path("")
    if folder is not None and path is not None:
        return folder.resolve().is_relative_to(path.resolve())
    return f"{inner.location.rstrip('/')}/".startswith(f"{outer.location.rstrip('/')}/")


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


def _data_files(splits: Iterable[str]) -> str:
    """The head of a card, by which ``datasets`` finds the files of each split."""
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*" for split in splits)
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n"
