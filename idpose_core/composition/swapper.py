"""Swap: the identity of one photograph in the pose of another, by one model that is loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from idpose_core.composition.framing import Framing
from idpose_core.composition.objects import Picture, find_objects, marked
from idpose_core.evaluation.generators import Subject
from idpose_core.evaluation.pictures import Pictures, at_size, generated, to_network
from idpose_core.instances.boxes import Detection
from idpose_core.instances.cropping import CropTransform
from idpose_core.instances.detectors import Detector
from idpose_core.training.samples import Matrix
from storage.errors import ToldError


@dataclass(frozen=True, eq=False)
class Instance:
    """An object in a photograph.

    Attributes:
        photograph: uint8 [H, W, 3] RGB.
        found: Class, score and box.
        transform: The square of the photograph that was cut.
        view: uint8 [R, R, 3], what the model sees of it.
    """

    photograph: Picture
    found: Detection
    transform: CropTransform
    view: Picture


@dataclass(frozen=True, eq=False)
class Swapper:
    """A model that takes photographs.

    Load it once (``flows.swap.open_swapper``) and call it as often as you like::

        swapper = open_swapper("idpose-data", "cars-copy-attention")
        car, pose = (swapper.look(read_photograph(Path(p))) for p in ("A.jpg", "B.jpg"))
        picture = swapper.swap([car.view], [pose.view])[0, 0]

    Attributes:
        subject: The model.
        framing: How its dataset cut pictures.
        detector: Finds objects; None where every object is marked or cut already.
        threshold: Of the detector.
        device: Where the model is.
        notes: What a user should know of how it was loaded.
    """

    subject: Subject
    framing: Framing
    detector: Detector | None = None
    threshold: float = 0.5
    device: str = "cpu"
    notes: tuple[str, ...] = ()

    @cached_property
    def size(self) -> int:
        """R, the side of the pictures that it takes and makes."""
        return self.subject.size

    def look(self, photograph: Picture, box: Sequence[float] | None = None) -> Instance:
        """The object that a photograph shows.

        Args:
            photograph: uint8 [H, W, 3] RGB.
            box: x0, y0, x1, y1 in pixels where a person marked it; None = the most prominent one.

        Raises:
            NoObjectError: There is none.
        """
        if box is not None:
            return self._instance(photograph, marked(photograph, box))
        return self.look_at_all(photograph)[0]

    def look_at_all(self, photograph: Picture) -> list[Instance]:
        """All objects of the model's classes, the most prominent one first.

        Raises:
            NoObjectError: There is none.
        """
        if self.detector is None:
            raise ToldError(
                "no detector's weights are here: run `idpose weights import yolox-nano FILE` or "
                "`idpose weights fetch fasterrcnn_resnet50_fpn_v2`, or mark objects with --box"
            )
        found = find_objects(photograph, self.detector, self.framing.classes, self.threshold)
        return [self._instance(photograph, one) for one in found]

    def view_of_crop(self, crop: Picture) -> Picture:
        """What the model sees of a picture that is cut already, uint8 [R, R, 3].

        Raises:
            ToldError: It is not square.
        """
        height, width = crop.shape[:2]
        if height != width:
            raise ToldError(
                f"a crop is square, not {width} x {height} pixels: cut it, or leave --crops out"
            )
        view: Picture = at_size(crop[None], self.size)[0]
        return view

    def swap(self, ids: Sequence[Picture], poses: Sequence[Picture]) -> Pictures:
        """Each identity in each pose, uint8 [I, P, R, R, 3], of views uint8 [R, R, 3]."""
        lines, columns = np.stack(ids), np.stack(poses)
        made = generated(
            self.subject.generator,
            np.repeat(lines, len(columns), axis=0),
            np.tile(columns, (len(lines), 1, 1, 1)),
            device=self.device,
        )
        return made.reshape(len(lines), len(columns), *made.shape[1:])

    def _instance(self, photograph: Picture, found: Detection) -> Instance:
        crop, transform = self.framing.cut(photograph, found.box)
        return Instance(photograph, found, transform, self.view_of_crop(crop))


def drawn(ids: Sequence[Picture], poses: Sequence[Picture], made: Pictures) -> NDArray[np.uint8]:
    """What a person looks at: one picture, or the matrix with its inputs at the margins."""
    if made.shape[:2] == (1, 1):
        only: Picture = made[0, 0]
        return only
    cells = to_network(made.reshape(-1, *made.shape[2:]))
    matrix = Matrix(to_network(np.stack(ids)), to_network(np.stack(poses)))
    return matrix.draw(cells.view(*made.shape[:2], *cells.shape[1:]))
