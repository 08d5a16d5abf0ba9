"""Composition: another identity in the place and pose of a scene's object (paper, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.composition.blending import Blend, Matte, blend
from idpose_core.composition.objects import Picture
from idpose_core.composition.swapper import Instance, Swapper
from idpose_core.composition.window import Window
from idpose_core.instances.cropping import cut_square
from idpose_core.pose.masks import segment

_FINE = 192  # pixels a side at which an object is told from its background


@dataclass(frozen=True, eq=False)
class Replaced:
    """What happened to one object of a scene.

    Attributes:
        instance: The object that was there.
        made: What was generated, uint8 [R, R, 3].
        matte: How much of each pixel of the scene the new object covers, float32 [H, W].
        mask_from: ``grabcut``, or ``ellipse`` where it found nothing usable: what the new object's
            mask is.
        uncovered: Share of the old object's pixels that still show.
    """

    instance: Instance
    made: Picture
    matte: Matte
    mask_from: str
    uncovered: float


def compose(
    swapper: Swapper,
    scene: Picture,
    objects: Sequence[Instance],
    identity: Picture,
    *,
    kind: Blend = "alpha",
) -> tuple[Picture, list[Replaced]]:
    """Replace objects of a scene by the one identity, each in its own pose.

    Args:
        swapper: The model.
        scene: uint8 [H, W, 3] RGB.
        objects: In the scene; the smaller ones, which are farther away as a rule, are laid first.
        identity: A view of the new object, uint8 [R, R, 3].
        kind: How it is blended in.

    Returns:
        The new scene, whose pixels outside of all mattes are the old one's bits, and what happened
        to each object in the order given.
    """
    replaced = [_replaced(swapper, one, identity) for one in objects]
    result = scene.copy()
    for one in sorted(replaced, key=lambda r: r.instance.found.box.area):
        window = Window.of(one.instance.transform, swapper.size)
        area = window.area(*scene.shape[1::-1])
        if not area.empty:
            part = np.s_[area.top : area.bottom, area.left : area.right]
            made = window.to_frame(one.made, area)
            result[part] = blend(kind, result[part], made, one.matte[part])
    return result, replaced


def _replaced(swapper: Swapper, instance: Instance, identity: Picture) -> Replaced:
    height, width = instance.photograph.shape[:2]
    made: Picture = swapper.swap([identity], [instance.view])[0, 0]
    window = Window.of(instance.transform, swapper.size)
    fine = np.asarray(cv2.resize(made, (_FINE, _FINE), interpolation=cv2.INTER_CUBIC), np.uint8)
    xmin, xmax, ymin, ymax = window.box(instance.found.box, width, height)
    scale = _FINE / window.size
    found = segment(fine, (xmin * scale, xmax * scale, ymin * scale, ymax * scale))
    # The model mixes object and ground in a pixel at the edge: without it no rim of ground is laid.
    rim = np.ones((_FINE // window.size + 1,) * 2, np.uint8)
    inner = np.asarray(cv2.erode(found.mask.astype(np.uint8), rim), np.bool_)
    matte = _spread(inner, window, width, height)
    old = object_mask(instance)
    still = float((old & (matte < 0.5)).sum() / max(1, old.sum()))
    return Replaced(instance, made, matte, found.method, still)


def object_mask(instance: Instance) -> NDArray[np.bool_]:
    """Where the object of a photograph is, bool [H, W], as the build's masks say."""
    height, width = instance.photograph.shape[:2]
    square = replace(instance.transform, size=_FINE)
    crop = cut_square(instance.photograph, square)
    found = segment(crop, square.box_to_crop(instance.found.box, width, height))
    whole = Window(square.left, square.top, square.side, _FINE)
    return _spread(found.mask, whole, width, height) >= 0.5


def _spread(mask: NDArray[np.bool_], window: Window, width: int, height: int) -> Matte:
    """A mask of a window in its frame, float32 [H, W]: soft where the frame is finer or coarser."""
    matte = np.zeros((height, width), np.float32)
    area = window.area(width, height)
    if not area.empty:
        opaque = np.where(mask, np.uint8(255), np.uint8(0))
        seen = window.to_frame(opaque, area).astype(np.float32) / 255
        matte[area.top : area.bottom, area.left : area.right] = seen
    return matte
