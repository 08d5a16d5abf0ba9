"""Small stand-ins for the published image sets, in exactly their form.

In every picture the object is a rectangle whose place tells the view and whose colour tells the
object, so that a mixed-up axis, order or name is seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from idpose_core.datasets.published import cars3d, chairs3d, epfl_cars, eth80
from idpose_core.datasets.published.splits import splits_of

WIDE, HIGH = 30, 12  # of the rectangle, in pixels
CHAIR_SCALE = 4  # the pictures of chairs are larger


def corner(step: int, row: int) -> tuple[int, int]:
    """Left and top of the rectangle of a view."""
    return 5 + 2 * step, 10 + 15 * row


def colour(number: int) -> tuple[int, int, int]:
    return (7 * number) % 250, 100 + number % 100, 40


def picture(
    size: tuple[int, int], ground: int, number: int, step: int, row: int, scale: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Picture [H, W, 3] and mask [H, W]."""
    left, top = (scale * edge for edge in corner(step, row))
    image = np.full((size[1], size[0], 3), ground, np.uint8)
    mask = np.zeros((size[1], size[0]), bool)
    mask[top : top + scale * HIGH, left : left + scale * WIDE] = True
    image[mask] = colour(number)
    return image, mask


def numbers(name: str, split: str, count: int) -> list[int]:
    """The first objects of a split of a set."""
    return [number for number, word in splits_of(name).items() if word == split][:count]


def car_name(number: int) -> str:
    """The set numbers 199 models and has 183 of them."""
    return f"car_{number + 16:03d}_mesh"


def car_arrays(number: int) -> dict[str, np.ndarray]:
    image = np.empty((128, 128, 3, cars3d.AZIMUTHS, cars3d.ELEVATIONS), np.uint8)
    mask = np.empty((128, 128, cars3d.AZIMUTHS, cars3d.ELEVATIONS), np.uint8)
    for azimuth in range(cars3d.AZIMUTHS):
        for elevation in range(cars3d.ELEVATIONS):
            image[..., azimuth, elevation], mask[..., azimuth, elevation] = picture(
                (128, 128), 255, number, azimuth, elevation
            )
    return {"im": image, "mask": mask}


def write_cars3d(folder: Path, cars: Iterable[int]) -> Path:
    """``data/cars`` below a folder, with the list of all cars and the files of some."""
    place = folder / "data" / "cars"
    place.mkdir(parents=True)
    names = [car_name(number) for number in splits_of("cars3d")]
    (place / "list.txt").write_text("\n".join(names) + "\n")
    for number in cars:
        path = place / f"{car_name(number)}.mat"
        scipy.io.savemat(path, car_arrays(number), do_compression=True)
    return place


def chair_name(number: int) -> str:
    return f"{number:04x}{'b663f1e4df6c51fe19fb4103277a'}"


def write_chairs3d(folder: Path, chairs: Iterable[int]) -> Path:
    """``rendered_chairs`` below a folder, with the list of all chairs and the files of some."""
    place = folder / "rendered_chairs"
    place.mkdir(parents=True)
    names = np.array([chair_name(number) for number in splits_of("chairs3d")], dtype=object)
    # The published list is in no order of names.
    scipy.io.savemat(place / "all_chair_names.mat", {"folder_names": names[::-1]})
    for number in chairs:
        renders = place / chair_name(number) / "renders"
        renders.mkdir(parents=True)
        for row, elevation in enumerate(chairs3d.ELEVATIONS):
            for step in range(chairs3d.AZIMUTHS):
                degrees = int(360 * step / chairs3d.AZIMUTHS)
                image, _ = picture((600, 600), 255, number, step, row, CHAIR_SCALE)
                name = f"image_{32 * row + step:03d}_p{elevation:03d}_t{degrees:03d}_r096.png"
                Image.fromarray(image).save(renders / name, compress_level=1)
    return place


ETH80_VIEWS = [
    (0, 0),
    *((polar, azimuth) for polar in (22, 45, 68) for azimuth in (0, 90, 180, 270)),
    *((35, azimuth) for azimuth in (45, 135, 225, 315)),
    *((66, azimuth) for azimuth in (27, 63, 117, 153, 207, 243, 297, 333)),
    *((90, round(22.5 * step)) for step in range(16)),
]


def write_eth80(folder: Path, cars: Iterable[int]) -> Path:
    place = folder / "eth80-cropped256"
    for number in cars:
        car = place / f"car{number}"
        (car / "maps").mkdir(parents=True)
        for index, (polar, azimuth) in enumerate(sorted(ETH80_VIEWS)):
            image, mask = picture((256, 256), 90, number, index, 0)
            name = f"car{number}-{polar:03d}-{azimuth:03d}"
            Image.fromarray(image).save(car / f"{name}.png")
            Image.fromarray(mask).save(car / "maps" / f"{name}-map.png")
    return place


EPFL_SIZE = (376, 250)
EPFL_FRAMES, EPFL_TURN, EPFL_FRONT = 10, 9, 3


def epfl_times(number: int) -> list[int]:
    """A turn takes 80 seconds; the photographer waits a while before the last two frames."""
    return [0, 8, 16, 24, 32, 40, 48, 64, 80, 88]


def write_epfl(folder: Path, sequences: Iterable[int]) -> Path:
    place = folder / "epfl-gims08" / "tripod-seq"
    place.mkdir(parents=True)

    def line(values: Iterable[int]) -> str:
        return " ".join(map(str, values))

    senses = [1 if number % 2 else -1 for number in range(1, 21)]
    rows = [
        line((20, *EPFL_SIZE)), line([EPFL_FRAMES] * 20), "tripod_seq_%02d_%03d.jpg",
        "bbox_%02d.txt", line([EPFL_TURN] * 20), line([EPFL_FRONT] * 20), line(senses),
    ]  # fmt: skip
    (place / "tripod-seq.txt").write_text("\n".join(rows) + "\n")
    (place / "times.txt").write_text("\n".join(line(epfl_times(i)) for i in range(1, 21)) + "\n")
    for number in sequences:
        boxes = []
        for frame in range(EPFL_FRAMES):
            image, _ = picture(EPFL_SIZE, 90, number, frame, 2)
            path = place / f"tripod_seq_{number:02d}_{frame + 1:03d}.jpg"
            Image.fromarray(image).save(path, quality=95)
            boxes.append(line((*corner(frame, 2), WIDE, HIGH)))
        (place / f"bbox_{number:02d}.txt").write_text("\n".join(boxes) + "\n")
    return place


SETS = {
    "cars3d": (cars3d.Cars3D, write_cars3d),
    "chairs3d": (chairs3d.Chairs3D, write_chairs3d),
    "eth80": (eth80.ETH80Cars, write_eth80),
    "epfl-cars": (epfl_cars.EPFLCars, write_epfl),
}
