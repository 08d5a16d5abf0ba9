"""Odd and hostile pictures: each is read as a viewer shows it, or has its one message."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idpose_core.composition.photographs import LARGEST, PhotographError, read_photograph

RED, BLUE = (200, 30, 20), (10, 40, 220)


def two_halves(mode: str = "RGB") -> Image.Image:
    """Red above, blue below: 40 wide, 30 high."""
    picture = Image.new("RGB", (40, 30), RED)
    picture.paste(BLUE, (0, 15, 40, 30))
    return picture.convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and holds none."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for name, data in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")):
        body = name + data
        chunks += struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_colours_come_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    two_halves().save(file)
    found = read_photograph(file)
    assert found.dtype == np.uint8 and found.shape == (30, 40, 3)
    assert tuple(found[0, 0]) == RED and tuple(found[-1, -1]) == BLUE


def test_a_camera_held_sideways_is_turned_back(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored with its top at the left: a viewer turns it clockwise
    two_halves().save(file, exif=exif)
    found = read_photograph(file)
    assert found.shape == (40, 30, 3)
    assert tuple(found[20, -1]) == RED and tuple(found[20, 0]) == BLUE


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA"])
def test_grey_and_indexed_pictures_become_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "a.png"
    two_halves(mode).save(file)
    wanted = np.asarray(two_halves(mode).convert("RGB"))
    assert (read_photograph(file) == wanted).all()


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    picture = two_halves("RGBA")
    picture.putpixel((0, 0), (*RED, 0))
    picture.save(file)
    found = read_photograph(file)
    assert tuple(found[0, 0]) == (255, 255, 255) and tuple(found[0, 1]) == RED


def test_the_previews_in_a_cameras_file_are_no_animation(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    two_halves().save(file, format="MPO", save_all=True, append_images=[two_halves()])
    assert read_photograph(file).shape == (30, 40, 3)


def animated(file: Path) -> None:
    two_halves().save(file, save_all=True, append_images=[Image.new("RGB", (40, 30))])


def truncated(file: Path) -> None:
    two_halves().resize((200, 200)).save(file, format="JPEG")
    file.write_bytes(file.read_bytes()[:900])


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("bomb.png", lambda f: f.write_bytes(png_header(30_000, 30_000)), "million pixels: give a sm"),
    ("large.png", lambda f: f.write_bytes(png_header(LARGEST, 2)), "million pixels: give a sma"),
    ("dot.png", lambda f: Image.new("RGB", (1, 1)).save(f), "1 x 1 pixels, which show no object"),
    ("cmyk.jpg", lambda f: two_halves("CMYK").save(f), "CMYK, which are for print: save it as RGB"),
    ("deep.png", lambda f: Image.new("I;16", (40, 30)).save(f), "save it with 8 bits a channel"),
    ("float.tiff", lambda f: Image.new("F", (40, 30)).save(f), "save it with 8 bits a channel"),
    ("moving.gif", animated, "is animated or has several pages: save the one"),
    ("cut.jpg", truncated, "cannot be read (image file is truncated"),
    ("a.heic", lambda f: f.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0"), "is HEIC, which is not rea"),
    ("a.mp4", lambda f: f.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0"), "is no picture that is read"),
    ("empty.jpg", lambda f: f.write_bytes(b""), "is empty: save it as JPEG or PNG"),
    ("missing.jpg", lambda f: None, "is not there: give the path of a picture"),
    ("folder.jpg", lambda f: f.mkdir(), "cannot be read (Is a directory)"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD, ids=[name for name, _, _ in BAD])
def test_a_bad_picture_has_one_message(
    tmp_path: Path, name: str, make: Callable[[Path], object], message: str
) -> None:
    file = tmp_path / name
    make(file)
    with pytest.raises(PhotographError) as caught:
        read_photograph(file)
    assert message in str(caught.value) and str(file) in str(caught.value)
