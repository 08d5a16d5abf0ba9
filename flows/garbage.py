"""The command ``idpose gc``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from flows.messages import visible
from flows.options import JsonOption, RootOption, console, failures, find_root, print_json
from storage.gc import Orphan, Survey, collect, find_orphans
from storage.objects import Store


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List them, delete nothing")] = False,
    days: Annotated[float, typer.Option(min=1.0, help="Keep what is younger")] = 1.0,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete what no dataset, model, evaluation set or running command needs."""
    with failures():
        store = Store(find_root(root))
        survey = find_orphans(store, days)
        gone = survey.orphans if dry_run else list(collect(store, survey))
        for line in _describe(survey, gone, dry_run):
            console.print(visible(line))
        if as_json:
            print_json(
                {
                    "dry_run": dry_run,
                    "objects": len(gone),
                    "bytes": sum(orphan.bytes for orphan in gone),
                    "orphans": [orphan.__dict__ for orphan in gone],
                    "claims": [claim.run for claim in survey.claims],
                    "unrecorded": survey.unrecorded,
                }
            )


def _describe(survey: Survey, gone: list[Orphan], dry_run: bool) -> Iterator[str]:
    for orphan in gone if dry_run else ():
        yield f"{orphan.bytes:>14,}  {orphan.path}  {orphan.reason}"
    reasons, sizes = Counter[str](), Counter[str]()
    for orphan in gone:
        reasons[orphan.reason] += 1
        sizes[orphan.reason] += orphan.bytes
    for reason, count in reasons.most_common():
        yield f"{sizes[reason]:>14,} bytes in {count} objects: {reason}"
    told = "can go; nothing was deleted" if dry_run else "are gone"
    yield f"{sizes.total():>14,} bytes in {len(gone)} objects {told}"
    for claim in survey.claims:
        yield f"run {claim.run} is alive: what lies in {', '.join(claim.folders)} stays"
    for version in survey.unrecorded:
        yield (
            f"{version} does not say which shards it was made of, so that all of them stay: run "
            "its build again"
        )
