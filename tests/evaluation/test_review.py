from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from idpose_core.evaluation.review import (
    CANDIDATES,
    Review,
    from_csv,
    propose,
    reviewed_triplets,
    to_csv,
    to_page,
)
from idpose_core.evaluation.sets import check_triplets
from storage.datasets import read_manifest, read_table
from storage.errors import DatasetError
from storage.objects import Store
from tests.training.worlds import commit_world

Tables = tuple[pa.Table, pa.Table, pa.Table, dict[str, float]]


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Triplets, crops, clips, and what a judge sees.

    It sees the crop's second times 90, its pose in this world, and in the clips c1 the opposite.
    """
    store = Store(tmp_path)
    manifest = read_manifest(store, commit_world(store, test_videos=3))
    triplets, crops, clips = (
        read_table(store, manifest, t, split="test") for t in ("triplets", "crops", "clips")
    )
    azimuth = {
        name: (90.0 * int(name[-1]) + (180 if "-c1-" in name else 0)) % 360
        for name in crops["crop_id"].to_pylist()
    }
    return triplets, crops, clips, azimuth


def test_candidates_come_from_other_videos_and_the_judge_must_agree(
    tables: Tables,
) -> None:
    triplets, crops, clips, azimuth = tables
    known = {row["triplet_id"]: row for row in triplets.to_pylist()}
    turned = {**azimuth, "test-v0-c0-1": 200.0}
    for review in propose(triplets, crops, clips, turned, count=1000):
        source = known[review.triplet_id]
        video = source["video_id"]
        assert review.candidates[0] == source["pose_crop"]
        assert len(set(review.candidates)) == CANDIDATES
        assert all(not crop.startswith(video) for crop in review.candidates)
        apart = abs(turned[review.candidates[0]] - turned[review.target_crop])
        assert review.automatic == (1 if min(apart, 360 - apart) <= 22.5 else None)
        # The judge's own candidates are its nearest.
        target = turned[review.target_crop]
        far = [abs((turned[c] - target + 180) % 360 - 180) for c in review.candidates[1:]]
        assert (far == sorted(far) and far[0] <= 22.5) or "test-v0-c0-1" in review.target_crop


def test_no_candidate_shows_the_targets_own_object_in_another_video(tables: Tables) -> None:
    """The first clips of two videos show one car: what is left shows another."""
    triplets, crops, clips, azimuth = tables
    names = clips["clip_id"].to_pylist()
    objects = ["red" if name.endswith("-c0") and "v2" not in name else None for name in names]
    place = clips.schema.get_field_index("identity")
    told = clips.set_column(place, clips.schema.field(place), pa.array(objects, pa.string()))
    shown = dict(zip(names, objects, strict=True))
    clip = dict(zip(crops["crop_id"].to_pylist(), crops["clip_id"].to_pylist(), strict=True))
    before = {r.triplet_id: r for r in propose(triplets, crops, clips, azimuth, count=1000)}
    refused = 0
    for review in propose(triplets, crops, told, azimuth, count=1000):
        own = shown[clip[review.target_crop]]
        assert own is None or all(shown[clip[crop]] != own for crop in review.candidates)
        retrieved = before[review.triplet_id].candidates[0]
        if own is not None and shown[clip[retrieved]] == own:
            refused += 1
            assert review.automatic is None and retrieved not in review.candidates
        else:
            assert review.candidates[0] == retrieved
    assert refused


def test_what_a_person_chose_is_marked_reviewed(
    tables: Tables,
) -> None:
    triplets, crops, clips, azimuth = tables
    one, two, three, four = propose(triplets, crops, clips, azimuth, count=4)
    filled = [
        Review(*_parts(one), automatic=1, chosen=3),
        Review(*_parts(two), automatic=1, chosen=None),
        Review(*_parts(three), automatic=1, chosen=0),
        Review(*_parts(four), automatic=None, chosen=None),
    ]
    table = reviewed_triplets(from_csv(to_csv(filled).encode()), triplets, crops)
    check_triplets(table, "these")
    rows = {row["triplet_id"]: row for row in table.to_pylist()}
    assert set(rows) == {one.triplet_id, two.triplet_id}
    assert rows[one.triplet_id]["pose_crop"] == one.candidates[2]
    assert (rows[one.triplet_id]["review"], rows[one.triplet_id]["chosen_by"]) == (
        "reviewed", "person"
    )  # fmt: skip
    assert rows[two.triplet_id]["pose_crop"] == two.candidates[0]
    assert (rows[two.triplet_id]["review"], rows[two.triplet_id]["chosen_by"]) == (
        "auto", "agreement"
    )  # fmt: skip
    assert rows[one.triplet_id]["target_azimuth_deg"] is None


def _parts(review: Review) -> tuple[str, str, str, tuple[str, ...]]:
    return review.triplet_id, review.id_crop, review.target_crop, review.candidates


def test_the_file_survives_the_way_there_and_back(
    tables: Tables,
) -> None:
    reviews = propose(*tables, count=9)
    assert from_csv(to_csv(reviews).encode()) == reviews


def test_the_page_shows_every_picture(
    tables: Tables,
) -> None:
    triplets, crops, clips, azimuth = tables
    reviews = propose(triplets, crops, clips, azimuth, count=2)
    pictures = {name: np.zeros((8, 8, 3), np.uint8) for name in azimuth}
    page = to_page(reviews, pictures)
    assert page.count("<img") == 2 * (2 + CANDIDATES)
    assert "1 (automatic)" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("chosen\n", "other\n"), "lacks the columns"),
        (("triplet_id", "id"), "lacks the columns"),
        ((",1,,", ",1,9,"), "line 2 of the review file: chosen is '9', not 1 to 6 or none"),
        ((",1,,", ",1,-1,"), "chosen is '-1'"),
        ((",1,,", ",x,,"), "automatic is 'x'"),
    ],
)
def test_files_that_cannot_be_used(tables: Tables, change: tuple[str, str], message: str) -> None:
    review = propose(*tables, count=1)[0]
    text = to_csv([Review(*_parts(review), automatic=1)])
    if change[0] == "chosen\n":
        text, change = text.replace("chosen,", "other,"), ("", "")
    with pytest.raises(DatasetError, match=message):
        from_csv(text.replace(*change, 1).encode())


def test_a_file_of_other_data(tables: Tables) -> None:
    triplets, crops, clips, azimuth = tables
    review = propose(triplets, crops, clips, azimuth, count=1)[0]
    foreign = Review("nobody", *_parts(review)[1:], automatic=1, chosen=1)
    with pytest.raises(DatasetError, match="is not of this dataset version"):
        reviewed_triplets([foreign], triplets, crops)
    with pytest.raises(DatasetError, match="leaves no triplet"):
        reviewed_triplets([Review(*_parts(review), automatic=None, chosen=0)], triplets, crops)
    with pytest.raises(DatasetError, match="nobody has chosen anything"):
        reviewed_triplets([Review(*_parts(review), automatic=1)], triplets, crops)
    with pytest.raises(DatasetError, match="has no rows"):
        from_csv(b"")
    with pytest.raises(DatasetError, match=r"line 2 .* too few or too many"):
        from_csv((to_csv([review]).splitlines()[0] + "\nonly,three,cells\n").encode())
    with pytest.raises(DatasetError, match="no triplets"):
        propose(triplets.slice(0, 0), crops, clips, azimuth, count=1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_as_spreadsheets_save_them(tables: Tables, delimiter: str, encoding: str) -> None:
    reviews = propose(*tables, count=5)
    for end in ("\n", "\r\n", "\r"):
        text = to_csv(reviews).replace(",", delimiter).replace("\n", end)
        assert from_csv(text.encode(encoding)) == reviews


def test_what_spreadsheets_break_is_told(tables: Tables) -> None:
    review = propose(*tables, count=1)[0]
    text = to_csv([review])
    with pytest.raises(DatasetError, match="save it as 'CSV UTF-8'"):
        from_csv((text + "\u00e9").encode("latin-1"))
    # With the first candidate gone, a 2 would mean the third.
    with pytest.raises(DatasetError, match="a candidate before the last is gone"):
        from_csv(text.replace(review.candidates[0], "", 1).encode())
    first = review.candidates[0]
    with pytest.raises(DatasetError, match="chosen is '\u00b2'"):
        from_csv(text.replace(f",{first}", f"\u00b2,{first}").encode())
