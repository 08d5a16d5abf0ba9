"""Pictures whose identity and azimuth are known, from a dataset or straight from the renderer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from idpose_core.datasets.rendered.views import View
from idpose_core.stages.crop import decode_png
from storage.datasets import read_manifest, read_table
from storage.digests import canonical
from storage.errors import DatasetError
from storage.export import picture_places, read_pictures
from storage.objects import Store

Rows = NDArray[np.int64]
_COLUMNS = ["crop_id", "clip_id", "azimuth_deg", "picture_path", "picture_row"]


@dataclass(frozen=True, eq=False)
class LabelledViews:
    """Pictures with what is known of them, in a fixed order.

    Attributes:
        pictures: uint8 [N, S, S, 3], RGB.
        identity: int64 [N], index into ``names``.
        azimuth_deg: float64 [N]; 0 shows the front, 90 the object's left side.
        elevation_deg: float64 [N]; NaN where unknown.
        names: Of the identities; for a multi-view set the clip ids.
        source: What they were read from, ``name@version:split``.
    """

    pictures: NDArray[np.uint8]
    identity: Rows
    azimuth_deg: NDArray[np.float64]
    elevation_deg: NDArray[np.float64]
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def digest(self) -> str:
        """Of all that is here except the source."""
        total = hashlib.blake2b(canonical(list(self.names)), digest_size=16)
        for part in (self.pictures, self.identity, self.azimuth_deg, self.elevation_deg):
            total.update(canonical([str(part.dtype), list(part.shape)]))
            total.update(np.ascontiguousarray(part).tobytes())
        return total.hexdigest()

    def select(self, rows: Rows | NDArray[np.bool_]) -> LabelledViews:
        """Some of the pictures; the identities keep their indices."""
        return LabelledViews(
            self.pictures[rows],
            self.identity[rows],
            self.azimuth_deg[rows],
            self.elevation_deg[rows],
            self.names,
            self.source,
        )


def read_views(store: Store, dataset: str, split: str) -> LabelledViews:
    """The crops of one split whose azimuth is known, by crop id; one clip is one identity.

    Meant for multi-view sets, in which a clip is all that there is of a model. In rendered video
    one model has several clips: there a clip is an identity in one place and light.

    Raises:
        DatasetError: There is no such dataset, it has no crop with an azimuth in this split, or a
            file is missing or damaged.
    """
    manifest = read_manifest(store, dataset)
    source = f"{manifest['name']}@{manifest['version']}:{split}"
    crops = read_table(store, manifest, "crops", split=split, columns=_COLUMNS)
    crops = crops.filter(pc.is_valid(crops["azimuth_deg"])).sort_by("crop_id")
    if not crops.num_rows:
        raise DatasetError(f"{source} has no crops with a known azimuth: use a rendered dataset")
    found = dict(read_pictures(store, picture_places(crops)))
    pictures = [decode_png(found[crop]) for crop in crops["crop_id"].to_pylist()]
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) > 1:
        raise DatasetError(f"{source} has pictures of different shapes {shapes}: build it again")
    names = tuple(sorted(set(crops["clip_id"].to_pylist())))
    number = {name: index for index, name in enumerate(names)}
    identity = np.array([number[name] for name in crops["clip_id"].to_pylist()], np.int64)
    azimuth = crops["azimuth_deg"].to_numpy().astype(np.float64)
    unknown = np.full(len(azimuth), np.nan)
    return LabelledViews(np.stack(pictures), identity, azimuth, unknown, names, source)


def from_rendered(views: Iterable[View], source: str) -> LabelledViews:
    """Views of the clean multi-view set; one model is one identity."""
    found = list(views)
    if not found:
        raise ValueError("there are no views")
    names = tuple(f"{kind}-{model}" for kind, model in sorted({(v.kind, v.model) for v in found}))
    number = {name: index for index, name in enumerate(names)}
    return LabelledViews(
        np.stack([view.image for view in found]),
        np.array([number[f"{view.kind}-{view.model}"] for view in found], np.int64),
        np.array([view.azimuth_deg for view in found], np.float64),
        np.array([view.elevation_deg for view in found], np.float64),
        names,
        source,
    )


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
