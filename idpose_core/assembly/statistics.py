"""The statistics of a dataset version, and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from idpose_core.config import VIEW_SETS
from idpose_core.reports.explain import pose_feature
from idpose_core.reports.sampling import sampling_lines
from storage.datasets import attrition, source_licences


def dataset_statistics(
    tables: Mapping[str, pa.Table],
    cluster_sizes: Mapping[str, Sequence[int]],
    balance: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """What became of every input, and how balanced the triplets are."""
    clips = tables["clips"]
    per_clip = np.asarray([n for n in clips["crops"].to_pylist() if n], dtype=np.int64)
    return {
        "attrition": {name: attrition(tables[name]) for name in ("videos", "clips")},
        "counts": {
            table: {
                split: int(np.sum(np.asarray(tables[table]["split"].to_pylist()) == split))
                for split in ("train", "test")
            }
            for table in ("crops", "triplets")
        },
        "licences": source_licences(tables["videos"]),
        "crops_per_clip": _quantiles(per_clip),
        "cluster_sizes": {split: list(sizes) for split, sizes in cluster_sizes.items()},
        "balance": {split: dict(measures) for split, measures in balance.items()},
    }


def dataset_card(
    name: str, version: str, statistics: Mapping[str, Any], config: Mapping[str, Any]
) -> str:
    """The version's README: what it is, what became of the input, sources and licences."""
    lines = [
        f"# {name} {version}",
        "",
        "ID/pose/target triplets in the form of Xiao, Liu and Lee, *Identity from here, Pose from "
        "there*, ICCV 2019: the ID picture and the target show one object at two moments, the "
        "pose picture is the target's nearest neighbour in pose among other videos.",
        "",
        f"- Source: `{config['source']['kind']}`; licences of the videos: "
        f"{_licences(statistics['licences'])}",
        f"- Boxes: {_boxes(config)}",
        f"- Pose feature: {pose_feature(config)}; masks: `{config['embedder']['masks']}`, "
        f"{max(map(len, statistics['cluster_sizes'].values()), default=0)} pose clusters",
        "",
        "| | train | test |",
        "|---|---|---|",
    ]
    for table, by_split in statistics["counts"].items():
        lines.append(f"| {table} | {by_split['train']} | {by_split['test']} |")
    for table, counts in statistics["attrition"].items():
        lines += ["", f"## What became of the {table}", "", "| status | rows |", "|---|---|"]
        lines += [f"| {status} | {count} |" for status, count in counts.items()]
    lines += ["", "## Balance of the pose pairs", "", "| measure | train | test |", "|---|---|---|"]
    balance = statistics["balance"]
    for measure in balance.get("train", {}):
        cells = [_cell(balance.get(split, {}).get(measure)) for split in ("train", "test")]
        lines.append(f"| {measure} | {cells[0]} | {cells[1]} |")
    told = [
        f"- {line}" for of in statistics.get("sampling", {}).items() for line in sampling_lines(*of)
    ]
    lines += ["", "## Changes of pose", "", *told] if told else []
    return "\n".join(lines) + "\n"


def _licences(counts: Mapping[str, int]) -> str:
    """Licences with the number of their videos, on one line whatever a site wrote."""
    stated = {"unknown": "not stated"}
    told = [f"{' '.join(stated.get(name, name).split())} ({n})" for name, n in counts.items()]
    return "; ".join(told) or "no video is used"


def _boxes(config: Mapping[str, Any]) -> str:
    if config["source"]["kind"] in VIEW_SETS:
        return "brought by the source"
    return f"detector `{config['detector']['kind']}` at {config['detector']['threshold']}"


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    shares = {"min": 0.0, "median": 0.5, "p90": 0.9, "max": 1.0}
    return {name: float(np.quantile(values, share)) for name, share in shares.items()}
