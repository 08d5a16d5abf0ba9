"""Pictures of a set out, outputs of any generator in: the same pixels, and nothing else."""

from __future__ import annotations

import csv
import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from idpose_core.evaluation.exchange import FOLDERS, export_pictures, read_outputs
from idpose_core.evaluation.instruments import EvaluationError
from idpose_core.evaluation.sets import EvaluationSet, read_set
from idpose_core.stages.crop import encode_png
from tests.evaluation.test_sets import SIZE, world
from tests.evaluation.test_sets import frozen as freeze


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> EvaluationSet:
    store, dataset = world(tmp_path_factory.mktemp("root"))
    freeze(store, dataset, count=12)
    return read_set(store, "cars-test", SIZE)


@pytest.fixture
def outputs(frozen: EvaluationSet, tmp_path: Path) -> tuple[Path, str]:
    """A folder that can be measured, and the name of its third output."""
    export_pictures(frozen, tmp_path / "out")
    name = frozen.triplets["triplet_id"][2].as_py()
    return tmp_path / "out" / FOLDERS["target"], f"{name}.png"


@pytest.mark.parametrize("role", FOLDERS)
def test_what_goes_out_comes_in(frozen: EvaluationSet, tmp_path: Path, role: str) -> None:
    told = export_pictures(frozen, tmp_path / "new/out")
    pictures, others = read_outputs(tmp_path / "new/out" / FOLDERS[role], frozen)
    assert np.array_equal(pictures, frozen.role(role)) and others == []
    assert told == json.loads((tmp_path / "new/out/export.json").read_text("utf-8"))
    assert told["size"] == SIZE and told["triplets"] == 12 and f"--size {SIZE}" in told["measure"]
    with (tmp_path / "new/out/triplets.csv").open(newline="") as file:
        assert [row["triplet_id"] for row in csv.DictReader(file)] == frozen.triplets[
            "triplet_id"
        ].to_pylist()


def test_an_export_overwrites_nothing_and_leaves_no_half(
    frozen: EvaluationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(EvaluationError, match="is not empty"):
        export_pictures(frozen, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("idpose_core.evaluation.exchange.csv.write_csv", full)
    with pytest.raises(OSError, match="No space"):
        export_pictures(frozen, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("identity", ["../../x", "a/b", "", "x.y", "a\0"])
def test_a_triplet_that_is_no_file_name_is_refused(
    frozen: EvaluationSet, tmp_path: Path, identity: str
) -> None:
    names = [identity, *frozen.triplets["triplet_id"].to_pylist()[1:]]
    wrong = replace(frozen, triplets=frozen.triplets.set_column(0, "triplet_id", pa.array(names)))
    with pytest.raises(EvaluationError, match="no file can be named after"):
        export_pictures(wrong, tmp_path / "out")
    with pytest.raises(EvaluationError, match="no file can be named after"):
        read_outputs(tmp_path, wrong)


def test_grey_palette_and_opaque_pictures_are_taken(
    frozen: EvaluationSet, outputs: tuple[Path, str]
) -> None:
    folder, name = outputs
    shades = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    colours = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    opaque = np.dstack([colours, np.full((SIZE, SIZE), 255, np.uint8)])
    palette = Image.fromarray(colours).quantize(16)
    for picture, expected in (
        (Image.fromarray(shades), np.repeat(shades[..., None], 3, 2)),
        (Image.fromarray(opaque), colours),
        (palette, np.asarray(palette.convert("RGB"))),
        (Image.fromarray(shades).convert("LA"), np.repeat(shades[..., None], 3, 2)),
    ):
        picture.save(folder / name)
        assert np.array_equal(read_outputs(folder, frozen)[0][2], expected)


def test_names_of_no_triplet_are_told(frozen: EvaluationSet, outputs: tuple[Path, str]) -> None:
    (outputs[0] / "notes.txt").write_text("mine")
    (outputs[0] / "folder").mkdir()
    assert read_outputs(outputs[0], frozen)[1] == ["folder", "notes.txt"]


def test_a_link_within_the_folder_is_a_picture(
    frozen: EvaluationSet, outputs: tuple[Path, str]
) -> None:
    folder, name = outputs
    (folder / name).rename(folder / "elsewhere.png")
    (folder / name).symlink_to("elsewhere.png")
    assert np.array_equal(read_outputs(folder, frozen)[0], frozen.role("target"))


def _sixteen(*channels: int) -> Callable[[Path], object]:
    picture = np.full((SIZE, SIZE, *channels), 40000, np.uint16)
    return lambda path: cv2.imwrite(str(path), picture)


def _saved(picture: Image.Image, form: str = "PNG") -> Callable[[Path], object]:
    return lambda path: picture.save(path, form)


_NOISE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 4), dtype=np.uint8)
_PNG = encode_png(_NOISE[..., :3])
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "lacks 1 of 12 outputs"),
    "small": (
        _saved(Image.new("RGB", (SIZE, SIZE - 1))),
        f"{SIZE} x {SIZE - 1} pixels, not {SIZE}",
    ),
    "huge": (lambda path: write_png(path, 60000), "exceeds limit"),
    "large": (lambda path: write_png(path, 9000), f"9000 x 9000 pixels, not {SIZE}"),
    "grey-16": (_sixteen(), "16 bits"),
    "rgb-16": (_sixteen(3), "16 bits"),
    "transparent": (_saved(Image.fromarray(_NOISE)), "it is transparent"),
    "jpeg": (_saved(Image.new("RGB", (SIZE, SIZE)), "JPEG"), "cannot identify"),
    "empty": (lambda path: path.write_bytes(b""), "cannot identify"),
    "text": (lambda path: path.write_text("x" * 500), "cannot identify"),
    "cut": (lambda path: path.write_bytes(_PNG[: len(_PNG) // 2]), "cannot be measured"),
    "damaged": (
        lambda path: path.write_bytes(_PNG[:60] + bytes(100) + _PNG[160:]),
        "cannot be measured",
    ),
    "head-only": (lambda path: path.write_bytes(_PNG[:33]), "cannot be measured"),
    "folder": (lambda path: path.mkdir(), "is no file of this folder"),
    "pipe": (os.mkfifo, "is no file of this folder"),
    "loop": (lambda path: path.symlink_to(path.name), "is no file of this folder"),
    "nowhere": (lambda path: path.symlink_to("nowhere.png"), "is no file of this folder"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is no file of this folder"),
}


def write_png(path: Path, side: int) -> None:
    """A PNG that says to have this many pixels, and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_taken_as_it_is(
    frozen: EvaluationSet, outputs: tuple[Path, str], case: str
) -> None:
    folder, name = outputs
    write, message = WRONG[case]
    (folder / name).unlink()
    write(folder / name)
    with pytest.raises(EvaluationError, match=message) as error:
        read_outputs(folder, frozen)
    assert name in str(error.value)


def test_a_link_out_of_the_folder_shows_nothing(
    frozen: EvaluationSet, outputs: tuple[Path, str]
) -> None:
    folder, name = outputs
    (folder / name).rename(folder.parent / "secret.png")
    (folder / name).symlink_to("../secret.png")
    with pytest.raises(EvaluationError, match="is no file of this folder"):
        read_outputs(folder, frozen)
    (folder.parent / "linked").symlink_to(folder)  # the folder itself may be one
    (folder / name).unlink()
    (folder.parent / "secret.png").rename(folder / name)
    assert len(read_outputs(folder.parent / "linked", frozen)[0]) == 12
