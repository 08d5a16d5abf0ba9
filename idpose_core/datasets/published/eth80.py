"""ETH-80, its cars: ten toy cars photographed from 41 sides of a hemisphere on blue cloth.

Leibe and Schiele, *Analyzing appearance and contour based methods for object categorization*, CVPR
2003. Its archive ``eth80-cropped256`` has for each object a folder ``carN`` (1 to 14 without 4, 8,
10, 13) with ``carN-PPP-AAA.png`` (256 x 256; polar angle and azimuth in whole degrees) and
``maps/carN-PPP-AAA-map.png``, the mask. The form ``carNN_polPPP_azAAA.jpg`` with ``..._mask.png``
beside it, in which the photographs go round too, is read as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idpose_core.datasets.published.files import (
    files_digest,
    read_picture,
    set_folder,
    tight_box,
    visible,
    within,
)
from idpose_core.datasets.published.splits import splits_of
from idpose_core.datasets.views import View, ViewedObject
from storage.reasons import Status, Unusable

SIDE, VIEWS = 256, 41
_FOLDER = re.compile(r"car(\d{1,2})")
_PICTURE = re.compile(r"car(\d{1,2})(?:-(\d{3})-(\d{3})\.png|_pol(\d{3})_az(\d{3})\.(?:jpg|png))")
_STEP = 22.5
_FRONT = 90.0  # azimuth of the set at which a car's front faces the camera


@dataclass(frozen=True)
class ETH80Cars:
    """See ``datasets.views.ViewSet``: the cars that are there.

    At the set's azimuth 0 a car's right side faces the camera, at 90 its front (seen in the
    photographs).

    Attributes:
        path: The extracted archive.
    """

    path: str

    name = "eth80"
    class_name = "car"
    boxes_from = "published-mask"
    whole = True

    def settings(self) -> Mapping[str, Any]:
        """Nothing: the files are what they are."""
        return {}

    def objects(self) -> Sequence[ViewedObject]:
        """The cars whose folder is there.

        Raises:
            ValueError: The folder is not the set's, or a car is there twice or is not of the set.
        """
        inside = ("eth80-cropped256", "eth80-cropped-close256", "eth80_cars")
        folder, splits = set_folder(self.path, inside, ("car[0-9]*",)), splits_of(self.name)
        cars: dict[int, Path] = {}
        for entry in visible(folder):
            named = _FOLDER.fullmatch(entry.name) if entry.is_dir() else None
            if named is None:
                if entry.is_dir() and entry.name.startswith("car"):
                    raise ValueError(f"{entry.name} is no car of the set: take it out of {folder}")
                continue
            number = int(named[1])
            if number not in splits:
                raise ValueError(f"there is no car {number} in the set: take {entry.name} out")
            if number in cars:
                raise ValueError(f"{cars[number].name} and {entry.name} are one car: take one out")
            cars[number] = entry
        return [_object(number, path, splits[number]) for number, path in sorted(cars.items())]

    def views(self, name: str, location: Mapping[str, Any]) -> Sequence[View]:
        """The 41 views, by polar angle and then azimuth.

        Raises:
            Unusable: Pictures or masks are missing, damaged, or not as published.
        """
        views = []
        for (polar, azimuth), path in sorted(_pictures(Path(location["path"]), name).items()):
            image = read_picture(path, (SIDE, SIDE))
            marked = read_picture(_mask_of(path), (SIDE, SIDE))
            mask = within(marked[..., 0] > 127, path.name)
            box = tight_box(mask, path.name)
            turned = (_exact(azimuth) - _FRONT) % 360
            views.append(View(image, box, turned, 90 - _exact(polar), mask))
        return views


def _object(number: int, folder: Path, split: str) -> ViewedObject:
    files: dict[str, Path] = {}
    for path in visible(folder):
        if path.is_file() and "_mask." not in path.name:
            # The car's own name left out, so that the same photographs have the same digest
            view = re.sub(r"^car\d+", "", path.name)
            files |= {f"view{view}": path, f"mask{view}": _mask_of(path)}
    return ViewedObject(
        f"eth80-car{number}", split, VIEWS, files_digest(files), {"path": str(folder)}
    )


def _mask_of(picture: Path) -> Path:
    if "_pol" in picture.name:
        return picture.with_name(f"{picture.stem}_mask.png")
    return picture.parent / "maps" / f"{picture.stem}-map.png"


def _pictures(folder: Path, name: str) -> dict[tuple[int, int], Path]:
    """The picture of each (polar angle, azimuth) as the file names have them."""
    found: dict[tuple[int, int], Path] = {}
    for path in visible(folder):
        if path.is_dir() or "_mask." in path.name:
            continue
        told = _PICTURE.fullmatch(path.name)
        if told is None or f"eth80-car{int(told[1])}" != name:
            raise Unusable(Status.NOT_AS_PUBLISHED, f"{path.name} is no picture of {name}")
        view = (int(told[2] or told[4]), int(told[3] or told[5]))
        if view in found:
            detail = f"{found[view].name} and {path.name} show one view"
            raise Unusable(Status.NOT_AS_PUBLISHED, detail)
        found[view] = path
    if len(found) != VIEWS:
        raise Unusable(Status.NOT_AS_PUBLISHED, f"{len(found)} of {VIEWS} pictures are there")
    return found


def _exact(degrees: int) -> float:
    """An angle as it was before its name was rounded: most are multiples of 22.5."""
    step = round(degrees / _STEP) * _STEP
    return step if abs(step - degrees) <= 0.5 else float(degrees)
