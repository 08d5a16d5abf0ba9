"""Evaluation triplets where no truth is known: candidates that a person looks at.

The candidates for a target's pose picture are the one that the training's retrieval chose, and
those that a network independent of it (the azimuth judge, trained on data with known azimuth) finds
nearest. Where both agree, the retrieval's choice is taken as it is and its row marked automatic;
what a person chose is marked reviewed; all other rows are left out. So no pose picture is chosen by
the training's retrieval alone.
"""

from __future__ import annotations

import csv
import html
import io
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from idpose_core.evaluation.judges import NEAR_DEG, azimuth_error
from idpose_core.evaluation.pictures import Pictures
from idpose_core.evaluation.sets import SCHEMA
from idpose_core.evaluation.truth import objects_shown
from idpose_core.reports.pictures import jpeg_uri, seeded, shrink
from storage.errors import DatasetError

CANDIDATES = 6
_NONE = "none"
_FIELDS = ("triplet_id", "id_crop", "target_crop", "automatic", "chosen")
_NUMBERED = tuple(f"candidate_{number}" for number in range(1, CANDIDATES + 1))


@dataclass(frozen=True)
class Review:
    """One triplet to look at.

    Attributes:
        triplet_id: Of the dataset's triplet with this ID picture and target.
        id_crop: The ID picture.
        target_crop: The target.
        candidates: Crops of other videos and other objects, the retrieval's first.
        automatic: Number of the candidate on which both agree, from 1; None where they do not.
        chosen: What a person chose: a number, 0 for none of them; None where nobody did.
    """

    triplet_id: str
    id_crop: str
    target_crop: str
    candidates: tuple[str, ...]
    automatic: int | None
    chosen: int | None = None


def propose(
    triplets: pa.Table,
    crops: pa.Table,
    clips: pa.Table,
    azimuth: Mapping[str, float],
    *,
    count: int,
    seed: int = 0,
) -> list[Review]:
    """Triplets of a dataset's test split with candidates for their pose picture.

    No candidate shows the target's own object, in whatever video, where objects are known: it
    would give the identity away. The retrieval's choice is no exception.

    Args:
        triplets: The dataset's, whose pose pictures its retrieval chose.
        crops: Of the same split.
        clips: Likewise; see :func:`objects_shown`.
        azimuth: Of every crop, as the judge sees it, in degrees.
        count: As many, or as many as there are.
        seed: Of the choice.

    Raises:
        DatasetError: There are no triplets.
    """
    if not triplets.num_rows:
        raise DatasetError("the test split has no triplets: build the dataset with more videos")
    names, videos = crops["crop_id"].to_pylist(), np.array(crops["video_id"].to_pylist())
    place = {name: number for number, name in enumerate(names)}
    shown = objects_shown(crops, clips)
    seen = np.array([azimuth[name] for name in names])
    rows = sorted(triplets.to_pylist(), key=lambda row: seeded(seed, row["triplet_id"]))
    found = []
    for row in rows[:count]:
        target, chosen = place[row["target_crop"]], place[row["pose_crop"]]
        far = azimuth_error(seen, np.full(len(seen), seen[target]))
        other = (videos != videos[target]) & (shown != shown[target])
        order = [n for n in np.argsort(far, kind="stable") if other[n] and n != chosen]
        retrieved = [chosen] if other[chosen] else []
        candidates = (retrieved + order)[:CANDIDATES]
        agreed = bool(retrieved) and far[chosen] <= NEAR_DEG
        found.append(
            Review(
                row["triplet_id"], row["id_crop"], row["target_crop"],
                tuple(names[n] for n in candidates), 1 if agreed else None,
            )
        )  # fmt: skip
    return found


def to_csv(reviews: Sequence[Review]) -> str:
    """The file that a person fills: a candidate's number or ``none`` in the column ``chosen``."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [*_FIELDS, *_NUMBERED], lineterminator="\n")
    writer.writeheader()
    for review in reviews:
        chosen = _NONE if review.chosen == 0 else review.chosen
        writer.writerow(
            {
                "triplet_id": review.triplet_id, "id_crop": review.id_crop,
                "target_crop": review.target_crop, "automatic": review.automatic,
                "chosen": chosen, **dict(zip(_NUMBERED, review.candidates, strict=False)),
            }
        )  # fmt: skip
    return out.getvalue()


def from_csv(data: bytes) -> list[Review]:
    """Read the file again, as spreadsheets save it: with commas, semicolons or tabs.

    Raises:
        DatasetError: It is no such file, columns are missing, or a row names a candidate that
            there is not.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError("the review file is not UTF-8: save it as 'CSV UTF-8'") from error
    lines = text.splitlines()
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    rows = list(csv.DictReader(lines, delimiter=delimiter))
    missing = {*_FIELDS, *_NUMBERED} - set(rows[0] if rows else [])
    if missing:
        raise DatasetError(f"the review file has no rows or lacks the columns {sorted(missing)}")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DatasetError(f"line {number} of the review file has too few or too many cells")
    return [_review(number, row) for number, row in enumerate(rows, start=2)]


def to_page(reviews: Sequence[Review], pictures: Mapping[str, Pictures]) -> str:
    """An HTML page that shows what the file asks: ID picture, target, numbered candidates."""

    def shown(crop: str, title: str) -> str:
        uri = jpeg_uri(shrink(pictures[crop], 96))
        return f'<td><img src="{uri}" alt=""><br>{html.escape(title)}</td>'

    lines = [
        f"<tr><th>{html.escape(review.triplet_id)}</th>{shown(review.id_crop, 'ID')}"
        f"{shown(review.target_crop, 'target')}"
        + "".join(
            shown(crop, f"{number}{' (automatic)' if number == review.automatic else ''}")
            for number, crop in enumerate(review.candidates, start=1)
        )
        + "</tr>"
        for review in reviews
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Review of pose pictures'
        "</title><style>body{font:14px sans-serif}td,th{padding:4px;text-align:center}</style>"
        "<p>Which candidate shows the target's pose? Write its number, or <code>none</code>, into "
        "the column <code>chosen</code> of the file.</p><table>" + "\n".join(lines) + "</table>"
    )


def reviewed_triplets(reviews: Sequence[Review], triplets: pa.Table, crops: pa.Table) -> pa.Table:
    """Triplets in the schema of an evaluation set, from a filled file.

    Raises:
        DatasetError: Nobody has chosen anything, a row is of another dataset, or none is left.
    """
    if all(review.chosen is None for review in reviews):
        raise DatasetError(
            "nobody has chosen anything in the review file: write a candidate's number or `none` "
            "into its column `chosen`; rows left empty keep what retrieval and judge agree on"
        )
    known = {row["triplet_id"]: row for row in triplets.to_pylist()}
    clip = dict(zip(crops["crop_id"].to_pylist(), crops["clip_id"].to_pylist(), strict=True))
    known_crops, rows = set(clip), list[dict[str, Any]]()
    for review in reviews:
        number = review.automatic if review.chosen is None else review.chosen
        if not number:
            continue
        source, pose = known.get(review.triplet_id), review.candidates[number - 1]
        named = {review.id_crop, review.target_crop, pose}
        asked = source and (source["id_crop"], source["target_crop"])
        if (
            source is None
            or asked != (review.id_crop, review.target_crop)
            or not named <= known_crops
        ):
            raise DatasetError(
                f"the review file's triplet {review.triplet_id} is not of this dataset version"
            )
        person = review.chosen is not None
        rows.append({
            "triplet_id": review.triplet_id, "id_crop": review.id_crop, "pose_crop": pose,
            "target_crop": review.target_crop, "identity": clip[review.target_crop],
            "pose_identity": clip[pose], "id_ms": source["id_ms"],
            "target_ms": source["target_ms"],
            "chosen_by": "person" if person else "agreement",
            "review": "reviewed" if person else "auto",
        })  # fmt: skip
    if not rows:
        raise DatasetError("the review file leaves no triplet: fill its column `chosen`")
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _review(line: int, row: Mapping[str, str]) -> Review:
    candidates = tuple(row[name] for name in _NUMBERED if row[name])
    if any(row[name] for name in _NUMBERED[len(candidates) :]):
        raise DatasetError(f"line {line} of the review file: a candidate before the last is gone")

    def number(column: str) -> int | None:
        said = row[column].strip()
        if not said:
            return None
        if said.lower() == _NONE:
            return 0
        if not said.isdecimal() or not 1 <= int(said) <= len(candidates):
            raise DatasetError(
                f"line {line} of the review file: {column} is {said!r}, not 1 to "
                f"{len(candidates)} or none"
            )
        return int(said)

    return Review(
        row["triplet_id"], row["id_crop"], row["target_crop"], candidates, number("automatic"),
        number("chosen"),
    )  # fmt: skip
