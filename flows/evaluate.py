"""Evaluate a model, or outputs of any, on a frozen set (paper, section 4): which, and where."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from flows.steps.weights import weights_root
from idpose_core.evaluation.evaluate import Contender, evaluate
from idpose_core.evaluation.exchange import Outputs, contender_of, export_pictures
from idpose_core.evaluation.generators import Subject, load_swapper
from idpose_core.evaluation.instruments import (
    EvaluationError,
    check_names,
    load_instruments,
)
from idpose_core.evaluation.judges import AZIMUTH, SIDE
from idpose_core.evaluation.kept import azimuth_judge
from idpose_core.evaluation.pictures import at_size, full_precision
from idpose_core.evaluation.results import Measurement, to_json
from idpose_core.evaluation.review import (
    from_csv,
    propose,
    reviewed_triplets,
    to_csv,
    to_page,
)
from idpose_core.evaluation.roles import networks_used
from idpose_core.evaluation.sets import EvaluationSet, freeze_set, read_set, set_names
from idpose_core.evaluation.swaps import choose_swaps, draw_swaps, generate_swaps
from idpose_core.evaluation.truth import truth_triplets
from idpose_core.evaluation.views import read_views
from idpose_core.settings import ConfigError
from idpose_core.stages.crop import encode_png
from idpose_core.training.devices import claimed
from idpose_core.weights import find_weights
from storage import claims
from storage.datasets import read_manifest, read_table
from storage.digests import digest
from storage.errors import DatasetError
from storage.objects import Store

TRIPLETS = 5000
SIZE = 64
CONTROLS_ALONE = "controls"
_NO_OTHERS = {"swap-score": "it needs outputs of other pairs than those of the set"}
_SHEET = (8, 12)


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found, and where it lies.

    Attributes:
        model: What was asked for.
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
    run_or_model: str | None,
    dataset: str | None = None,
    *,
    outputs: Outputs | None = None,
    beside: Sequence[str] = (),
    evaluation_set: str | None = None,
    metrics: Sequence[str] | None = None,
    pose_data: str | None = None,
    size: int = SIZE,
    triplets: int | None = None,
    training_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Evaluated:
    """Measure a published model, or outputs of any, and write what was found beside it.

    Args:
        root: Where data lies.
        run_or_model: Id of a run, NAME (its champion), NAME@VERSION, or ``controls`` for the
            controls and ceilings of a dataset without any model; None for ``outputs``.
        dataset: NAME or NAME@VERSION whose test split is measured on; None for the model's own.
        outputs: Of any generator, in place of a model.
        beside: Further runs or models, measured on the same triplets; the differences of each from
            those after it have intervals of their own.
        evaluation_set: A frozen set; None for the dataset's own, which is frozen if need be.
        metrics: Names of ``idpose_core.evaluation.instruments.INSTRUMENTS``; None for all that are
            possible.
        pose_data: Dataset with known azimuths from which the pose score is learned; None for the
            set's own.
        size: Of the pictures, for ``controls`` and ``outputs``; a model has its own.
        triplets: Of a set that is frozen now; None for 5,000.
        training_steps: Of the networks that are trained to measure; None for their own numbers.
        seed: Of a set that is frozen now, and of the swap score's pictures.
        device: auto, cpu, cuda or cuda:N.
        say: Told how it goes.

    Raises:
        ConfigError: Arguments that do not go together, or a metric that does not exist.
        ToldError: No such run, model, dataset or set; models of different sizes; a metric that
            was asked for is not possible; a video of the set was trained on.
    """
    if evaluation_set and dataset:
        raise ConfigError("a set is of one dataset already: give --set or --dataset, not both")
    if beside and run_or_model == CONTROLS_ALONE:
        raise ConfigError("controls alone are measured beside no model")
    if (run_or_model is None) == (outputs is None):
        raise ConfigError(
            "either a model is measured or --outputs FOLDER: for the difference, --beside MODEL"
        )
    check_names(metrics or ())
    store = Store(root)
    alive = claims.claim(store, f"evaluate-{uuid4().hex[:12]}", ("evaluation-sets", "runs"))
    with alive, claimed(device, say) as claim, full_precision():
        chosen = str(claim)
        own = [run_or_model] if run_or_model not in (None, CONTROLS_ALONE) else []
        subjects = [load_swapper(store, one, device=chosen) for one in (*own, *beside)]
        _check_comparable(subjects)
        subject = subjects[0] if subjects else None
        before = set_names(store)
        name = evaluation_set or _own_set(store, subject, dataset, triplets, seed, say)
        frozen = read_set(store, name, subject.size if subject else size)
        for one in subjects:
            _check_held_out(store, one, frozen)
        say(f"measuring on the set {name}: {len(frozen)} triplets, seed {frozen.info['seed']}")
        another = triplets not in (None, len(frozen)) or seed != frozen.info["seed"]
        if another and not evaluation_set and name in before:
            say(
                "a frozen set is never changed, whatever --triplets and --seed say: for another "
                f"one `idpose freeze {'@'.join(frozen.dataset)} --name NAME`, then --set NAME"
            )
        of_data = Measurement(
            dataset=frozen.dataset[0],
            dataset_version=frozen.dataset[1],
            model=None,
            seed=seed,
            budget="none",
            command=shlex.join(
                ["idpose", "evaluate", *_what(run_or_model, outputs), "--set", name]
                + [word for other in beside for word in ("--beside", other)]
                + [word for metric in metrics or () for word in ("--metric", metric)]
                + (["--pose-data", pose_data] if pose_data else [])
                + (["--size", str(size)] if not subject and size != SIZE else [])
                + (["--training-steps", str(training_steps)] if training_steps else [])
                + (["--seed", str(seed)] if seed else [])
            ),
            device=chosen,
        )
        contenders = {outputs.name: contender_of(outputs, frozen, of_data, say)} if outputs else {}
        contenders |= {
            one.name: Contender(
                one.generator,
                replace(of_data, model=one.name, budget=f"{one.steps} steps"),
                one.method,
            )
            for one in subjects
        }
        weights = weights_root(root)
        instruments, left_out = load_instruments(
            store, frozen, _used(store, subjects, frozen),
            lambda network: find_weights(network, weights), asked=metrics,
            impossible=_NO_OTHERS if outputs else None, pose_data=pose_data,
            training_steps=training_steps, seed=seed, device=chosen, say=say,
        )  # fmt: skip
        for metric, why in left_out.items():
            say(f"{metric}: left out, {why}")
        found = evaluate(contenders, frozen, instruments, of_data, device=chosen, say=say)
        if subject and not outputs and instruments.judges is not None:
            _publish_sheet(store, subject, frozen, chosen)
    rows = [{**row, "evaluation_set": name, "size": frozen.size} for row in found.rows]
    folder = f"evaluation-sets/{name}/evaluation"
    folder = subject.folder if subject and not outputs else folder
    path = f"{folder}/{name}-{digest(rows)[:8]}.json"
    store.publish(path, to_json(rows).encode())
    return Evaluated(
        next(iter(contenders), CONTROLS_ALONE), name, path, rows, left_out, found.seconds
    )


def export_set(root: str, name: str, folder: Path, *, size: int = SIZE) -> Mapping[str, Any]:
    """Write the pictures of a set for generators elsewhere. Returns what lies where.

    Args:
        root: Where data lies.
        name: Of the set.
        folder: New or empty.
        size: At which the outputs will be measured.

    Raises:
        ToldError: There is no such set, the folder is not empty, or it lies in the root.
    """
    store = Store(root)
    frozen = read_set(store, name, size)
    kept = store.local_path("")
    if kept is not None and folder.resolve().is_relative_to(kept.resolve()):
        raise EvaluationError(f"{folder} lies in the root {store.root}: give a folder outside")
    return export_pictures(frozen, folder)


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
    crops, clips = (read_table(store, manifest, name, split=split) for name in ("crops", "clips"))
    chosen: pa.Table = truth_triplets(crops, clips, count=triplets, seed=seed)
    name = name or set_of(manifest)
    with claims.claim(store, f"freeze-{name}", ("evaluation-sets",)):
        return freeze_set(store, name, manifest, split, chosen, seed)


@dataclass(frozen=True)
class ReviewFile:
    """What a person is asked.

    Attributes:
        file: To be filled.
        page: Shows its pictures.
        triplets: Rows.
        agreed: Rows in which retrieval and judge agree.
    """

    file: Path
    page: Path
    triplets: int
    agreed: int


def write_review(
    root: str,
    dataset: str,
    file: Path,
    judge: str | None,
    *,
    triplets: int = TRIPLETS,
    seed: int = 0,
    training_steps: int | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> ReviewFile:
    """Write the review file of a dataset without truth, and a page beside it.

    Args:
        root: Where data lies.
        dataset: NAME or NAME@VERSION.
        file: The review file; it and the page, which ends in .html, must not exist.
        judge: Dataset with known azimuths on which the azimuth judge is trained.
        triplets: In the file, at most.
        seed: Of the choice.
        training_steps: Of the judge; None for its own number.
        device: Where the judge is trained: auto, cpu, cuda or cuda:N.
        say: Told how it goes.

    Raises:
        ConfigError: No judge, or a file that cannot be written.
        ToldError: Something is not there.
    """
    if judge is None:
        raise ConfigError(
            f"{dataset} does not know its poses: candidates need a judge trained on data that "
            "does, --judge DATASET (as rendered-car-views)"
        )
    page = file.with_suffix(".html")
    if page == file or page.exists() or not file.parent.is_dir():
        raise ConfigError(
            f"the review needs a new file and {page} beside it, in a folder that exists, not {file}"
        )
    store = Store(root)
    crops, clips, table = _of_test_split(store, read_manifest(store, dataset))
    how = replace(AZIMUTH, steps=training_steps or AZIMUTH.steps)
    with claimed(device, say) as claim, full_precision():
        learn = read_views(store, judge, "train")
        trained = azimuth_judge(store, learn, how, device=str(claim), say=say)
        views = read_views(store, dataset, "test", known_azimuth=False)
        seen = trained.azimuth(at_size(views.pictures, SIDE))
    azimuth = dict(zip(crops["crop_id"].to_pylist(), seen.tolist(), strict=True))
    reviews = propose(table, crops, clips, azimuth, count=triplets, seed=seed)
    pictures = dict(zip(azimuth, views.pictures, strict=True))
    page.write_text(to_page(reviews, pictures), "utf-8")
    file.write_text(to_csv(reviews), "utf-8")
    agreed = sum(review.automatic is not None for review in reviews)
    return ReviewFile(file, page, len(reviews), agreed)


def freeze_reviewed(
    root: str,
    dataset: str,
    file: Path,
    name: str | None = None,
    *,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Mapping[str, Any]:
    """Freeze the set of a filled review file. Returns ``set.json``.

    Args:
        root: Where data lies.
        dataset: NAME or NAME@VERSION.
        file: Of :func:`write_review`, filled.
        name: Of the set; None for the dataset's own.
        seed: Of the choice.
        say: Told what is left out.

    Raises:
        DatasetError: The file cannot be used, nobody has filled it, or the name is taken.
    """
    store = Store(root)
    manifest = read_manifest(store, dataset)
    crops, _, table = _of_test_split(store, manifest)
    reviews = from_csv(file.read_bytes())
    chosen = reviewed_triplets(reviews, table, crops)
    if chosen.num_rows < len(reviews):
        say(
            f"{len(reviews) - chosen.num_rows} of {len(reviews)} rows are left out: nobody chose, "
            "and retrieval and judge do not agree; or none was said to be right"
        )
    name = name or set_of(manifest)
    with claims.claim(store, f"freeze-{name}", ("evaluation-sets",)):
        return freeze_set(store, name, manifest, "test", chosen, seed)


def _of_test_split(
    store: Store, manifest: Mapping[str, Any]
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Crops by their id, clips and triplets."""
    crops, clips, triplets = (
        read_table(store, manifest, name, split="test") for name in ("crops", "clips", "triplets")
    )
    return crops.sort_by("crop_id"), clips, triplets


def _what(run_or_model: str | None, outputs: Outputs | None) -> list[str]:
    """What is measured, as words of the command."""
    if outputs:
        return ["--outputs", str(outputs.folder), "--name", outputs.name]
    return [run_or_model or CONTROLS_ALONE]


def set_of(manifest: Mapping[str, Any]) -> str:
    """Name of a dataset version's own evaluation set."""
    return f"{manifest['name']}-{manifest['version']}"


def _own_set(
    store: Store,
    subject: Subject | None,
    dataset: str | None,
    triplets: int | None,
    seed: int,
    say: Callable[[str], None],
) -> str:
    """The set of the dataset, or of the model's own."""
    if dataset is None and subject is None:
        raise ConfigError("measured on which data? Give --dataset or --set")
    own = subject.dataset if subject else ("", "")
    if dataset is None and "-".join(own) in set_names(store):
        return "-".join(own)  # sets outlive their dataset
    return dataset_set(store, dataset or "@".join(own), say, triplets=triplets, seed=seed)


def dataset_set(
    store: Store,
    dataset: str,
    say: Callable[[str], None],
    *,
    triplets: int | None = None,
    seed: int = 0,
) -> str:
    """The name of a dataset's own set, frozen now by exact truth where there is none.

    Args:
        store: The root.
        dataset: NAME or NAME@VERSION.
        say: Told how it goes.
        triplets: Of a set that is frozen now; None for 5,000.
        seed: Of a set that is frozen now.

    Raises:
        DatasetError: There is no such dataset.
        EvaluationError: Its poses are not known.
    """
    sets = set_names(store)
    try:
        manifest = read_manifest(store, dataset)
    except DatasetError as error:
        raise DatasetError(
            f"{error}; there are the sets {', '.join(sets) or 'none'}, for --set"
        ) from error
    name = set_of(manifest)
    if name in sets:
        return name
    version = f"{manifest['name']}@{manifest['version']}"
    try:
        info = freeze(store.location, version, triplets=triplets or TRIPLETS, seed=seed)
    except DatasetError as error:
        raise EvaluationError(
            f"{version} has no evaluation set, and none can be made by exact truth ({error}): "
            f"make one by hand, `idpose freeze {version} --review FILE --judge DATASET`"
        ) from error
    say(f"froze the evaluation set {name}: {info['triplets']} triplets by exact truth")
    return name


def _check_comparable(subjects: Sequence[Subject]) -> None:
    sizes = {subject.name: subject.size for subject in subjects}
    if len(sizes) < len(subjects):
        raise ConfigError("a model is not compared with itself")
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise EvaluationError(f"models of different sizes see different targets: {told} pixels")


def _check_held_out(store: Store, subject: Subject, frozen: EvaluationSet) -> None:
    """Refuse a set of another dataset whose videos the model was trained on."""
    manifest = _manifest(store, subject.dataset)
    if subject.dataset == frozen.dataset or manifest is None:
        return
    trained_on = set(read_table(store, manifest, "clips", split="train")["video_id"].to_pylist())
    seen = sorted(trained_on & set(frozen.crops["video_id"].to_pylist()))
    if seen:
        raise EvaluationError(
            f"{subject.name} was trained on {len(seen)} videos of the set {frozen.name}, as "
            f"{seen[0]}: measure it on videos that it has not seen"
        )


def _used(
    store: Store, subjects: Sequence[Subject], frozen: EvaluationSet
) -> list[dict[str, list[str]]]:
    """The networks behind each model's triplets and loss, and behind the set's own choice."""
    models = [(subject.dataset, subject.config) for subject in subjects]
    if frozen.info["chosen_by"]["truth"] < len(frozen):
        models.append((frozen.dataset, {}))
    found = []
    for dataset, config in models:
        manifest = _manifest(store, dataset)  # a model may have come without its dataset
        found.append(networks_used(manifest and manifest["config"], config))
    return found


def _manifest(store: Store, dataset: tuple[str, str]) -> Mapping[str, Any] | None:
    try:
        return read_manifest(store, "@".join(dataset))
    except DatasetError:
        return None


def _publish_sheet(store: Store, subject: Subject, frozen: EvaluationSet, device: str) -> None:
    ids, poses = _SHEET
    swaps = choose_swaps(frozen.views, frozen.size, ids=ids, poses=poses)
    sheet = draw_swaps(swaps, generate_swaps(swaps, subject.generator, device=device))
    store.replace(f"{subject.folder}/{frozen.name}-swaps.png", encode_png(sheet))
