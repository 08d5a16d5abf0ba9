"""Where the videos of a build come from."""

from __future__ import annotations

from collections.abc import Callable

from flows.steps import rendered, videos
from flows.steps.context import Context
from flows.steps.videos import Annotations
from idpose_core.assembly.records import Video

Found = tuple[list[Video], Annotations | None]


def fetch_source(build: Context) -> Found:
    """Every video of the source, and the annotation tracks where the source has them.

    Raises:
        ConfigError: The source or its annotations are not there.
    """
    sources: dict[str, Callable[[Context], Found]] = {"folder": _folder, "rendered": _rendered}
    return sources[build.config.source.kind](build)


def _folder(build: Context) -> Found:
    videos.check_split(build)
    annotations = videos.read_source_annotations(build)
    found = videos.fetch(build, videos.list_source(build), annotations)
    videos.match_annotations(build, found, annotations)
    return found, annotations


def _rendered(build: Context) -> Found:
    annotated = rendered.is_annotated(build)
    found = rendered.fetch_rendered(build)
    return found, rendered.own_annotations(build, found) if annotated else None
