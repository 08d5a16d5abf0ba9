"""The page of a dataset: complete, self-contained, repeatable, safe with hostile names."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.pose import agreement, triplets
from idpose_core.pose.balance import Balance
from idpose_core.reports.explain import LEFT_OUT, MEASURES, STATUSES
from idpose_core.reports.gallery import dataset_page, triplet_sheet, visible
from idpose_core.reports.pictures import (
    heat_map,
    pair_counts,
    sample_crops,
    sample_triplets,
)
from storage.datasets import DatasetError
from storage.reasons import Status
from storage.schemas import CLIPS, VIDEOS
from tests.reports.worlds import CountingStore, clip, colour, dataset, empty_tables, video

World = tuple[CountingStore, dict[str, pa.Table], dict[str, Any]]


class Page(HTMLParser):
    """Elements, attributes and text of a page; checks that elements are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def images(self, alt: str) -> list[np.ndarray]:
        values = iter(self.attributes)
        found = []
        for tag, name, value in values:
            if tag == "img" and name == "src" and next(values)[2] == alt:
                data = base64.b64decode(value.partition(",")[2])
                found.append(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return dataset(tmp_path)


def with_rows(table: pa.Table, rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([table, pa.Table.from_pylist(rows, schema=schema)])


def test_a_card_shows_the_pictures_of_its_triplet(world: World) -> None:
    store, tables, statistics = world
    page = Page(dataset_page(store, "t", tables, statistics, triplets=9))
    rows = sample_triplets(tables["triplets"], 9, 0)
    for role in ("ID", "pose", "target"):
        shown = page.images(role)
        assert len(shown) == 9
        for row, picture in zip(rows, shown, strict=True):
            number = int(row[f"{role.lower()}_crop"].removeprefix("crop-"))
            assert np.abs(picture.astype(int) - colour(number)).max() <= 6


def test_strips_show_crops_of_their_cluster_from_many_videos(world: World) -> None:
    store, tables, statistics = world
    page = Page(dataset_page(store, "t", tables, statistics))
    strips = sample_crops(tables["crops"], 8, 0)
    assert list(strips) == [0, 1, 2]
    for cluster, members in strips.items():
        numbers = [int(name.removeprefix("crop-")) for name in members]
        assert len(set(numbers)) == 8
        assert {number % 3 for number in numbers} == {cluster}
        assert len({number // 6 for number in numbers[:6]}) == 6  # all six videos come first
        shown = page.images(f"crop of pose {cluster}")
        for number, picture in zip(numbers, shown, strict=True):
            assert np.abs(picture.astype(int) - colour(number)).max() <= 6


def test_counts_losses_and_reasons_are_told(world: World) -> None:
    store, tables, statistics = world
    tables["videos"] = with_rows(
        tables["videos"],
        [
            video("broken", Status.DECODE_FAILED, reason_detail="moov atom not found"),
            video("copy", Status.DUPLICATE, video_id="video-1", split=None),
        ],
        VIDEOS,
    )
    tables["clips"] = with_rows(
        tables["clips"], [clip("video-1", "train", Status.BLURRED, clip_id="b")], CLIPS
    )
    text = Page(dataset_page(store, "cars 12ab", tables, statistics)).text
    assert "6 videos of 8 seen 4 train, 2 test" in text
    assert "6 clips of 7 seen 4 train, 2 test" in text
    assert "36 crops 24 train, 12 test" in text
    assert f"{len(tables['triplets'])} triplets" in text.replace(",", "", 1)
    assert "decode_failed 1 not one frame could be decoded" in text
    assert "broken.mp4 decode_failed moov atom not found" in text
    assert "each of the 2 videos that were lost" in text
    # A copy shares its id with the good file; the clip is named after the good one
    assert "video-1.mp4, car 0, 0.0 to 5.0 s blurred" in text
    assert "min 6, median 6, p90 6, max 6" in text
    assert "entropy 0.900 0.800" in text


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</code></td></table><h1>",
    "&lt;b&gt;",
    "a\x00b\x1b[31mc",
    "exe.\u202e4pm",
    "Ünïcödé 車 🚗.mp4",
    "x" * 100_000,
)


def test_hostile_names_stay_text(world: World) -> None:
    store, tables, statistics = world
    honest = Page(dataset_page(store, "t", tables, statistics))
    names = dict(zip(tables["videos"]["video_id"].to_pylist(), HOSTILE, strict=False))
    renamed = pa.array([names[v] for v in tables["videos"]["video_id"].to_pylist()])
    place = tables["videos"].schema.get_field_index("source_uri")
    tables["videos"] = tables["videos"].set_column(place, VIDEOS.field("source_uri"), renamed)
    lost = [
        video(f"bad-{i}", Status.NOT_A_VIDEO, source_uri=name, reason_detail=name)
        for i, name in enumerate(HOSTILE)
    ]
    clips = [
        clip(f"video-{i}", "train", Status.STATIC, clip_id=f"c{i}", object_id=HOSTILE[i])
        for i in range(6)
    ]
    tables["videos"] = with_rows(tables["videos"], lost, VIDEOS)
    tables["clips"] = with_rows(tables["clips"], clips, CLIPS)
    source = dataset_page(store, HOSTILE[0] + HOSTILE[1], tables, statistics)
    page = Page(source)
    assert not page.open
    assert page.tags["script"] == 0
    assert page.tags["img"] == honest.tags["img"]
    assert page.tags["h1"] == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert {name for _, name, _ in page.attributes} <= {
        "lang", "charset", "name", "content", "http-equiv", "class", "style", "src", "alt", "open",
    }  # fmt: skip
    assert "\u202e" not in source and "\x00" not in source and "\x1b" not in source
    for name in HOSTILE[:6]:
        assert " ".join(name.split()) in page.text
    assert "exe.\\u202e4pm" in page.text and "a\\x00b\\x1b[31mc" in page.text
    assert "Ünïcödé 車 🚗.mp4" in page.text
    assert len(source) < 400_000  # long names do not blow it up


def test_the_page_needs_nothing_else(world: World) -> None:
    source = dataset_page(world[0], "t", *world[1:])
    page = Page(source)
    assert page.tags["link"] == page.tags["iframe"] == page.tags["script"] == 0
    addresses = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert addresses and all(address.startswith("data:image/") for address in addresses)
    assert "http" not in re.sub(r"data:image/\w+;base64,[\w+/=]+|http-equiv", "", source)


def test_equal_input_gives_an_equal_page(world: World, tmp_path: Path) -> None:
    store, tables, statistics = world
    first = dataset_page(store, "t", tables, statistics)
    assert dataset_page(store, "t", tables, statistics) == first
    # ... whatever the order of rows and keys, as read back from JSON
    shuffled = {
        name: table.take(np.random.default_rng(3).permutation(table.num_rows))
        for name, table in reversed(tables.items())
    }
    again = json.loads(json.dumps(statistics, sort_keys=True))
    assert dataset_page(store, "t", shuffled, again) == first
    assert dataset_page(store, "t", tables, statistics, seed=1) != first


def test_shards_are_read_once_and_only_those_needed(world: World) -> None:
    store, tables, statistics = world
    dataset_page(store, "t", tables, statistics)
    assert sorted(store.opened) == sorted(set(store.opened))
    store.opened.clear()
    one = tables["triplets"].slice(0, 1)
    triplet_sheet(store, {**tables, "triplets": one})
    row = one.to_pylist()[0]
    needed = {row["video_id"], row["pose_video_id"]}
    assert sorted(store.opened) == sorted(f"shards/crop/{name}.parquet" for name in needed)


def test_nothing_at_all_is_a_page_too(tmp_path: Path) -> None:
    page = Page(dataset_page(CountingStore(tmp_path), "empty", empty_tables(), {}))
    assert not page.open and page.tags["img"] == 0
    for sentence in ("no triplets", "no clusters", "no pose pairs", "None were seen"):
        assert sentence in page.text


def test_a_split_may_be_missing(world: World) -> None:
    store, tables, statistics = world
    only = {name: table.filter(pc.equal(table["split"], "train")) for name, table in tables.items()}
    less = {key: value for key, value in statistics.items() if key != "crops_per_clip"}
    less["balance"], less["pools"] = {"train": {"rows": 5}}, {"train": statistics["pools"]["train"]}
    page = Page(dataset_page(store, "t", only, less))
    assert "24 train, 0 test" in page.text
    assert len(page.images("ID")) == 24
    assert "test, 3" not in page.text
    without = Page(dataset_page(store, "t", {**tables, "triplets": only["triplets"][:0]}, {}))
    assert "There are no triplets." in without.text
    assert without.images("crop of pose 1")


def test_pools_may_be_unknown_and_clusters_null(world: World) -> None:
    store, tables, _ = world
    place = tables["crops"].schema.get_field_index("pose_cluster")
    nulls = pa.nulls(len(tables["crops"]), pa.int32())
    tables["crops"] = tables["crops"].set_column(place, "pose_cluster", nulls)
    page = Page(dataset_page(store, "t", tables, {}))
    assert "There are no clusters." in page.text
    assert len(page.images("triplets of each pose pair")) == 2
    assert not page.images("pairs to choose from")


def test_a_page_of_a_large_dataset_stays_small(world: World) -> None:
    store, tables, statistics = world
    many = [video(f"v{i}", Status.NO_DETECTION, reason_detail="none") for i in range(5000)]
    tables["videos"] = with_rows(tables["videos"], many, VIDEOS)
    clusters = 300
    pool = np.random.default_rng(0).integers(0, 50, (clusters, clusters)).tolist()
    place = tables["crops"].schema.get_field_index("pose_cluster")
    spread = pa.array(np.arange(len(tables["crops"])) * 8, pa.int32())
    tables["crops"] = tables["crops"].set_column(place, "pose_cluster", spread)
    source = dataset_page(store, "t", tables, {**statistics, "pools": {"train": pool}})
    page = Page(source)
    assert len(source) < 1_500_000
    assert "and 4,800 more" in page.text and "each of the 5,000 videos" in page.text
    assert "300 × 300 pose pairs" in page.text  # noqa: RUF001


def test_a_missing_shard_is_an_error(world: World) -> None:
    store, tables, statistics = world
    store.delete("shards/crop/video-0.parquet")
    with pytest.raises(DatasetError, match="is missing"):
        dataset_page(store, "t", tables, statistics)


def test_the_sheet_shows_triplets_line_by_line(world: World) -> None:
    store, tables, _ = world
    side = 48
    sheet = triplet_sheet(store, tables, rows=4, columns=2, side=side, seed=2)
    rows = sample_triplets(tables["triplets"], 8, 2)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    gap, heading = side // 24, 18
    for number, row in enumerate(rows):
        for place, role in enumerate(("id", "pose", "target")):
            y = heading + number // 2 * (side + gap) + side // 2
            x = number % 2 * 3 * (side + 2 * gap) + place * (side + gap) + side // 2
            assert tuple(sheet[y, x]) == colour(int(row[f"{role}_crop"].removeprefix("crop-")))
    assert (sheet[:heading] < 128).any()  # the words
    np.testing.assert_array_equal(
        sheet, triplet_sheet(store, tables, rows=4, columns=2, side=side, seed=2)
    )


def test_the_sheet_of_no_triplets_is_its_headings(tmp_path: Path) -> None:
    sheet = triplet_sheet(CountingStore(tmp_path), empty_tables())
    assert sheet.shape[0] < 40 and (sheet < 128).any()


def test_samples_hold_both_splits_and_fill_up(world: World) -> None:
    table = world[1]["triplets"]
    splits = Counter(row["split"] for row in sample_triplets(table, 24, 0))
    assert splits == {"train": 16, "test": 8}
    train = table.filter(pc.equal(table["split"], "train"))
    assert len(sample_triplets(train, 24, 0)) == 24
    test = table.filter(pc.equal(table["split"], "test"))
    few = pa.concat_tables([train.slice(0, 3), test])
    assert Counter(r["split"] for r in sample_triplets(few, 24, 0)) == {"train": 3, "test": 21}
    assert len(sample_triplets(table, 10**6, 0)) == len(table)


def test_pairs_are_counted_by_split(world: World) -> None:
    table = world[1]["triplets"]
    for split in ("train", "test"):
        expected = np.zeros((3, 3), int)
        for row in table.to_pylist():
            if row["split"] == split:
                expected[row["id_cluster"], row["pose_cluster"]] += 1
        np.testing.assert_array_equal(pair_counts(table, split, 3), expected)


def test_the_map_is_darker_where_more_is_and_grey_where_nothing_can_be() -> None:
    counts = np.array([[0, 5], [10, 0]])
    possible = np.array([[True, True], [True, False]])
    picture = heat_map(counts, possible, side=40).astype(int)
    assert picture.shape == (40, 40, 3)
    none, some, most, never = (picture[y, x] for y, x in ((10, 10), (10, 30), (30, 10), (30, 30)))
    assert none.sum() > some.sum() > most.sum()
    assert never[0] == never[1] > never[2]  # grey, no blue
    assert heat_map(np.zeros((300, 300), np.int64), np.ones((300, 300), bool)).shape[0] == 600


@given(st.text(max_size=600))
def test_shown_text_is_printable_and_bounded(text: str) -> None:
    shown = visible(text)
    assert all(c.isprintable() or c == "\n" for c in shown)
    if len(text) <= 320 and text.isprintable():
        assert shown == text
    assert len(shown) <= 10 * 323


def test_every_status_and_measure_has_its_words() -> None:
    assert set(STATUSES) == set(Status)
    assert set(MEASURES) == set(Balance.__dataclass_fields__)


def test_changes_of_pose_and_what_was_left_out_are_told(world: World) -> None:
    store, tables, statistics = world
    table = tables["triplets"]
    place = table.schema.get_field_index("target_cluster")
    fixed = pa.array([2] * len(table), pa.int32())
    tables["triplets"] = table.set_column(place, "target_cluster", fixed)
    counts = {
        "rows": 1200, "by_truth": 1000, "changed_by_truth": 812, "as_read": 200,
        "changed_as_read": 50, "pose_by_truth": 800, "pose_right": 600, "pose_opposite": 40,
    }  # fmt: skip
    sampling = {
        "balance": "target", "rows": 1200, "few": False,
        "left_out": {"turns_little": 7000, "low_trust": 12, "<new>": 3},
        "missing_poses": {"by": "as read", "poses": ["rear", "left"]},
        "changes": {"target": counts, "paper": {**counts, "pose_opposite": 400}},
    }  # fmt: skip
    source = dataset_page(store, "t", tables, {**statistics, "sampling": {"train": sampling}})
    page = Page(source)
    assert "more than 30 degrees in 812 of 1,000 by truth" in page.text
    assert "more than 30 degrees in 50 of 200 as read" in page.text
    assert "within 45 degrees in 75.0%, opposite in 5.0%" in page.text
    assert "balance=paper (not used, to compare)" in page.text
    assert "75.0%, opposite in 50.0%" in page.text
    assert "7,000 pairs left out: the clip turns too little" in page.text
    assert "no target shows these poses, as read: rear, left" in page.text
    assert "<new>" not in source and "the pose of the target (column)" in page.text
    drawn = pair_counts(tables["triplets"], "train", 3, "target_cluster")
    assert drawn[:, :2].sum() == 0 and drawn[:, 2].sum() > 0
    assert "the pose of the pose picture (column)" in dataset_page(store, "t", tables, statistics)


def test_every_reason_of_a_pair_is_in_words() -> None:
    reasons = {
        getattr(module, name)
        for module, names in (
            (agreement, ("NO_NEIGHBOUR", "OTHER_DIRECTION", "LOW_TRUST")),
            (triplets, ("SAME_CLUSTER", "TURNS_LITTLE", "POSE_SPENT", "THINNED", "NOT_DRAWN")),
        )
        for name in names
    }
    assert set(LEFT_OUT) == reasons
