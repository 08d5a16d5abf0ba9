"""Writes the rendered world as real video files, with annotations and truth.

A folder holds ``<kind>-<model>-<scene>.mp4``, ``annotations.csv`` (YouTube-BoundingBoxes form, no
header), ``truth.parquet`` (see ``truth.SCHEMA``), ``world.json`` with the settings, and in
``truth/`` one table a video, whose presence says that the video is complete.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from idpose_core.datasets.rendered.clips import Clip, ClipSettings
from idpose_core.datasets.rendered.families import check_model, model_name
from idpose_core.datasets.rendered.truth import SCHEMA, annotations_csv, truth_rows, write_table
from idpose_core.datasets.rendered.video_file import VideoFile
from idpose_core.processes import end_with_parent

WORLD_VERSION = 1
"""Changes with the looks: videos of another version are rendered anew."""

_MOST_SCENES = 100


@dataclass(frozen=True)
class RenderedVideo:
    """One video that the folder holds.

    Attributes:
        name: Stem of the file, the youtube_id of its annotations.
        path: The file.
        model: Identity of the object that it follows.
        scene: Number of the scene among this model's.
        fresh: Whether this call rendered it; else it was there.
    """

    name: str
    path: Path
    model: int
    scene: int
    fresh: bool


def write_rendered_videos(
    folder: Path,
    *,
    models: Sequence[int],
    kind: str = "car",
    scenes_per_model: int = 2,
    seconds: float = 4.0,
    fps: int = 8,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    samples: int = 4,
    processes: int = 1,
) -> list[RenderedVideo]:
    """Render what is missing, so that the folder holds just these videos.

    A video's bytes follow from the settings, its model and its scene, within one set of installed
    libraries. An interrupted call is resumed by the same call.

    Args:
        folder: Made where it is missing. It must be empty or hold a rendered world; a world of
            other settings is replaced.
        models: Identities, without repetition.
        kind: car or chair.
        scenes_per_model: Videos of each model, 1 to 100, each in a place of its own.
        seconds: Length of a video, above 0.
        fps: Frames a second, 1 to 60.
        size: Width and height in pixels, even and at least 64.
        seed: Everything is drawn from it.
        samples: Light paths a pixel, at least 2: noise against time.
        processes: How many render at once, at least 1; changes no byte.

    Returns:
        The videos, by model and scene.

    Raises:
        ValueError: A number outside its range, a model that does not exist, or a folder that holds
            something else.
    """
    settings = ClipSettings(kind, float(seconds), fps, size, seed, samples)
    _check(settings, models, scenes_per_model, processes)
    _prepare(folder, settings)
    wanted = [(model, scene) for model in sorted(models) for scene in range(scenes_per_model)]
    names = {video_name(kind, model, scene): (model, scene) for model, scene in wanted}
    for path in (*folder.glob("*.mp4"), *(folder / "truth").glob("*.parquet")):
        if path.stem not in names:
            path.unlink()
    missing = [name for name in names if not _complete(folder, name)]
    work = [(folder, settings, *names[name]) for name in missing]
    if processes == 1 or len(work) < 2:
        for item in work:
            _write_video(*item)
    else:
        # Started afresh: a fork would copy the renderer's threads in whatever state they are
        count, context = min(processes, len(work)), get_context("spawn")
        with ProcessPoolExecutor(count, context, end_with_parent) as pool:
            list(pool.map(_write_video, *zip(*work, strict=True)))
    tables = [pq.read_table(_truth_path(folder, name), schema=SCHEMA) for name in names]
    truth = pa.concat_tables(tables)
    write_table(folder / "truth.parquet", truth)
    _write_text(folder / "annotations.csv", annotations_csv(truth, fps))
    return [
        RenderedVideo(name, _video_path(folder, name), model, scene, name in missing)
        for name, (model, scene) in names.items()
    ]


def _check(
    settings: ClipSettings, models: Sequence[int], scenes_per_model: int, processes: int
) -> None:
    if not models or len(set(models)) != len(models):
        raise ValueError("models must name at least one model, and none twice")
    for model in models:
        check_model(settings.kind, model)
    if not 1 <= scenes_per_model <= _MOST_SCENES:
        raise ValueError(f"scenes_per_model must be 1 to {_MOST_SCENES}, not {scenes_per_model}")
    if not 1 <= settings.fps <= 60 or settings.seconds <= 0 or settings.frames < 2:
        raise ValueError(
            f"fps must be 1 to 60 and give at least 2 frames, not {settings.fps} for "
            f"{settings.seconds} s"
        )
    if min(settings.size) < 64 or settings.size[0] % 2 or settings.size[1] % 2:
        raise ValueError(f"size must be even and at least 64, not {settings.size}")
    if settings.samples < 2 or processes < 1:
        raise ValueError("samples must be at least 2 and processes at least 1")


def _prepare(folder: Path, settings: ClipSettings) -> None:
    """Make the folder one of these settings; drop what others left."""
    described = {"world_version": WORLD_VERSION, **asdict(settings), "size": list(settings.size)}
    path = folder / "world.json"
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) == described:
            return
        path.unlink()
        for stale in (*(folder / "truth").glob("*.parquet"), *folder.glob("*.mp4")):
            stale.unlink()
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and holds no rendered world: choose another folder"
        )
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    _write_text(path, json.dumps(described, indent=2) + "\n")


def render_video(
    path: Path, settings: ClipSettings, model: int, scene: int
) -> list[dict[str, Any]]:
    """Render one video.

    Args:
        path: The file, which is overwritten.
        settings: Of the world.
        model: The object that it follows.
        scene: Number of the scene among this model's.

    Returns:
        Its truth, rows of ``truth.SCHEMA``.
    """
    name = video_name(settings.kind, model, scene)
    clip = Clip(settings, model, scene)
    rows = []
    with VideoFile(path, settings.fps, settings.size) as file:
        for picture, seen in clip.pictures():
            rows += truth_rows(name, file.frames, settings, clip.motion.kind, seen)
            file.add(picture)
    return rows


def video_name(kind: str, model: int, scene: int) -> str:
    """Stem of a video's file, the youtube_id of its annotations."""
    return f"{model_name(kind, model)}-{scene:02d}"


def _write_video(folder: Path, settings: ClipSettings, model: int, scene: int) -> None:
    name = video_name(settings.kind, model, scene)
    path = _video_path(folder, name)
    temporary = path.with_name(path.name + ".part")
    rows = render_video(temporary, settings, model, scene)
    temporary.replace(path)
    write_table(_truth_path(folder, name), pa.Table.from_pylist(rows, schema=SCHEMA))


def _video_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.mp4"


def _truth_path(folder: Path, name: str) -> Path:
    return folder / "truth" / f"{name}.parquet"


def _complete(folder: Path, name: str) -> bool:
    return _truth_path(folder, name).exists() and _video_path(folder, name).exists()


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
