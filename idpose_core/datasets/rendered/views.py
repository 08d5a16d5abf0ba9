"""The clean multi-view sets: each model alone, from all sides, on a neutral light background.

Cars: 24 azimuths x 4 elevations, the twin of the paper's 3D Cars. Chairs: 31 azimuths x 2
elevations, as many views as in 3D Chairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.camera import camera_around
from idpose_core.datasets.rendered.families import check_model, family, solid
from idpose_core.datasets.rendered.photography import Picture, encoded, lit
from idpose_core.datasets.rendered.renderer import Stage
from idpose_core.datasets.rendered.seeds import number
from idpose_core.datasets.rendered.skies import studio

SIDE = 128
_SAMPLES = 4
_FINE = 2  # times finer than asked for, so that edges are smooth
_FILL = 0.95  # share of the picture that the longest diagonal takes
_DISTANCE = 4.0  # in diagonals: little perspective, as in 3D Cars


@dataclass(frozen=True)
class View:
    """One picture of the set.

    Attributes:
        kind: car or chair.
        model: Its identity.
        azimuth_deg: See ``camera``; 0 shows the front, 90 the object's left side.
        elevation_deg: Of the camera above the object's middle.
        image: uint8 [S, S, 3] RGB.
        mask: bool [S, S], where the object is.
    """

    kind: str
    model: int
    azimuth_deg: float
    elevation_deg: float
    image: Picture
    mask: NDArray[np.bool_]


def view_grid(kind: str) -> list[tuple[float, float]]:
    """All (azimuth, elevation) of the set, in degrees, by elevation and then azimuth.

    Raises:
        ValueError: There is no such kind.
    """
    group = family(kind)
    steps = [360.0 * step / group.azimuths for step in range(group.azimuths)]
    return [(azimuth, elevation) for elevation in group.elevations_deg for azimuth in steps]


def rendered_views(
    kind: str,
    models: Iterable[int],
    *,
    grid: Iterable[tuple[float, float]] | None = None,
    side: int = SIDE,
    samples: int = _SAMPLES,
) -> Iterator[View]:
    """Yield the views of models.

    Args:
        kind: car or chair.
        models: Their indices.
        grid: (azimuth, elevation) in degrees; None for the whole ``view_grid``.
        side: Of the square pictures, in pixels, at least 16.
        samples: Light paths a pixel, at least 2.

    Raises:
        ValueError: The kind or a model does not exist, or a number is too small.
    """
    angles = view_grid(kind) if grid is None else list(grid)
    indices = list(models)
    if side < 16 or samples < 2:
        raise ValueError(f"side must be at least 16 and samples at least 2, not {side}, {samples}")
    for model in indices:
        check_model(kind, model)
    return _views(kind, indices, angles, side, samples)


def _views(
    kind: str, models: list[int], angles: list[tuple[float, float]], side: int, samples: int
) -> Iterator[View]:
    here = {"object": np.eye(4)}
    for model in models:
        shape = solid(kind, model)
        fine = _FINE * side
        lamps = studio()
        stage = Stage({"object": shape}, [], lamps, (fine, fine))
        diagonal = float(np.linalg.norm(shape.size))
        for azimuth, elevation in angles:
            camera = camera_around(
                azimuth, elevation, _DISTANCE * diagonal, float(shape.size[2]) / 2,
                _FILL * _DISTANCE * fine, (fine, fine),
            )  # fmt: skip
            seed = number("view", kind, model, azimuth, elevation)
            layers = stage.layers(camera, here, samples=samples, seed=seed)
            image = cv2.resize(lit(layers, lamps), (side, side), interpolation=cv2.INTER_AREA)
            share = cv2.resize((layers.depth > 0).astype(np.float32), (side, side),
                               interpolation=cv2.INTER_AREA)  # fmt: skip
            yield View(kind, model, azimuth, elevation, encoded(image), share >= 0.5)
