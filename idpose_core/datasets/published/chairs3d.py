"""3D Chairs: 1,393 CAD models from 31 azimuths at 2 elevations, as folders of pictures.

Aubry, Maturana, Efros, Russell and Sivic, *Seeing 3D chairs*, CVPR 2014. Its archive
``rendered_chairs.tar`` has in ``rendered_chairs`` for each model a folder named by a hash, with
``renders/image_NNN_pEEE_tAAA_rDDD.png`` (600 x 600 on white; elevation and azimuth in whole
degrees, cut off), and ``all_chair_names.mat``, whose ``folder_names`` lists the folders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idpose_core.datasets.published.files import (
    files_digest,
    on_white,
    read_picture,
    set_folder,
    tight_box,
    visible,
)
from idpose_core.datasets.published.matlab import read_words
from idpose_core.datasets.published.splits import splits_of
from idpose_core.datasets.views import View, ViewedObject
from storage.reasons import Status, Unusable

SIDE, AZIMUTHS, ELEVATIONS = 600, 31, (20, 30)
_INDEX = "all_chair_names.mat"
_PICTURE = re.compile(r"image_\d{3}_p(\d{3})_t(\d{3})_r\d{3}\.png")
_LARGEST = 16 << 20


@dataclass(frozen=True)
class Chairs3D:
    """See ``datasets.views.ViewSet``.

    Azimuths are the published ones: equal angles are equal poses. Where 0 degrees lies and which
    way they turn was not compared with the convention of ``datasets.views``.

    Attributes:
        path: The extracted archive.
    """

    path: str

    name = "chairs3d"
    class_name = "chair"
    boxes_from = "background"
    whole = True

    def settings(self) -> Mapping[str, Any]:
        """Nothing: the files are what they are."""
        return {}

    def objects(self) -> Sequence[ViewedObject]:
        """The models of the list, also those whose folder is missing.

        Raises:
            ValueError: The folder is not the set's, or the list is not the published one.
        """
        folder = set_folder(self.path, ("rendered_chairs",), (_INDEX, "*/renders"))
        splits = splits_of(self.name)
        found = []
        for number, name in enumerate(_names(folder), start=1):
            renders = folder / name / "renders"
            pictures = visible(renders) if renders.is_dir() else []
            digest = files_digest({path.name: path for path in pictures})
            place = {"path": str(renders)}
            views = AZIMUTHS * len(ELEVATIONS)
            found.append(ViewedObject(name, splits[number], views, digest, place))
        return found

    def views(self, name: str, location: Mapping[str, Any]) -> Sequence[View]:
        """The 62 views, by elevation and then azimuth.

        Raises:
            Unusable: Pictures are missing, damaged, or not as published.
        """
        views = []
        for (elevation, step), path in sorted(_pictures(Path(location["path"])).items()):
            image = read_picture(path, (SIDE, SIDE))
            mask = on_white(image)
            box = tight_box(mask, path.name)
            views.append(View(image, box, 360.0 * step / AZIMUTHS, float(elevation), mask))
        return views


def _names(folder: Path) -> list[str]:
    """The names of all models, in their order."""
    count = len(splits_of(Chairs3D.name))
    there = sorted(entry.name for entry in visible(folder) if entry.is_dir())
    names = _listed(folder / _INDEX) if (folder / _INDEX).exists() else there
    plain = all(re.fullmatch(r"[\w-]+", name) for name in names)
    if len(names) != count or len(set(names)) != count or not plain:
        source = f"{_INDEX} {'names' if names is not there else 'is missing, and there are'}"
        raise ValueError(
            f"{source} {len(names)} models ({len(set(names))} different ones); published are "
            f"{count}: extract the archive again"
        )
    strange = sorted(set(there) - set(names))
    if strange:
        raise ValueError(f"{strange[0]} is no model of {_INDEX}: take it out of {folder}")
    return names


def _listed(path: Path) -> list[str]:
    try:
        return sorted(read_words(path, "folder_names", largest=_LARGEST))
    except Unusable as error:
        raise ValueError(f"the list of models cannot be read: {error}") from error


def _pictures(renders: Path) -> dict[tuple[int, int], Path]:
    """The picture of each (elevation, azimuth step)."""
    if not renders.is_dir():
        detail = f"{renders.parent.name}/{renders.name} is not there"
        raise Unusable(Status.NOT_AS_PUBLISHED, detail)
    found: dict[tuple[int, int], Path] = {}
    for path in visible(renders):
        told = _PICTURE.fullmatch(path.name)
        view = (int(told[1]), round(int(told[2]) * AZIMUTHS / 360)) if told else None
        if view is None or view[0] not in ELEVATIONS or view[1] not in range(AZIMUTHS):
            raise Unusable(Status.NOT_AS_PUBLISHED, f"{path.name} is no picture of the set")
        if view in found:
            detail = f"{found[view].name} and {path.name} show one view"
            raise Unusable(Status.NOT_AS_PUBLISHED, detail)
        found[view] = path
    wanted = AZIMUTHS * len(ELEVATIONS)
    if len(found) < wanted:
        detail = f"{len(found)} of {wanted} pictures are there"
        raise Unusable(Status.NOT_AS_PUBLISHED, detail)
    return found
