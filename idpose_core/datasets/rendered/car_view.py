"""What reads the direction of real vehicles: trained on rendered cars and on photographs.

    python -m idpose_core.datasets.rendered.car_view OUT.safetensors --trunk FILE
        [--photographs FOLDER] [--views FOLDER] [--seed N]

renders the training cars from all sides (kept in the folder of views, for a second seed), makes
them and the photographs look like reels, and trains. Without photographs it learns from rendered
cars alone, before backgrounds of noise. FILE is the published EfficientNet-Lite0.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.views import View, rendered_views
from idpose_core.pose.car_view import load_trunk
from idpose_core.pose.car_view_training import (
    photograph_lesson,
    read_photographs,
    rendered_lesson,
    train_reader,
)
from idpose_core.pose.reel_looks import Picture, placed, surroundings

_SIDE = 192  # of the rendered pictures
_AZIMUTHS = 24  # of each car, each within its own 15 degrees
_HIGH = 9.0  # deviation of the camera's elevation in degrees; it is seldom high
_HIGHEST = 35.0
_REPEATS, _PHOTOGRAPH_REPEATS = 2, 8


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trunk", type=Path, required=True, help="EfficientNet-Lite0")
    parser.add_argument("--photographs", type=Path, help="labels.csv and photos/")
    parser.add_argument("--views", type=Path, help="where rendered views are kept")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the number of threads changes the order of sums
    trunk = load_trunk(arguments.trunk)
    photographs = read_photographs(arguments.photographs) if arguments.photographs else []
    draws = np.random.default_rng([arguments.seed, len(photographs)])
    behind = surroundings([p.picture for p in photographs], [p.box for p in photographs])
    views = shown(arguments.views, behind or noise(draws), draws)
    lessons = [rendered_lesson(trunk, views, draws)]
    print(f"{len(lessons[0].readings)} rendered pictures", flush=True)
    if photographs:
        lessons.append(photograph_lesson(trunk, photographs, _PHOTOGRAPH_REPEATS, draws))
        print(f"{len(lessons[1].readings)} pictures of {len(photographs)} photographs", flush=True)
    train_reader(lessons, arguments.out, seed=arguments.seed, say=print)


def shown(
    folder: Path | None, behind: Sequence[Picture], draws: np.random.Generator
) -> Iterator[tuple[Picture, float]]:
    """The training cars before backgrounds, with their azimuths in degrees."""
    for model in models_of("car", "train"):
        pictures, masks, azimuths = drawn_views(folder, model)
        for _ in range(_REPEATS):
            for picture, mask, azimuth in zip(pictures, masks, azimuths, strict=True):
                yield (
                    placed(picture, mask, behind[int(draws.integers(len(behind)))], draws),
                    azimuth,
                )


def noise(draws: np.random.Generator, count: int = 200) -> list[Picture]:
    """Backgrounds where there are no photographs: coarse fields of colour."""
    return [
        np.asarray(
            cv2.resize(
                draws.integers(0, 256, (*draws.integers(2, 24, 2), 3)).astype(np.uint8), (256, 256)
            )
        )
        for _ in range(count)
    ]


def drawn_views(
    folder: Path | None, model: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float64]]:
    """24 views of a car from drawn azimuths and elevations.

    Args:
        folder: Where they are kept; None = nowhere.
        model: Of the cars.

    Returns:
        Pictures uint8 [24, 192, 192, 3], masks bool [24, 192, 192], azimuths in degrees [24].
    """
    kept = folder / f"{model:03d}.npz" if folder else None
    if kept is not None and kept.exists():
        with np.load(kept) as arrays:
            return arrays["image"], arrays["mask"], arrays["az"]
    draws = np.random.default_rng([7, model])
    step = 360 / _AZIMUTHS
    grid = [
        (
            (step * place + draws.uniform(-step / 2, step / 2)) % 360,
            float(np.clip(abs(draws.normal(0, _HIGH)), 0, _HIGHEST)),
        )
        for place in range(_AZIMUTHS)
    ]
    views: list[View] = list(rendered_views("car", [model], grid=grid, side=_SIDE))
    image, mask = np.stack([v.image for v in views]), np.stack([v.mask for v in views])
    azimuths = np.array([v.azimuth_deg for v in views])
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, image=image, mask=mask, az=azimuths)
    return image, mask, azimuths


if __name__ == "__main__":
    main()
