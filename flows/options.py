"""What the commands share: options, the root, and how a failure is told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from flows.messages import explain, print_error, terminal

console = terminal()

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key")
]
RootOption = Annotated[
    str | None, typer.Option("--root", help="Where data lives: a path or an fsspec URL")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object as the last line")]
DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="NAME or NAME@VERSION")]


def find_root(option: str | None) -> str:
    """``--root``, else ``$IDPOSE_ROOT``, else ``./idpose-data``."""
    return option or os.environ.get("IDPOSE_ROOT") or "idpose-data"


@contextmanager
def failures() -> Iterator[None]:
    """Turn what went wrong into one message and the exit code of the contract."""
    try:
        yield
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        message, code = explained
        print_error(message)
        raise typer.Exit(code) from None


def print_json(value: Any) -> None:
    """One JSON object as a line of standard output."""
    print(json.dumps(value, sort_keys=True))
