"""Reading annotation tables: known answers, brute force, and rows that say nothing valid."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.instances.boxes import Box
from idpose_core.video.annotations import COLUMNS, Annotations, AnnotationTrack, read_annotations
from tests.benchmarks import full_size_table

HEADER = ",".join(COLUMNS)
GOOD = "vid,1000,23,car,0,present,0.1,0.5,0.2,0.6"


def read(*lines: str, classes: set[str] | None = None) -> Annotations:
    return read_annotations(io.BytesIO("\n".join(lines).encode()), classes=classes)


def test_known_rows() -> None:
    table = read(
        "b,2000,23,car,1,present,0.1,0.5,0.2,0.6",
        "b,1000,23,car,1,present,0.0,0.4,0.2,0.6",
        "b,3000,23,car,1,absent,-1.0,-1.0,-1.0,-1.0",
        "b,1000,23,car,0,uncertain,-1,-1,-1,-1",
        "b,1000,5,bus,1,present,0,1,0,1",
        "a,0,0,person,0,present,0.1,0.5,0.2,0.6",
        classes={"car", "bus"},
    )
    assert list(table.tracks) == ["b"]
    assert table.tracks["b"] == [
        AnnotationTrack("b", "bus", "1", (1000,), (Box(0, 1, 0, 1),)),
        AnnotationTrack("b", "car", "0", (1000,), (None,)),
        AnnotationTrack(
            "b", "car", "1", (1000, 2000, 3000),
            (Box(0.0, 0.4, 0.2, 0.6), Box(0.1, 0.5, 0.2, 0.6), None),
        ),
    ]  # fmt: skip
    assert (table.rows, table.duplicates, table.malformed_count) == (6, 0, 0)
    assert (table.tracks["b"][2].start_ms, table.tracks["b"][2].end_ms) == (1000, 3000)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_form_of_the_file(tmp_path: Path, zipped: bool, header: bool, end: str) -> None:
    text = end.join([*([HEADER] if header else []), GOOD, GOOD.replace("1000", "2000"), ""])
    path = tmp_path / "boxes.csv"  # the name does not say whether it is zipped
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    table = read_annotations(path, classes={"car"})
    assert table.tracks["vid"][0].timestamps_ms == (1000, 2000)
    assert (table.rows, table.malformed_count) == (2, 0)


def test_byte_order_mark_quotes_and_blank_lines() -> None:
    quoted = ",".join(f'"{field}"' for field in GOOD.split(","))
    table = read("\ufeff" + HEADER, "", quoted, "   ")
    assert table.tracks["vid"][0].boxes == (Box(0.1, 0.5, 0.2, 0.6),)
    assert (table.rows, table.malformed_count) == (1, 0)


def test_a_stray_quote_spoils_one_row_only() -> None:
    table = read('v"id,1000,23,"car,0,present,0.1,0.5,0.2,0.6', GOOD)
    assert [row.line for row in table.malformed] == [1]
    assert list(table.tracks) == ["vid"]


def test_a_stray_line_end_spoils_its_own_row_only() -> None:
    table = read(GOOD, 'x,"y"\rz,1')
    assert [row.line for row in table.malformed] == [2, 3]
    assert list(table.tracks) == ["vid"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no rows"),
        ([HEADER], "no rows"),
        ([GOOD], None),
        ([GOOD.replace("car", "bus")], "no row of the wanted classes, but of 'bus'"),
        ([GOOD.replace("car", "a\x07b")], "no row of the wanted classes, but of 'a\\x07b'"),
        (["x", "y"], "2 malformed rows, the first in line 1: 1 columns, not 10"),
        (["x" * 5000], "1 malformed rows, the first in line 1: line of more than 4096 characters"),
        ([GOOD.replace("car", "bus"), "x"], "but of 'bus'; 1 malformed rows, the first in line 2"),
    ],
)
def test_a_table_without_a_track_says_why(lines: list[str], why: str | None) -> None:
    table = read(*lines, classes={"car"})
    assert table.why_empty == why or (why and why in str(table.why_empty))


def test_only_a_few_other_classes_are_kept() -> None:
    table = read(*(GOOD.replace("car", f"class{i}") for i in range(100)), classes={"car"})
    assert table.other_classes == tuple(f"class{i}" for i in range(20))


def test_other_column_order_is_refused() -> None:
    swapped = HEADER.replace("xmax,ymin", "ymin,xmax")
    with pytest.raises(ValueError, match="expected youtube_id"):
        read(swapped, GOOD)


MALFORMED = {
    "too few columns": "vid,1000,23,car,0,present,0.1,0.5,0.2",
    "too many columns": GOOD + ",7",
    "time is no number": GOOD.replace("1000", "1s"),
    "negative time": GOOD.replace("1000", "-1000"),
    "absurd time": GOOD.replace("1000", "99999999999"),
    "class id is no number": GOOD.replace("23", "x"),
    "unknown presence": GOOD.replace("present", "perhaps"),
    "box is no number": GOOD.replace("0.5", "half"),
    "NaN": GOOD.replace("0.5", "nan"),
    "negative box": GOOD.replace("0.1", "-0.1"),
    "box marked absent but present": "vid,1000,23,car,0,present,-1.0,-1.0,-1.0,-1.0",
    "outside the frame": GOOD.replace("0.6", "1.6"),
    "swapped x": "vid,1000,23,car,0,present,0.5,0.1,0.2,0.6",
    "swapped y": "vid,1000,23,car,0,present,0.1,0.5,0.6,0.2",
    "empty box": "vid,1000,23,car,0,present,0.1,0.1,0.2,0.6",
    "no video id": GOOD.replace("vid", ""),
    "no object id": GOOD.replace("car,0", "car,"),
    "control character": GOOD.replace("vid", "v\x00id"),
    "no UTF-8": GOOD.replace("vid", "v\udcffid"),
    "long id": GOOD.replace("vid", "v" * 300),
    "endless line": GOOD + "0" * 300_000,
}


@pytest.mark.parametrize("reason", MALFORMED)
def test_malformed_rows_are_counted_with_line_and_reason(reason: str) -> None:
    text = "\n".join([HEADER, GOOD, MALFORMED[reason], GOOD.replace("1000", "2000")])
    source = io.BytesIO(text.encode(errors="surrogateescape"))
    table = read_annotations(source, classes={"car"})
    assert table.malformed_count == 1
    assert table.malformed[0].line == 3
    assert len(table.malformed[0].reason) > 10
    assert table.tracks["vid"][0].timestamps_ms == (1000, 2000)


def test_rounding_over_the_edge_is_clipped() -> None:
    table = read("v,0,23,car,0,present,-0.0000001,0.5,0.2,1.0000001")
    assert table.tracks["v"][0].boxes == (Box(0, 0.5, 0.2, 1),)


def test_only_a_thousand_reasons_are_kept() -> None:
    table = read(*["x"] * 1500)
    assert (table.malformed_count, len(table.malformed)) == (1500, 1000)


@pytest.mark.parametrize("video_id", ["../../x", "-dash", "ünï車", "a b", "/etc/passwd", "a:b"])
def test_ids_are_text_and_nothing_else(video_id: str) -> None:
    table = read(GOOD.replace("vid", video_id))
    assert list(table.tracks) == [video_id]
    assert table.tracks[video_id][0].video_id == video_id


def test_truncated_gzip_keeps_the_rows_before() -> None:
    lines = [f"v{i},1000,23,car,0,present,0.{i % 9},0.95,0.2,0.6" for i in range(20_000)]
    whole = gzip.compress("\n".join(lines).encode())
    table = read_annotations(io.BytesIO(whole[: len(whole) // 2]), classes={"car"})
    assert 1000 < len(table.tracks) < 20_000
    assert "gzip" in table.malformed[-1].reason


def test_damaged_gzip_keeps_the_rows_before() -> None:
    whole = bytearray(gzip.compress(("\n".join([GOOD] * 50_000)).encode()))
    whole[len(whole) // 2] ^= 0xFF
    table = read_annotations(io.BytesIO(bytes(whole)), classes=None)
    assert any("gzip" in row.reason for row in table.malformed)


def test_empty_file() -> None:
    table = read("")
    assert (len(table.tracks), table.rows, table.malformed_count) == (0, 0, 0)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_annotations(tmp_path / "missing.csv", classes=None)


rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "-c"]),
        st.integers(0, 5).map(lambda second: 1000 * second),
        st.sampled_from(["car", "bus", "cat"]),
        st.sampled_from(["0", "1"]),
        st.none() | st.tuples(st.integers(0, 49), st.integers(50, 99)),
    ),
    max_size=40,
)


def as_line(row: tuple[str, int, str, str, tuple[int, int] | None]) -> str:
    video, time, name, thing, sides = row
    box = "absent,-1,-1,-1,-1"
    if sides:
        box = "present," + ",".join(f"0.{side:02}" for side in (*sides, *sides))
    return f"{video},{time},1,{name},{thing},{box}"


@given(rows, st.randoms())
def test_equals_brute_force_in_any_order(rows: list, random: object) -> None:
    table = read(*map(as_line, rows), classes={"car", "bus"})
    expected: dict[tuple[str, str, str], dict[int, list]] = {}
    wanted = [row for row in rows if row[2] in ("car", "bus")]
    for video, time, name, thing, sides in wanted:
        boxes = expected.setdefault((video, name, thing), {}).setdefault(time, [])
        boxes.append(Box(*[side / 100 for side in (*sides, *sides)]) if sides else None)
    got = {
        (track.video_id, track.class_name, track.object_id): dict(
            zip(track.timestamps_ms, track.boxes, strict=True)
        )
        for tracks in table.tracks.values()
        for track in tracks
    }
    assert {key: list(value) for key, value in got.items()} == {
        key: sorted(value) for key, value in expected.items()
    }
    for key, times in expected.items():
        for time, boxes in times.items():
            assert got[key][time] in boxes
            assert (got[key][time] is None) == all(box is None for box in boxes)
    kept = sum(len(times) for times in expected.values())
    assert table.duplicates == len(wanted) - kept
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = read(*map(as_line, shuffled), classes={"car", "bus"})
    assert list(again.tracks.items()) == list(table.tracks.items())


@given(
    st.binary(max_size=3000)
    | st.text(alphabet='",\r\n\0 x1\u2028\x0b', max_size=300).map(str.encode)
)
def test_any_bytes(content: bytes) -> None:
    table = read_annotations(io.BytesIO(content), classes=None)
    assert table.malformed_count >= len(table.malformed)


TRACK = AnnotationTrack(
    "v", "car", "0", (0, 1000, 2000, 3600, 4600),
    (Box(0.0, 0.2, 0.0, 0.2), Box(0.4, 0.6, 0.2, 0.4), None, Box(0.1, 0.2, 0.1, 0.2),
     Box(0.2, 0.3, 0.2, 0.3)),
)  # fmt: skip


def test_box_between_annotations() -> None:
    assert TRACK.box_at(0) == Box(0.0, 0.2, 0.0, 0.2)
    box = TRACK.box_at(250)
    assert box is not None
    assert (box.xmin, box.xmax, box.ymin, box.ymax) == pytest.approx((0.1, 0.3, 0.05, 0.25))
    assert TRACK.box_at(1000) == Box(0.4, 0.6, 0.2, 0.4)


@pytest.mark.parametrize("time", [-1, 1001, 1999, 2000, 2001, 3599, 4601, 10**9])
def test_no_box_outside_beside_absence_or_in_a_long_gap(time: int) -> None:
    assert TRACK.box_at(time) is None


@pytest.mark.parametrize(("gap", "found"), [(1500, True), (1501, False)])
def test_longest_gap(gap: int, found: bool) -> None:
    box = Box(0, 1, 0, 1)
    track = AnnotationTrack("v", "car", "0", (0, gap), (box, box))
    assert (track.box_at(gap // 2) is not None) is found


def test_real_table(real_data: Path) -> None:
    table = read_annotations(real_data / "ytbb" / "ytbb_subset.csv", classes={"car"})
    assert (table.rows, table.duplicates, table.malformed_count) == (322, 0, 0)
    assert sorted(table.tracks) == ["oDL0b0JDnHw", "zjUxAibSTEs"]
    tracks = [track for tracks in table.tracks.values() for track in tracks]
    assert sum(len(track.timestamps_ms) for track in tracks) == 35
    everything = read_annotations(real_data / "ytbb" / "ytbb_subset.csv", classes=None)
    assert len(everything.tracks) == 10
    assert everything.malformed_count == 0


@pytest.mark.slow
def test_memory_of_a_full_table(tmp_path: Path) -> None:
    """5.6 million rows, the size of the official training table, in under 500 MB."""
    table = full_size_table.write_table(tmp_path / "boxes.csv.gz")
    for wanted, megabytes in ((full_size_table.PAPER, 150), ("all", 500)):
        found = full_size_table.read(table, wanted)
        assert found.output.split() == [str(full_size_table.ROWS), "0"]
        assert found.megabytes < megabytes
    assert full_size_table.plan(table, full_size_table.PAPER).megabytes < 500
