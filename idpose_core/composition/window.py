"""Where a generated picture lies in its frame, and the exact way back into it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idpose_core.instances.boxes import Area, Box
from idpose_core.instances.cropping import CropTransform
from idpose_core.training.augmentation import training_scale


@dataclass(frozen=True)
class Window:
    """The square of a frame that a model sees: the middle of the crop, at the model's size.

    Coordinates are continuous, as in ``CropTransform``: pixel k covers the interval from k to
    k + 1.

    Attributes:
        left, top, side: Of the square in frame pixels.
        size: Side of the model's pictures.
    """

    left: float
    top: float
    side: float
    size: int

    @classmethod
    def of(cls, transform: CropTransform, size: int) -> Window:
        """The window of a model of this size in a crop; see ``augmentation.centre_crop``."""
        scale = training_scale(size)
        margin = (scale - size) // 2 * transform.side / scale
        side = size * transform.side / scale
        return cls(transform.left + margin, transform.top + margin, side, size)

    def area(self, width: int, height: int) -> Area:
        """The pixels of a frame (width x height) that lie in the window as a whole.

        It is empty, with ``right`` at or below ``left``, where there are none.
        """
        return Area(
            max(0, math.ceil(self.left)),
            max(0, math.ceil(self.top)),
            min(width, math.floor(self.left + self.side)),
            min(height, math.floor(self.top + self.side)),
        )

    def box(self, box: Box, width: int, height: int) -> tuple[float, float, float, float]:
        """A box of the frame as xmin, xmax, ymin, ymax in pixels of the model's picture."""
        scale = self.size / self.side
        return (
            (box.xmin * width - self.left) * scale, (box.xmax * width - self.left) * scale,
            (box.ymin * height - self.top) * scale, (box.ymax * height - self.top) * scale,
        )  # fmt: skip

    def to_frame(self, picture: NDArray[np.uint8], area: Area) -> NDArray[np.uint8]:
        """What a picture of the window shows in an area of the frame.

        Args:
            picture: uint8 [S, S, 3] or [S, S], of any resolution.
            area: Not empty, within the window.

        Returns:
            uint8 [h, w, 3] or [h, w]; bicubic, and averaged where the frame is coarser.
        """
        scale = picture.shape[0] / self.side
        part = (
            (area.left - self.left) * scale, (area.top - self.top) * scale,
            (area.right - self.left) * scale, (area.bottom - self.top) * scale,
        )  # fmt: skip
        part = tuple(min(max(edge, 0.0), float(picture.shape[0])) for edge in part)  # last bits
        size = area.right - area.left, area.bottom - area.top
        image = Image.fromarray(picture)
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=part))
