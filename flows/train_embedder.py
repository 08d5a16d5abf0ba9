"""The paper's self-supervised pose feature, trained on the crops of one's own dataset."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from flows.steps.weights import weights_root
from idpose_core.assembly.splits import TRAIN
from idpose_core.pose.pretext import train_rotnet
from idpose_core.stages.crop import decode_png
from storage.datasets import DatasetError, read_manifest, read_table
from storage.digests import file_sha256
from storage.export import picture_places, read_pictures
from storage.objects import Store

FOLDER = "rotnet-own"  # never the name of the published network


def train_embedder(
    store: Store,
    dataset: str,
    *,
    steps: int,
    batch_size: int,
    width: float,
    seed: int,
    device: str,
    console: Console,
) -> dict[str, Any]:
    """Train RotNet's AlexNet on the training crops of a version and keep it with the weights.

    Args:
        store: The root.
        dataset: ``name`` or ``name@version``.
        steps: Updates.
        batch_size: Pictures a step; the network sees four turned copies of each.
        width: Multiplier of the channel counts; 1 is the paper's network.
        seed: Of weights and batches.
        device: Torch device.
        console: Told how training goes.

    Returns:
        path, sha256, accuracy (of telling the rotation of held-out crops; chance is 0.25),
        held_out and pictures.

    Raises:
        DatasetError: There is no such dataset, or it has no training crops.
        ValueError: A setting out of its range.
    """
    manifest = read_manifest(store, dataset)
    crops = read_table(store, manifest, "crops", split=TRAIN)
    if not crops.num_rows:
        raise DatasetError(f"{dataset} has no training crops")
    pictures = dict(read_pictures(store, picture_places(crops)))
    # By name, so that the order in which shards lie does not enter.
    stacked = np.stack([decode_png(pictures[crop]) for crop in sorted(pictures)])
    folder = weights_root(store.location) / "weights" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % max(1, steps // 20) == 0:
            seconds = time.monotonic() - began
            console.print(f"step {step:6} of {steps}  loss {loss:.3f}  {seconds:.0f} s")

    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as inside:
        trained = train_rotnet(
            stacked,
            Path(inside) / "trained.safetensors",
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            device=device,
            width=width,
            on_step=report,
        )
        path = folder / f"{file_sha256(trained.path)}.safetensors"
        trained.path.replace(path)
    return {
        "path": str(path),
        "sha256": trained.sha256,
        "accuracy": trained.accuracy,
        "held_out": trained.held_out,
        "pictures": len(stacked),
    }
