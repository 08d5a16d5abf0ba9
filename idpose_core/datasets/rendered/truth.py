"""The truth of rendered videos as a table, and their annotations in YouTube-BoundingBoxes form."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from idpose_core.datasets.rendered.clips import ClipSettings, Mask, Sighting
from idpose_core.datasets.rendered.families import family
from idpose_core.datasets.rendered.splits import split_of
from idpose_core.instances.boxes import Box, iou

SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("timestamp_ms", pa.int32(), nullable=False),
        pa.field("class_name", pa.string(), nullable=False),
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("model", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("motion", pa.string(), nullable=False),
        pa.field("azimuth_deg", pa.float64(), nullable=False),
        pa.field("elevation_deg", pa.float64(), nullable=False),
        pa.field("distance", pa.float64(), nullable=False),
        pa.field("xmin", pa.float64()),
        pa.field("xmax", pa.float64()),
        pa.field("ymin", pa.float64()),
        pa.field("ymax", pa.float64()),
        pa.field("visible_share", pa.float64(), nullable=False),
        pa.field("mask_png", pa.binary(), nullable=False),
    ]
)
"""One row a frame and object: ``clips.Sighting`` says what the numbers are. ``mask_png`` is a
PNG of the frame's size, 255 where the object is seen."""

_EDGES = ("xmin", "xmax", "ymin", "ymax")
_MIN_IOU = 0.5  # of a crop's box with the box of the object that it shows
_SEEN = 0.15  # of an object, below which an annotator would call it absent


def timestamp_ms(frame: int, fps: int) -> int:
    """Presentation time of a frame."""
    return round(1000 * frame / fps)


def truth_rows(
    video: str, frame: int, settings: ClipSettings, motion: str, seen: Sequence[Sighting]
) -> list[dict[str, Any]]:
    """The rows of one frame."""
    rows = []
    for sighting in seen:
        xmin, xmax, ymin, ymax = sighting.box or (None,) * 4
        rows.append(
            {
                "video": video,
                "frame": frame,
                "timestamp_ms": timestamp_ms(frame, settings.fps),
                "class_name": settings.kind,
                "object_id": sighting.object_id,
                "model": sighting.model,
                "split": split_of(settings.kind, sighting.model),
                "motion": motion,
                "azimuth_deg": sighting.azimuth_deg,
                "elevation_deg": sighting.elevation_deg,
                "distance": sighting.distance,
                "xmin": xmin,
                "xmax": xmax,
                "ymin": ymin,
                "ymax": ymax,
                "visible_share": sighting.visible_share,
                "mask_png": _as_png(sighting.mask),
            }
        )
    return rows


def write_table(path: Path, table: pa.Table) -> None:
    """Write under a temporary name first, so that a file that is there is complete."""
    temporary = path.with_name(path.name + ".part")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


def mask_of(png: bytes) -> Mask:
    """The mask of a row, bool [H, W]."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise ValueError("not a PNG picture")
    return np.asarray(picture > 127)


def box_of_row(row: Mapping[str, Any]) -> Box:
    """The box of a row, or of anything with its four columns."""
    return Box(*(row[edge] for edge in _EDGES))


def sighting_in(
    crop: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The row that tells what a crop of the same video shows; None where the truth knows nothing.

    Args:
        crop: Its time stamp and box.
        rows: Of the video's truth.
    """
    box = box_of_row(crop)
    overlaps = [
        (iou(box, box_of_row(row)), row)
        for row in rows
        if row["timestamp_ms"] == crop["timestamp_ms"] and row["xmin"] is not None
    ]
    overlap, best = max(overlaps, key=lambda found: found[0], default=(0.0, None))
    return best if overlap >= _MIN_IOU else None


def annotations_csv(truth: pa.Table, fps: int) -> str:
    """Rows of a truth table as YouTube-BoundingBoxes has them, without a header.

    One row for the first frame at or after each full second, and for the last frame. An object
    that is outside of the frame or nearly hidden is absent and has -1 for its box.
    """
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    last: dict[str, int] = {}
    for row in truth.select(["video", "frame"]).to_pylist():
        last[row["video"]] = max(row["frame"], last.get(row["video"], 0))
    for row in truth.drop(["mask_png"]).to_pylist():
        frame = row["frame"]
        if not (frame % fps == 0 or frame == last[row["video"]]):
            continue
        edges = [row[name] for name in _EDGES]
        present = None not in edges and row["visible_share"] >= _SEEN
        box = [f"{edge:.6f}" for edge in edges] if present else [-1] * 4
        name = row["class_name"]
        presence = "present" if present else "absent"
        what = (family(name).class_id, name, row["object_id"], presence)
        rows.writerow([row["video"], row["timestamp_ms"], *what, *box])
    return file.getvalue()


def _as_png(mask: Mask) -> bytes:
    done, data = cv2.imencode(".png", mask.astype(np.uint8) * 255)
    if not done:
        raise ValueError(f"no PNG of a mask of shape {mask.shape}")
    return data.tobytes()
