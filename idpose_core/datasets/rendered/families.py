"""The families of models: which there are, how many, and how one becomes a solid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from idpose_core.datasets.rendered.car_mesh import car_solid
from idpose_core.datasets.rendered.car_model import car_model
from idpose_core.datasets.rendered.chair_mesh import chair_solid
from idpose_core.datasets.rendered.chair_model import chair_model
from idpose_core.datasets.rendered.skins import Solid


@dataclass(frozen=True)
class Family:
    """One kind of objects.

    Attributes:
        kind: car or chair.
        models: How many identities there are.
        class_id: Of YouTube-BoundingBoxes; chairs are not in it and carry the number after its 23.
        azimuths: Steps of the multi-view set.
        elevations_deg: Of the multi-view set.
        build: Makes the solid of an index.
    """

    kind: str
    models: int
    class_id: int
    azimuths: int
    elevations_deg: tuple[float, ...]
    build: Callable[[int], Solid]


_FAMILIES = {
    "car": Family("car", 183, 23, 24, (0.0, 10.0, 20.0, 30.0), lambda i: car_solid(car_model(i))),
    "chair": Family("chair", 1393, 24, 31, (20.0, 30.0), lambda i: chair_solid(chair_model(i))),
}


def family(kind: str) -> Family:
    """The family of a kind.

    Raises:
        ValueError: There is none.
    """
    if kind not in _FAMILIES:
        raise ValueError(f"no kind {kind!r}; there are {', '.join(_FAMILIES)}")
    return _FAMILIES[kind]


def model_name(kind: str, index: int) -> str:
    """The name of a model's identity."""
    return f"{kind}-{index:04d}"


@lru_cache(maxsize=8)
def solid(kind: str, index: int) -> Solid:
    """The solid of one model.

    Raises:
        ValueError: The kind or the index does not exist.
    """
    check_model(kind, index)
    return family(kind).build(index)


def check_model(kind: str, index: int) -> None:
    """Raise ValueError where a model does not exist."""
    count = family(kind).models
    if not 0 <= index < count:
        raise ValueError(f"no {kind} {index}: the models are 0 to {count - 1}")
