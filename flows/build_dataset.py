"""Build a dataset: from videos, or sets of views, to committed ID/pose/target triplets.

What runs when (paper section 3.2). What is computed stands in idpose_core, what is kept in storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.progress import Progress, TerminalProgress
from flows.runners import LocalRunner, Runner
from flows.steps import features, instances, pose, rendered, sources, videos, views
from flows.steps.context import Context
from flows.steps.publish import publish
from idpose_core.assembly.records import Observed
from idpose_core.assembly.splits import TEST, TRAIN
from idpose_core.config import BuildConfig
from storage.claims import claim
from storage.datasets import Committed
from storage.objects import Store


@dataclass(frozen=True)
class BuildResult:
    """What a build did.

    Attributes:
        committed: The version, with its manifest.
        statistics: Attrition and balance as this build saw them.
        shards: Shards of all row stages computed, reused and retried.
        damaged: Shards that were found damaged and were made again.
        seconds: Time that each row stage took.
    """

    committed: Committed
    statistics: dict[str, Any]
    shards: dict[str, int]
    damaged: list[str]
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The result as the command line prints it."""
        manifest = self.committed.manifest
        attrition = self.statistics["attrition"]
        counted = {name: sum(by.values()) for name, by in self.statistics["counts"].items()}
        kept = {name: statuses.get("ok", 0) for name, statuses in attrition.items()}
        return {
            "dataset": manifest["name"],
            "version": self.committed.version,
            "path": self.committed.path,
            "content_digest": manifest["content_digest"],
            "counts": {**kept, **counted},
            "attrition": attrition,
            "shards": self.shards,
            "damaged": self.damaged,
            "seconds": {stage: round(took, 1) for stage, took in self.seconds.items()},
            "internal_errors": sum(
                statuses.get("internal_error", 0) for statuses in attrition.values()
            ),
        }


def build_dataset(
    config: BuildConfig, root: str, runner: Runner, progress: Progress
) -> BuildResult:
    """Build the dataset that ``config`` describes in the store at ``root``.

    Raises:
        ConfigError: The source, the annotations or the weights are not there.
        BuildError: The source gives too few crops for a dataset.
        DatasetError: The version could not be committed.
    """
    build = Context(config, Store(root), runner, progress)
    # What is missing is told before hours of work.
    build.needed = (features.embed_stage(build),)
    pose.check_space(build)
    own = ("shards", "media", "pose-spaces", f"datasets/{config.name}")
    with claim(build.store, build.log.run, own):
        return _build(build)


def _build(build: Context) -> BuildResult:
    seen = views.crop_views(build) if views.is_view_set(build) else crop_videos(build)
    embedded = features.embed(build, seen)

    space_id, space = pose.pose_space(build, seen.videos, seen.clips, embedded)
    clusters = len(space.centroids)
    retrieval = {
        split: pose.neighbours(build, split, seen.clips, embedded, space_id, space)
        for split in (TRAIN, TEST)
    }
    sampled = {
        split: pose.triplets(build, split, seen.clips, table, clusters)
        for split, table in retrieval.items()
    }
    committed, statistics = publish(
        build, seen.videos, seen.clips, retrieval, sampled, space_id, clusters
    )
    return BuildResult(committed, statistics, build.shards, build.damaged, build.seconds)


def build_locally(config: BuildConfig, root: str) -> dict[str, Any]:
    """Build with the plain runner, with progress on the terminal."""
    with LocalRunner(config.run) as runner:
        return build_dataset(config, root, runner, TerminalProgress()).to_dict()


def crop_videos(build: Context) -> Observed:
    """Detect the objects of every video, follow each one (a clip), and cut it out."""
    build.needed = (instances.detect_stage(build), *build.needed)
    found, annotations = sources.fetch_source(build)
    frames = instances.detect(build, found, annotations)
    videos.drop_repeated_footage(build, found, frames)
    clips = instances.link(build, found, frames, annotations)
    crops = instances.crop(build, found, clips)
    rendered.add_truth(found, clips)
    brought = build.config.embedder.masks == "source"
    masks = rendered.true_masks(build, found, clips, crops) if brought else {}
    return Observed(found, clips, crops, masks)
