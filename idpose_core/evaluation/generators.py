"""What is evaluated: a published model, or the average in the latest checkpoint of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idpose_core import settings
from idpose_core.methods.registry import METHODS, PAPER
from idpose_core.models.generator import GeneratorConfig
from idpose_core.training.checkpoints import Checkpoints
from idpose_core.training.config import TrainingConfig
from idpose_core.training.published import Model, ModelError, names, read_model, versions
from idpose_core.training.runs import Run
from storage.errors import DamageError
from storage.objects import Store


@dataclass(frozen=True, eq=False)
class Subject:
    """A generator, and where it comes from.

    Attributes:
        name: ``name@version``, or ``run <id>, step <n>`` where it is not published.
        generator: The averaged network, in evaluation mode: of ID and pose pictures to pictures,
            unless the method does not swap.
        config: Of its training.
        dataset: Name and version of the data that it was trained on.
        steps: Of its training; None where the model does not say.
        folder: Where its evaluations are kept, below the root.
        dataset_config: Of the build of that data; None where the model does not say.
    """

    name: str
    generator: nn.Module
    config: Mapping[str, Any]
    dataset: tuple[str, str]
    steps: int | None
    folder: str
    dataset_config: Mapping[str, Any] | None = None

    @property
    def size(self) -> int:
        """Side of its pictures."""
        return int(self.config["generator"].get("size", GeneratorConfig.size))

    @property
    def method(self) -> str:
        """Name of the method that trained it."""
        training = self.config.get("training") or {}
        return str(training.get("method", PAPER))


def load_subject(store: Store, run_or_model: str, *, device: torch.device | str = "cpu") -> Subject:
    """The generator of a model, or the newest one of a run: published, or in a checkpoint.

    Args:
        store: The root.
        run_or_model: Id of a run, NAME (its champion) or NAME@VERSION.
        device: Where the generator is put.

    Raises:
        ModelError: There is no such thing, the run has nothing yet, or weights are of another
            network than the configuration says.
        ToldError: Files are damaged.
    """
    path = f"runs/{run_or_model}/config.json"
    if "/" in run_or_model or not store.exists(path):
        if "@" not in run_or_model and not versions(store, run_or_model):
            known = ", ".join(names(store)) or "none"
            raise ModelError(
                f"no version of model {run_or_model!r} is promoted in {store.root}, and no run "
                f"has this id; models are {known}"
            )
        return _published(store, read_model(store, run_or_model), device)
    document = json.loads(store.read(path))
    config = settings.parse(TrainingConfig, document["config"])
    run = Run(run_or_model, document["dataset"], config, document["perceptual_sha256"])
    models = [read_model(store, f"{run.model_name}@{v}") for v in versions(store, run.model_name)]
    mine = [model for model in models if model.info["config"].get("run") == run.id]
    newest = max(
        mine, key=lambda model: (model.info["config"]["steps"], model.version), default=None
    )
    checkpoint = Checkpoints(store, run.id, run.identity()).latest()
    if newest and (not checkpoint or newest.info["config"]["steps"] >= checkpoint.step):
        return _published(store, newest, device)
    if checkpoint is None:
        raise ModelError(f"run {run.id} has no checkpoint yet: `idpose train` goes on with it")
    weights = checkpoint.state["trainer"]["average"]["network"]
    dataset, _, version = run.dataset.partition("@")
    return Subject(
        f"run {run.id}, step {checkpoint.step}",
        _loaded(run.id, document["config"], weights, device),
        document["config"],
        (dataset, version),
        checkpoint.step,
        f"runs/{run.id}/evaluation",
    )


def load_swapper(store: Store, run_or_model: str, *, device: torch.device | str = "cpu") -> Subject:
    """The same, of a method that swaps.

    Raises:
        ModelError: It makes no picture of one identity in another's pose.
    """
    return _swapping(load_subject(store, run_or_model, device=device))


def load_swapper_files(place: Path, *, device: torch.device | str = "cpu") -> Subject:
    """A model that swaps and lies by itself, as it was copied out of a root.

    Args:
        place: Its folder, or its file of weights; ``model.json`` lies in the folder.
        device: Where the generator is put.

    Raises:
        ModelError: There is none, or it swaps nothing.
        ToldError: Files are damaged.
    """
    folder, weights = (place, "model.safetensors") if place.is_dir() else (place.parent, place.name)
    store = Store(folder)
    try:
        info = json.loads(store.read("model.json"))
        entry = {**info["weights"], "path": weights}
        _ = entry["sha256"], info["config"]["generator"], info["dataset"]["version"]
        model = Model(info["name"], info["version"], {**info, "weights": entry})
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} has no model.json: copy the whole folder of a published model"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(
            f"{folder / 'model.json'} cannot be used ({error!r}): put back a copy of it"
        ) from error
    return _swapping(_published(store, model, device))


def _swapping(subject: Subject) -> Subject:
    if not METHODS[subject.method].swaps:
        raise ModelError(
            f"{subject.name} is of {subject.method}, which swaps nothing: look at its code with "
            "`python -m idpose_core.evaluation.traversal`"
        )
    return subject


def _published(store: Store, model: Model, device: torch.device | str) -> Subject:
    name, config = f"{model.name}@{model.version}", model.info["config"]
    run = config.get("run")
    return Subject(
        name,
        _loaded(name, config, model.weights(store), device),
        config,
        (model.info["dataset"]["name"], model.info["dataset"]["version"]),
        config.get("steps"),
        f"runs/{run}/evaluation" if run else f"models/{model.name}/{model.version}/evaluation",
        model.info["dataset"].get("config"),
    )


def _loaded(
    name: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    device: torch.device | str,
) -> nn.Module:
    method = (config.get("training") or {}).get("method", PAPER)
    if method not in METHODS:
        raise ModelError(f"{name} was trained by a method of another version: {method!r}")
    known = set(TrainingConfig.model_fields) - {"run"}  # here the run's id
    sections = {key: value for key, value in config.items() if key in known}
    if not isinstance(sections.get("generator"), dict):
        raise ModelError(f"{name} does not say what its generator is")
    try:
        said = settings.parse(TrainingConfig, {**sections, "training": {"method": method}})
    except settings.ConfigError as error:
        raise ModelError(f"{name} does not say what its generator is ({error})") from error
    network = METHODS[method].published(said.method())
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"the weights of {name} are not of the generator that it names ({cause}): publish it "
            "again"
        ) from error
    return network.to(device).eval()
