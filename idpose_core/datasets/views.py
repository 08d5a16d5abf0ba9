"""View sets: objects photographed or rendered one at a time, each from many sides.

The one door for all of them: a set lists its objects, and gives the views of one. What follows (the
square picture, the crop's columns) is the same for all, and from there on for video as well.

Azimuth and elevation of every set are turned into one convention, that of
``rendered.camera``: 0 degrees shows the object's front, 90 its left side, 180 its rear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from idpose_core.instances.boxes import Box


@dataclass(frozen=True)
class View:
    """One picture of an object.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        box: The object's, relative to the picture.
        azimuth_deg: 0 to 360, or None where the set does not say.
        elevation_deg: Of the camera above the object's middle, or None.
        mask: bool [H, W], where the object is; None where the set has no masks.
    """

    image: NDArray[np.uint8]
    box: Box
    azimuth_deg: float | None
    elevation_deg: float | None
    mask: NDArray[np.bool_] | None


@dataclass(frozen=True)
class ViewedObject:
    """One object of a set.

    Attributes:
        name: Its identity, unique within the set.
        split: ``train`` or ``test``.
        views: How many there are.
        sha256: Of its files; None where it is made, not read.
        location: Where its files are on this machine; enters nothing.
    """

    name: str
    split: str
    views: int
    sha256: str | None = None
    location: Mapping[str, Any] = field(default_factory=dict)


class ViewSet(Protocol):
    """A multi-view image set. It travels to worker processes, so it holds settings only.

    Attributes:
        name: Of the set; enters keys.
        class_name: What its objects are.
        boxes_from: Where the boxes come from, as the crops' column ``detector`` says it.
        whole: Whether the whole (square) picture becomes the crop, so that all views of the set
            keep one scale; else the square around the box, as of video.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def class_name(self) -> str: ...  # noqa: D102
    @property
    def boxes_from(self) -> str: ...  # noqa: D102
    @property
    def whole(self) -> bool: ...  # noqa: D102

    def settings(self) -> Mapping[str, Any]:
        """What the views depend on beside the object's name and files; enters keys."""
        ...

    def objects(self) -> Sequence[ViewedObject]:
        """Every object of the training and the test split, by name.

        Raises:
            ValueError: The set is not there or is not what it should be.
        """
        ...

    def views(self, name: str, location: Mapping[str, Any]) -> Sequence[View]:
        """The views of one object, given its name and location, in the set's own order.

        Raises:
            Unusable: They cannot be had; the status says why.
        """
        ...
