"""What tells a car's front from its rear: a reader of azimuths, trained on rendered views.

    python -m idpose_core.datasets.rendered.azimuth OUT.safetensors [--steps N]

renders the clean views of the training cars with their true azimuths and trains on them. The
shipped file was made by this training on the same 9,600 views as a build of rendered-car-views had
stored them, in the order of their crop ids: so the file that this command makes has other bits.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.views import rendered_views
from idpose_core.pose.alignment import align
from idpose_core.pose.azimuth_training import train_azimuth

_SIDE = 72  # a little above the network's, which its changes of scale need


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    arguments = parser.parse_args()
    seen = list(rendered_views("car", models_of("car", "train"), side=_SIDE))
    aligned = [align(view.image, view.mask) for view in seen]
    print(f"{len(seen)} views of {len({view.model for view in seen})} cars", flush=True)
    began = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 50 == 0:
            seconds = time.monotonic() - began
            print(f"step {step:5} loss {loss:.3f} after {seconds:.0f} s", flush=True)

    trained = train_azimuth(
        np.stack([picture for picture, _ in aligned]),
        np.stack([(255 * opacity).astype(np.uint8) for _, opacity in aligned]),
        np.array([view.azimuth_deg for view in seen]),
        np.array([view.model for view in seen]),
        arguments.out,
        steps=arguments.steps,
        on_step=report,
    )
    print(
        f"{trained.held_out} views of held-out cars: {trained.hit:.1%} within 22.5 degrees, "
        f"{trained.confused:.1%} turned around; sha256 {trained.sha256}"
    )


if __name__ == "__main__":
    main()
