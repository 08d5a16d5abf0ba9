"""How a dataset cut its pictures, so that one's own are cut alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.config import VIEW_SETS, BuildConfig
from idpose_core.instances.boxes import Box
from idpose_core.instances.cropping import CropTransform, cut_square, square_around
from idpose_core.instances.detectors import DetectorKind
from idpose_core.instances.yolox import CALIBRATED_THRESHOLD
from idpose_core.pose.alignment import grey_out
from idpose_core.pose.masks import segment

Picture = NDArray[np.uint8]
_FINE = 192  # pixels a side at which an object is told from its background


@dataclass(frozen=True)
class Studio:
    """A set of views whose objects stand alone on one ground, all at one scale.

    A car that is seen from its end fills less of its picture than from its side: the square is
    chosen by width and height, not by the longer side alone.

    Attributes:
        ground: Grey level of the background.
        width, height: Shares of the picture's sides that an object's box takes, at most.
    """

    ground: int
    width: float
    height: float


# Ninth decile of the widths, and median height, of the boxes in the rendered sets' crops; the
# published sets are framed in the same way, on white.
_CAR, _CHAIR = (0.83, 0.4), (0.56, 0.81)
_STUDIOS = {
    ("rendered-views", "car"): Studio(231, *_CAR),
    ("rendered-views", "chair"): Studio(231, *_CHAIR),
    ("cars3d", "car"): Studio(255, *_CAR),
    ("chairs3d", "chair"): Studio(255, *_CHAIR),
}


@dataclass(frozen=True)
class Framing:
    """What a build did to a frame before it was a crop.

    Attributes:
        source: ``source.kind`` of the build.
        classes: COCO names of its objects.
        detector, threshold: Kind of its detector, and the least score.
        size: Side of its crops in pixels.
        scale: Side of the square over the longer side of the box.
        studio: Where its pictures have no surroundings; None where they have.
    """

    source: str
    classes: tuple[str, ...]
    detector: DetectorKind | Literal["annotations"]
    threshold: float
    size: int
    scale: float
    studio: Studio | None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Framing:
        """The framing of a dataset, by the configuration in its manifest; defaults for the rest."""
        plain = BuildConfig(name="defaults")

        def said(section: str, key: str) -> Any:
            found = config.get(section, {}).get(key)
            return getattr(getattr(plain, section), key) if found is None else found

        classes = tuple(config.get("classes") or plain.classes)
        kind = said("source", "kind")
        return cls(
            source=kind,
            classes=classes,
            detector=said("detector", "kind"),
            threshold=float(said("detector", "threshold")),
            size=int(said("image", "size")),
            scale=float(said("image", "scale")),
            studio=_STUDIOS.get((kind, classes[0])),
        )

    def cut(self, picture: Picture, box: Box) -> tuple[Picture, CropTransform]:
        """The crop of an object, uint8 [S, S, 3], as the build would have stored it.

        Args:
            picture: uint8 [H, W, 3] RGB.
            box: Of the object, relative to the picture.

        Raises:
            ValueError: The box is empty, not finite, or does not meet the picture.
        """
        height, width = picture.shape[:2]
        if self.studio is None:
            transform = square_around(box, width, height, size=self.size, scale=self.scale)
            return cut_square(picture, transform), transform
        sides = box.width * width / self.studio.width, box.height * height / self.studio.height
        longer = max(box.width * width, box.height * height)
        transform = square_around(box, width, height, size=_FINE, scale=max(sides) / longer)
        crop = cut_square(picture, transform)
        mask = segment(crop, transform.box_to_crop(box, width, height)).mask
        return laid_on(crop, mask, self.studio.ground), transform


def laid_on(picture: Picture, mask: NDArray[np.bool_], ground: int) -> Picture:
    """The object of a picture on one grey, its edge softened by a pixel."""
    opacity = np.asarray(cv2.blur(mask.astype(np.float32), (3, 3)), np.float32)
    return grey_out(picture, opacity, level=ground)


def detectors_for(framing: Framing) -> Sequence[tuple[DetectorKind, str | None, float]]:
    """Detectors in the order of preference: kind, weights (None = by kind), threshold.

    The build's own comes first; that of the rendered world, which knows no photographs, last. Sets
    of views had none.
    """
    others: list[tuple[DetectorKind, str | None, float]] = [
        ("yolox", None, CALIBRATED_THRESHOLD), ("torchvision", None, 0.9), ("detectron2", None, 0.9)
    ]  # fmt: skip
    if framing.source == "rendered":
        return [*others, ("torchvision", "rendered-detector", framing.threshold)]
    if framing.source in VIEW_SETS or framing.detector == "annotations":
        return others
    own = (framing.detector, None, framing.threshold)
    return [own, *(other for other in others if other[0] != framing.detector)]
