"""The pose feature of a picture: the map of an early layer, its grid kept, the object alone.

The paper (section 4) retrieves the pose picture as the nearest neighbour of the target by conv4
of a self-supervised AlexNet, among other videos. On natural backgrounds this finds backgrounds,
so each feature here can be restricted to the object's mask, before the network (alignment, grey
background) and after it (cells weighted by the mask's share of them).

Outlines tell front from rear badly: the reading of a network that was taught the azimuth
(``azimuth``) can be set beside a masked feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from idpose_core.instances.arrays import single_thread
from idpose_core.pose.alignment import align, grey_out
from idpose_core.pose.azimuth import azimuth_trunk
from idpose_core.pose.car_view import CarViewEmbedder
from idpose_core.pose.dinov2 import DEFAULT_BLOCK, dinov2_trunk
from idpose_core.pose.trunks import (
    GREY_PIXELS_SIDE,
    Trunk,
    grey_pixels,
    random_alexnet_trunk,
    rotnet_trunk,
    shift_tolerant_trunk,
)
from idpose_core.pose.turning import (
    DIRECTIONS,
    Floats,
    Times,
    clip_directions,
    lone_directions,
    mean_readings,
)

EmbedderKind = Literal[
    "car-view", "rotnet", "st-alex", "dinov2", "random-alexnet", "grey-pixels", "silhouette"
]
GRID = 13  # cells on a side of AlexNet's conv4; the silhouette is kept on the same grid
AZIMUTH_WEIGHT = 2.0
"""Of the reading of azimuths, where the network's feature and the silhouette have 1."""


class Embedder(Protocol):
    """Turns pictures into pose features that are compared by their dot product.

    Attributes:
        name: Kind and layer, such as ``st-alex/conv4``; not the options.
        dimension: Length of a feature.
        weights_sha256: Digest of the weights file, None where there is none.
        azimuth_sha256: The same of the network that reads azimuths.
    """

    name: str
    dimension: int
    weights_sha256: str | None
    azimuth_sha256: str | None

    def embed(
        self, pictures: NDArray[np.uint8], masks: NDArray[np.bool_] | None
    ) -> NDArray[np.float16]:
        """Features float16 [N, dimension], each of Euclidean length 1 (within float16).

        A row depends on its own picture and mask only, bit for bit, never on its neighbours.

        Args:
            pictures: uint8 [N, S, S, 3], RGB.
            masks: bool [N, S, S], True on the object; needed where the embedder masks.

        Raises:
            ValueError: Other shapes or types than these, a missing or an empty mask.
        """
        ...

    def embed_clip(
        self,
        pictures: NDArray[np.uint8],
        masks: NDArray[np.bool_] | None,
        timestamps_ms: Times,
    ) -> tuple[NDArray[np.float16], NDArray[np.float32] | None]:
        """The features of the pictures of one clip, whose directions are read together.

        Args:
            pictures: As in :meth:`embed`.
            masks: As in :meth:`embed`.
            timestamps_ms: int64 [N]; see ``turning.clip_directions``.

        Returns:
            The features, and float32 [N, 3]: front score (1 = the front is seen, -1 = the rear),
            cosine and sine of the azimuth (0 = front, 90 = the nose points to the picture's left),
            short where the direction is unsure. None where the embedder reads no directions; then
            the features are those of :meth:`embed`.
        """
        ...


@dataclass(frozen=True)
class Masking:
    """How a mask restricts a feature to the object.

    Attributes:
        align: Crop anew around the mask, so that the object has one place and one size.
        grey_background: Paint the background grey before the network sees it.
        weight_cells: Multiply each cell of the feature by the mask's share of that cell.
    """

    align: bool = True
    grey_background: bool = True
    weight_cells: bool = True


class PictureEmbedder:
    """An :class:`Embedder` made of a trunk (picture to grid of features) and a masking."""

    def __init__(
        self,
        name: str,
        trunk: Trunk | None,
        *,
        image_size: int,
        masking: Masking | None,
        silhouette: bool,
        normalise_cells: bool,
        azimuth: Trunk | None = None,
    ) -> None:
        """Put the parts together; see :func:`load_embedder` for what they mean.

        Args:
            name: Kind and layer.
            trunk: None for the silhouette alone.
            image_size: Side of the pictures in pixels.
            masking: None embeds the picture as it is.
            silhouette: Whether the mask on its 13 x 13 grid is appended.
            normalise_cells: Whether each cell's channels are scaled to length 1.
            azimuth: Reads the azimuth of the aligned picture and its mask; None = not asked for.

        Raises:
            ValueError: A silhouette or a reading of azimuths without masking, or neither a trunk
                nor a silhouette.
        """
        if silhouette and masking is None:
            raise ValueError("a silhouette needs masks: set masked as well")
        if azimuth is not None and (masking is None or not masking.align):
            raise ValueError("an azimuth is read from aligned pictures: set masked as well")
        if trunk is None and not silhouette:
            raise ValueError("neither a network nor a silhouette: there is nothing to embed")
        self.name = name
        self.dimension = (trunk.dimension if trunk else 0) + (GRID * GRID if silhouette else 0)
        self.dimension += azimuth.dimension if azimuth else 0
        self.weights_sha256 = trunk.weights_sha256 if trunk else None
        self.azimuth_sha256 = azimuth.weights_sha256 if azimuth else None
        self._azimuth = azimuth
        self._trunk = trunk
        self._image_size = image_size
        self._masking = masking
        self._silhouette = silhouette
        self._normalise_cells = normalise_cells

    def embed(
        self, pictures: NDArray[np.uint8], masks: NDArray[np.bool_] | None
    ) -> NDArray[np.float16]:
        """See :class:`Embedder`.

        One picture at a time: convolutions choose their algorithm by the batch's size, and with
        it the last bits of every row.
        """
        looks, witnesses = self._look(pictures, masks)
        return self._features(looks, None if witnesses is None else lone_directions(witnesses))

    def embed_clip(
        self,
        pictures: NDArray[np.uint8],
        masks: NDArray[np.bool_] | None,
        timestamps_ms: Times,
    ) -> tuple[NDArray[np.float16], NDArray[np.float32] | None]:
        """See :class:`Embedder`."""
        looks, witnesses = self._look(pictures, masks)
        if witnesses is None:
            return self._features(looks, None), None
        directions = clip_directions(witnesses, timestamps_ms)
        return self._features(looks, directions), mean_readings(directions)

    @torch.inference_mode()
    def _look(
        self, pictures: NDArray[np.uint8], masks: NDArray[np.bool_] | None
    ) -> tuple[list[list[torch.Tensor]], Floats | None]:
        """Of each picture the parts of its feature, and the log-likelihoods of its directions."""
        self._check(pictures, masks)
        looks: list[list[torch.Tensor]] = []
        witnesses: list[Floats] = []
        with single_thread("cpu"):
            for index, picture in enumerate(pictures):
                opacity = None
                if masks is not None and self._masking is not None:
                    opacity = masks[index].astype(np.float32)
                    if self._masking.align:
                        picture, opacity = align(picture, masks[index])
                if self._azimuth is not None and opacity is not None:
                    witnesses.append(_witness(self._azimuth, picture, opacity))
                looks.append(self._parts(picture, opacity))
        return looks, None if self._azimuth is None else np.array(witnesses).reshape(-1, DIRECTIONS)

    def _parts(
        self, picture: NDArray[np.uint8], opacity: NDArray[np.float32] | None
    ) -> list[torch.Tensor]:
        parts = []
        masking = self._masking
        if masking is not None and opacity is not None and masking.grey_background:
            picture = grey_out(picture, opacity)
        if self._trunk is not None:
            grid = self._trunk(picture)
            if self._normalise_cells and grid.shape[0] > 1:
                grid = F.normalize(grid, dim=0, eps=1e-6)
            if masking is not None and opacity is not None and masking.weight_cells:
                grid = grid * _cell_shares(opacity, grid.shape[-1])
            parts.append(_unit(grid))
        if self._silhouette and opacity is not None:
            parts.append(_unit(_cell_shares(opacity, GRID)))
        return parts

    def _features(
        self, looks: list[list[torch.Tensor]], directions: Floats | None
    ) -> NDArray[np.float16]:
        rows = np.empty((len(looks), self.dimension), dtype=np.float16)
        for index, parts in enumerate(looks):
            told = []
            if directions is not None:
                told = [AZIMUTH_WEIGHT * torch.from_numpy(np.sqrt(directions[index])).float()]
            rows[index] = _unit(torch.cat([*told, *parts])).numpy().astype(np.float16)
        return rows

    def _check(self, pictures: NDArray[np.uint8], masks: NDArray[np.bool_] | None) -> None:
        size = self._image_size
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (size, size, 3):
            raise ValueError(
                f"pictures must be uint8 [N, {size}, {size}, 3], "
                f"not {pictures.dtype} {list(pictures.shape)}"
            )
        if self._masking is None:
            return
        if masks is None:
            raise ValueError(f"the embedder {self.name} masks the background: it needs masks")
        if masks.dtype != np.bool_ or masks.shape != pictures.shape[:3]:
            raise ValueError(
                f"masks must be bool {list(pictures.shape[:3])}, "
                f"not {masks.dtype} {list(masks.shape)}"
            )
        empty = np.flatnonzero(~masks.any(axis=(1, 2)))
        if len(empty):
            raise ValueError(f"the masks of these pictures are empty: {empty.tolist()}")


def load_embedder(
    kind: EmbedderKind,
    weights: Path | None = None,
    *,
    image_size: int = 160,
    masked: bool = True,
    silhouette: bool = True,
    device: str = "cpu",
    layer: str | None = None,
    masking: Masking | None = None,
    normalise_cells: bool | None = None,
    seed: int = 0,
    azimuth: Path | None = None,
) -> Embedder:
    """Make the embedder of this kind.

    The paper's own feature is ``load_embedder("rotnet", path, masked=False, silhouette=False)``.

    Args:
        kind: ``car-view`` (vehicles, see ``car_view.py``; looks at no mask and has no layer),
            ``rotnet`` (the paper's, see ``rotnet.py``, published weights or one's own of
            ``pretext.train_rotnet``), ``st-alex`` (a stand-in, see ``shift_tolerant.py``),
            ``dinov2`` (see ``dinov2.py``; needs timm), or a control: ``random-alexnet`` (RotNet's
            architecture, seeded weights), ``grey-pixels`` (32 x 32), ``silhouette`` (the mask
            alone).
        weights: Local file, for the first four kinds only; of EfficientNet-Lite0 for ``car-view``.
        image_size: Side of the pictures in pixels.
        masked: Whether the background is masked out; then ``embed`` needs masks.
        silhouette: Whether the mask itself, on a 13 x 13 grid, is set beside the feature with the
            same weight; implied by the kind ``silhouette``. Needs ``masked``.
        device: Torch device of the network.
        layer: ``conv1`` to ``conv5`` of the network, pooled to 13 x 13 cells where it has more;
            ``block1`` to ``block12`` of ``dinov2``. None = ``conv4``, of ``dinov2`` ``block9``.
        masking: Which steps of the masking are on; None = all of them.
        normalise_cells: Whether each cell's channels are scaled to length 1, so that a few strong
            cells do not decide; None = where ``masked``.
        seed: Of the random network.
        azimuth: File of a network that reads azimuths (``azimuth_training``), whose reading is
            set beside the feature with ``AZIMUTH_WEIGHT``; None = without. Needs ``masked``. Of
            ``car-view``: its reader of views (``car_view_training``), which it needs.

    Raises:
        ImportError: The optional package of this kind is not installed.
        ValueError: An unknown kind or layer, weights missing, unreadable or of another network,
            weights for a kind that has none, or options that contradict each other.
    """
    if kind not in get_args(EmbedderKind):
        raise ValueError(f"unknown embedder {kind!r}: choose from {list(get_args(EmbedderKind))}")
    if masking is not None and not masked:
        raise ValueError("masking is given, but masked is off")
    if kind == "car-view":
        if weights is None or azimuth is None:
            raise ValueError(
                "the embedder car-view needs weights: `idpose weights fetch efficientnet-lite0`"
            )
        return CarViewEmbedder(weights, azimuth, image_size=image_size, device=device)
    layer = layer or (DEFAULT_BLOCK if kind == "dinov2" else "conv4")
    return PictureEmbedder(
        name=kind if kind in ("grey-pixels", "silhouette") else f"{kind}/{layer}",
        trunk=_trunk(kind, weights, layer=layer, device=device, seed=seed),
        image_size=image_size,
        masking=(masking or Masking()) if masked else None,
        silhouette=silhouette or kind == "silhouette",
        normalise_cells=masked if normalise_cells is None else normalise_cells,
        azimuth=azimuth_trunk(azimuth, device=device) if azimuth else None,
    )


_NETWORKS: dict[str, tuple[str, Callable[..., Trunk]]] = {
    "rotnet": ("ImageNet_RotNet_AlexNet", rotnet_trunk),
    "st-alex": ("st-alex", shift_tolerant_trunk),
    "dinov2": ("dinov2_vits14", dinov2_trunk),
}


def _trunk(
    kind: EmbedderKind, weights: Path | None, *, layer: str, device: str, seed: int
) -> Trunk | None:
    if kind in _NETWORKS:
        network, load = _NETWORKS[kind]
        if weights is None:
            raise ValueError(
                f"the embedder {kind} needs weights: `idpose weights fetch {network}` or "
                f"`idpose weights import {network} PATH`"
            )
        return load(weights, layer=layer, grid=GRID, device=device)
    if weights is not None:
        raise ValueError(f"the embedder {kind} has no weights, yet {weights} is given")
    if kind == "random-alexnet":
        return random_alexnet_trunk(seed, layer=layer, grid=GRID, device=device)
    if kind == "grey-pixels":
        return Trunk(grey_pixels, GREY_PIXELS_SIDE**2, None)
    return None


def _witness(azimuth: Trunk, picture: NDArray[np.uint8], opacity: NDArray[np.float32]) -> Floats:
    """Log-likelihoods [24] of the directions of an aligned picture."""
    alpha = np.rint(255 * opacity).astype(np.uint8)
    amplitudes = azimuth(np.dstack([picture, alpha])).flatten().double().numpy()
    return np.asarray(2 * np.log(np.maximum(amplitudes, 1e-12)))


def _cell_shares(opacity: NDArray[np.float32], cells: int) -> torch.Tensor:
    """Share of each of ``cells`` x ``cells`` cells that the mask covers, float32 [1, c, c]."""
    return F.adaptive_avg_pool2d(torch.from_numpy(opacity)[None], cells)


def _unit(values: torch.Tensor) -> torch.Tensor:
    """Flattened and scaled to length 1; all zeros stay zeros."""
    return F.normalize(values.flatten(), dim=0, eps=1e-12)


def embedder_kinds() -> Sequence[str]:
    """The kinds that :func:`load_embedder` knows."""
    return get_args(EmbedderKind)
