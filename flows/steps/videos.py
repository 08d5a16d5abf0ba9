"""Videos: what the source holds, what opens, and what is there twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from storage.digests import digest
from storage.reasons import Status
from storage.shards import Item, Outcome, read_rows

Annotations = Mapping[str, Sequence[AnnotationTrack]]


def list_source(build: Context) -> list[MediaFile]:
    """The files of the source, by name.

    Raises:
        ConfigError: There is no such folder, or no file in it.
    """
    folder = build.config.source.path
    if folder is None:
        raise ConfigError("source.path is not set: use --set source.path=FOLDER")
    try:
        files = list_videos(Path(folder))
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
    if found.malformed:
        count, first = len(found.malformed), found.malformed[0]
        build.progress.say(f"{count} malformed annotation rows left out, the first: {first}")
    return found.tracks


def source_path(build: Context, file: MediaFile) -> Path:
    """Where a file of the source is on this machine."""
    return (Path(build.config.source.path or "") / file.relative_path).absolute()


def fetch_items(build: Context, files: Sequence[MediaFile]) -> list[Item]:
    """The fetch stage's input: what names a file, and where it is."""
    return [Item(asdict(file), {"path": str(source_path(build, file))}) for file in files]


def fetch(build: Context, files: Sequence[MediaFile]) -> list[Video]:
    """Open every file; byte-identical files count once."""
    items = fetch_items(build, files)
    outcomes = build.run(FetchFolder(), items)
    columns = ["media_sha256", "duration_ms", "width", "height"]
    found = {
        outcome.row_key: rows[0] for outcome, rows in read_rows(build.store, outcomes, columns)
    }
    originals: dict[str, Video] = {}
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
        # The files come sorted by name: of equal files the first is the original.
        original = originals.setdefault(video.video_id, video)
        if original is not video:
            video.reject(Status.DUPLICATE, f"same bytes as {original.source_uri}")
    return videos


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
