"""Hostile files: each ends in a status, none in a hang or a crash."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from idpose_core.video.decoding import probe, sample_frames
from storage.reasons import Status, Unusable
from tests.video.make_videos import numbered_frames, write_sound, write_video
from tests.video.processes import decoding_processes, status
from tests.video.vast_frames import write_grey


def both(path: Path) -> Status:
    """The status that probing and sampling agree on."""
    probed = status(lambda: probe(str(path)))
    assert status(lambda: next(sample_frames(str(path), fps=4))) is probed
    return probed


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "good.mp4", numbered_frames(100), fps=10)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").touch()
    assert both(tmp_path / "v.mp4") is Status.EMPTY_FILE


def test_text_named_mp4(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_text("this is no video\n" * 50)
    assert both(tmp_path / "v.mp4") is Status.NOT_A_VIDEO


def test_noise(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    assert both(tmp_path / "v.mp4") is Status.NOT_A_VIDEO


def test_sound_only(tmp_path: Path) -> None:
    assert both(write_sound(tmp_path / "v.mp4")) is Status.NO_VIDEO_STREAM


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for name in ("missing.mp4", ".", "pipe.mp4", "loop.mp4"):
        assert both(tmp_path / name) is Status.UNREADABLE


def test_file_without_permission(tmp_path: Path, video: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    video.chmod(0)
    assert both(video) is Status.UNREADABLE


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n",
     "ffconcat version 1.0\nfile '{}'\n"],
)  # fmt: skip
def test_play_lists_open_no_other_file(tmp_path: Path, video: Path, text: str) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(text.format(video))
    assert both(path) is Status.NOT_A_VIDEO


def test_one_pixel(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.gif", [np.zeros((1, 1, 3), np.uint8)] * 3, codec="gif", pixel_format="rgb8"
    )
    assert both(path) is Status.FRAME_TOO_SMALL


@pytest.mark.parametrize("side", [9000, 16_384, 60_000])
def test_huge_declared_size(tmp_path: Path, side: int) -> None:
    path = write_video(tmp_path / "v.gif", numbered_frames(3), codec="gif", pixel_format="rgb8")
    content = bytearray(path.read_bytes())
    content[6:10] = side.to_bytes(2, "little") * 2  # the logical screen of the GIF
    path.write_bytes(content)
    assert both(path) is Status.FRAME_TOO_LARGE


VAST = [("png", "v.mov"), ("h264", "v.mov"), ("h264", "v.ts")]


@pytest.mark.parametrize(("codec", "name"), VAST)
def test_vast_frames_are_refused_before_one_is_decoded(
    tmp_path: Path, codec: str, name: str
) -> None:
    """A real frame of 16384x16384 takes 268 MB in grey and 402 MB in YUV."""
    path = write_grey(tmp_path / name, codec, 16_384)
    assert both(path) is Status.FRAME_TOO_LARGE
    [process] = decoding_processes()
    told = (Path("/proc") / str(process) / "status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", told)
    assert peak is not None and int(peak[1]) * 1024 < 200e6


@pytest.mark.parametrize(("codec", "name"), VAST)
def test_the_same_frames_of_a_usual_size_are_seen(tmp_path: Path, codec: str, name: str) -> None:
    path = write_grey(tmp_path / name, codec, 256, frames=4)
    frames = list(sample_frames(str(path), fps=10))
    assert [frame.timestamp_ms for frame in frames] == [0, 100, 200, 300]
    assert all(np.ptp(frame.image) == 0 and 126 < frame.image[0, 0, 0] < 132 for frame in frames)


def test_cut_off_before_the_index(tmp_path: Path, video: Path) -> None:
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert both(video) is Status.NOT_A_VIDEO


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_cut_off_gives_the_frames_before(tmp_path: Path, name: str) -> None:
    front = {"movflags": "faststart"} if name == "v.mp4" else {}
    path = write_video(tmp_path / name, numbered_frames(100), fps=10, container_options=front)
    whole = list(sample_frames(str(path), fps=10))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    part = list(sample_frames(str(path), fps=10))
    assert 20 < len(part) < 80
    for a, b in zip(part, whole, strict=False):
        assert a.timestamp_ms == b.timestamp_ms
        assert np.array_equal(a.image, b.image)


def damage_the_middle(video: Path) -> None:
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    video.write_bytes(content)


def test_damage_in_the_middle(video: Path) -> None:
    whole = {f.timestamp_ms: f.image for f in sample_frames(str(video), fps=10)}
    damage_the_middle(video)
    part = list(sample_frames(str(video), fps=10))
    assert 20 < len(part) < 80
    for frame in part:
        assert np.array_equal(frame.image, whole[frame.timestamp_ms])
    again = list(sample_frames(str(video), fps=10))
    assert [f.timestamp_ms for f in again] == [f.timestamp_ms for f in part]


def test_decord_survives_damage_in_the_middle(video: Path) -> None:
    """What decord gives of a damaged file differs from run to run; it ends, and that is all."""
    pytest.importorskip("decord")
    damage_the_middle(video)
    try:
        part = list(sample_frames(str(video), fps=10, decoder="decord", deadline_s=30))
    except Unusable as unusable:
        assert unusable.status in (Status.DECODE_FAILED, Status.DECODER_CRASHED)
    else:
        assert 0 < len(part) <= 100
    assert probe(str(video)).width == 192


def test_damage_everywhere(tmp_path: Path, video: Path) -> None:
    content = bytearray(video.read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[start:end] = np.random.default_rng(2).bytes(end - start)
    video.write_bytes(content)
    assert both(video) is Status.DECODE_FAILED


def test_random_damage_never_escapes(tmp_path: Path, video: Path) -> None:
    """Twenty files with bytes flipped anywhere: frames or a status, within the deadline."""
    good = video.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(20):
        content = np.frombuffer(good, np.uint8).copy()
        places = random.integers(0, len(content), 30)
        content[places] = random.integers(0, 256, 30)
        video.write_bytes(content.tobytes())
        try:
            times = [f.timestamp_ms for f in sample_frames(str(video), fps=5, deadline_s=30)]
        except Unusable as unusable:
            assert unusable.status is not Status.INTERNAL_ERROR
        else:
            assert times == sorted(set(times))
