"""Bad input of every kind, written where a test wants it, with what must become of it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.video.make_videos import Image, numbered_frames, write_sound, write_video
from tests.video.vast_frames import write_grey

# What a video without a detail ends as, once it was decoded, followed and cut.
SEEN = "static"


def still(count: int = 60) -> list[Image]:
    """Grey frames: whatever opens them comes to the same end."""
    return [np.full((192, 192, 3), 127, np.uint8)] * count


def _video(folder: Path, name: str, **options: object) -> None:
    write_video(folder / name, still(), fps=10, **options)  # type: ignore[arg-type]


def _bytes(data: bytes) -> Callable[[Path, str], None]:
    return lambda folder, name: (folder / name).write_bytes(data) and None


def _cut(share: float, front: bool) -> Callable[[Path, str], None]:
    def write(folder: Path, name: str) -> None:
        moving = write_video(
            folder / name,
            numbered_frames(60),
            fps=20,
            container_options={"movflags": "faststart"} if front else {},
        )
        moving.write_bytes(moving.read_bytes()[: int(moving.stat().st_size * share)])

    return write


def _screen(width: int, height: int) -> Callable[[Path, str], None]:
    def write(folder: Path, name: str) -> None:
        _video(folder, name, codec="gif", pixel_format="rgb8", container="gif")
        content = bytearray((folder / name).read_bytes())
        content[6:10] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
        (folder / name).write_bytes(content)

    return write


def _noise_inside(folder: Path, name: str) -> None:
    _video(folder, name)
    content = bytearray((folder / name).read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = np.random.default_rng(2).bytes(end - start)
    (folder / name).write_bytes(content)


def _cover(folder: Path, name: str) -> None:
    """A song with a picture on its sleeve."""
    write_sound(folder / name)


def _zip(folder: Path, name: str) -> None:
    with zipfile.ZipFile(folder / name, "w") as file:
        file.writestr("video.mp4", b"x" * 1000)


def _link(target: str) -> Callable[[Path, str], None]:
    return lambda folder, name: (folder / name).symlink_to(target)


def _no_utf8(folder: Path, name: str) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.mp4")).write_bytes(b"x")


def _gaps(folder: Path, name: str) -> None:
    write_video(
        folder / name, still(9), timestamps_ms=[0, 7, 400, 401, 999, 1500, 1507, 2600, 2960]
    )


# name in the folder: how it is written, and the status of its row (None = it has no row)
FILES: dict[str, tuple[Callable[[Path, str], None], str | None]] = {
    "empty.mp4": (_bytes(b""), "empty_file"),
    "one-byte.mp4": (_bytes(b"\0"), "not_a_video"),
    "text.mp4": (_bytes(b"this is no video\n" * 50), "not_a_video"),
    "page.mp4": (_bytes(b"<!doctype html><title>404</title>"), "not_a_video"),
    "noise.mp4": (_bytes(np.random.default_rng(0).bytes(20_000)), "not_a_video"),
    "zeros.mp4": (_bytes(bytes(20_000)), "not_a_video"),
    "elf.mp4": (_bytes(b"\x7fELF" + bytes(2000)), "not_a_video"),
    "playlist.mp4": (_bytes(b"#EXTM3U\n#EXTINF:5,\n/etc/passwd\n#EXT-X-ENDLIST\n"), "not_a_video"),
    "concat.mp4": (_bytes(b"ffconcat version 1.0\nfile '/etc/passwd'\n"), "not_a_video"),
    "drawing.mp4": (_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not_a_video"),
    "archive.mp4": (_zip, "not_a_video"),
    "no-index.mp4": (_cut(0.5, False), "not_a_video"),
    "a-tenth.mp4": (_cut(0.1, True), "decode_failed"),
    "head-only.mp4": (_bytes(b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"), "not_a_video"),
    "noise-inside.mp4": (_noise_inside, "decode_failed"),
    "sound.mp4": (lambda f, n: write_sound(f / n) and None, "no_video_stream"),
    "1x1.gif": (_screen(1, 1), "frame_too_small"),
    "16384.gif": (_screen(16384, 16384), "frame_too_large"),
    "9000.gif": (_screen(9000, 9000), "frame_too_large"),
    "60000.gif": (_screen(60000, 60000), "frame_too_large"),
    "16384-png.mov": (lambda f, n: write_grey(f / n, "png", 16384) and None, "frame_too_large"),
    "16384-h264.mov": (lambda f, n: write_grey(f / n, "h264", 16384) and None, "frame_too_large"),
    "raw.h264": (lambda f, n: _video(f, n, container="h264"), "decode_failed"),
    "av1.mkv": (lambda f, n: _video(f, n, codec="libsvtav1"), SEEN),
    "vp9.webm": (lambda f, n: _video(f, n, codec="libvpx-vp9"), SEEN),
    "turned.mp4": (lambda f, n: _video(f, n, rotation=90), SEEN),
    "gaps.mp4": (_gaps, "too_few_crops"),
    "picture.jpg": (lambda f, n: _video(f, n, container="mp4"), SEEN),
    "no-extension": (lambda f, n: _video(f, n, container="matroska"), SEEN),
    "-dash.mp4": (lambda f, n: _video(f, n, key_frame_every=1), SEEN),
    "-rf --help.mp4": (lambda f, n: _video(f, n, key_frame_every=2), SEEN),
    "ünï 車.mp4": (lambda f, n: _video(f, n, key_frame_every=3), SEEN),
    "$(touch x);`touch y`.mp4": (lambda f, n: _video(f, n, key_frame_every=4), SEEN),
    "two\nlines.mp4": (lambda f, n: _video(f, n, key_frame_every=5), SEEN),
    "%s%n{video_id}.mp4": (lambda f, n: _video(f, n, key_frame_every=6), SEEN),
    "not-utf8": (_no_utf8, None),  # its own name is checked apart
    "broken-link.mp4": (_link("nowhere.mp4"), "unreadable"),
    "loop.mp4": (_link("loop.mp4"), "unreadable"),
    "outside.mp4": (_link("../../outside/secret.mp4"), None),
    "pipe.mp4": (lambda f, n: os.mkfifo(f / n), None),
    "folder.mp4": (lambda f, n: (f / n).mkdir(), None),
    ".hidden.mp4": (_bytes(b"x"), None),
}

# Rows of the annotation table that say nothing; each is counted, none is fatal.
ROWS: tuple[bytes, ...] = (
    b"car-000,0,23,car,9,present,-0.2,0.4,0.1,0.5",
    b"car-000,0,23,car,9,present,0.6,0.2,0.1,0.5",
    b"car-000,0,23,car,9,present,0.2,0.2,0.1,0.5",
    b"car-000,0,23,car,9,present,0.1,1.4,0.1,0.5",
    b"car-000,0,23,car,9,present,nan,0.4,0.1,0.5",
    b"car-000,0,23,car,9,present,inf,0.4,0.1,0.5",
    b"car-000,0,23,car,9,present,a,b,c,d",
    b"car-000,0,23,car,9,present,,,,",
    b"car-000,0,23,car,9,present,0.1,0.4,0.1",
    b"car-000,0,23,car,9,present,0.1,0.4,0.1,0.5,0.6",
    b"car-000,0,23,car,9,maybe,0.1,0.4,0.1,0.5",
    b"car-000,-1,23,car,9,present,0.1,0.4,0.1,0.5",
    b"car-000,1.5,23,car,9,present,0.1,0.4,0.1,0.5",
    b"car-000,99999999999,23,car,9,present,0.1,0.4,0.1,0.5",
    b"car-000,0,car,car,9,present,0.1,0.4,0.1,0.5",
    b",0,23,car,9,present,0.1,0.4,0.1,0.5",
    b"\x01\x02,0,23,car,9,present,0.1,0.4,0.1,0.5",
    b"\xff\xfe,0,23,car,9,present,0.1,0.4,0.1,0.5",
    b"x" * 5000 + b",0,23,car,9,present,0.1,0.4,0.1,0.5",
    b"nothing",
)

# Ids of videos on the network; the server serves one still video under all that are asked for.
SAME = "seen once"
IDS: dict[str, str] = {
    "../../x": "bad_id",
    "..": "bad_id",
    "a/../../b": "bad_id",
    "c\\d": "bad_id",
    "-dash_video": SAME,
    "-rf": SAME,
    "ünï車": SAME,
    "$(touch x)": SAME,
    "a b;c|d&e": SAME,
    "{video_id}": SAME,
    "%2e%2e%2fx": SAME,
    "x" * 250: SAME,
}

CASES = len(FILES) + len(ROWS) + len(IDS)
