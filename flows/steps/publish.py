"""Publish: tables, statistics, card and page of a version, then its manifest."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from flows.steps.context import Context
from flows.steps.pose import asked_rows
from idpose_core.assembly.records import Clip, Video, reject_videos_without_clips
from idpose_core.assembly.retrieval import cluster_sizes
from idpose_core.assembly.sampling import Sample, report
from idpose_core.assembly.splits import TRAIN
from idpose_core.assembly.statistics import dataset_card, dataset_statistics
from idpose_core.assembly.tables import clips_table, crops_table, triplets_table, videos_table
from idpose_core.pose.triplets import BalanceRule
from idpose_core.reports.gallery import dataset_page
from idpose_core.reports.sampling import sampling_lines
from storage.datasets import Committed, Draft, commit
from storage.versions import check_size

_LIBRARIES = ("torch", "numpy", "av", "opencv-python-headless", "faiss-cpu", "scipy", "pyarrow")


def publish(
    build: Context,
    videos: Sequence[Video],
    clips: Sequence[Clip],
    retrieval: Mapping[str, pa.Table],
    sampled: Mapping[str, Mapping[BalanceRule, Sample]],
    space_id: str,
    clusters: int,
) -> tuple[Committed, dict[str, Any]]:
    """Commit the version. Returns it, with the statistics as this build saw them.

    Of the samples by both rules of balance the chosen one is published, and both are measured.
    """
    config = build.config
    rule = config.triplets.balance
    chosen = {split: samples[rule] for split, samples in sampled.items()}
    reject_videos_without_clips(videos, clips)
    read = ["pose_cluster", "read_azimuth_deg", "certainty"]
    poses = {
        crop_id: pose
        for table in retrieval.values()
        for crop_id, pose in zip(
            table["crop_id"].to_pylist(), table.select(read).to_pylist(), strict=True
        )
    }
    crops = crops_table(clips, poses, config.detector.kind)
    tables = {
        "videos": videos_table(videos, clips, config.source.licence),
        "clips": clips_table(clips),
        "crops": crops,
        "triplets": triplets_table(chosen, crops),
    }
    sizes = {split: cluster_sizes(table, clusters) for split, table in retrieval.items()}
    balance = {split: s.triplets.balance(s.crops).to_dict() for split, s in chosen.items()}
    of_sampling = {
        "pools": {split: sample.triplets.pool.tolist() for split, sample in chosen.items()},
        "sampling": {
            split: report(samples, rule, clusters, asked_rows(build, split))
            for split, samples in sampled.items()
        },
    }

    def measure(tables: Mapping[str, pa.Table]) -> dict[str, Any]:
        return {**dataset_statistics(tables, sizes, balance), **of_sampling}

    statistics = measure(tables)

    def documents(tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
        statistics = measure(tables)
        card = dataset_card(config.name, draft.version, statistics, config.identity())
        page = dataset_page(build.store, f"{config.name} {draft.version}", tables, statistics)
        return {"README.md": card.encode(), "report.html": page.encode()}

    draft = Draft(
        name=config.name,
        config=config.identity(),
        tables=tables,
        pictures=sorted(set(crops["picture_path"].to_pylist())),
        pose_space=space_id,
        statistics=statistics,
        stages=build.stages,
        environment=_environment(),
        lineage={"weights": build.weights, "pose_space": space_id, **build.lineage},
        made_of=build.made_of,
        documents=documents,
    )

    if not config.run.allow_smaller:
        check_size(build.store, draft.name, draft.config, statistics)
    committed = commit(build.store, draft)
    of_train = statistics["sampling"].get(TRAIN)
    if of_train is not None and of_train["few"]:
        for line in sampling_lines(TRAIN, of_train):
            build.progress.say(line)
    return committed, statistics


def _environment() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}
