"""Pictures whose identity and azimuth are known, from a dataset or straight from the renderer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from idpose_core.stages.crop import decode_png
from storage.datasets import read_manifest, read_table
from storage.digests import canonical
from storage.errors import DatasetError
from storage.export import picture_places, read_pictures
from storage.objects import Store

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledViews:
    """Pictures with what is known of them, in a fixed order.

    Attributes:
        pictures: uint8 [N, S, S, 3], RGB.
        identity: int64 [N], index into ``names``.
        video: int64 [N], number of the video; of a multi-view set that of the object.
        azimuth_deg: float64 [N]; 0 shows the front, 90 the object's left side; NaN where unknown.
        elevation_deg: float64 [N]; NaN where unknown.
        elevation_order: int64 [N], see :func:`elevation_order`.
        names: Of the identities; for a multi-view set the clip ids.
        source: What they were read from, ``name@version:split``.
    """

    pictures: NDArray[np.uint8]
    identity: Rows
    video: Rows
    azimuth_deg: NDArray[np.float64]
    elevation_deg: NDArray[np.float64]
    elevation_order: Rows
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def digest(self) -> str:
        """Of all that a network can be trained on."""
        total = hashlib.blake2b(canonical(list(self.names)), digest_size=16)
        for part in (
            self.pictures,
            self.identity,
            self.video,
            self.azimuth_deg,
            self.elevation_deg,
        ):
            total.update(canonical([str(part.dtype), list(part.shape)]))
            total.update(np.ascontiguousarray(part).tobytes())
        return total.hexdigest()

    def select(self, rows: Rows | NDArray[np.bool_]) -> LabelledViews:
        """Some of the pictures; the identities keep their indices."""
        return LabelledViews(
            self.pictures[rows],
            self.identity[rows],
            self.video[rows],
            self.azimuth_deg[rows],
            self.elevation_deg[rows],
            self.elevation_order[rows],
            self.names,
            self.source,
        )


def read_views(
    store: Store, dataset: str, split: str, *, known_azimuth: bool = True
) -> LabelledViews:
    """The crops of one split, by crop id; one clip is one identity.

    In a multi-view set a clip is all that there is of an object. In video an object may have
    several clips: there a clip is an identity in one place and light.

    Args:
        store: The root.
        dataset: ``name`` or ``name@version``.
        split: ``train`` or ``test``.
        known_azimuth: Only crops whose azimuth is known.

    Raises:
        DatasetError: There is no such dataset, it has no such crop in this split, or a file is
            missing or damaged.
    """
    manifest = read_manifest(store, dataset)
    source = f"{manifest['name']}@{manifest['version']}:{split}"
    crops = read_table(store, manifest, "crops", split=split).sort_by("crop_id")
    if known_azimuth:
        crops = crops.filter(pc.is_valid(crops["azimuth_deg"]))
    if not crops.num_rows:
        what = " with a known azimuth: use a rendered dataset" if known_azimuth else ""
        raise DatasetError(f"{source} has no crops{what}")
    found = dict(read_pictures(store, picture_places(crops)))
    ids = crops["crop_id"].to_pylist()
    # There can be gigabytes of them, so they are decoded into their place.
    pictures = np.empty((len(ids), *decode_png(found[ids[0]]).shape), np.uint8)
    for place, crop in enumerate(ids):
        picture = decode_png(found.pop(crop))
        if picture.shape != pictures.shape[1:]:
            raise DatasetError(
                f"{source} has pictures of different shapes {pictures.shape[1:]} and "
                f"{picture.shape}: build it again"
            )
        pictures[place] = picture
    return labelled_views(pictures, crops, source)


def labelled_views(pictures: NDArray[np.uint8], crops: pa.Table, source: str) -> LabelledViews:
    """Pictures uint8 [N, S, S, 3] with what a table of their crops knows of them."""
    names, identity = numbered(crops["clip_id"].to_pylist())
    _, video = numbered(crops["video_id"].to_pylist())
    azimuth, times = angles(crops, "azimuth_deg"), crops["timestamp_ms"].to_numpy()
    return LabelledViews(
        pictures, identity, video, azimuth, angles(crops, "elevation_deg"),
        elevation_order(identity, azimuth, times), names, source,
    )  # fmt: skip


def numbered(words: Sequence[str]) -> tuple[tuple[str, ...], Rows]:
    """The different words in order, and for each of the given ones its place among them."""
    names, places = np.unique(np.array(words, dtype=object), return_inverse=True)
    return tuple(names.tolist()), places.astype(np.int64)


def known_objects(clips: pa.Table) -> dict[str, str]:
    """By the id of a clip the object that it shows, across videos; unknown ones are left out."""
    if "identity" not in clips.column_names:
        return {}
    told = zip(clips["clip_id"].to_pylist(), clips["identity"].to_pylist(), strict=True)
    return {clip: shown for clip, shown in told if shown is not None}


def angles(table: pa.Table, column: str) -> NDArray[np.float64]:
    """A column in degrees, NaN where it is null or where the table has no such column."""
    if column not in table.column_names:
        return np.full(table.num_rows, np.nan)
    found = table[column].to_pylist()
    return np.array([np.nan if angle is None else angle for angle in found], np.float64)


def elevation_order(clip: Rows, azimuth_deg: NDArray[np.float64], times: Rows) -> Rows:
    """Place of each view [N] among those of its clip and azimuth, by time.

    The views of a published set come by elevation, from the first to the last: so this numbers its
    elevations also where their angles are not known.

    Args:
        clip: int64 [N].
        azimuth_deg: float64 [N].
        times: int64 [N], ms.
    """
    placed = np.zeros(len(clip), np.int64)
    seen: dict[tuple[int, float], int] = {}
    for row in np.argsort(times, kind="stable"):
        group = (int(clip[row]), float(azimuth_deg[row]))
        placed[row] = seen.get(group, 0)
        seen[group] = placed[row] + 1
    return placed


def nearest_others(
    rows: Rows,
    clip: Rows,
    times: Rows,
    azimuth_deg: NDArray[np.float64],
    elevation_deg: NDArray[np.float64],
) -> Rows:
    """For each of some crops the nearest other one of its clip, int64 as ``rows``.

    Nearest in the direction that it is seen from; in time among equals, and where the azimuth of
    the crop or of all others is not known. It is what the right object looks like in nearly the
    right pose: the oracle.

    Args:
        rows: Which crops [n] of all N; each has another one in its clip.
        clip: int64 [N].
        times: int64 [N], ms.
        azimuth_deg: float64 [N]; NaN where unknown.
        elevation_deg: float64 [N]; what is not known (NaN) counts for nothing.
    """
    azimuth, height = (np.radians(np.nan_to_num(a)) for a in (azimuth_deg, elevation_deg))
    level = np.cos(height)
    seen_from = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(height)], 1)
    found = np.empty(len(rows), np.int64)
    known = np.isfinite(azimuth_deg)
    for place, row in enumerate(rows):
        own = np.flatnonzero(clip == clip[row])
        own = own[own != row]
        if known[row] and known[own].any():
            own = own[known[own]]
            alike = np.round(seen_from[own] @ seen_from[row], 6)
        else:
            alike = np.zeros(len(own))
        found[place] = own[np.lexsort((np.abs(times[own] - times[row]), -alike))[0]]
    return found


def alternate_azimuths(views: LabelledViews) -> tuple[Rows, Rows]:
    """Every second azimuth of each identity, and the others: rows to learn from and to test on.

    By azimuth and not by view, since views of one azimuth at two elevations are nearly the same.

    Raises:
        ValueError: An identity has fewer than two azimuths.
    """
    kept: list[int] = []
    left: list[int] = []
    for number, name in enumerate(views.names):
        rows = np.flatnonzero(views.identity == number)
        if not len(rows):
            continue
        steps, place = np.unique(views.azimuth_deg[rows], return_inverse=True)
        if len(steps) < 2:
            raise ValueError(f"{name} is seen from one azimuth only: nothing is left to test on")
        kept += rows[place % 2 == 0].tolist()
        left += rows[place % 2 == 1].tolist()
    return np.array(sorted(kept), np.int64), np.array(sorted(left), np.int64)
