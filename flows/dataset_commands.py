"""The commands that say which version of a dataset is the latest."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.messages import visible
from flows.options import JsonOption, RootOption, console, failures, find_root, print_json
from storage import versions
from storage.datasets import read_manifest
from storage.objects import Store

datasets_app = typer.Typer(no_args_is_help=True, help="Dataset versions, and the latest one.")


@datasets_app.command("list")
def datasets_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """Every committed version; * marks the latest of its name."""
    with failures():
        store = Store(find_root(root))
        found = [
            read_manifest(store, f"{name}@{version}")
            for name in versions.names(store)
            for version in versions.versions(store, name)
        ]
        latest = {name: versions.latest_version(store, name) for name in versions.names(store)}
    for manifest in sorted(found, key=lambda one: (one["name"], one["created_at"])):
        mark = "*" if latest[manifest["name"]] == manifest["version"] else " "
        videos, triplets = versions.sizes(manifest["statistics"])
        console.print(
            f"{mark} {manifest['name']}@{manifest['version']}  {videos} videos, {triplets} "
            f"triplets  {manifest['created_at']}"
        )
    if as_json:
        listed = [{key: one[key] for key in ("name", "version", "created_at")} for one in found]
        print_json({"versions": listed, "latest": latest})


@datasets_app.command("rollback")
def datasets_rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a dataset, without version")],
    version: Annotated[
        str | None, typer.Argument(help="Which one; by default the one before the latest")
    ] = None,
    reason: Annotated[str, typer.Option(help="Kept in the log")] = "",
    root: RootOption = None,
) -> None:
    """Let an earlier version be the latest again; nothing is deleted."""
    with failures():
        found = versions.rollback(Store(find_root(root)), name, version, reason)
        console.print(visible(f"{name}@{found} is the latest again"))
