"""3D Cars: 183 CAD models from 24 azimuths at 4 elevations, as MATLAB files.

Fidler, Dickinson and Urtasun, NIPS 2012; rendered for Reed, Zhang, Zhang and Lee, *Deep Visual
Analogy-Making*, NIPS 2015, whose archive ``nips2015-analogy-data.tar.gz`` has them in
``data/cars``: ``list.txt`` with the names ``car_NNN_mesh``, one a line, and for each a ``.mat``
with ``im``, uint8 [128, 128, 3, 24, 4] on white, and ``mask`` [128, 128, 24, 4].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from idpose_core.datasets.published.files import (
    files_digest,
    on_white,
    set_folder,
    tight_box,
    visible,
    within,
)
from idpose_core.datasets.published.matlab import read_arrays
from idpose_core.datasets.published.splits import VALIDATION, splits_of
from idpose_core.datasets.views import View, ViewedObject
from storage.reasons import Status, Unusable

SIDE, AZIMUTHS, ELEVATIONS = 128, 24, 4
_NAME = re.compile(r"car_\d{3}_mesh")
_SHAPES: dict[str, tuple[int, ...]] = {
    "im": (SIDE, SIDE, 3, AZIMUTHS, ELEVATIONS),
    "mask": (SIDE, SIDE, AZIMUTHS, ELEVATIONS),
}
_LARGEST = 64 << 20  # ten times what im takes


@dataclass(frozen=True)
class Cars3D:
    """See ``datasets.views.ViewSet``. The validation split is left out.

    The first azimuth shows the front and the next ones more and more of the left side, 15 degrees
    each (seen in published pictures of the set). The elevations have no published angles.

    Attributes:
        path: The extracted archive.
    """

    path: str

    name = "cars3d"
    class_name = "car"
    boxes_from = "published-mask"
    whole = True

    def settings(self) -> Mapping[str, Any]:
        """Nothing: the files are what they are."""
        return {}

    def objects(self) -> Sequence[ViewedObject]:
        """The models of the list, also those whose file is missing.

        Raises:
            ValueError: The folder is not the set's, or the list is not the published one.
        """
        folder = set_folder(self.path, ("cars", "data/cars"), ("list.txt", "car_*_mesh.mat"))
        names, splits = _names(folder), splits_of(self.name)
        found = []
        for number, name in enumerate(names, start=1):
            if splits[number] != VALIDATION:
                path = folder / f"{name}.mat"
                digest = files_digest({"mat": path})
                place = {"path": str(path)}
                views = AZIMUTHS * ELEVATIONS
                found.append(ViewedObject(name, splits[number], views, digest, place))
        return found

    def views(self, name: str, location: Mapping[str, Any]) -> Sequence[View]:
        """The 96 views, by elevation and then azimuth.

        Raises:
            Unusable: The file is missing, damaged, or not as published.
        """
        path = Path(location["path"])
        arrays = read_arrays(path, _SHAPES, largest=_LARGEST)
        pictures, masks = arrays.get("im"), arrays.get("mask")
        if pictures is None or pictures.dtype != np.uint8:
            what = "no variable im" if pictures is None else f"im of {pictures.dtype}, not uint8"
            raise Unusable(Status.NOT_AS_PUBLISHED, f"{path.name} has {what}")
        views = []
        for elevation in range(ELEVATIONS):
            for azimuth in range(AZIMUTHS):
                what = f"{path.name}, azimuth {azimuth}, elevation {elevation}"
                image = np.ascontiguousarray(pictures[..., azimuth, elevation])
                seen = on_white(image) if masks is None else masks[..., azimuth, elevation] != 0
                mask = within(seen, what)
                degrees = 360.0 * azimuth / AZIMUTHS
                views.append(View(image, tight_box(mask, what), degrees, None, mask))
        return views


def _names(folder: Path) -> list[str]:
    """The names of all models, in their order."""
    count = len(splits_of(Cars3D.name))
    there = sorted(entry.stem for entry in visible(folder) if entry.suffix.lower() == ".mat")
    listed = folder / "list.txt"
    try:
        names = sorted(listed.read_text("ascii").split()) if listed.exists() else there
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{listed} cannot be read: {error}") from error
    if len(names) != count or len(set(names)) != count or not all(map(_NAME.fullmatch, names)):
        source = "list.txt names" if listed.exists() else "list.txt is missing, and there are"
        raise ValueError(
            f"{source} {len(names)} models ({len(set(names))} different ones); published are "
            f"{count} of the form car_NNN_mesh: extract the archive again"
        )
    strange = sorted(set(there) - set(names))
    if strange:
        raise ValueError(f"{strange[0]}.mat is no model of the list: take it out of {folder}")
    return names
