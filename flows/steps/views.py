"""View sets: the objects of a multi-view image set, each a clip whose crops need no detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flows.steps.context import Context, usable
from flows.steps.instances import crops_with_places, rows_by_key
from idpose_core.assembly.records import Clip, Observed, Video
from idpose_core.assembly.splits import TRAIN
from idpose_core.config import VIEW_SETS, ConfigError
from idpose_core.datasets.published.cars3d import Cars3D
from idpose_core.datasets.published.chairs3d import Chairs3D
from idpose_core.datasets.published.epfl_cars import EPFLCars
from idpose_core.datasets.published.eth80 import ETH80Cars
from idpose_core.datasets.rendered.view_set import RenderedViewSet
from idpose_core.datasets.views import ViewedObject, ViewSet
from idpose_core.stages.views import STEP_MS, CropViews
from storage.reasons import Status
from storage.shards import Item, Outcome


def is_view_set(build: Context) -> bool:
    """Whether the source is a multi-view image set."""
    return build.config.source.kind in VIEW_SETS


def views_stage(build: Context) -> CropViews:
    """The views stage of this configuration."""
    source, image = build.config.source, build.config.image
    return CropViews(_SETS[source.kind](build), image.size, image.scale)


def list_objects(stage: CropViews) -> Sequence[ViewedObject]:
    """The objects of the set.

    Raises:
        ConfigError: The set is not there, or is not what it should be.
    """
    try:
        return stage.views.objects()
    except ValueError as error:
        raise ConfigError(f"{stage.views.name}: {error}") from error


def view_items(objects: Sequence[ViewedObject]) -> list[Item]:
    """The views stage's input."""
    return [
        Item(
            {"object": o.name, "sha256": o.sha256},
            o.location,
            {"video_id": o.name, "media_sha256": o.sha256},
        )
        for o in objects
    ]


def crop_views(build: Context) -> Observed:
    """Make every object one video with one clip, and each of its views a crop."""
    stage = views_stage(build)
    objects = list_objects(stage)
    outcomes = build.run(stage, view_items(objects))
    videos = [
        Video(
            source_uri=viewed.name,
            location={},
            video_id=viewed.name,
            attempts=outcome.attempt,
            media_sha256=viewed.sha256,
            split=viewed.split,
        )
        for viewed, outcome in zip(objects, outcomes, strict=True)
    ]
    columns = [name for name in stage.columns.names if name not in ("image", "mask")]
    rows = rows_by_key(build, outcomes, columns)
    clips, crops = [], {}
    for video, outcome in _different(usable(videos, outcomes)):
        found = rows[outcome.row_key]
        video.width, video.height = found[0]["frame_width"], found[0]["frame_height"]
        clip = Clip(
            clip_id=found[0]["clip_id"],
            video_id=video.video_id,
            class_name=stage.views.class_name,
            object_id=video.video_id,
            start_ms=0,
            end_ms=(len(found) - 1) * STEP_MS,
            frames=len(found),
            split=video.split or "",
            observations=(),
            identity=video.video_id,
            crops=crops_with_places(found, outcome),
            media_sha256=video.media_sha256,
        )
        clips.append(clip)
        crops[clip.clip_id] = outcome
    masks = crops if build.config.embedder.masks == "source" else {}
    return Observed(videos, clips, crops, masks)


def _different(found: Sequence[tuple[Video, Outcome]]) -> list[tuple[Video, Outcome]]:
    """Keep one of objects with equal files: of training before one of test, then by name."""
    originals: dict[str, Video] = {}
    videos = (video for video, _ in found)
    for video in sorted(videos, key=lambda v: (v.split != TRAIN, v.video_id)):
        original = originals.setdefault(video.media_sha256 or video.video_id, video)
        if original is not video:
            video.reject(Status.DUPLICATE, f"same files as {original.source_uri}")
    return [(video, outcome) for video, outcome in found if video.status is Status.OK]


def _rendered(build: Context) -> ViewSet:
    rendered = build.config.rendered
    return RenderedViewSet(
        rendered.kind, rendered.models, rendered.samples, build.config.image.size
    )


def _folder(build: Context) -> str:
    path = build.config.source.path
    if path is None:
        raise ConfigError("source.path is not set: use --set source.path=FOLDER")
    return path


_SETS: dict[str, Callable[[Context], ViewSet]] = {
    "rendered-views": _rendered,
    "cars3d": lambda build: Cars3D(_folder(build)),
    "chairs3d": lambda build: Chairs3D(_folder(build)),
    "eth80": lambda build: ETH80Cars(_folder(build)),
    "epfl-cars": lambda build: EPFLCars(_folder(build)),
}
