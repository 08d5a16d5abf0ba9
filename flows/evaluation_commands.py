"""The commands that measure: evaluate, freeze, table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.messages import terminal, visible
from flows.options import (
    JsonOption,
    RootOption,
    console,
    failures,
    find_root,
    print_json,
)
from idpose_core.settings import ConfigError
from storage.objects import Store

SeedOption = Annotated[int, typer.Option(min=0, help="Of the choice of triplets")]
CountOption = typer.Option(min=1, help="Triplets of a new set, at most; 5000 by default")
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]


def evaluate(
    run_or_model: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN_OR_MODEL", help="Id of a run, NAME, NAME@VERSION, or: controls"
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="NAME or NAME@VERSION; the model's own by default")
    ] = None,
    outputs: Annotated[
        Path | None,
        typer.Option(help="In place of a model: folder with TRIPLET_ID.png of any generator"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of what made the outputs")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Another run or model, for the difference; may be repeated"),
    ] = None,
    evaluation_set: Annotated[str | None, typer.Option("--set", help="A frozen set")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this; may be repeated")] = None,
    pose_data: Annotated[
        str | None, typer.Option(help="Dataset with known azimuths, for the pose score")
    ] = None,
    size: Annotated[
        int, typer.Option(min=32, max=1024, help="Of the pictures, for: controls, outputs")
    ] = 64,
    triplets: Annotated[int | None, CountOption] = None,
    training_steps: Annotated[
        int | None, typer.Option(min=1, help="Of the networks trained to measure")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model, or outputs, on a frozen set, beside copies, mean picture and oracle."""
    from flows.evaluate import evaluate_model
    from idpose_core.evaluation.exchange import Outputs

    with failures():
        where, progress = find_root(root), terminal(stderr=True)
        if (outputs is None) != (name is None):
            raise ConfigError("outputs have a name in the table: --outputs FOLDER --name NAME")
        made = None if outputs is None or name is None else Outputs(outputs, name)
        found = evaluate_model(
            where, run_or_model, dataset, outputs=made, beside=beside or (),
            evaluation_set=evaluation_set, metrics=metric, pose_data=pose_data, size=size,
            triplets=triplets, training_steps=training_steps, seed=seed, device=device,
            say=lambda line: progress.print(visible(line)),
        )  # fmt: skip
        console.print(visible(f"{len(found.rows)} rows in {where}/{found.path}"))
        if as_json:
            print_json(found.to_dict())


def freeze(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="NAME or NAME@VERSION; with --export also a frozen set"
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Of the set; NAME-VERSION by default")] = None,
    triplets: Annotated[int, CountOption] = 5000,
    seed: SeedOption = 0,
    review: Annotated[
        Path | None, typer.Option(help="Without truth: the file that a person fills")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Dataset with known azimuths, for the candidates")
    ] = None,
    training_steps: Annotated[int | None, typer.Option(min=1, help="Of the judge")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="New folder for the set's pictures, for generators elsewhere"),
    ] = None,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Of exported pictures")] = 64,
    device: DeviceOption = "auto",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Freeze an evaluation set of a dataset's test split, by exact truth or by a review file."""
    from flows.evaluate import export_set, freeze_reviewed, write_review
    from flows.evaluate import freeze as freeze_set
    from idpose_core.evaluation.sets import set_names

    with failures():
        where, progress = find_root(root), terminal(stderr=True)

        def say(line: str) -> None:
            progress.print(visible(line))

        frozen = dataset
        if export is None or dataset not in set_names(Store(where)):
            if review is not None and not review.exists():
                asked = write_review(
                    where, dataset, review, judge, triplets=triplets, seed=seed,
                    training_steps=training_steps, device=device, say=say,
                )  # fmt: skip
                console.print(
                    visible(
                        f"{asked.triplets} triplets, in {asked.agreed} of which retrieval and "
                        f"judge agree: look at {asked.page}, fill the column `chosen` of "
                        f"{asked.file}, and run the same command again"
                    )
                )
                if as_json:
                    print_json({**asdict(asked), "file": str(asked.file), "page": str(asked.page)})
                return
            if review is None:
                info = freeze_set(where, dataset, name, triplets=triplets, seed=seed)
            else:
                info = freeze_reviewed(where, dataset, review, name, seed=seed, say=say)
            frozen = info["name"]
            marks = ", ".join(f"{count} {word}" for word, count in info["review"].items() if count)
            console.print(f"evaluation set {frozen}: {info['triplets']} triplets, {marks}")
        if export is not None:
            info = export_set(where, frozen, export, size=size)
            console.print(visible(f"pictures of the set {frozen} in {export}: see export.json"))
        if as_json:
            print_json(info)


def table(
    form: Annotated[str, typer.Option("--format", help="md, csv or json")] = "md",
    results: Annotated[
        list[Path] | None, typer.Option(help="Further files of rows, as in docs/results")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this; may be repeated")] = None,
    root: RootOption = None,
) -> None:
    """The paper's Tables 1 and 2 beside what was measured here."""
    from idpose_core.evaluation.tables import collect, compose, printed

    with failures():
        rows = collect(Store(find_root(root)), results or [])
        print(printed(compose(rows, dataset or ()), form), end="")
