"""Evaluation sets: frozen triplets with their pictures, ``ROOT/evaluation-sets/<name>/``.

A set holds all that it needs, so that it outlives the dataset it was made from: the pictures of its
triplets, and of every target the nearest other one of its clip, for the oracle. ``set.json`` is
written last, names every file with its digest, and is never rewritten: who wants another set gives
another name. Files are named by what they hold, so that the rest of a freezing that was cut off
stands in no one's way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from idpose_core.evaluation.pictures import Pictures, at_size, mask_at_size
from idpose_core.evaluation.views import (
    LabelledViews,
    angles,
    known_objects,
    labelled_views,
    nearest_others,
    numbered,
)
from idpose_core.stages.crop import decode_png
from storage.datasets import read_table
from storage.digests import sha256
from storage.errors import DamageError, DatasetError
from storage.export import ROLES, picture_places
from storage.manifests import file_entry, read_checked
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from storage.schemas import IMAGE

FORMAT = 1
_PICTURES_PER_FILE = 2000


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


SCHEMA = pa.schema(
    [
        _required("triplet_id", pa.string()),
        _required("id_crop", pa.string()),
        _required("pose_crop", pa.string()),
        _required("target_crop", pa.string()),
        _required("identity", pa.string()),  # clip of ID picture and target
        _required("pose_identity", pa.string()),
        _required("id_ms", pa.int64()),
        _required("target_ms", pa.int64()),
        pa.field("target_azimuth_deg", pa.float64()),  # null where unknown
        pa.field("pose_azimuth_deg", pa.float64()),
        pa.field("target_elevation_deg", pa.float64()),
        pa.field("pose_error_deg", pa.float64()),
        _required("chosen_by", pa.string()),  # truth, agreement or person
        _required("review", pa.string()),  # auto or reviewed
    ]
)
_CHOSEN_BY, _REVIEW = {"truth", "agreement", "person"}, {"auto", "reviewed"}
_PICTURES = pa.schema(
    [
        _required("crop_id", pa.string()),
        _required("clip_id", pa.string()),
        _required("video_id", pa.string()),
        _required("timestamp_ms", pa.int64()),
        pa.field("azimuth_deg", pa.float64()),  # null where unknown
        pa.field("elevation_deg", pa.float64()),
        pa.field("object", pa.string()),  # which it shows, across videos; null where unknown
        pa.field("image", IMAGE),
        pa.field("mask", pa.binary()),  # PNG, 255 on the object; null where unknown
    ]
)


class _File(BaseModel):
    path: str
    bytes: int
    sha256: str


class _Dataset(BaseModel):
    name: str
    version: str


class _SetInfo(BaseModel):
    """What ``set.json`` must have to be used."""

    model_config = ConfigDict(extra="allow", strict=True)

    format: int
    name: str
    dataset: _Dataset
    split: str
    seed: int
    triplets: int
    review: dict[str, int]
    chosen_by: dict[str, int]
    files: list[_File] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """A frozen set, as a model of one size sees it.

    Attributes:
        name: Of the set.
        info: ``set.json``.
        triplets: The table in ``SCHEMA``, by triplet id.
        size: R of the pictures.
        crops: What is known of the crops, pictures apart: ids, clips, times, angles.
        views: The crops as they are stored.
        pictures: uint8 [U, R, R, 3], one a crop.
        masks: bool [U, R, R]; None where not every crop has one.
        rows: int64 [3, N], the crops of every triplet, roles in the order id, pose, target.
    """

    name: str
    info: Mapping[str, Any]
    triplets: pa.Table
    size: int
    crops: pa.Table
    views: LabelledViews
    pictures: Pictures
    masks: NDArray[np.bool_] | None
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.triplets.num_rows)

    def role(self, name: str) -> Pictures:
        """The pictures [N, R, R, 3] of a role: id, pose or target."""
        found: Pictures = self.pictures[self.rows[ROLES.index(name)]]
        return found

    def masks_of(self, name: str) -> NDArray[np.bool_] | None:
        """The masks [N, R, R] of a role, or None."""
        return None if self.masks is None else self.masks[self.rows[ROLES.index(name)]]

    @property
    def objects(self) -> NDArray[np.int64]:
        """Objects of the ID and of the pose picture, int64 [2, N]: the units of the intervals.

        Where it is not known which object a crop shows, all of its video counts as one.
        """
        names = pc.coalesce(
            pc.binary_join_element_wise("object", self.crops["object"], " "),
            pc.binary_join_element_wise("video", self.crops["video_id"], " "),
        )
        return numbered(names.to_pylist())[1][self.rows[:2]]

    @property
    def dataset(self) -> tuple[str, str]:
        """Name and version of the dataset that it was made from."""
        return self.info["dataset"]["name"], self.info["dataset"]["version"]


def freeze_set(
    store: Store, name: str, manifest: Mapping[str, Any], split: str, triplets: pa.Table, seed: int
) -> Mapping[str, Any]:
    """Write a set; what is missing or damaged of this very set is restored. Returns ``set.json``.

    Args:
        store: The root.
        name: Of the set.
        manifest: Of the dataset that the triplets are of.
        split: Of that dataset; never its training data.
        triplets: In ``SCHEMA``.
        seed: With which they were chosen.

    Raises:
        DatasetError: The name is taken by another set or is no name, the triplets are empty,
            mixed up or of the training data, or a picture is missing.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", name):
        raise DatasetError(f"{name!r} is no name of a set: use a-z, 0-9, '.', '_' and '-'")
    if split == "train":
        raise DatasetError("an evaluation set is not made of training data: give another split")
    triplets = triplets.cast(SCHEMA).sort_by("triplet_id")
    check_triplets(triplets, f"evaluation set {name}")
    folder = f"evaluation-sets/{name}"
    contents = [_named(f"{folder}/triplets", to_parquet(triplets))]
    for number, table in enumerate(_picture_tables(store, manifest, split, triplets)):
        data = to_parquet(table, row_group_rows=200)
        contents.append(_named(f"{folder}/pictures-{number:05d}", data))
    reviews = {word: _count(triplets, "review", word) for word in sorted(_REVIEW)}
    info = {
        "format": FORMAT,
        "name": name,
        "dataset": {"name": manifest["name"], "version": manifest["version"]},
        "split": split,
        "seed": seed,
        "triplets": triplets.num_rows,
        "review": reviews,
        "chosen_by": {word: _count(triplets, "chosen_by", word) for word in sorted(_CHOSEN_BY)},
        "files": [file_entry(path, data) for path, data in contents],
    }
    data = json.dumps(info, indent=1, sort_keys=True).encode() + b"\n"
    path = f"{folder}/set.json"
    if store.exists(path) and store.read(path) != data:
        raise DatasetError(f"{path} is another set's: a frozen set is never changed, name it anew")
    for named, content in contents:
        if not store.publish(named, content) and store.read(named) != content:
            store.replace(named, content)  # damaged: a file is named by what it holds
    if not store.publish(path, data) and store.read(path) != data:
        raise DatasetError(f"{path} is another set's: a frozen set is never changed, name it anew")
    return info


def read_set(store: Store, name: str, size: int) -> EvaluationSet:
    """A frozen set with its pictures at the size of a model, every file checked.

    Raises:
        DatasetError: There is no such set, or it is damaged, empty or mixed up.
    """
    if name not in set_names(store):
        raise DatasetError(
            f"no evaluation set {name!r} in {store.root}; there are "
            f"{', '.join(set_names(store)) or 'none'}: make it with `idpose freeze`"
        )
    path = f"evaluation-sets/{name}/set.json"
    try:
        checked = _SetInfo.model_validate_json(store.read(path))
        if checked.format != FORMAT or checked.name != name:
            raise ValueError(f"it is of {checked.name}, format {checked.format}")
    except ValueError as error:
        cause = str(error).splitlines()[0]
        raise DamageError(f"{path} cannot be used ({cause}): put back a copy of it") from error
    info = checked.model_dump()
    tables = [_read(store, entry) for entry in info["files"]]
    triplets = tables[0]
    check_triplets(triplets, f"evaluation set {name}")
    if triplets.num_rows != checked.triplets:
        raise DamageError(f"{path} tells another number of triplets: put back a copy of it")
    # Sets that were frozen before objects were kept have no such column.
    crops = pa.concat_tables([_PICTURES.empty_table(), *tables[1:]], promote_options="default")
    number = {crop: place for place, crop in enumerate(crops["crop_id"].to_pylist())}
    if len(number) < len(crops):
        raise DamageError(f"{path} names pictures twice: put back a copy of it")
    used = [triplets[f"{role}_crop"].to_pylist() for role in ROLES]
    lost = next((crop for crop in sorted(set().union(*used)) if crop not in number), None)
    if lost is not None:
        raise DamageError(
            f"evaluation set {name} has no picture of crop {lost}: put back a copy of {path}"
        )
    _check_clips(triplets, crops, f"evaluation set {name}")
    stored = np.stack([decode_png(image["bytes"]) for image in crops["image"].to_pylist()])
    masks = [m for m in crops["mask"].to_pylist() if m is not None]
    return EvaluationSet(
        name,
        info,
        triplets,
        size,
        crops.drop_columns(["image", "mask"]),
        labelled_views(stored, crops, f"evaluation set {name}"),
        at_size(stored, size),
        np.stack([mask_at_size(decode_png(mask) > 127, size) for mask in masks])
        if len(masks) == len(crops)
        else None,
        np.array([[number[crop] for crop in role] for role in used], np.int64),
    )


def set_names(store: Store) -> list[str]:
    """The sets of a root."""
    paths = (path.split("/") for path in store.list("evaluation-sets"))
    return sorted(parts[1] for parts in paths if len(parts) == 3 and parts[2] == "set.json")


def check_triplets(triplets: pa.Table, what: str) -> None:
    """Refuse triplets that measure nothing.

    Raises:
        DatasetError: None at all, another schema, an ID picture that is its target, a pose picture
            of the target's own object, a triplet twice, or a mark that is none.
    """
    if not triplets.schema.equals(SCHEMA):
        raise DatasetError(f"{what} has other columns than an evaluation set")
    if not triplets.num_rows:
        raise DatasetError(f"{what} is empty")
    problems = {
        "the ID picture is the target": pc.equal(triplets["id_crop"], triplets["target_crop"]),
        "the pose picture shows the target's object": pc.equal(
            triplets["identity"], triplets["pose_identity"]
        ),
        "a mark is none": pc.invert(
            pc.and_(
                pc.is_in(triplets["review"], pa.array(sorted(_REVIEW))),
                pc.is_in(triplets["chosen_by"], pa.array(sorted(_CHOSEN_BY))),
            )
        ),
    }
    for problem, wrong in problems.items():
        rows = pc.filter(triplets["triplet_id"], wrong).to_pylist()
        if rows:
            raise DatasetError(f"{what} is mixed up: {problem} in {len(rows)} rows, as {rows[0]}")
    if pc.count_distinct(triplets["triplet_id"]).as_py() != triplets.num_rows:
        raise DatasetError(f"{what} is mixed up: a triplet stands in it twice")


def _check_clips(triplets: pa.Table, crops: pa.Table, what: str) -> None:
    """Refuse triplets whose crops are of other clips than they say."""
    for role, column in (("id", "identity"), ("target", "identity"), ("pose", "pose_identity")):
        clips = crops["clip_id"].take(pc.index_in(triplets[f"{role}_crop"], crops["crop_id"]))
        rows = pc.filter(triplets["triplet_id"], pc.not_equal(clips, triplets[column])).to_pylist()
        if rows:
            raise DatasetError(
                f"{what} is mixed up: the {role} picture is of another clip in {len(rows)} rows, "
                f"as {rows[0]}"
            )


def _oracles(triplets: pa.Table, crops: pa.Table) -> set[str]:
    targets = pc.index_in(pc.unique(triplets["target_crop"]), crops["crop_id"]).to_numpy()
    rows = nearest_others(
        targets.astype(np.int64), numbered(crops["clip_id"].to_pylist())[1],
        crops["timestamp_ms"].to_numpy(), angles(crops, "azimuth_deg"),
        angles(crops, "elevation_deg"),
    )  # fmt: skip
    return set(crops["crop_id"].take(pa.array(rows)).to_pylist())


def _picture_tables(
    store: Store, manifest: Mapping[str, Any], split: str, triplets: pa.Table
) -> Iterator[pa.Table]:
    crops = read_table(store, manifest, "crops", split=split).sort_by("crop_id")
    places = picture_places(crops)
    used = set().union(*(triplets[f"{role}_crop"].to_pylist() for role in ROLES))
    lost = next((crop for crop in sorted(used) if crop not in places), None)
    if lost is not None:
        raise DatasetError(f"the crop {lost} is not in the split {split!r} of the dataset")
    _check_clips(triplets, crops, "the table of triplets")
    wanted = sorted(used | _oracles(triplets, crops))
    known = [name for name in _PICTURES.names if name in crops.column_names]
    rows = {row["crop_id"]: row for row in crops.select(known).to_pylist()}
    shown = known_objects(read_table(store, manifest, "clips", split=split))
    for row in rows.values():
        row["object"] = shown.get(row["clip_id"])
    by_shard: dict[str, list[tuple[int, str]]] = {}
    for crop in wanted:
        path, row = places[crop]
        by_shard.setdefault(path, []).append((row, crop))
    entries = {entry["path"]: entry for entry in manifest["tables"]["pictures"]}
    for path, members in by_shard.items():
        shard = from_parquet(read_checked(store, entries[path]))
        masks = shard["mask"] if "mask" in shard.column_names else None
        for row, crop in members:
            image = {"bytes": shard["image"][row].as_py()["bytes"], "path": None}
            rows[crop]["image"] = image
            rows[crop]["mask"] = masks[row].as_py() if masks is not None else None
    for at in range(0, len(wanted), _PICTURES_PER_FILE):
        part = [rows[crop] for crop in wanted[at : at + _PICTURES_PER_FILE]]
        yield pa.Table.from_pylist(part, schema=_PICTURES)


def _named(stem: str, data: bytes) -> tuple[str, bytes]:
    return f"{stem}-{sha256(data)[:8]}.parquet", data


def _read(store: Store, entry: Mapping[str, Any]) -> pa.Table:
    remedy = (
        "put back a copy of the set, or freeze it again in the same way and with the same version "
        "of idpose"
    )
    try:
        return from_parquet(read_checked(store, entry, remedy))
    except DatasetError as error:
        raise DamageError(str(error)) from error


def _count(table: pa.Table, column: str, word: str) -> int:
    return int(pc.sum(pc.equal(table[column], word)).as_py() or 0)
