"""Sheets of pictures with the truth drawn on them, to be looked at.

``python -m idpose_core.datasets.rendered.overlay FOLDER SHEET.png`` draws one of a folder that
``videos`` wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq

from idpose_core.datasets.rendered.photography import Picture
from idpose_core.datasets.rendered.truth import mask_of
from idpose_core.datasets.rendered.views import View

_COLOURS = ((255, 220, 0), (0, 230, 255), (255, 90, 200))


def overlay_sheet(folder: Path, *, frames: int = 5, videos: int | None = None) -> Picture:
    """A row for each video, some of its frames with boxes, mask outlines and angles.

    Args:
        folder: Written by ``write_rendered_videos``.
        frames: How many of each video, evenly spread.
        videos: At most so many videos; None for all.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: The folder holds no video.
    """
    rows = pq.read_table(folder / "truth.parquet").to_pylist()
    names = sorted({row["video"] for row in rows})[:videos]
    if not names:
        raise ValueError(f"{folder} holds no video")
    strips = []
    for name in names:
        mine = [row for row in rows if row["video"] == name]
        last = max(row["frame"] for row in mine)
        wanted = sorted({round(i) for i in np.linspace(0, last, frames).tolist()})
        pictures = _frames(folder / f"{name}.mp4", wanted)
        strips.append(
            [
                _with_truth(picture, [row for row in mine if row["frame"] == frame])
                for frame, picture in zip(wanted, pictures, strict=True)
            ]
        )
    return tiled(strips)


def view_sheet(views: Iterable[View], columns: int) -> Picture:
    """Views in a grid, uint8 [H, W, 3] RGB, each with its model and angles."""
    tiles = []
    for view in views:
        tile = view.image.copy()
        text = f"{view.model} {view.azimuth_deg:.0f}/{view.elevation_deg:.0f}"
        cv2.putText(tile, text, (2, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (160, 0, 0), 1)
        tiles.append(tile)
    return tiled([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


def tiled(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Pictures of one size in rows; short rows are filled up with white."""
    longest = max(len(row) for row in rows)
    blank = np.full_like(rows[0][0], 255)
    full = [[*row, *[blank] * (longest - len(row))] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in full])


def _with_truth(picture: Picture, rows: Sequence[dict[str, Any]]) -> Picture:
    drawn = picture.copy()
    height, width = picture.shape[:2]
    for place, row in enumerate(rows):
        colour = _COLOURS[place % len(_COLOURS)]
        mask = mask_of(row["mask_png"]).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, colour, 1)
        if row["xmin"] is not None:
            corner = round(row["xmin"] * width), round(row["ymin"] * height)
            other = round(row["xmax"] * width) - 1, round(row["ymax"] * height) - 1
            cv2.rectangle(drawn, corner, other, colour, 1)
        text = (
            f"{row['model']} {row['motion']} az {row['azimuth_deg']:.0f} "
            f"el {row['elevation_deg']:.0f} seen {row['visible_share']:.2f}"
        )
        at = (4, 12 + 13 * place)
        cv2.putText(drawn, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 2, cv2.LINE_AA)
        cv2.putText(drawn, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, 1, cv2.LINE_AA)
    return drawn


def _frames(path: Path, wanted: Sequence[int]) -> list[Picture]:
    with av.open(str(path)) as container:
        decoded = enumerate(container.decode(video=0))
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for index, frame in decoded
            if index in wanted
        ]


def main() -> None:
    """Draw the sheet of a folder."""
    folder, sheet = Path(sys.argv[1]), sys.argv[2]
    cv2.imwrite(sheet, overlay_sheet(folder)[..., ::-1])


if __name__ == "__main__":
    main()
