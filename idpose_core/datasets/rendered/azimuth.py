"""What tells a car's front from its rear: a reader of azimuths, trained on rendered cars.

    python -m idpose_core.datasets.rendered.azimuth OUT.safetensors [--steps N]
    python -m idpose_core.datasets.rendered.azimuth OUT.safetensors --videos FOLDER [--views FOLDER]

The first renders the clean views of the training cars with their true azimuths and trains on them:
``car-azimuth``. That file was made by this training on the same 9,600 views as a build of
rendered-car-views had stored them, in the order of their crop ids: so the file that this command
makes has other bits.

The second is for the rendered world itself: ``rendered-azimuth``. It adds frames of videos of the
training cars, in places that occur nowhere else, with the masks that GrabCut finds there; its views
are those of ``car_view``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.car_view import drawn_views
from idpose_core.datasets.rendered.detector import read_frames
from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.truth import box_of_row
from idpose_core.datasets.rendered.videos import write_rendered_videos
from idpose_core.datasets.rendered.views import rendered_views
from idpose_core.instances.cropping import crop_square
from idpose_core.pose.alignment import align
from idpose_core.pose.azimuth_training import train_azimuth
from idpose_core.pose.masks import find_mask

_SIDE = 72  # a little above the network's, which its changes of scale need
_CROP = 128  # of a video's frame
_SEED = 3000  # of the videos: no other world has it
_LEAST_SIDE, _LEAST_VISIBLE = 40, 0.7
_REPEATS = 2  # of a crop of a video, of which there are fewer than views


class _Sight(NamedTuple):
    """An aligned picture uint8 [72, 72, 3], its opacity, and what it shows."""

    picture: NDArray[np.uint8]
    opacity: NDArray[np.uint8]
    azimuth_deg: float
    model: int


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--videos", type=Path, help="folder of videos; what is missing is rendered")
    parser.add_argument("--views", type=Path, help="where rendered views are kept")
    arguments = parser.parse_args()
    if arguments.videos:
        sights = [*_drawn(arguments.views), *_filmed(arguments.videos)]
    else:
        sights = list(_clean())
    print(f"{len(sights)} pictures of {len({s.model for s in sights})} cars", flush=True)
    began = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 50 == 0:
            seconds = time.monotonic() - began
            print(f"step {step:5} loss {loss:.3f} after {seconds:.0f} s", flush=True)

    trained = train_azimuth(
        np.stack([sight.picture for sight in sights]),
        np.stack([sight.opacity for sight in sights]),
        np.array([sight.azimuth_deg for sight in sights]),
        np.array([sight.model for sight in sights]),
        arguments.out,
        steps=arguments.steps,
        on_step=report,
    )
    print(
        f"{trained.held_out} views of held-out cars: {trained.hit:.1%} within 22.5 degrees, "
        f"{trained.confused:.1%} turned around; sha256 {trained.sha256}"
    )


def _clean() -> Iterator[_Sight]:
    for view in rendered_views("car", models_of("car", "train"), side=_SIDE):
        yield _aligned(view.image, view.mask, view.azimuth_deg, view.model)


def _drawn(folder: Path | None) -> Iterator[_Sight]:
    for model in models_of("car", "train"):
        for picture, mask, azimuth in zip(*drawn_views(folder, model), strict=True):
            yield _aligned(picture, mask, float(azimuth), model)


def _filmed(folder: Path) -> Iterator[_Sight]:
    models = models_of("car", "train")
    write_rendered_videos(
        folder, models=models, scenes_per_model=1, seconds=5.0, fps=2, seed=_SEED, processes=1
    )
    for frame in read_frames(folder):
        height, width = frame.image.shape[:2]
        for row in frame.wanted:
            box = box_of_row(row)
            side = min((box.xmax - box.xmin) * width, (box.ymax - box.ymin) * height)
            if side < _LEAST_SIDE or row["visible_share"] < _LEAST_VISIBLE:
                continue
            picture, transform = crop_square(frame.image, box, size=_CROP)
            mask = find_mask(picture, transform.box_to_crop(box, width, height))
            sight = _aligned(picture, mask, row["azimuth_deg"], row["model"])
            yield from [sight] * _REPEATS


def _aligned(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], azimuth_deg: float, model: int
) -> _Sight:
    moved, opacity = align(picture, mask)
    size = (_SIDE, _SIDE)
    small = cv2.resize(moved, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(opacity, size, interpolation=cv2.INTER_AREA)
    return _Sight(np.asarray(small, np.uint8), (255 * share).astype(np.uint8), azimuth_deg, model)


if __name__ == "__main__":
    main()
