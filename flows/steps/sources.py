"""Where the videos of a build come from."""

from __future__ import annotations

from collections.abc import Callable

from flows.steps import downloads, rendered, videos
from flows.steps.annotations import Annotations, match_annotations, read_source_annotations
from flows.steps.context import Context
from idpose_core.assembly.records import Video

Found = tuple[list[Video], Annotations | None]


def fetch_source(build: Context) -> Found:
    """Every video of the source, and the annotation tracks where the source has them.

    Raises:
        ConfigError: The source or its annotations are not there.
    """
    sources: dict[str, Callable[[Context], Found]] = {
        "folder": _folder,
        "http": _network,
        "youtube": _network,
        "rendered": _rendered,
    }
    return sources[build.config.source.kind](build)


def _folder(build: Context) -> Found:
    videos.check_split(build)
    annotations = read_source_annotations(build)
    found = videos.fetch(build, videos.list_source(build), annotations)
    match_annotations(build, found, annotations)
    return found, annotations


def _network(build: Context) -> Found:
    annotations = read_source_annotations(build)
    return downloads.fetch_downloads(build, annotations), annotations


def _rendered(build: Context) -> Found:
    annotated = rendered.is_annotated(build)
    found = rendered.fetch_rendered(build)
    return found, rendered.own_annotations(build, found) if annotated else None
