"""Fetch: from an entry of a source to bytes whose digest is known and whose container opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from idpose_core.video.decoding import probe
from storage.digests import file_sha256
from storage.reasons import Status, Unusable
from storage.shards import RowStage


@dataclass(frozen=True)
class FetchFolder(RowStage):
    """Observe one file of a folder.

    Fetching is an observation: the row names the file (relative path, size, time of change), and
    everything later depends on the digest of its bytes alone.

    Row: ``relative_path``, ``bytes``, ``mtime_ns``. Location: ``path`` of the file.
    """

    name: ClassVar[str] = "fetch"
    version: ClassVar[int] = 3  # 3: a stream without time stamps is refused
    shard_rows: ClassVar[int] = 16
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("media_sha256", pa.string()),
            pa.field("duration_ms", pa.int64()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("codec", pa.string()),
        ]
    )

    def settings(self) -> Mapping[str, Any]:
        """Nothing: the bytes are what they are."""
        return {}

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row with the digest and the size of the picture."""
        path = Path(location["path"])
        if row["bytes"] == 0:
            raise Unusable(Status.EMPTY_FILE)
        try:
            media_sha256 = file_sha256(path)
        except OSError as error:
            raise Unusable(Status.UNREADABLE, error.strerror or type(error).__name__) from error
        info = probe(str(path))
        return [
            {
                "media_sha256": media_sha256,
                "duration_ms": info.duration_ms,
                "width": info.width,
                "height": info.height,
                "codec": info.codec,
            }
        ]
