"""Pose: fit the pose space on training rows, find neighbours, draw triplets."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from flows.steps.context import BuildError, Context
from flows.steps.features import embed_stage
from idpose_core.assembly.records import Clip, Video, what_became
from idpose_core.assembly.retrieval import RETRIEVAL, Embedded, retrieve
from idpose_core.assembly.sampling import Sample, draw_triplets
from idpose_core.assembly.splits import TRAIN
from idpose_core.config import ConfigError
from idpose_core.pose.space import PoseSpace, fit_pose_space
from idpose_core.pose.triplets import BalanceRule
from idpose_core.pose.trust import shipped_trust
from storage.digests import digest
from storage.parquet import from_parquet, to_parquet
from storage.results import read_result, result
from storage.shards import Outcome, read_rows

VERSIONS = {"pose_space": 3, "retrieval": 4, "triplets": 2}
_IN_MEMORY = 2 * 2**30  # features of more bytes than this are held in a temporary file


def check_space(build: Context) -> None:
    """See that the pose space that is asked for is there and of this embedder.

    Raises:
        ConfigError: It is not.
    """
    if build.config.pose.space != "fit":
        _given_space(build)


def _reader(build: Context) -> str:
    """What reads the directions, where the embedder reads any."""
    return "car-view" if build.config.embedder.kind == "car-view" else "azimuth"


def pose_space(
    build: Context,
    videos: Sequence[Video],
    clips: Sequence[Clip],
    embedded: Mapping[str, Outcome],
) -> tuple[str, PoseSpace]:
    """Fit projection and clusters on the training crops, or read the space that is asked for.

    Raises:
        ConfigError: There is no space of this id, or it is of another embedder.
        BuildError: There are fewer training crops than clusters.
    """
    pose = build.config.pose
    build.stages["pose_space"] = VERSIONS["pose_space"]
    if pose.space != "fit":
        return pose.space, _given_space(build)
    train = [clip for clip in clips if clip.split == TRAIN and clip.crops]
    found = sum(len(clip.crops) for clip in train)
    if found < pose.clusters:
        lines = "\n".join(what_became(videos, clips))
        raise BuildError(
            f"{found} training crops for pose.clusters={pose.clusters}: give more video, loosen "
            f"detector.threshold or clips.*, or lower pose.clusters.\n{lines}"
        )
    key = _key(build, "pose_space", train, embedded, pose.clusters, pose.dimensions)[:16]

    def fit() -> bytes:
        rows = load_features(build, train, embedded)
        return fit_pose_space(
            rows.features,
            rows.crop_ids,
            clusters=pose.clusters,
            dimensions=pose.dimensions,
            seed=build.config.seed,
            made_of=_origin(build),
        ).to_bytes()

    data, computed = result(build.store, f"pose-spaces/{key}", "space", "safetensors", fit)
    build.progress.say(f"pose space {key} {'fitted' if computed else 'reused'}")
    return key, PoseSpace.from_bytes(data)


def _given_space(build: Context) -> PoseSpace:
    asked = build.config.pose.space
    data = read_result(build.store, f"pose-spaces/{asked}", "space")
    if data is None:
        raise ConfigError(f"pose.space: no pose space {asked!r} in {build.store.root}")
    space = PoseSpace.from_bytes(data)
    if space.made_of != _origin(build):
        raise ConfigError(
            f"pose.space: {asked} was fitted on features of another embedder: use the embedder.* "
            "and image.size that it was fitted with, or pose.space=fit"
        )
    return space


def _origin(build: Context) -> str:
    """Digest of what the features are made by."""
    stage = embed_stage(build)
    return digest([stage.version, stage.settings(), stage.weights()])


def neighbours(
    build: Context,
    split: str,
    clips: Sequence[Clip],
    embedded: Mapping[str, Outcome],
    space_id: str,
    space: PoseSpace,
) -> pa.Table:
    """Cluster and nearest neighbours of every crop of one split, within that split."""
    build.stages["retrieval"] = VERSIONS["retrieval"]
    mine = [clip for clip in clips if clip.split == split and clip.crops]
    if not mine:
        return RETRIEVAL.empty_table()
    triplets, trust = build.config.triplets, shipped_trust(_reader(build))
    known = sorted(
        (embedded[clip.clip_id].row_key, clip.identity) for clip in mine if clip.identity
    )
    settings = [space_id, triplets.top_k, triplets.mutual, triplets.min_similarity, known]
    settings += [triplets.window_ms, None if trust is None else digest(trust.to_json())]
    key = _key(build, "retrieval", mine, embedded, *settings)

    def search() -> bytes:
        return to_parquet(retrieve(space, load_features(build, mine, embedded), triplets, trust))

    data, computed = result(build.store, "shards/retrieval", key, "parquet", search)
    build.made_of.add(f"shards/retrieval/{key}")
    build.progress.say(f"neighbours of {split} {'found' if computed else 'reused'}")
    return from_parquet(data)


def triplets(
    build: Context, split: str, clips: Sequence[Clip], retrieval: pa.Table, clusters: int
) -> dict[BalanceRule, Sample]:
    """Draw the balanced triplets of one split by both rules of balance, to tell them apart."""
    config = build.config
    build.stages["triplets"] = VERSIONS["triplets"]
    crops = sorted(
        (
            {**crop, "clip_id": clip.clip_id, "video_id": clip.video_id}
            for clip in clips
            if clip.split == split
            for crop in clip.crops
        ),
        key=lambda crop: str(crop["crop_id"]),
    )
    rules: tuple[BalanceRule, ...] = ("target", "paper")
    return {
        rule: draw_triplets(
            crops,
            retrieval,
            config.triplets.model_copy(update={"balance": rule}),
            clusters=clusters,
            rows=asked_rows(build, split),
            seed=config.seed,
        )
        for rule in rules
    }


def asked_rows(build: Context, split: str) -> int | None:
    """How many triplets the configuration asks for; None = what the pool gives."""
    triplets = build.config.triplets
    return triplets.train if split == TRAIN else triplets.test


def load_features(
    build: Context, clips: Sequence[Clip], embedded: Mapping[str, Outcome]
) -> Embedded:
    """The features of the clips' crops, sorted by crop id, and what was read of directions."""
    clip_of = {crop["crop_id"]: clip for clip in clips for crop in clip.crops}
    time_of = {crop["crop_id"]: crop["timestamp_ms"] for clip in clips for crop in clip.crops}
    ids = sorted(clip_of)
    place = {crop_id: row for row, crop_id in enumerate(ids)}
    features: np.ndarray | None = None
    readings = np.full((len(ids), 3), np.nan, np.float32)
    outcomes = [embedded[clip.clip_id] for clip in clips]
    for _, rows in read_rows(build.store, outcomes, ["crop_id", "feature", "reading"]):
        for row in rows:
            feature = np.frombuffer(row["feature"], "<f2")
            if features is None:
                features = _matrix(len(ids), len(feature))
            features[place[row["crop_id"]]] = feature
            if row["reading"] is not None:
                readings[place[row["crop_id"]]] = row["reading"]
    if features is None:
        raise BuildError("no crop was embedded")
    of = [clip_of[crop_id] for crop_id in ids]
    return Embedded(
        ids,
        [clip.clip_id for clip in of],
        [clip.video_id for clip in of],
        [clip.identity for clip in of],
        [time_of[crop_id] for crop_id in ids],
        features,
        None if np.isnan(readings).all() else readings,
    )


def _matrix(rows: int, columns: int) -> np.ndarray:
    if rows * columns * 2 <= _IN_MEMORY:
        return np.empty((rows, columns), np.float16)
    # numpy keeps the file open as long as the array lives; its name is gone at once.
    with tempfile.TemporaryFile(prefix="idpose-features-") as file:
        return np.memmap(file, np.float16, "w+", shape=(rows, columns))


def _key(
    build: Context,
    stage: str,
    clips: Sequence[Clip],
    embedded: Mapping[str, Outcome],
    *settings: Any,
) -> str:
    return digest(
        {
            "stage": [stage, VERSIONS[stage]],
            "rows": sorted(embedded[clip.clip_id].row_key for clip in clips),
            "settings": [*settings, build.config.seed],
        }
    )
