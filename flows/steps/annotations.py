"""Annotations: which objects a source's own tables name, and in which of its videos."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.steps.context import Context
from idpose_core.assembly.records import Video
from idpose_core.config import ConfigError
from idpose_core.video import annotations as tables
from idpose_core.video.annotations import AnnotationTrack
from storage.reasons import Status


@dataclass(frozen=True, eq=False)
class Annotations(Mapping[str, Sequence[AnnotationTrack]]):
    """The annotated tracks of each video, by the name that the tables give it.

    Attributes:
        tracks: Made when asked for.
        test: Names of the videos that the source itself holds out for tests.
    """

    tracks: Mapping[str, Sequence[AnnotationTrack]]
    test: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Sequence[AnnotationTrack]:
        return self.tracks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tracks)

    def __len__(self) -> int:
        return len(self.tracks)


def read_source_annotations(build: Context) -> Annotations | None:
    """The annotations of the configuration, or None where it names none.

    Raises:
        ConfigError: A table cannot be read, or one that is needed is not given.
    """
    config = build.config
    source = config.source
    if config.split == "source" and None in (source.annotations, source.test_annotations):
        raise ConfigError(
            "split=source needs source.annotations and source.test_annotations: the source's own "
            "test videos are those of the second table"
        )
    if source.annotations is None:
        if config.detector.kind == "annotations":
            raise ConfigError("detector.kind=annotations needs source.annotations")
        if source.test_annotations is not None:
            raise ConfigError("source.test_annotations needs source.annotations and split=source")
        return None
    train = _read(build, "annotations", source.annotations)
    if source.test_annotations is None:
        return Annotations(train)
    if config.split != "source":
        raise ConfigError("source.test_annotations needs split=source")
    test = _read(build, "test_annotations", source.test_annotations)
    held_out = frozenset(test) - frozenset(train)
    if len(held_out) < len(test):
        build.progress.say(
            f"{len(test) - len(held_out)} videos are in both tables: they are training videos, "
            "with the objects of source.annotations"
        )
    return Annotations(ChainMap({}, train, test), held_out)  # type: ignore[arg-type]


def match_annotations(
    build: Context, videos: Sequence[Video], annotations: Annotations | None
) -> None:
    """Reject the videos that the annotations do not name."""
    if annotations is None:
        return
    wanted = "/".join(build.config.classes)
    for video in videos:
        if video.status is Status.OK and not tracks_of(video, annotations):
            video.reject(Status.NO_ANNOTATION, f"no {wanted} row names this video")


def tracks_of(video: Video, annotations: Annotations | None) -> Sequence[AnnotationTrack] | None:
    """The annotation tracks of a video; None where the source has no annotations at all."""
    return None if annotations is None else annotations.get(video.annotated_as, [])


def _read(build: Context, key: str, path: str) -> Mapping[str, Sequence[AnnotationTrack]]:
    try:
        found = tables.read_annotations(Path(path), classes=frozenset(build.config.classes))
    except (OSError, ValueError) as error:
        raise ConfigError(f"source.{key}: cannot read {path}: {error}") from error
    if found.why_empty:
        raise ConfigError(f"source.{key}: {path}: {found.why_empty}")
    if found.malformed:
        first = found.malformed[0]
        build.progress.say(
            f"source.{key}: {found.malformed_count} malformed rows left out, the first in line "
            f"{first.line}: {first.reason}"
        )
    build.lineage[key] = {
        "rows": found.rows,
        "videos": len(found.tracks),
        "malformed": found.malformed_count,
        "duplicates": found.duplicates,
        "first_malformed": [f"line {row.line}: {row.reason}" for row in found.malformed[:5]],
    }
    return found.tracks
