"""Files of a published set: finding them, naming their bytes, and reading pictures with care."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idpose_core.instances.boxes import Box, box_of
from storage.digests import canonical, file_sha256, sha256
from storage.reasons import Status, Unusable

_WHITE = 255


def set_folder(path: str, inside: Sequence[str], marks: Sequence[str]) -> Path:
    """The folder of a set, wherever in its extracted archive the path points.

    Args:
        path: What the user gave.
        inside: Folders of the archive, relative to where it was extracted.
        marks: Glob patterns; a folder where one of them finds something is the set's.

    Raises:
        ValueError: There is none.
    """
    given = Path(path)
    if given.is_file():
        raise ValueError(f"{path} is a file: extract the archive, and give its folder")
    if not given.is_dir():
        raise ValueError(f"no such folder: {path}")
    try:
        for folder in (given, *(given / name for name in inside)):
            if any(next(folder.glob(mark), None) for mark in marks):
                return folder
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    wanted = " nor ".join(marks)
    raise ValueError(f"neither {wanted} is in {path}: is it the folder of the extracted archive?")


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what systems and archivers leave behind.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from error
    return [e for e in entries if e.name[0] not in "._" and e.name != "Thumbs.db"]


def files_digest(files: Mapping[str, Path], *facts: object) -> str | None:
    """SHA-256 over the bytes of files and over what is known of them elsewhere.

    Args:
        files: By their role in the object, which must not hold its name: so that an object that
            is there twice is told by it.
        facts: Plain values.

    Returns:
        The digest, in which a missing file counts as such; None where one cannot be read.
    """
    try:
        found = {k: file_sha256(f) if f.is_file() else None for k, f in files.items()}
    except OSError:
        return None
    return sha256(canonical([found, *facts]))


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        Unusable: It is missing, empty or cannot be read.
    """
    try:
        if not path.is_file():
            raise Unusable(Status.NOT_AS_PUBLISHED, f"{path.name} is not there")
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(Status.UNREADABLE, f"{path.name}: {error.strerror}") from error
    if not data:
        raise Unusable(Status.EMPTY_FILE, path.name)
    return data


def read_picture(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A PNG or JPEG picture, uint8 [H, W, 3] RGB; what is transparent is laid on white.

    Args:
        path: The file.
        size: Width and height as published.

    Raises:
        Unusable: It is missing, damaged, no such picture, or of another size.
    """
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.size != size:
                found = "x".join(map(str, image.size))
                wanted = "x".join(map(str, size))
                raise Unusable(
                    Status.NOT_AS_PUBLISHED, f"{path.name} has {found} pixels and not {wanted}"
                )
            opaque: Image.Image = image
            if "A" in image.getbands() or "transparency" in image.info:
                ground = Image.new("RGBA", size, (_WHITE,) * 4)
                opaque = Image.alpha_composite(ground, image.convert("RGBA"))
            return np.asarray(opaque.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unusable(Status.DECODE_FAILED, f"{path.name}: {error}") from error


def on_white(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a rendering [H, W, 3] is not the white of its background, bool [H, W]."""
    return np.asarray((image != _WHITE).any(axis=2))


def within(values: NDArray[np.bool_], what: str) -> NDArray[np.bool_]:
    """The object in a mask [H, W] of either sense: what its corners show is the background.

    Raises:
        Unusable: The corners do not agree.
    """
    corners = values[[0, 0, -1, -1], [0, -1, 0, -1]]
    if corners.any() and not corners.all():
        raise Unusable(Status.NOT_AS_PUBLISHED, f"{what}: the mask reaches a corner of the picture")
    return np.asarray(values != corners[0])


def tight_box(mask: NDArray[np.bool_], what: str) -> Box:
    """The box of a mask [H, W], relative to it.

    Raises:
        Unusable: The mask is empty.
    """
    found = box_of(mask)
    if found is None:
        raise Unusable(Status.NOT_AS_PUBLISHED, f"{what} shows no object")
    return Box(*found)
