"""Videos: what the source holds, what opens, and what is there twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from flows.steps.context import Context
from idpose_core.assembly.records import Video
from idpose_core.assembly.splits import TRAIN, drop_near_duplicates, split_of
from idpose_core.config import ConfigError
from idpose_core.stages.fetch import FetchFolder
from idpose_core.video.annotations import AnnotationTrack, read_annotations
from idpose_core.video.folder import MediaFile, list_videos
from idpose_core.video.footage import find_near_duplicates
from storage.datasets import DatasetError, read_manifest
from storage.digests import digest
from storage.logs import entries
from storage.reasons import Status
from storage.shards import Item, Outcome, read_rows

Annotations = Mapping[str, Sequence[AnnotationTrack]]


def check_split(build: Context) -> None:
    """Refuse a share that would turn committed test videos into training data.

    Raises:
        ConfigError: An earlier version of this dataset has a larger share of test videos.
    """
    name, earlier = build.config.name, []
    for version in {entry["version"] for entry in entries(build.store, f"datasets/{name}/log")}:
        with suppress(DatasetError):  # a damaged version is told where it is read, not here
            manifest = read_manifest(build.store, f"{name}@{version}")
            earlier.append(float(manifest["config"]["test_share"]))
    if build.config.test_share < max(earlier, default=0.0):
        raise ConfigError(
            f"test_share={build.config.test_share} would turn test videos of earlier versions of "
            f"{name} into training data: keep {max(earlier)}, or take another name"
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


def read_source_annotations(build: Context) -> Annotations | None:
    """The annotation tracks by file stem, or None where the source has no annotations.

    Raises:
        ConfigError: The file cannot be read, or the detector needs one and none is given.
    """
    path = build.config.source.annotations
    if path is None:
        if build.config.detector.kind == "annotations":
            raise ConfigError("detector.kind=annotations needs source.annotations")
        return None
    try:
        found = read_annotations(Path(path), classes=frozenset(build.config.classes))
    except (OSError, ValueError) as error:
        raise ConfigError(f"source.annotations: cannot read {path}: {error}") from error
    if found.why_empty:
        raise ConfigError(f"source.annotations: {path}: {found.why_empty}")
    if found.malformed:
        count, first = found.malformed_count, found.malformed[0]
        build.progress.say(f"{count} malformed annotation rows left out, the first: {first}")
    return found.tracks


def source_path(build: Context, file: MediaFile) -> Path:
    """Where a file of the source is on this machine."""
    return (Path(build.config.source.path or "") / file.relative_path).absolute()


def fetch_items(build: Context, files: Sequence[MediaFile]) -> list[Item]:
    """The fetch stage's input: what names a file, and where it is."""
    return [Item(asdict(file), {"path": str(source_path(build, file))}) for file in files]


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
            path=item.location["path"],
            video_id=f"unread-{digest(file.relative_path)}",
            attempts=outcome.attempt,
        )
        videos.append(video)
        if outcome.status is not Status.OK:
            video.reject(outcome.status, outcome.detail)
            continue
        media = found[outcome.row_key]
        video.video_id = video.media_sha256 = media["media_sha256"]
        video.split = split_of(video.video_id, build.config.test_share)
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


def match_annotations(
    build: Context, videos: Sequence[Video], annotations: Annotations | None
) -> None:
    """Reject the videos that the annotation file does not name."""
    if annotations is None:
        return
    wanted = "/".join(build.config.classes)
    for video in videos:
        if video.status is Status.OK and not tracks_of(video, annotations):
            video.reject(Status.NO_ANNOTATION, f"no {wanted} row names this video")


def tracks_of(video: Video, annotations: Annotations | None) -> Sequence[AnnotationTrack] | None:
    """The annotation tracks of a video; None where the source has no annotations at all."""
    return None if annotations is None else annotations.get(Path(video.source_uri).stem, [])


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
