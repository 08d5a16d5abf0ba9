"""Evaluate a model on a frozen set (paper, section 4): which model, which set, on which device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from flows.steps.weights import weights_root
from idpose_core.evaluation.evaluate import evaluate
from idpose_core.evaluation.generators import load_generator
from idpose_core.evaluation.instruments import EvaluationError, load_instruments
from idpose_core.evaluation.results import Measurement, to_json
from idpose_core.evaluation.roles import networks_used
from idpose_core.evaluation.sets import freeze_set, read_set, set_names
from idpose_core.evaluation.swaps import choose_swaps, draw_swaps, generate_swaps
from idpose_core.evaluation.truth import truth_triplets
from idpose_core.models.generator import Generator
from idpose_core.stages.crop import encode_png
from idpose_core.training.devices import claimed
from idpose_core.training.published import Model, ModelError, read_model, versions
from idpose_core.weights import find_weights
from storage.datasets import read_manifest, read_table
from storage.digests import digest
from storage.errors import DatasetError
from storage.objects import Store

TRIPLETS = 5000
_SHEET = (8, 12)


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found, and where it lies.

    Attributes:
        model: ``name@version``.
        evaluation_set: Name of the set.
        path: Of the file of rows, below the root.
        rows: In the form of docs/results.
        left_out: What was not measured, and why.
        seconds: By part.
    """

    model: str
    evaluation_set: str
    path: str
    rows: list[dict[str, Any]]
    left_out: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return dict(self.__dict__)


def evaluate_model(
    root: str,
    run_or_model: str,
    dataset: str | None = None,
    *,
    evaluation_set: str | None = None,
    metrics: Sequence[str] | None = None,
    triplets: int = TRIPLETS,
    training_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Evaluated:
    """Measure a published model, and write what was found beside its run or its model.

    Args:
        root: Where data lies.
        run_or_model: Id of a run, NAME (its champion) or NAME@VERSION.
        dataset: NAME or NAME@VERSION whose test split is measured on; None for the model's own.
        evaluation_set: A frozen set; None for the dataset's own, which is frozen if need be.
        metrics: Names of ``idpose_core.evaluation.instruments.INSTRUMENTS``; None for all that are
            possible.
        triplets: Of a set that is frozen now.
        training_steps: Of the networks that are trained to measure; None for their own numbers.
        seed: Of a set that is frozen now, and of the swap score's pictures.
        device: auto, cpu, cuda or cuda:N.
        say: Told how it goes.

    Raises:
        ToldError: No such run, model, dataset or set; a metric that was asked for is not possible.
    """
    store = Store(root)
    model = find_model(store, run_or_model)
    name = evaluation_set or _dataset_set(store, model, dataset, triplets, seed, say)
    with claimed(device, say) as claim:
        chosen = str(claim)
        generator, _ = load_generator(store, f"{model.name}@{model.version}", device=chosen)
        frozen = read_set(store, name, generator.config.size)
        weights = weights_root(root)
        instruments, left_out = load_instruments(
            store, frozen, _used(store, model), lambda network: find_weights(network, weights),
            asked=metrics, training_steps=training_steps, say=say,
        )  # fmt: skip
        for metric, why in left_out.items():
            say(f"{metric}: left out, {why}")
        measurement = Measurement(
            dataset=frozen.dataset[0],
            dataset_version=frozen.dataset[1],
            model=f"{model.name}@{model.version}",
            seed=seed,
            budget=f"{model.info['config'].get('steps')} steps",
            command=f"idpose evaluate {model.name}@{model.version} --set {name}",
        )
        found = evaluate(
            _method(model), generator, frozen, instruments, measurement,
            device=chosen, say=say,
        )  # fmt: skip
    folder = _folder(model)
    key = digest([name, frozen.info["files"], found.rows])[:8]
    path = f"{folder}/{name}-{key}.json"
    rows = [{**row, "evaluation_set": name} for row in found.rows]
    store.publish(path, to_json(rows).encode())
    if instruments.judges is not None:
        _publish_sheet(store, folder, name, generator, frozen, chosen)
    model_name = f"{model.name}@{model.version}"
    return Evaluated(model_name, name, path, rows, left_out, found.seconds)


def freeze(
    root: str,
    dataset: str,
    name: str | None = None,
    *,
    triplets: int = TRIPLETS,
    seed: int = 0,
    split: str = "test",
) -> Mapping[str, Any]:
    """Freeze an evaluation set by exact truth, unless this very set exists. Returns ``set.json``.

    Args:
        root: Where data lies.
        dataset: NAME or NAME@VERSION.
        name: Of the set; None for the dataset's own.
        triplets: As many, or as many as there are.
        seed: Of the choice.
        split: That the triplets are of.

    Raises:
        DatasetError: There is no such dataset, its poses are not known, or the name is taken.
    """
    store = Store(root)
    manifest = read_manifest(store, dataset)
    crops = read_table(store, manifest, "crops", split=split)
    chosen: pa.Table = truth_triplets(crops, count=triplets, seed=seed)
    return freeze_set(store, name or set_of(manifest), manifest, split, chosen, seed)


def set_of(manifest: Mapping[str, Any]) -> str:
    """Name of a dataset version's own evaluation set."""
    return f"{manifest['name']}-{manifest['version']}"


def find_model(store: Store, run_or_model: str) -> Model:
    """The model of that name, or the longest trained one that a run published.

    Raises:
        ModelError: Neither is there, or the run has published nothing yet.
    """
    path = f"runs/{run_or_model}/config.json"
    if "/" in run_or_model or not store.exists(path):
        return read_model(store, run_or_model)
    run = json.loads(store.read(path))
    name = f"{run['dataset'].partition('@')[0]}-{run['config']['training']['method']}"
    published = [read_model(store, f"{name}@{version}") for version in versions(store, name)]
    mine = [model for model in published if model.info["config"].get("run") == run_or_model]
    if not mine:
        raise ModelError(
            f"run {run_or_model} has published no model yet: `idpose train {run['dataset']}` with "
            "its configuration goes on"
        )
    return max(mine, key=lambda model: (model.info["config"]["steps"], model.version))


def _dataset_set(
    store: Store,
    model: Model,
    dataset: str | None,
    triplets: int,
    seed: int,
    say: Callable[[str], None],
) -> str:
    """The dataset's own set, frozen now where there is none."""
    own = model.info["dataset"]
    manifest = read_manifest(store, dataset or f"{own['name']}@{own['version']}")
    name = set_of(manifest)
    if name in set_names(store):
        return name
    version = f"{manifest['name']}@{manifest['version']}"
    try:
        info = freeze(store.location, version, triplets=triplets, seed=seed)
    except DatasetError as error:
        raise EvaluationError(
            f"{version} has no evaluation set, and none can be made by exact truth ({error}): "
            f"make one by hand, `idpose freeze {version} --review FILE`"
        ) from error
    say(f"froze the evaluation set {name}: {info['triplets']} triplets by exact truth")
    return name


def _used(store: Store, model: Model) -> dict[str, list[str]]:
    """The networks behind the model's triplets and its loss."""
    own = model.info["dataset"]
    try:
        config = read_manifest(store, f"{own['name']}@{own['version']}")["config"]
    except DatasetError:
        config = {}  # the model came without its dataset
    return networks_used(config, model.info["config"])


def _method(model: Model) -> str:
    training = model.info["config"].get("training", {})
    return str(training.get("method", model.name))


def _folder(model: Model) -> str:
    """Beside the run, or beside the model where it has none."""
    run = model.info["config"].get("run")
    return f"runs/{run}/evaluation" if run else f"models/{model.name}/{model.version}/evaluation"


def _publish_sheet(
    store: Store, folder: str, name: str, generator: Generator, frozen: Any, device: str
) -> None:
    ids, poses = _SHEET
    swaps = choose_swaps(frozen.views, frozen.size, ids=ids, poses=poses)
    sheet = draw_swaps(swaps, generate_swaps(swaps, generator, device=device))
    store.replace(f"{folder}/{name}-swaps.png", encode_png(sheet))
