"""The commands that train, and that say which model serves."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.messages import telling, visible
from flows.options import (
    DatasetArgument,
    JsonOption,
    RootOption,
    SetOption,
    console,
    failures,
    find_root,
    print_json,
)
from idpose_core import settings
from storage.datasets import withdrawn_at
from storage.objects import Store

if TYPE_CHECKING:
    from idpose_core.training.loop import Trained  # it imports torch

models_app = typer.Typer(no_args_is_help=True, help="Published models, and which one serves.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of a model, without version")]
ReasonOption = Annotated[str, typer.Option(help="Kept in the log")]


def train(
    dataset: DatasetArgument,
    method: Annotated[
        str | None, typer.Option(help="identity-pose, an ablation, copy-attention, a baseline")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of a training")] = None,
    overrides: SetOption = None,
    new: Annotated[bool, typer.Option("--new", help="Start afresh beside what there is")] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train on a dataset, or go on with its training; Ctrl-C ends it with a checkpoint."""
    from flows.train import train_dataset
    from idpose_core.training.config import TrainingConfig

    with failures():
        values = settings.read_yaml(settings.read_text(config)) if config else None
        keys = dict(settings.parse_override(TrainingConfig, text) for text in overrides or [])
        if method is not None:
            keys["training.method"] = method
        done = train_dataset(
            find_root(root), dataset, values, keys, new=new, say=telling(sys.stderr)
        )
        if done is not None:
            _report_training(done, as_json)


def compare(
    file: Annotated[Path, typer.Argument(help="YAML file of a comparison")],
    method: Annotated[
        list[str] | None, typer.Option(help="Only cells of this; may be repeated")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Of each cell at most; the next call goes on")
    ] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train methods side by side and measure them on one set; the same command goes on."""
    from flows.comparison import compare as compare_methods
    from flows.comparison import read_comparison

    with failures():
        done = compare_methods(
            find_root(root), read_comparison(file), methods=method or (), minutes=minutes,
            say=telling(sys.stderr),
        )  # fmt: skip
        for line in done.waiting:
            console.print(visible(f"waiting: {line}"))
        if as_json:
            print_json(asdict(done))


def retrain(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file, or: weekly")],
    overrides: SetOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build what is new, train a challenger, and let it serve if it is shown to be better."""
    from flows.retrain import LocalSteps, RetrainConfig, read_retraining
    from flows.retrain import retrain as carry_out

    with failures():
        keys = dict(settings.parse_override(RetrainConfig, text) for text in overrides or [])
        where, say = find_root(root), telling(sys.stderr)
        done = carry_out(where, read_retraining(config, keys), LocalSteps(where, say), say)
        if as_json:
            print_json(done.to_dict())


def _report_training(done: Trained, as_json: bool) -> None:
    model = f"{done.model.name}@{done.model.version}" if done.model else None
    # A JSON object that was asked for and cannot be given is an error.
    tell = print if as_json else telling(sys.stdout)
    if model:
        tell(f"published {model} after {done.steps} steps")
    elif done.stopped:
        tell(f"stopped at step {done.steps}: {done.stopped}; the same command goes on there")
    if as_json:
        print_json(
            {
                "run": done.run,
                "model": model,
                "steps": done.steps,
                "resumed_from": done.resumed_from,
            }
        )
    if done.interrupted:
        raise typer.Exit(130)


@models_app.command("list")
def models_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """Every published version; * marks the one that serves, ? the last round's challenger."""
    from idpose_core.training.published import champion, names, read_model, rounds, versions

    with failures():
        store = Store(find_root(root))
        found = [
            read_model(store, f"{name}@{version}")
            for name in names(store)
            for version in versions(store, name)
        ]
        serving = {name: champion(store, name) for name in names(store)}
        last = {name: rounds(store, name)[-1:] for name in names(store)}
        challengers = {
            name: judged[0]["version"]
            for name, judged in last.items()
            if judged and judged[0]["version"] != serving[name]
        }
        plain = [_with_withdrawal(store, model.info) for model in found]
    for model, info in zip(found, plain, strict=True):
        data, steps = info["dataset"], info["config"].get("steps", "?")
        mark = "?" if challengers.get(model.name) == model.version else " "
        mark = "*" if serving[model.name] == model.version else mark
        gone = data["withdrawn_at"]
        console.print(
            f"{mark} {model.name}@{model.version}  {steps} steps on {data['name']}@"
            f"{data['version']}  {info['created_at']}"
            + (f"  trained on a video that was forgotten at {gone}" if gone else "")
        )
    if as_json:
        print_json({"models": plain, "champions": serving, "challengers": challengers})


def _with_withdrawal(store: Store, info: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is made of, and when its dataset was withdrawn; None where it was not."""
    data = info["dataset"]
    withdrawn = withdrawn_at(store, data["name"], data["version"])
    return {**info, "dataset": {**data, "withdrawn_at": withdrawn}}


@models_app.command("show")
def models_show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME (serving) or NAME@VERSION")],
    root: RootOption = None,
) -> None:
    """What a model is made of: configuration, dataset, metrics, licences."""
    import yaml

    from idpose_core.training.published import read_model

    with failures():
        store = Store(find_root(root))
        info = _with_withdrawal(store, read_model(store, model).info)
        print(yaml.safe_dump(info, sort_keys=False), end="")


@models_app.command("log")
def models_log(name: NameArgument, root: RootOption = None, as_json: JsonOption = False) -> None:
    """What served when and why, and what became of every round of retraining."""
    from idpose_core.training.published import promotions, rounds

    with failures():
        store = Store(find_root(root))
        served, judged = promotions(store, name), rounds(store, name)
    for entry in served:
        console.print(
            visible(
                f"{entry.get('created_at', '')}  {entry.get('action', 'promote'):8}  "
                f"{entry['version']}  {entry.get('reason', '')}"
            )
        )
    for entry in judged:
        against = f" against {entry['champion']}" if entry["champion"] else ""
        console.print(
            visible(
                f"{entry['created_at']}  round {entry['number']}: {entry['decision']:9}  "
                f"{entry['challenger']}{against}"
            )
        )
        for reason in entry["reasons"]:
            console.print(visible(f"    {reason}"))
    if as_json:
        print_json({"promotions": served, "rounds": judged})


@models_app.command("promote")
def models_promote(
    model: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    reason: ReasonOption = "",
    root: RootOption = None,
) -> None:
    """Let a version serve; of one that the gate did not let through, the log says: force."""
    from idpose_core.training.published import promote, rounds

    with failures():
        store = Store(find_root(root))
        name, _, version = model.partition("@")
        judged = [entry["decision"] for entry in rounds(store, name) if entry["version"] == version]
        forced = bool(judged) and judged[-1] not in ("promoted", "first")
        promote(store, name, version, reason, action="force" if forced else "promote")
        beside = f", although the gate said: {judged[-1]}" if forced else ""
        console.print(visible(f"{model} serves{beside}"))


@models_app.command("rollback")
def models_rollback(name: NameArgument, reason: ReasonOption = "", root: RootOption = None) -> None:
    """Let the version serve that served before."""
    from idpose_core.training.published import rollback

    with failures():
        version = rollback(Store(find_root(root)), name, reason=reason)
        console.print(visible(f"{name}@{version} serves again"))
