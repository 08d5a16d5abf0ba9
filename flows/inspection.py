"""Inspection: what a dataset holds, what became of the input, and a page with pictures.

Not named inspect: Prefect puts the folder of an entry point on the module path, and a module of
that name would take the place of the standard library's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from idpose_core.reports.attrition import clips_beside_the_paper, steps
from idpose_core.reports.explain import pose_feature
from idpose_core.reports.gallery import dataset_page
from idpose_core.reports.sampling import sampling_lines
from storage.datasets import attrition, latest_observation, read_manifest, read_table, verify
from storage.errors import DatasetError
from storage.objects import Store

_SHOWN = 20  # lost videos of each reason


def summary(store: Store, dataset: str) -> dict[str, Any]:
    """Statistics of a version, with every loss by reason and the files behind it.

    ``problems`` has a line for each file of the version that is missing or damaged.

    Raises:
        DatasetError: There is no such dataset, or its manifest is damaged.
    """
    manifest = read_manifest(store, dataset)
    statistics = manifest["statistics"]
    problems = verify(store, manifest)
    try:
        observed = latest_observation(store, manifest)
    except DatasetError as error:
        # The committed statistics stand in for tables that cannot be read.
        observed = {}
        problems += [str(error)] if str(error) not in problems else []
    counted = {name: attrition(table) for name, table in observed.items()}
    videos = observed["videos"].to_pylist() if observed else []
    clips = observed["clips"].to_pylist() if observed else []
    lost = [row for row in videos if row["status"] != "ok"]
    attritions = counted or statistics.get("attrition", {})
    return {
        "dataset": manifest["name"],
        "version": manifest["version"],
        "content_digest": manifest["content_digest"],
        "created_at": manifest["created_at"],
        "counts": statistics.get("counts", {}),
        "attrition": attritions,
        "steps": steps(attritions.get("videos", {})),
        "paper": clips_beside_the_paper(clips, manifest["config"]),
        "licences": statistics.get("licences", {}),
        "annotations": {
            key: counts
            for key, counts in manifest["lineage"].items()
            if key in ("annotations", "test_annotations")
        },
        "lost_videos": [
            {key: row[key] for key in ("source_uri", "status", "reason_detail", "retryable")}
            for row in lost
        ],
        "crops_per_clip": statistics.get("crops_per_clip", {}),
        "cluster_sizes": statistics.get("cluster_sizes", {}),
        "pose_feature": pose_feature(manifest["config"]),
        "balance": statistics.get("balance", {}),
        "sampling": statistics.get("sampling", {}),  # versions made before it have none
        "problems": problems,
    }


def page(store: Store, dataset: str) -> str:
    """The dataset as one HTML page, as it is now in the store.

    Raises:
        DatasetError: There is no such dataset, or a file that the page needs is damaged.
    """
    manifest = read_manifest(store, dataset)
    tables = {name: read_table(store, manifest, name) for name in ("crops", "triplets")}
    tables |= latest_observation(store, manifest)
    title = f"{manifest['name']} {manifest['version']}"
    return dataset_page(store, title, tables, manifest["statistics"])


def describe(found: dict[str, Any]) -> Iterator[str]:
    """The summary as lines for a person."""
    yield f"{found['dataset']}@{found['version']}, built {found['created_at']}"
    for table, by_split in found["counts"].items():
        yield f"  {table:10} {by_split['train']:>8} train {by_split['test']:>8} test"
    for table, statuses in found["attrition"].items():
        yield f"  {table:10} " + ", ".join(f"{n} {status}" for status, n in statuses.items())
    yield from _describe_losses(found)
    yield f"  feature    {found['pose_feature']}"
    for split, balance in found["balance"].items():
        if balance["rows"]:
            yield (
                f"  {split:10} entropy {balance['entropy']:.3f} (raw {balance['raw_entropy']:.3f}),"
                f" {balance['coverage']:.0%} of the pose pairs, a pose picture serves at most "
                f"{balance['max_reuse']} rows, within {balance['exactness']} of the optimum"
            )
    for split, sampling in found["sampling"].items():
        if sampling["rows"] or sampling["left_out"]:
            yield from (f"    {line}" for line in sampling_lines(split, sampling))
    for problem in found["problems"]:
        yield f"  DAMAGED: {problem}"


def _describe_losses(found: dict[str, Any]) -> Iterator[str]:
    yield "  videos     " + ", ".join(f"{n} {step}" for step, n in found["steps"].items())
    for name, clips in found["paper"].items():
        yield (
            f"  {name:10} {clips['train']:,} train and {clips['test']:,} test clips; the paper has "
            f"{clips['paper_train']:,} and {clips['paper_test']:,}"
        )
    for key, counts in found["annotations"].items():
        yield (
            f"  {key}: {counts['rows']:,} rows, {counts['malformed']:,} malformed, "
            f"{counts['duplicates']:,} twice"
        )
        yield from (f"    {first}" for first in counts["first_malformed"])
    for licence, count in found["licences"].items():
        yield f"  licence    {count} videos: {licence}"
    shown: Counter[str] = Counter()
    for lost in found["lost_videos"]:
        shown[lost["status"]] += 1
        if shown[lost["status"]] <= _SHOWN:
            again = ", tried again by the next build" if lost["retryable"] else ""
            detail = lost["reason_detail"] or "no detail"
            yield f"    {lost['source_uri']}: {lost['status']} ({detail}){again}"
    for status, count in shown.items():
        if count > _SHOWN:
            yield f"    ... and {count - _SHOWN} more {status}; all of them with --json"
