"""Methods side by side (section 4): the same data, loop and triplets, one table, one picture.

A comparison is a file of cells: a method with its settings and seed. Each is a training as
``idpose train`` does it, so that the same command goes on where it stopped, cell by cell. Then all
are measured on one frozen set: differences between methods are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from flows.evaluate import evaluate_model, freeze
from flows.train import train_dataset
from idpose_core import settings
from idpose_core.evaluation.generators import Subject, load_subject
from idpose_core.evaluation.pictures import generated, to_network
from idpose_core.evaluation.results import to_json
from idpose_core.evaluation.sets import EvaluationSet, read_set
from idpose_core.evaluation.tables import compose, printed
from idpose_core.methods.registry import METHODS
from idpose_core.settings import Section
from idpose_core.stages.crop import encode_png
from idpose_core.training.samples import tiled
from storage.datasets import read_manifest
from storage.objects import Store

Say = Callable[[str], None]
_SHOWN = 10  # triplets of the picture


class CellConfig(Section):
    """A method with what is set beside its defaults."""

    method: str = Field(description="Of `idpose train --method`")
    seed: int = Field(0, ge=0)
    settings: dict[str, Any] = Field({}, description="key.path: value, over those of all cells")


class ComparisonConfig(Section):
    """What is compared, on what, for how long."""

    name: str = Field(description="Of its folder and its frozen set")
    dataset: str = Field(description="NAME or NAME@VERSION")
    triplets: int = Field(5000, ge=1, description="Of the frozen set, at most")
    training_steps: int | None = Field(
        None, ge=1, description="Of the networks trained to measure; null = their own numbers"
    )
    metrics: list[str] | None = Field(None, description="Only these; null = all that are possible")
    settings: dict[str, Any] = Field({}, description="key.path: value, of all cells")
    cells: list[CellConfig]


@dataclass(frozen=True)
class Compared:
    """What a call did.

    Attributes:
        models: ``name@version`` of each cell that has been trained to its end.
        waiting: Cells that were not, and why.
        folder: Of table, rows and picture, below the root; None while cells wait.
    """

    models: list[str]
    waiting: list[str]
    folder: str | None


def read_comparison(path: Path) -> ComparisonConfig:
    """The comparison that a file describes.

    Raises:
        ConfigError: It is none.
    """
    config = settings.parse(ComparisonConfig, settings.read_yaml(settings.read_text(path)))
    for name in (cell.method for cell in config.cells):
        if name not in METHODS:
            near = settings.nearest(name, METHODS)
            raise settings.ConfigError(f"no method {name!r}; the nearest known one is {near!r}")
    if not any(METHODS[cell.method].swaps for cell in config.cells):
        raise settings.ConfigError("nothing is measured: name a cell whose method swaps")
    return config


def compare(
    root: str,
    config: ComparisonConfig,
    *,
    methods: Sequence[str] = (),
    minutes: float | None = None,
    say: Say = print,
) -> Compared:
    """Train what is not trained yet, cell by cell; when all are, measure and draw them.

    Args:
        root: Where data lies.
        config: The comparison.
        methods: Train only cells of these; all by default.
        minutes: Of each cell at most in this call; the next call goes on.
        say: Told how it goes.

    Raises:
        ConfigError: A setting that does not exist, or no cell is of such a method.
        ToldError: See ``idpose_core.training`` and ``idpose_core.evaluation``.
    """
    if methods and not any(cell.method in methods for cell in config.cells):
        raise settings.ConfigError(f"no cell is of {', '.join(methods)}")
    models: list[str] = []
    waiting: list[str] = []
    for number, cell in enumerate(config.cells, start=1):
        label = f"{cell.method}, seed {cell.seed}"
        if methods and cell.method not in methods:
            waiting.append(f"{label}: not asked for")
            continue
        say(f"cell {number} of {len(config.cells)}: {label}")
        keys = {**config.settings, **cell.settings}
        keys |= {"training.method": cell.method, "seed": cell.seed}
        if minutes is not None:
            keys["run.minutes"] = minutes
        done = train_dataset(root, config.dataset, {}, keys, say=say)
        assert done is not None  # no process of this call follows another
        if done.interrupted:
            return Compared(models, [*waiting, f"{label}: interrupted"], None)
        if done.model is None:
            waiting.append(f"{label}: {done.stopped}")
        else:
            models.append(f"{done.model.name}@{done.model.version}")
    if waiting:
        return Compared(models, waiting, None)
    return Compared(models, [], _measure(root, config, models, say))


def _measure(root: str, config: ComparisonConfig, models: Sequence[str], say: Say) -> str:
    store = Store(root)
    subjects = [load_subject(store, model) for model in models]
    swapping = [one for one in subjects if METHODS[one.method].swaps]
    version = read_manifest(store, config.dataset)["version"]
    name = f"{config.name}-{version}"
    freeze(root, config.dataset, name, triplets=config.triplets)
    found = evaluate_model(
        root, swapping[0].name, beside=[one.name for one in swapping[1:]], evaluation_set=name,
        metrics=config.metrics, training_steps=config.training_steps, say=say,
    )  # fmt: skip
    folder = f"comparisons/{config.name}"
    table = printed(compose(found.rows), "md")
    frozen = read_set(store, name, swapping[0].size)
    store.replace(f"{folder}/rows.json", to_json(found.rows).encode())
    store.replace(f"{folder}/table.md", table.encode())
    store.replace(f"{folder}/grid.png", encode_png(draw_comparison(frozen, swapping)))
    say(f"wrote {root}/{folder}")
    return folder


def draw_comparison(frozen: EvaluationSet, subjects: Sequence[Subject]) -> Any:
    """Triplets of different objects as columns; lines: ID, pose, target, then each method's output.

    Returns:
        uint8 [H, W, 3].
    """
    objects = frozen.views.identity[frozen.rows[0]]
    _, first = np.unique(objects, return_index=True)
    rows = np.sort(first)[np.linspace(0, len(first) - 1, min(_SHOWN, len(first))).astype(int)]
    id_, pose, target = (frozen.role(role)[rows] for role in ("id", "pose", "target"))
    lines = [id_, pose, target, *(generated(one.generator, id_, pose) for one in subjects)]
    return tiled(torch.stack([to_network(line) for line in lines]))
