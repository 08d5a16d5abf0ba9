"""Render: one video of the rendered world, with the truth of its objects."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from idpose_core.datasets.rendered.clips import ClipSettings
from idpose_core.datasets.rendered.truth import SCHEMA
from idpose_core.datasets.rendered.videos import WORLD_VERSION, render_video, video_name
from storage.digests import sha256
from storage.objects import Store
from storage.shards import RowStage

MEDIA = "media"


@dataclass(frozen=True)
class RenderVideos(RowStage):
    """Render one scene of one model and keep the file below ROOT/media.

    Row: ``model``, ``scene``. Location: ``root`` of the store.
    """

    settings_of_clips: ClipSettings

    name: ClassVar[str] = "render"
    version: ClassVar[int] = 2
    shard_rows: ClassVar[int] = 2
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("media_sha256", pa.string()),
            *(pa.field(f.name, f.type) for f in SCHEMA),
        ]
    )

    def settings(self) -> Mapping[str, Any]:
        """Everything that the pictures depend on."""
        return {**asdict(self.settings_of_clips), "world": WORLD_VERSION}

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row for each object of each frame."""
        name = video_name(self.settings_of_clips.kind, row["model"], row["scene"])
        with tempfile.TemporaryDirectory(prefix="idpose-render-") as folder:
            path = Path(folder) / f"{name}.mp4"
            truth = render_video(path, self.settings_of_clips, row["model"], row["scene"])
            data = path.read_bytes()
        Store(location["root"]).publish(media_path(sha256(data)), data)
        return [{**sighting, "media_sha256": sha256(data)} for sighting in truth]


def media_path(media_sha256: str) -> str:
    """Where a rendered video lies, relative to ROOT."""
    return f"{MEDIA}/{media_sha256}.mp4"


def restore_media(store: Store, stage: RenderVideos, row: Mapping[str, Any], wanted: str) -> None:
    """Render a video again whose result is known and whose file is gone.

    Raises:
        RuntimeError: Other bytes came out: the libraries are not those of the first time.
    """
    [first, *_] = stage.compute(row, {"root": store.location})
    if first["media_sha256"] != wanted:
        raise RuntimeError(
            f"model {row['model']}, scene {row['scene']} renders to other bytes than before: "
            "the libraries changed; delete shards/render and build again"
        )
