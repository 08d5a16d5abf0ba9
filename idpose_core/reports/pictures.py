"""Pictures for reports: which crops to show, their encoding, maps of pose pairs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from idpose_core.stages.crop import decode_png, encode_png
from storage.export import picture_places, read_pictures
from storage.objects import Store

Picture = NDArray[np.uint8]
Counts = NDArray[np.int64]

_FEWEST, _MOST = np.array([232, 240, 250.0]), np.array([16, 58, 122.0])
_NO_PAIR = (222, 222, 218)


def seeded(seed: int, name: str) -> bytes:
    """A sort key that puts names in an order that looks random and depends on them alone."""
    return hashlib.blake2b(f"{seed}|{name}".encode(), digest_size=16).digest()


def sample_triplets(table: pa.Table, count: int, seed: int) -> list[dict[str, Any]]:
    """Some triplets, in seeded order: two thirds of train, the others of test, train first.

    Where one split has too few, the other fills up.
    """
    splits, names = table["split"].to_pylist(), table["triplet_id"].to_pylist()
    order = sorted(range(len(names)), key=lambda row: seeded(seed, names[row]))
    train = [row for row in order if splits[row] == "train"]
    other = [row for row in order if splits[row] != "train"]
    from_other = min(len(other), max(count // 3, count - len(train)))
    chosen = train[: count - from_other] + other[:from_other]
    rows: list[dict[str, Any]] = table.take(pa.array(chosen, pa.int64())).to_pylist()
    return rows


def sample_crops(crops: pa.Table, count: int, seed: int) -> dict[int, list[str]]:
    """For each pose cluster some of its crops in seeded order, of as many videos as possible."""
    by_cluster: dict[int, list[tuple[str, str]]] = {}
    columns = (crops[name].to_pylist() for name in ("pose_cluster", "video_id", "crop_id"))
    for cluster, video, crop in zip(*columns, strict=True):
        if cluster is not None:
            by_cluster.setdefault(cluster, []).append((video, crop))
    return {
        cluster: _videos_in_turn(members, count, seed)
        for cluster, members in sorted(by_cluster.items())
    }


def load_pictures(store: Store, crops: pa.Table, wanted: Iterable[str]) -> dict[str, Picture]:
    """The pictures uint8 [S, S, 3] RGB of crops, each shard read at most once.

    Raises:
        KeyError: A crop is not in the table.
        DatasetError: A shard is missing or damaged.
    """
    places = picture_places(crops)
    found = read_pictures(store, {crop: places[crop] for crop in sorted(set(wanted))})
    return {crop: decode_png(png) for crop, png in found}


def shrink(picture: Picture, side: int) -> Picture:
    """The picture at ``side`` by ``side`` pixels."""
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def jpeg_uri(picture: Picture) -> str:
    """An RGB picture as a ``data:`` address."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(bytes(data)).decode()


def bounded_uri(picture: Picture, most: int) -> str:
    """An RGB picture as a ``data:`` address of at most so many characters, shrunk to fit."""
    uri = jpeg_uri(picture)
    while len(uri) > most:
        height, width = picture.shape[:2]
        size = (width * 3 // 4, height * 3 // 4)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        uri = jpeg_uri(picture)
    return uri


def png_uri(picture: Picture) -> str:
    """A picture as a ``data:`` address, without loss."""
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode()


def pair_counts(
    triplets: pa.Table, split: str, clusters: int, second: str = "pose_cluster"
) -> Counts:
    """How many triplets have each pair of poses: cluster of the ID picture, column `second`.

    Returns:
        int64 [M, M]
    """
    counts = np.zeros((clusters, clusters), np.int64)
    columns = (triplets[name].to_pylist() for name in ("split", "id_cluster", second))
    for of_split, own, other in zip(*columns, strict=True):
        if of_split == split:
            counts[own, other] += 1
    return counts


def heat_map(counts: Counts, possible: NDArray[np.bool_], *, side: int = 260) -> Picture:
    """A picture of counts [M, M]: the more the darker, grey where no pair is possible.

    Shades follow log(1 + count), because a few pairs can be a thousand times as frequent as most.

    Returns:
        uint8 [about side, about side, 3] RGB; cells are whole pixels.
    """
    share = (np.log1p(counts) / np.log1p(max(1, int(counts.max(initial=0)))))[..., None]
    colours = np.where(
        possible[..., None] | (counts > 0)[..., None], _FEWEST + share * (_MOST - _FEWEST), _NO_PAIR
    )
    cell = max(2, side // max(1, len(counts)))
    picture = colours.round().astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    if cell >= 6:
        picture[::cell], picture[:, ::cell] = 255, 255
    return picture


def contact_sheet(
    rows: Sequence[Mapping[str, Any]], pictures: Mapping[str, Picture], *, columns: int, side: int
) -> Picture:
    """Triplets as lines of three pictures, in columns, below a line of headings.

    Args:
        rows: Rows of the triplets table.
        pictures: By crop id.
        columns: Triplets in one line.
        side: Of a picture, in pixels.

    Returns:
        uint8 [H, W, 3] RGB on white.
    """
    gap, heading = side // 24, max(18, side // 5)
    wide, high = 3 * (side + gap) + 3 * gap, side + gap
    lines = -(-len(rows) // columns)
    sheet = np.full((heading + lines * high, columns * wide - 3 * gap, 3), 255, np.uint8)
    for column in range(columns):
        for place, word in enumerate(("ID", "pose", "target")):
            at = (column * wide + place * (side + gap) + 2, heading - max(6, side // 16))
            cv2.putText(
                sheet, word, at, cv2.FONT_HERSHEY_SIMPLEX, side / 210, (40, 48, 58), 1, cv2.LINE_AA
            )
    for number, row in enumerate(rows):
        top = heading + number // columns * high
        for place, role in enumerate(("id", "pose", "target")):
            left = number % columns * wide + place * (side + gap)
            sheet[top : top + side, left : left + side] = shrink(
                pictures[row[f"{role}_crop"]], side
            )
    return sheet


def _videos_in_turn(members: list[tuple[str, str]], count: int, seed: int) -> list[str]:
    taken: dict[str, int] = {}
    turns = []
    for video, crop in sorted(members, key=lambda member: seeded(seed, member[1])):
        taken[video] = taken.get(video, 0) + 1
        turns.append((taken[video], crop))
    return [crop for _, crop in sorted(turns, key=lambda turn: turn[0])[:count]]
