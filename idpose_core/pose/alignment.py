"""Bring the masked object to one place and size, on a background of grey.

The pose feature keeps its grid, so two pictures are compared cell by cell: a detector's box that
is a few pixels off costs as much as another pose. The box of the mask is steadier than that of
the detector (docs/decisions/pose-embedder-default.md).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

GREY = 128

# Share of the mask's pixels that may lie outside of its box on each side: a sliver of background
# that leaked into the mask must not move the box.
_SLIVER = 0.005


def align(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], *, margin: float = 1.25
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Crop a picture anew around its mask.

    Args:
        picture: uint8 [S, S, 3].
        mask: bool [S, S], not empty.
        margin: Side of the new crop over the longer side of the mask's box.

    Returns:
        The picture uint8 [S, S, 3] and the mask float32 [S, S] in [0, 1], both resampled
        bilinearly so that the mask's box is centred and fills 1 / margin of the side; beyond the
        picture's edge it is reflected, and the mask is 0.
    """
    size = picture.shape[0]
    rows, columns = np.nonzero(mask)
    left, right = np.quantile(columns, (_SLIVER, 1 - _SLIVER))
    top, bottom = np.quantile(rows, (_SLIVER, 1 - _SLIVER))
    side = margin * max(right + 1 - left, bottom + 1 - top)
    scale = size / side
    # Pixel k covers [k, k + 1], and warpAffine counts from pixel centres: hence the halves.
    centre = np.array([(left + right + 1) / 2, (top + bottom + 1) / 2])
    offset = size / 2 - scale * (centre - 0.5) - 0.5
    matrix = np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]])
    moved = cv2.warpAffine(
        picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    moved_mask = cv2.warpAffine(
        mask.astype(np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR
    )
    return moved.astype(np.uint8), moved_mask.astype(np.float32)


def grey_out(
    picture: NDArray[np.uint8], mask: NDArray[np.float32], *, level: int = GREY
) -> NDArray[np.uint8]:
    """The picture on one grey: ``mask`` float32 [S, S] in [0, 1] is its opacity."""
    opacity = mask[..., None]
    blended = picture * opacity + np.float32(level) * (1 - opacity)
    return np.rint(blended).astype(np.uint8)
