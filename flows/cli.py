"""The command line. It validates and reports; the work stands behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flows import (
    configs,
    dataset_commands,
    evaluation_commands,
    garbage,
    picture_commands,
    training_commands,
)
from flows.messages import announce_interrupts, print_error, visible
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
from idpose_core.config import BuildConfig, ConfigError, parse_override
from idpose_core.processes import stop_without_parent
from storage.datasets import DatasetError
from storage.objects import Store

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Identity from here, pose from there: from unlabeled video to training triplets.",
)
config_app = typer.Typer(no_args_is_help=True, help="The built-in configurations.")
weights_app = typer.Typer(no_args_is_help=True, help="Pretrained networks.")
app.add_typer(config_app, name="config")
app.add_typer(weights_app, name="weights")
app.add_typer(dataset_commands.datasets_app, name="datasets")
app.add_typer(training_commands.models_app, name="models")
for command in (
    training_commands.train,
    training_commands.compare,
    training_commands.retrain,
    evaluation_commands.evaluate,
    evaluation_commands.freeze,
    evaluation_commands.table,
    garbage.gc,
    picture_commands.swap,
    picture_commands.compose,
):
    app.command()(command)

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="Built-in name or file")]


def main() -> None:
    """Entry point of the ``idpose`` command."""
    announce_interrupts()
    stop_without_parent()
    app()


@app.command()
def build(
    config: ConfigArgument,
    overrides: SetOption = None,
    root: RootOption = None,
    runner: Annotated[str | None, typer.Option(help="local, prefect or dask")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a dataset of triplets."""
    with failures():
        parsed = _parse(config, overrides)
        where = find_root(root)
        chosen = _runner_name(runner)
        if dry_run:
            from flows.dry_run import check_room, estimate

            found = estimate(parsed, where)
            _show_estimate(found, as_json)
            check_room(found)
            return
        if chosen == "dask":
            run = parsed.run.model_copy(update={"executor": "dask"})
            parsed = parsed.model_copy(update={"run": run})
        result = _build_with(chosen)(parsed, where)
        _report_build(parsed, result, where, as_json)


@app.command()
def inspect(
    dataset: DatasetArgument,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the statistics of a dataset, its balance, and what failed and why."""
    from flows.inspection import page, summary

    with failures():
        store = Store(find_root(root))
        found = summary(store, dataset)
        _show_summary(found)
        if html is not None:
            html.write_text(page(store, dataset), encoding="utf-8")
            console.print(f"wrote {html}")
        if as_json:
            print_json(found)
        if found["problems"]:
            raise DatasetError(f"{dataset} is damaged: {'; '.join(found['problems'][:3])}")


@app.command()
def export(
    dataset: DatasetArgument,
    destination: Annotated[str, typer.Argument(metavar="DEST")],
    pictures: Annotated[bool, typer.Option("--pictures", help="With the three pictures")] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset as self-contained shards."""
    from storage.export import export_dataset

    with failures():
        written = export_dataset(
            Store(find_root(root)), dataset, Store(destination), pictures=pictures
        )
        console.print(f"wrote {written['files']} files, {written['rows']} triplets: {destination}")
        if as_json:
            print_json(written)


@app.command(context_settings={"ignore_unknown_options": True})  # ids may begin with "-"
def forget(
    video_id: Annotated[str, typer.Argument(metavar="VIDEO_ID", help="As in the videos table")],
    reason: Annotated[str, typer.Option(help="Kept with the tombstone")] = "",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a video: no build uses it again, and what holds something of it is rewritten."""
    from flows.forgetting import describe
    from storage.forget import forget_video

    with failures():
        found = forget_video(Store(find_root(root)), video_id, reason).to_dict()
        for line in describe(video_id, found):
            console.print(visible(line))
        if as_json:
            print_json({"video_id": video_id, **found})


@app.command()
def demo(root: RootOption = None, as_json: JsonOption = False) -> None:
    """The whole way on built-in data: generated videos, dataset, gallery."""
    from flows.demo import run_demo

    with failures():
        found = run_demo(find_root(root), console)
        if as_json:
            print_json(found)


@app.command()
def doctor(
    config: Annotated[str | None, typer.Argument(help="A build whose weights are needed")] = None,
    overrides: SetOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine: packages, decoders, detectors, weights, compiler, root, disk, Prefect."""
    from flows.doctor import check_machine

    with failures():
        checks = check_machine(find_root(root), _parse(config, overrides) if config else None)
    table = Table("", "check", "found", "remedy", box=None)
    marks = {
        "ok": Text("ok", "green"), "missing": Text("--", "yellow"), "broken": Text("!!", "red"),
    }  # fmt: skip
    for check in checks:
        told = (check.name, check.found, check.remedy)
        table.add_row(marks[check.state], *map(visible, told))
    console.print(table)
    if as_json:
        print_json({"checks": [check.__dict__ for check in checks]})
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)


@app.command()
def deploy() -> None:
    """Register the deployments of prefect.yaml with the Prefect server."""
    from flows.prefect_flows import deploy_all

    with failures():
        for name in deploy_all():
            console.print(f"deployed {name}")


@config_app.command("list")
def config_list() -> None:
    """Names of the built-in configurations."""
    for name, text in configs.built_in().items():
        console.print(f"{name:16} {text.splitlines()[0].lstrip('# ')}")


@config_app.command("show")
def config_show(config: ConfigArgument, overrides: SetOption = None) -> None:
    """A configuration with every key, as the build would use it."""
    import yaml

    with failures():
        parsed = _parse(config, overrides)
        print(yaml.safe_dump(parsed.model_dump(mode="json"), sort_keys=False), end="")


@weights_app.command("list")
def weights_list(root: RootOption = None) -> None:
    """The pretrained networks that are known, and which of them are here."""
    from idpose_core.weights import list_weights, verify_weights

    with failures():
        folder = _weights_folder(root)
    table = Table("name", "here", "licence", "size", "for", box=None)
    for network in list_weights():
        here = "yes" if verify_weights(network.name, folder) else ""
        size = f"{network.size / 1e6:.0f} MB" if network.size else ""
        table.add_row(network.name, here, network.licence, size, network.purpose)
    console.print(table)


@weights_app.command("fetch")
def weights_fetch(name: str, root: RootOption = None) -> None:
    """Download a network and check its digest."""
    from idpose_core.weights import fetch_weights

    with failures():
        console.print(visible(f"{name}: {fetch_weights(name, _weights_folder(root))}"))


@weights_app.command("import")
def weights_import(name: str, path: Path, root: RootOption = None) -> None:
    """Take a local file (.pth, .safetensors, .onnx, .whl) as the weights of a network."""
    from idpose_core.weights import import_weights

    with failures():
        stored = import_weights(path, name, _weights_folder(root))
        console.print(visible(f"{name}: {stored}"))


@weights_app.command("verify")
def weights_verify(root: RootOption = None) -> None:
    """Check the digest of every network that is here."""
    from idpose_core.weights import list_weights, verify_weights

    with failures():
        folder, damaged = _weights_folder(root), False
    for network in list_weights():
        for stored in verify_weights(network.name, folder):
            damaged |= not stored.intact
            known = {True: "as published", False: "not the published file", None: "unknown source"}
            state = known[stored.published] if stored.intact else "DAMAGED: import it again"
            console.print(f"{network.name:28} {stored.sha256[:12]}  {state}")
    if damaged:
        raise typer.Exit(1)


@weights_app.command("train")
def weights_train(
    dataset: DatasetArgument,
    steps: Annotated[int, typer.Option(min=1)] = 5000,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    width: Annotated[float, typer.Option(help="Of the channels; 1 as published")] = 1.0,
    seed: int = 0,
    device: str = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the self-supervised pose feature (RotNet) on the crops of a dataset."""
    from flows.train_embedder import train_embedder

    with failures():
        found = train_embedder(
            Store(find_root(root)),
            dataset,
            steps=steps,
            batch_size=batch_size,
            width=width,
            seed=seed,
            device=device,
            console=console,
        )
        console.print(
            f"tells the rotation of {found['accuracy']:.0%} of {found['held_out']} held-out crops "
            f"(chance 25%); use it with\n  --set embedder.kind=rotnet "
            f"--set embedder.weights={found['path']}"
        )
        if as_json:
            print_json(found)


def _weights_folder(root: str | None) -> Path:
    from flows.steps.weights import weights_root

    return weights_root(find_root(root))


def _parse(config: str, overrides: list[str] | None) -> BuildConfig:
    return configs.find_config(config, dict(parse_override(text) for text in overrides or []))


def _runner_name(option: str | None) -> str:
    if option is None:
        from flows.runners import configured_server

        return "prefect" if configured_server() else "local"
    if option not in ("local", "prefect", "dask"):
        raise ConfigError(f"--runner takes local, prefect or dask, not {option!r}")
    return option


def _build_with(runner: str) -> Callable[[BuildConfig, str], Any]:
    if runner == "local":
        from flows.build_dataset import build_locally

        return build_locally
    # Starting an ephemeral Prefect takes about 10 s, so it is imported only when asked for.
    from flows.runners import prepare_prefect

    prepare_prefect()
    from flows.prefect_flows import build_from_terminal

    return build_from_terminal


def _report_build(config: BuildConfig, result: dict[str, Any], root: str, as_json: bool) -> None:
    counts = result["counts"]
    where = visible(f"{root}/{result['path']}")
    console.print(
        f"{config.name}@{result['version']}: {counts['videos']} videos, {counts['clips']} clips, "
        f"{counts['crops']} crops, {counts['triplets']} triplets in {where}"
    )
    for table, statuses in result["attrition"].items():
        lost = ", ".join(f"{n} {status}" for status, n in statuses.items() if status != "ok")
        if lost:
            console.print(f"  {table} left out: {lost}  (idpose inspect {config.name})")
    if result["internal_errors"]:
        print_error(
            f"{result['internal_errors']} rows met an internal error, and the version was "
            f"committed without them: `idpose inspect {config.name}` shows them; please report "
            f"the traceback"
        )
    if as_json:
        print_json(result)
    if result["internal_errors"]:
        raise typer.Exit(1)


def _show_estimate(found: dict[str, Any], as_json: bool) -> None:
    from flows.dry_run import describe

    for line in describe(found):
        console.print(visible(line))
    if as_json:
        print_json(found)


def _show_summary(found: dict[str, Any]) -> None:
    from flows.inspection import describe

    for line in describe(found):
        console.print(visible(line))
