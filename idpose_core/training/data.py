"""Triplets and their pictures, straight from a dataset's Parquet files.

Everything that is read is first compared with the manifest (SHA-256), so a training starts on the
data that was committed or not at all. Pictures stay encoded in memory and are decoded when a batch
needs them: 50 kB instead of 77 kB for a natural picture of 160 x 160, and no start-up time. Of a
remote root the shards stay as copies on this machine, for the next time: see storage/copies.py.
"""

from __future__ import annotations

import struct
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from typing import IO, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from idpose_core.training.sampling import Rows, Sampler
from storage.datasets import read_manifest, read_table
from storage.errors import DatasetError
from storage.export import ROLES, picture_places
from storage.manifests import read_checked
from storage.objects import Store
from storage.parquet import from_parquet

_SHARDS_AT_ONCE = 16
# Straight to RGB; how a camera was held is no matter of a picture that was cropped and stored.
_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
MEMORY = 8 << 30


class EmptySplitError(DatasetError):
    """A split has no triplets."""


@dataclass(frozen=True)
class RawBatch:
    """A batch as it was stored, this process's share of it.

    Attributes:
        step: The step that it belongs to.
        slots: Places of its rows in the whole batch, int64 ``[B]``.
        pictures: uint8 ``[3, B, H, W, 3]``, RGB; roles in the order id, pose, target.
        clip: Class of each ID and target picture's clip, int64 ``[B]``; -1 outside of training.
        pose_clip: The same of the pose pictures.
        video: Code of the video of ID and target, int64 ``[B]``.
        weight: How much each triplet counts in L1_dis, float32 ``[B]``; None = 1 each.
    """

    step: int
    slots: Rows
    pictures: Tensor
    clip: Tensor
    pose_clip: Tensor
    video: Tensor
    weight: Tensor | None = None


class TripletData:
    """The triplets of one split, in memory.

    Args:
        store: The root.
        dataset: ``name`` (its latest version) or ``name@version``.
        split: ``train`` or ``test``.
        merge_videos: Clips of one video are one class: they may show one object.
        weigh_by_trust: Give each row its trust over the mean trust of the split as its weight.
        decoded: Hold the pictures decoded; opening then decodes every one of them.
        memory: Bytes of pictures held in memory. Encoded pictures beyond it lie in a nameless
            temporary file ($TMPDIR); decoded ones are refused.
        threads: Shards that are read at once.

    Attributes:
        version: Version of the dataset.
        classes: Ids of the training clips (or videos) in the order of their class indices;
            empty for another split, whose clips are no classes.
        triplets: The table of the rows, sorted by ``triplet_id``: not by how it lies in files.
        size: Height and width of the pictures.

    Raises:
        EmptySplitError: The split has no triplets.
        DatasetError: There is no such dataset; a file is missing or not the one that was committed;
            a triplet is not two moments of one clip and a crop of another video; a picture says of
            itself that it is none, or has another shape; a weight is asked for, and the triplets
            have no trust.
    """

    def __init__(
        self,
        store: Store,
        dataset: str,
        split: str = "train",
        *,
        merge_videos: bool = False,
        weigh_by_trust: bool = False,
        decoded: bool = False,
        memory: int = MEMORY,
        threads: int = 4,
    ) -> None:
        manifest = read_manifest(store, dataset)
        self.name: str = manifest["name"]
        self.version: str = manifest["version"]
        self.split = split
        self.triplets = read_table(store, manifest, "triplets", split=split).sort_by("triplet_id")
        if not len(self):
            raise EmptySplitError(
                f"{self.name}@{self.version} has no triplets in its split {split!r}: build it with "
                "more videos, or another share of them in this split"
            )
        self._weight = self._weights() if weigh_by_trust else None
        columns = ["crop_id", "clip_id", "video_id", "picture_path", "picture_row"]
        crops = read_table(store, manifest, "crops", split=split, columns=columns)
        unit = "video_id" if merge_videos else "clip_id"
        named = sorted(set(crops[unit].to_pylist())) if split == "train" else []
        self.classes: tuple[str, ...] = tuple(named)
        self._clip = self._class_indices(unit)
        self._pose_clip = self._class_indices(f"pose_{unit}")
        videos = self.triplets["video_id"].combine_chunks().dictionary_encode()
        self._video: Rows = videos.indices.to_numpy().astype(np.int64)

        used = [self.triplets[f"{role}_crop"].to_pylist() for role in ROLES]
        self._crops = sorted(set().union(*used))
        number = {crop_id: index for index, crop_id in enumerate(self._crops)}
        self._roles = np.array([[number[crop] for crop in role] for role in used])
        places = picture_places(crops)
        lost = next((crop_id for crop_id in self._crops if crop_id not in places), None)
        if lost is not None:
            raise DatasetError(
                f"{self.name}@{self.version}: a triplet names the crop {lost}, which is not in the "
                f"split {split!r}: build it again"
            )
        self._check_pairs(crops)
        self._encoded = _Encoded(memory)
        self._spans: list[tuple[int, int]] = [(0, 0)] * len(self._crops)
        for crop_id, data in _checked_pictures(
            store, manifest, {crop: places[crop] for crop in self._crops}, threads
        ):
            self._spans[number[crop_id]] = self._encoded.add(data)
        self._bytes = self._encoded.array()
        self._decoded: NDArray[np.uint8] | None = None
        self.size: tuple[int, int] = self._check_picture(0)
        self._check_headers()
        if decoded:
            self._hold_decoded(memory)

    def __len__(self) -> int:
        return int(self.triplets.num_rows)

    def pictures(self, rows: Sequence[int] | Rows) -> NDArray[np.uint8]:
        """The pictures of rows, RGB uint8 ``[3, B, H, W, 3]``; roles in the order of ``ROLES``.

        Raises:
            DatasetError: A picture does not decode or has another shape.
        """
        wanted = self._roles[:, np.asarray(rows)]
        if self._decoded is not None:
            held: NDArray[np.uint8] = self._decoded[wanted]
            return held
        found = np.empty((*wanted.shape, *self.size, 3), np.uint8)
        for place, crop in np.ndenumerate(wanted):
            found[place] = self._decode(int(crop))
        return found

    def raw_batch(self, step: int, rows: Rows, slots: Rows) -> RawBatch:
        """The batch of these rows, on the CPU."""
        return RawBatch(
            step=step,
            slots=slots,
            pictures=torch.from_numpy(self.pictures(rows)),
            clip=torch.from_numpy(self._clip[rows]),
            pose_clip=torch.from_numpy(self._pose_clip[rows]),
            video=torch.from_numpy(self._video[rows]),
            weight=None if self._weight is None else torch.from_numpy(self._weight[rows]),
        )

    def _weights(self) -> NDArray[np.float32]:
        """Trust over its mean; 1 for rows whose trust is not known."""
        known = "trust" in self.triplets.column_names  # versions made before it have none
        trust = np.asarray(self.triplets["trust"].to_pylist() if known else [], np.float64)
        mean = np.nanmean(trust) if np.isfinite(trust).any() else 0.0
        if not mean > 0:
            raise DatasetError(
                f"{self.name}@{self.version}: its triplets have no trust to weigh by: build it "
                "with an embedder that reads directions, or set training.weigh_by_trust=false"
            )
        return np.nan_to_num(trust / mean, nan=1.0).astype(np.float32)

    def _class_indices(self, column: str) -> Rows:
        index = {name: number for number, name in enumerate(self.classes)}
        found = [index.get(name, -1) for name in self.triplets[column].to_pylist()]
        return np.array(found, dtype=np.int64)

    def _check_pairs(self, crops: pa.Table) -> None:
        """What D_pair takes for pairs and mismatches must be some, by what the crops say."""
        where = {
            role: crops.take(pc.index_in(self.triplets[f"{role}_crop"], crops["crop_id"]))
            for role in ROLES
        }
        columns = {"id": "", "target": "", "pose": "pose_"}
        wrong = pc.equal(self.triplets["id_crop"], self.triplets["target_crop"])
        wrong = pc.or_(wrong, pc.equal(where["id"]["video_id"], where["pose"]["video_id"]))
        for role, prefix in columns.items():
            for unit in ("clip_id", "video_id"):
                other = pc.not_equal(where[role][unit], self.triplets[f"{prefix}{unit}"])
                wrong = pc.or_(wrong, other)
        if pc.any(wrong).as_py():
            first = self.triplets["triplet_id"][pc.index(wrong, True).as_py()]
            raise DatasetError(
                f"{self.name}@{self.version}: the triplet {first} is not two crops of one clip and "
                "one of another video: build it again"
            )

    def _check_headers(self) -> None:
        """Decode what does not begin as an 8-bit RGB PNG of the right size, to say what it is."""
        head = _PNG + struct.pack(">IIBB", self.size[1], self.size[0], 8, 2)
        for crop, (start, stop) in enumerate(self._spans):
            if self._bytes[start : min(stop, start + len(head))].tobytes() != head:
                size = self._check_picture(crop)
                if size != self.size:
                    found, first = ("x".join(map(str, (*each, 3))) for each in (size, self.size))
                    raise self._unusable(crop, f"is {found}, the first one {first}")

    def _check_picture(self, crop: int) -> tuple[int, int]:
        """Height and width of a picture as it is stored, which must be uint8 of three channels."""
        pixels = self._decode(crop, cv2.IMREAD_UNCHANGED)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            shape = "x".join(map(str, pixels.shape))
            raise self._unusable(crop, f"is {pixels.dtype} {shape}, not three channels of uint8")
        height, width = pixels.shape[:2]
        return height, width

    def _decode(self, crop: int, flags: int = _RGB) -> NDArray[np.uint8]:
        """The picture of a crop, RGB uint8 ``[H, W, 3]`` unless the flags say otherwise."""
        start, stop = self._spans[crop]
        try:
            pixels = cv2.imdecode(self._bytes[start:stop], flags)
        except cv2.error:  # such as for no bytes at all
            pixels = None
        if pixels is None:
            raise self._unusable(crop, "does not decode")
        return pixels  # type: ignore[no-any-return]

    def _unusable(self, crop: int, why: str) -> DatasetError:
        return DatasetError(
            f"the picture of crop {self._crops[crop]} of {self.name}@{self.version} {why}: build "
            "the dataset again"
        )

    def _hold_decoded(self, memory: int) -> None:
        height, width = self.size
        needed = len(self._crops) * height * width * 3
        if needed > memory:
            raise DatasetError(
                f"{len(self._crops)} decoded pictures need {needed / 2**30:.1f} GiB, more than the "
                f"{memory / 2**30:.1f} GiB allowed: hold them encoded"
            )
        held = np.empty((len(self._crops), height, width, 3), np.uint8)
        for crop in range(len(self._crops)):
            held[crop] = self._decode(crop)
        self._decoded = held
        self._encoded, self._bytes = _Encoded(0), np.empty(0, np.uint8)


def batches(
    data: TripletData,
    sampler: Sampler,
    start: int,
    stop: int | None = None,
    *,
    threads: int = 2,
    ahead: int = 4,
    pin: bool = False,
) -> Generator[RawBatch, None, None]:
    """The batches of the steps ``start`` ... ``stop`` - 1, decoded ahead of their use.

    Args:
        data: The triplets.
        sampler: Deals its rows; ``sampler.rows`` is ``len(data)`` or what ``resample`` gives.
        start: First step; a training that goes on gives the step at which it stopped.
        stop: The step before which to end; None goes on for ever.
        threads: Threads that decode, each one a batch; 0 decodes when asked.
        ahead: Batches that are decoded or being decoded before they are asked for.
        pin: Page-locked memory, from which copies to a GPU overlap its work.

    Raises:
        DatasetError: At its step, for a picture whose header is right and the rest is not.
    """

    def load(step: int) -> RawBatch:
        batch = data.raw_batch(step, *sampler.share(step))
        if pin:
            batch = replace(
                batch,
                pictures=batch.pictures.pin_memory(),
                clip=batch.clip.pin_memory(),
                pose_clip=batch.pose_clip.pin_memory(),
                weight=None if batch.weight is None else batch.weight.pin_memory(),
            )
        return batch

    steps = iter(count(start) if stop is None else range(start, stop))
    if not threads:
        yield from map(load, steps)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    try:
        coming: deque[Future[RawBatch]] = deque()
        for step in steps:
            coming.append(pool.submit(load, step))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Encoded:
    """Encoded pictures one behind the other, in memory or, beyond a bound, in a nameless file."""

    def __init__(self, memory: int) -> None:
        self._bound = memory
        self._held = bytearray()
        self._file: IO[bytes] | None = None
        self._size = 0

    def add(self, data: bytes) -> tuple[int, int]:
        """Keep a picture. Returns where it begins and ends."""
        start, self._size = self._size, self._size + len(data)
        if self._file is None and self._size > self._bound:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the pictures
            self._file.write(self._held)
            self._held = bytearray()
        if self._file is None:
            self._held += data
        else:
            self._file.write(data)
        return start, self._size

    def array(self) -> NDArray[np.uint8]:
        """All bytes, uint8 ``[n]``; not copied."""
        if self._file is None:
            return np.frombuffer(self._held, np.uint8)
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r")


def _checked_pictures(
    store: Store,
    manifest: Mapping[str, Any],
    places: Mapping[str, tuple[str, int]],
    threads: int,
) -> Iterator[tuple[str, bytes]]:
    """Crop id and encoded picture of every place; each shard is read and checked once."""
    entries = {entry["path"]: entry for entry in manifest["tables"]["pictures"]}
    by_shard: dict[str, list[tuple[int, str]]] = {}
    for crop_id, (path, row) in places.items():
        by_shard.setdefault(path, []).append((row, crop_id))

    def read(path: str) -> list[tuple[str, bytes]]:
        if path not in entries:
            raise DatasetError(f"the manifest does not list the shard {path}: build again")
        data = read_checked(store, entries[path], often=True)
        try:
            images = from_parquet(data, ["image"])["image"]
            return [(crop_id, images[row].as_py()["bytes"]) for row, crop_id in by_shard[path]]
        except (pa.ArrowException, OSError, IndexError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} holds no pictures ({error}): build again") from error

    paths = sorted(by_shard)
    with ThreadPoolExecutor(threads, thread_name_prefix="shards") as pool:
        for first in range(0, len(paths), _SHARDS_AT_ONCE):
            # A few at a time, so that what is read and not yet kept stays small.
            for found in list(pool.map(read, paths[first : first + _SHARDS_AT_ONCE])):
                yield from found
