"""The pose feature of the rendered world: RotNet trained on crops of rendered frames.

    python -m idpose_core.datasets.rendered.rotnet FOLDER OUT.safetensors [--steps N]

uses the world that ``detector`` rendered below FOLDER (and renders what is missing of it). Only
models of the training split are seen, and no label but which way is up. The shipped file was made
by this command, some of its frames one change of looks before the present.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.detector import read_frames, render_training_world
from idpose_core.datasets.rendered.truth import box_of_row
from idpose_core.instances.cropping import crop_square
from idpose_core.pose.pretext import train_rotnet

_SIDE = 128
_LEAST_SIDE = 40  # of a box, in pixels of the frame
_WIDTH = 0.25
_INPUT = 128


def crops(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Pictures uint8 [128, 128, 3] of the visible objects of a rendered folder."""
    for frame in read_frames(folder):
        height, width = frame.image.shape[:2]
        for row in frame.wanted:
            box = box_of_row(row)
            if min((box.xmax - box.xmin) * width, (box.ymax - box.ymin) * height) >= _LEAST_SIDE:
                yield crop_square(frame.image, box, size=_SIDE)[0]


def main() -> None:
    """Render what is missing, cut, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    folders = render_training_world(arguments.folder, arguments.processes)
    pictures = np.stack([picture for folder in folders for picture in crops(folder)])
    began = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 50 == 0:
            seconds = time.monotonic() - began
            print(f"step {step:5} loss {loss:.3f} after {seconds:.0f} s", flush=True)

    print(f"{len(pictures)} crops")
    trained = train_rotnet(
        pictures,
        arguments.out,
        steps=arguments.steps,
        batch_size=24,
        width=_WIDTH,
        input_size=_INPUT,
        on_step=report,
    )
    print(f"rotation told on {trained.accuracy:.1%} of held-out crops; sha256 {trained.sha256}")


if __name__ == "__main__":
    main()
