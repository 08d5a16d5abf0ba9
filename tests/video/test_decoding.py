"""Decoding: the right frames from sound files of every kind, by all decoders alike."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from idpose_core.video import decoder_pyav
from idpose_core.video.decoding import frames_at, probe, sample_frames
from idpose_core.video.frames import Frame, Selector, grid_targets
from storage.reasons import Status, Unusable
from tests.video.make_videos import Image, frame_number, numbered_frames, write_video

IRREGULAR = [0, 40, 90, 300, 310, 350, 900, 1000, 1033, 1066, 1500, 1999, 2000, 2600, 3001, 3002]
FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}


def have(decoder: str) -> bool:
    return importlib.util.find_spec(decoder) is not None


DECODERS = [
    "pyav",
    pytest.param("decord", marks=pytest.mark.skipif(not have("decord"), reason="no decord")),
    pytest.param(
        "torchcodec", marks=pytest.mark.skipif(not have("torchcodec"), reason="no torchcodec")
    ),
]


def seen(frames: Iterator[Frame]) -> list[tuple[int, int]]:
    """Time stamp and number of each frame."""
    return [(frame.timestamp_ms, frame_number(frame.image)) for frame in frames]


def expected(times: list[int], fps: float, windows: list[tuple[int, int]] | None = None):
    selector = Selector(grid_targets(fps, windows))
    return [(time, number) for number, time in enumerate(times) if selector.take(time)]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("h264.mp4", {}),
        ("h264.mkv", {}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": FAST_VP9}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("h264.flv", {}),
        ("lossless.mkv", {"codec": "ffv1", "pixel_format": "bgr0"}),
    ],
)
def test_constant_rate(tmp_path: Path, decoder: str, name: str, coding: dict) -> None:
    path = write_video(tmp_path / name, numbered_frames(50), fps=25, **coding)
    got = seen(sample_frames(str(path), fps=4, decoder=decoder))
    assert got == expected([40 * i for i in range(50)], 4)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
@pytest.mark.parametrize("start", [0, 5000])
def test_variable_rate_and_start_time(tmp_path: Path, decoder: str, name: str, start: int) -> None:
    times = [start + time for time in IRREGULAR]
    path = write_video(tmp_path / name, numbered_frames(len(times)), timestamps_ms=times)
    got = seen(sample_frames(str(path), fps=4, decoder=decoder))
    assert got == expected(IRREGULAR, 4)


@pytest.mark.parametrize("name", ["v.gif", "av1.mp4", "v.ts"])
def test_what_only_pyav_decodes(tmp_path: Path, name: str) -> None:
    coding = {
        "v.gif": {"codec": "gif", "pixel_format": "rgb8"},
        "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
        "v.ts": {},
    }[name]
    path = write_video(tmp_path / name, numbered_frames(30), fps=25, **coding)
    assert seen(sample_frames(str(path), fps=5)) == expected([40 * i for i in range(30)], 5)
    if have("decord"):
        with pytest.raises(Unusable, match="pyav") as failure:
            next(sample_frames(str(path), fps=5, decoder="decord"))
        assert failure.value.status is Status.DECODE_FAILED


def test_avi_with_b_frames(tmp_path: Path) -> None:
    """No presentation times: in order, late by up to three frames; who counts frames refuses."""
    path = write_video(tmp_path / "v.avi", numbered_frames(50), codec="libx264")
    got = seen(sample_frames(str(path), fps=25))
    assert len(got) >= 47
    assert [number for _, number in got] == sorted({number for _, number in got})
    assert {time - 40 * number for time, number in got} <= {0, 40, 80, 120}
    if have("decord"):
        with pytest.raises(Unusable, match="pyav"):
            next(sample_frames(str(path), fps=5, decoder="decord"))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation(tmp_path: Path, decoder: str, rotation: int) -> None:
    [image] = numbered_frames(1, first=0b100110101)
    path = write_video(tmp_path / "v.mp4", [image] * 5, rotation=rotation)
    upright = np.rot90(image, rotation // 90)
    info = probe(str(path))
    assert (info.height, info.width) == upright.shape[:2]
    assert info.rotation == rotation
    for frame in sample_frames(str(path), fps=5, decoder=decoder):
        assert frame.image.shape == upright.shape
        assert np.abs(frame.image.astype(int) - upright).mean() < 12  # chroma is subsampled


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_mirroring(tmp_path: Path, rotation: int) -> None:
    [image] = numbered_frames(1, first=0b100110101)
    path = write_video(tmp_path / "v.mp4", [image] * 3, rotation=rotation, mirrored=True)
    upright = np.rot90(image, rotation // 90)[:, ::-1]
    [frame] = sample_frames(str(path), fps=1)
    assert probe(str(path)).rotation == rotation
    assert np.abs(frame.image.astype(int) - upright).mean() < 12
    if have("decord"):
        with pytest.raises(Unusable, match="mirror"):
            next(sample_frames(str(path), fps=1, decoder="decord"))


def test_probe(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", numbered_frames(50, width=160, height=90), fps=20)
    info = probe(str(path))
    assert (info.codec, info.width, info.height, info.rotation) == ("h264", 160, 90, 0)
    assert info.duration_ms == 2500
    assert info.average_fps == pytest.approx(20)
    assert "mp4" in info.container


@pytest.mark.parametrize("decoder", DECODERS)
def test_frames_at_gives_the_same_frames_again(tmp_path: Path, decoder: str) -> None:
    path = write_video(tmp_path / "v.mp4", numbered_frames(len(IRREGULAR)), timestamps_ms=IRREGULAR)
    sampled = list(sample_frames(str(path), fps=4, decoder=decoder))
    wanted = [frame.timestamp_ms for frame in sampled[1::2]]
    again = list(frames_at(str(path), [*reversed(wanted), 17, 10**6], decoder=decoder))
    assert [frame.timestamp_ms for frame in again] == wanted
    for a, b in zip(sampled[1::2], again, strict=True):
        assert np.array_equal(a.image, b.image)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("key_frame_every", [10, 1000])
def test_windows_of_a_long_video(tmp_path: Path, decoder: str, key_frame_every: int) -> None:
    path = write_video(
        tmp_path / "v.mp4", numbered_frames(1200), fps=10, key_frame_every=key_frame_every
    )
    windows = [(70_000, 72_000), (20_000, 21_000), (115_000, 500_000)]
    times = [100 * i for i in range(1200)]
    got = seen(sample_frames(str(path), fps=3, windows_ms=windows, decoder=decoder))
    assert got == expected(times, 3, windows)


@pytest.mark.parametrize(("key_frame_every", "at_most"), [(10, 150), (10_000, 2600)])
def test_gaps_are_leapt_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key_frame_every: int, at_most: int
) -> None:
    """With key frames few frames are decoded; without them no frame is decoded again and again."""
    path = write_video(
        tmp_path / "v.mp4", numbered_frames(1200), fps=10, key_frame_every=key_frame_every
    )
    decoded = []
    decode = decoder_pyav._decode

    def counted(*args: object) -> Iterator[object]:
        for item in decode(*args):  # type: ignore[arg-type]
            decoded.append(item[0])
            yield item

    monkeypatch.setattr(decoder_pyav, "_decode", counted)
    targets = grid_targets(1, [(10_000 * i, 10_000 * i) for i in range(1, 12)])
    got = seen(decoder_pyav.load().frames(str(path), targets))
    assert got == [(10_000 * i, 100 * i) for i in range(1, 12)]
    assert len(decoded) <= at_most + 11 * 20


@pytest.mark.parametrize(
    "name",
    ["-dash.mp4", "with space.mp4", "ünï 車.mp4", "a:b.mp4", "%03d.mp4", "concat:x|y.mp4",
     "http:__x.mp4", "it's.mp4", "new\nline.mp4"],
)  # fmt: skip
@pytest.mark.parametrize("decoder", DECODERS)
def test_odd_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, decoder: str
) -> None:
    made = write_video(tmp_path / "v.mp4", numbered_frames(10))
    made.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / name), name):
        assert len(list(sample_frames(path, fps=5, decoder=decoder))) == 2


def test_wrong_extension(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", numbered_frames(10), container="mp4")
    assert "mp4" in probe(str(path)).container


def test_sizes_that_are_no_multiple_of_anything(tmp_path: Path) -> None:
    for width, height in ((34, 32), (1202, 38), (50, 302)):
        path = write_video(
            tmp_path / "v.mkv",
            [np.full((height, width, 3), 200, np.uint8)] * 3,
            codec="ffv1",
            pixel_format="bgr0",
        )
        [frame] = sample_frames(str(path), fps=1)
        assert frame.image.shape == (height, width, 3)
        assert (frame.image == 200).all()


def test_bad_arguments_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no decoder 'vlc'"):
        sample_frames("x", fps=1, decoder="vlc")
    with pytest.raises(ValueError, match="sampling rate"):
        sample_frames("x", fps=0)
    with pytest.raises(ValueError, match="window"):
        sample_frames("x", fps=1, windows_ms=[(5, 1)])


def sequential(path: Path) -> list[tuple[int, Image]]:
    """All frames by the plainest use of PyAV, as a reference."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (
                round((frame.pts - (stream.start_time or 0)) * stream.time_base * 1000),
                frame.to_ndarray(format="rgb24"),
            )
            for frame in container.decode(stream)
        ]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["clips/caltech_freeway.avi", "clips/highway_kasra.mp4"])
def test_real_video_against_plain_pyav(real_data: Path, decoder: str, name: str) -> None:
    reference = sequential(real_data / name)
    selector = Selector(grid_targets(2, None))
    wanted = [(time, image) for time, image in reference if selector.take(time)]
    got = list(sample_frames(str(real_data / name), fps=2, decoder=decoder))
    assert [frame.timestamp_ms for frame in got] == [time for time, _ in wanted]
    for frame, (_, image) in zip(got, wanted, strict=True):
        assert np.array_equal(frame.image, image)


@pytest.mark.slow
def test_all_decoders_agree_on_all_real_videos(real_data: Path) -> None:
    """Tolerance: none. Time stamps and pixels are equal, by every decoder that opens the file."""
    others = [name for name in ("decord", "torchcodec") if have(name)]
    assert others
    compared = 0
    for path in sorted([*real_data.glob("clips/*"), *real_data.glob("*/*.mp4")]):
        reference = list(sample_frames(str(path), fps=4))
        assert all(a.timestamp_ms < b.timestamp_ms for a, b in pairwise(reference))
        for decoder in others:
            if path.suffix == ".gif" and decoder == "decord":
                continue
            got = list(sample_frames(str(path), fps=4, decoder=decoder))
            assert [f.timestamp_ms for f in got] == [f.timestamp_ms for f in reference], path
            for a, b in zip(got, reference, strict=True):
                assert np.array_equal(a.image, b.image), path
            compared += len(got)
    assert compared > 1000


def test_writing_av1_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """SVT-AV1 makes its caller real-time where it may: the machine would stand still."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    write_video(tmp_path / "v.mkv", numbered_frames(3), codec="libsvtav1")
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
