"""Open a model for one's own photographs: the model, how its dataset cut pictures, a detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.configs import built_in
from flows.steps.weights import resolve_weights
from idpose_core.composition.framing import Framing, detectors_for
from idpose_core.composition.objects import FLOOR
from idpose_core.composition.swapper import Swapper
from idpose_core.config import ConfigError
from idpose_core.evaluation.generators import Subject, load_swapper, load_swapper_files
from idpose_core.instances.detectors import Detector, load_detector
from idpose_core.settings import read_yaml
from storage.datasets import DatasetError, read_manifest
from storage.objects import Store


def open_swapper(root: str, model: str, *, device: str = "cpu", detect: bool = True) -> Swapper:
    """A model that takes photographs, loaded once.

    Args:
        root: Where data lives; beside models, the dataset of the model and the weights of the
            detector are looked for here.
        model: NAME (the version that serves), NAME@VERSION, the id of a run, a folder with
            ``model.safetensors`` and ``model.json``, or a file of weights with ``model.json``
            beside it.
        device: cpu, cuda or cuda:N.
        detect: Whether a detector is loaded. Without one, objects are marked or cut already.

    Raises:
        ToldError: There is no such model, it swaps nothing, or files are damaged.
        ImportError: The detector's package is not installed; the message has the command.
    """
    store, place = Store(root), Path(model)
    alone = place.is_file() or (place / "model.json").is_file() or place.suffix == ".safetensors"
    subject = (
        load_swapper_files(place, device=device)
        if alone
        else load_swapper(store, model, device=device)
    )
    config, notes = _dataset_config(store, subject)
    framing = Framing.of(config)
    if not detect:
        return Swapper(subject, framing, device=device, notes=notes)
    detector, threshold, more = _detector(store, framing, device)
    return Swapper(subject, framing, detector, threshold, device, (*notes, *more))


def _dataset_config(store: Store, subject: Subject) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The configuration of the model's dataset, and what to say where it is not here."""
    if subject.dataset_config is not None:
        return subject.dataset_config, ()
    name, version = subject.dataset
    try:
        config: Mapping[str, Any] = read_manifest(store, f"{name}@{version}")["config"]
    except DatasetError:
        like = name if name in built_in() else "folder"
        said = (
            f"dataset {name}@{version} of the model is not in {store.root}: pictures are cut as "
            f"by the built-in configuration {like!r}"
        )
        return read_yaml(built_in()[like]), (said,)
    return config, ()


def _detector(
    store: Store, framing: Framing, device: str
) -> tuple[Detector | None, float, tuple[str, ...]]:
    """The first detector whose weights are here, its threshold, and what to say of it."""
    wanted = detectors_for(framing)
    for kind, weights, threshold in wanted:
        try:
            path, _ = resolve_weights(kind, weights, store)
        except ConfigError:
            continue
        where = "cpu" if kind == "yolox" else device
        detector = load_detector(
            kind, None if path is None else Path(path), floor=min(FLOOR, threshold), device=where
        )
        other = kind != framing.detector and wanted[0][0] == framing.detector
        note = f"objects are found by {kind}; the dataset of the model used {framing.detector}"
        return detector, threshold, (note,) if other else ()
    return None, 0.0, ()
