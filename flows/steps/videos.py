"""Videos: what the source holds, what opens, and what is there twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.steps.annotations import Annotations, tracks_of
from flows.steps.context import Context
from idpose_core.assembly.records import Video
from idpose_core.assembly.splits import TEST, TRAIN, drop_near_duplicates, split_of
from idpose_core.config import ConfigError
from idpose_core.stages.fetch import FetchFolder
from idpose_core.video.folder import MediaFile, list_videos
from idpose_core.video.footage import find_near_duplicates
from storage.datasets import DatasetError, read_manifest, read_table
from storage.digests import digest
from storage.logs import entries
from storage.reasons import Status
from storage.shards import Item, Outcome, read_rows


def check_split(build: Context) -> None:
    """Refuse a share that would turn committed test videos into training data.

    Raises:
        ConfigError: An earlier version of this dataset has a larger share of test videos.
    """
    earlier = [float(m["config"]["test_share"]) for m in _earlier_versions(build)]
    if build.config.test_share < max(earlier, default=0.0):
        raise ConfigError(
            f"test_share={build.config.test_share} would turn test videos of earlier versions of "
            f"{build.config.name} into training data: keep {max(earlier)}, or take another name"
        )


def choose_split(build: Context, video: Video, annotations: Annotations | None) -> str:
    """Train or test: by the hash of the video's id, or as the source itself says."""
    if build.config.split == "source" and annotations is not None:
        return TEST if video.annotated_as in annotations.test else TRAIN
    return split_of(video.video_id, build.config.test_share)


def keep_test_videos(build: Context, videos: Sequence[Video]) -> None:
    """Refuse to train on a video that an earlier version of this dataset held out.

    Raises:
        ConfigError: There is one.
    """
    train = {video.video_id for video in videos if video.split == TRAIN}
    for manifest in _earlier_versions(build):
        table = read_table(build.store, manifest, "videos", split=TEST, columns=["video_id"])
        if moved := train & set(table["video_id"].to_pylist()):
            raise ConfigError(
                f"{len(moved)} test videos of {manifest['name']}@{manifest['version']} would turn "
                f"into training data ({min(moved)} is one): keep the split, or take another name"
            )


def list_source(build: Context) -> list[MediaFile]:
    """The files of the source, by name.

    Raises:
        ConfigError: There is no such folder, or no file in it.
    """
    folder = build.config.source.path
    if folder is None:
        raise ConfigError("source.path is not set: use --set source.path=FOLDER")
    root = build.store.local_path(".")
    if root is not None and root.resolve() == Path(folder).resolve():
        raise ConfigError(f"the root is the folder of the videos, {folder}: give another --root")
    try:
        files = list_videos(Path(folder), leave_out=root)
    except ValueError as error:
        raise ConfigError(f"source.path: {error}") from error
    if not files:
        raise ConfigError(f"source.path: no files in {folder}")
    return files


def source_path(build: Context, file: MediaFile) -> Path:
    """Where a file of the source is on this machine."""
    return (Path(build.config.source.path or "") / file.relative_path).absolute()


def fetch_items(build: Context, files: Sequence[MediaFile]) -> list[Item]:
    """The fetch stage's input: what names a file, and where it is."""
    return [
        Item(
            asdict(file),
            {"path": str(source_path(build, file))},
            {"source_uri": file.relative_path},
        )
        for file in files
    ]


def fetch(
    build: Context, files: Sequence[MediaFile], annotations: Annotations | None
) -> list[Video]:
    """Open every file; byte-identical files count once."""
    items = fetch_items(build, files)
    outcomes = build.run(FetchFolder(), items)
    columns = ["media_sha256", "duration_ms", "width", "height"]
    found = {
        outcome.row_key: rows[0] for outcome, rows in read_rows(build.store, outcomes, columns)
    }
    videos = []
    for file, item, outcome in zip(files, items, outcomes, strict=True):
        video = Video(
            source_uri=file.relative_path,
            location=item.location,
            video_id=f"unread-{digest(file.relative_path)}",
            attempts=outcome.attempt,
        )
        videos.append(video)
        if outcome.status is not Status.OK:
            video.reject(outcome.status, outcome.detail)
            continue
        media = found[outcome.row_key]
        video.video_id = video.media_sha256 = media["media_sha256"]
        video.split = choose_split(build, video, annotations)
        video.duration_ms = media["duration_ms"]
        video.width, video.height = media["width"], media["height"]
    _drop_equal_files(videos, annotations)
    return videos


def _drop_equal_files(videos: Sequence[Video], annotations: Annotations | None) -> None:
    """Keep one of equal files: one that the annotations name, of these the first by name."""
    originals: dict[str, Video] = {}
    good = [video for video in videos if video.status is Status.OK]
    for video in sorted(good, key=lambda v: (not tracks_of(v, annotations), v.source_uri)):
        original = originals.setdefault(video.video_id, video)
        if original is not video:
            video.video_id = f"duplicate-{digest(video.source_uri)}"
            video.reject(Status.DUPLICATE, f"same bytes as {original.source_uri}")


def drop_repeated_footage(
    build: Context, videos: Sequence[Video], frames: Mapping[str, Outcome]
) -> None:
    """Reject videos that show the footage of another one."""
    by_key = {outcome.row_key: video_id for video_id, outcome in frames.items()}
    hashes = {
        by_key[outcome.row_key]: [row["footage_hash"] for row in rows]
        for outcome, rows in read_rows(build.store, frames.values(), ["footage_hash"])
    }
    ok = {video.video_id: video for video in videos if video.status is Status.OK}
    splits = {video_id: video.split or TRAIN for video_id, video in ok.items()}
    dropped = drop_near_duplicates(find_near_duplicates(hashes), splits)
    for video_id, original in dropped.items():
        ok[video_id].reject(
            Status.NEAR_DUPLICATE, f"shows the footage of {ok[original].source_uri}"
        )
    if dropped:
        build.progress.say(f"{len(dropped)} near-duplicate videos dropped")


def _earlier_versions(build: Context) -> Iterator[dict[str, Any]]:
    """The manifests of this dataset's versions; a damaged one is told where it is read."""
    name = build.config.name
    for version in {entry["version"] for entry in entries(build.store, f"datasets/{name}/log")}:
        with suppress(DatasetError):
            yield read_manifest(build.store, f"{name}@{version}")
