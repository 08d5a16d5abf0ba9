"""Pictures of a frozen set out to any generator, and what it made of them in, by triplet id.

So a generator that is no model of this project is measured as one that is: on the same inputs, in
the same 8 bits.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import csv

from idpose_core.evaluation.evaluate import Contender
from idpose_core.evaluation.instruments import EvaluationError
from idpose_core.evaluation.pictures import Pictures
from idpose_core.evaluation.results import Measurement
from idpose_core.evaluation.sets import EvaluationSet
from idpose_core.evaluation.swaps import CONTROLS
from idpose_core.settings import ConfigError
from idpose_core.stages.crop import encode_png
from storage.digests import sha256
from storage.export import ROLES

FOLDERS = {"id": "id", "pose": "pose", "target": "target-not-an-input"}
"""Where the pictures of a role lie in an export."""
_OF_A_FOLDER = "outputs of a folder"
_UNKNOWN_MAKER = (
    "outputs of a folder: it is not known which networks served in the loss of what made them, nor "
    "whether it was trained on videos of this set"
)
_DEPTH_AT, _SIXTEEN_BITS = 24, b"\x10"  # of the first chunk of a PNG: bits a channel


@dataclass(frozen=True)
class Outputs:
    """What any generator made of a set's triplets.

    Attributes:
        folder: With ``<triplet_id>.png`` for every triplet; :func:`export_pictures` gives the
            inputs.
        name: Of the generator, in the rows.

    Raises:
        ConfigError: The name is none, or a control's.
    """

    folder: Path
    name: str

    def __post_init__(self) -> None:
        taken = self.name in (*CONTROLS, "controls")
        if taken or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}", self.name):
            raise ConfigError(
                f"{self.name!r} is no name for outputs: use letters, digits, '.', '_', '+' and "
                f"'-', and none of {', '.join(CONTROLS)}"
            )


def export_pictures(frozen: EvaluationSet, folder: Path) -> dict[str, Any]:
    """Write the pictures of a set as PNG, ``<role>/<triplet_id>.png``.

    Beside them ``triplets.csv`` has what is known of the triplets, and ``export.json``, written
    last, what lies where and what to do with it. What was written goes again if it cannot be
    finished.

    Args:
        frozen: At the size at which outputs will be measured.
        folder: New or empty.

    Returns:
        What ``export.json`` holds.

    Raises:
        EvaluationError: The folder is not empty, or no file can be named after a triplet.
    """
    names = _file_names(frozen)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise EvaluationError(
            f"{folder} is not empty: give a new folder, or delete what a stopped export left there"
        )
    side = f"{frozen.size} x {frozen.size}"
    told = {
        "set": frozen.name,
        "dataset": "@".join(frozen.dataset),
        "triplets": len(frozen),
        "size": frozen.size,
        **{role: f"{FOLDERS[role]}/<triplet_id>.png" for role in ROLES},
        "what": "the object of the ID picture, in the pose of the pose picture; the target is what "
        "it should look like: for comparison only, no generator may see it",
        "outputs": f"a folder with <triplet_id>.png for every triplet: {side} pixels, RGB or grey, "
        "8 bits, not transparent",
        "measure": f"idpose evaluate --outputs FOLDER --name NAME --set {frozen.name} "
        f"--size {frozen.size}",
    }
    try:
        files = [encode_png(picture) for picture in frozen.pictures]
        for role, rows in zip(ROLES, frozen.rows, strict=True):
            (folder / FOLDERS[role]).mkdir()
            for name, row in zip(names, rows, strict=True):
                (folder / FOLDERS[role] / name).write_bytes(files[row])
        csv.write_csv(frozen.triplets, folder / "triplets.csv")
        (folder / "export.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    except BaseException:
        shutil.rmtree(folder)
        raise
    return told


def read_outputs(folder: Path, frozen: EvaluationSet) -> tuple[Pictures, list[str]]:
    """What a generator made of a set's triplets.

    Args:
        folder: With ``<triplet_id>.png`` for each triplet.
        frozen: At the size of these pictures.

    Returns:
        uint8 [N, R, R, 3] in the order of the set, and the names in the folder that are of no
        triplet.

    Raises:
        EvaluationError: There is no such folder, a picture is missing, or one cannot be taken as
            it is.
    """
    names = _file_names(frozen)
    if not folder.is_dir():
        raise EvaluationError(f"there is no folder {folder} with outputs")
    there = {path.name for path in folder.iterdir()}
    missing = [name for name in names if name not in there]
    if missing:
        raise EvaluationError(
            f"{folder} lacks {len(missing)} of {len(names)} outputs, as {missing[0]}: every "
            f"triplet of the set {frozen.name} has one, named after it (see `idpose freeze "
            f"{frozen.name} --export FOLDER`)"
        )
    pictures = np.empty((len(names), frozen.size, frozen.size, 3), np.uint8)
    for place, name in enumerate(names):
        path = folder / name
        # A link that leads out of the folder could show any picture of this machine.
        if not path.is_file() or path.resolve().parent != folder.resolve():
            raise EvaluationError(f"{path} is no file of this folder: put a picture there")
        try:
            pictures[place] = _picture(path, frozen.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise EvaluationError(f"{path} cannot be measured: {error}") from error
    return pictures, sorted(there.difference(names))


def contender_of(
    outputs: Outputs, frozen: EvaluationSet, of_data: Measurement, say: Callable[[str], None]
) -> Contender:
    """Outputs as they are measured; their rows name them by a digest, as a model by its version.

    Args:
        outputs: Which.
        frozen: See :func:`read_outputs`.
        of_data: What the rows of the data have in common.
        say: Told what is not known and what is not read.

    Raises:
        EvaluationError: As :func:`read_outputs`.
    """
    pictures, others = read_outputs(outputs.folder, frozen)
    if others:
        say(f"{outputs.folder}: {len(others)} names are of no triplet, as {others[0]}: not read")
    say(f"{outputs.name}: {_UNKNOWN_MAKER}")
    model = f"{_OF_A_FOLDER}@{sha256(pictures.tobytes())[:12]}"
    of_folder = replace(of_data, model=model, budget="unknown")
    return Contender(pictures, of_folder, warning=_UNKNOWN_MAKER)


def _picture(path: Path, size: int) -> NDArray[np.uint8]:
    """A PNG picture of this size, uint8 [R, R, 3] RGB; of the size nothing else is decoded.

    Raises:
        OSError, ValueError, SyntaxError: It is damaged, no PNG, of another size, of 16 bits, or
            transparent.
        DecompressionBombError: It is far larger than a picture.
    """
    with path.open("rb") as file:
        depth = file.read(_DEPTH_AT + 1)[_DEPTH_AT:]
    with Image.open(path, formats=("PNG",)) as image:
        if image.size != (size, size):
            width, height = image.size
            raise ValueError(
                f"it has {width} x {height} pixels, not {size} x {size}: resize it, or give "
                "another --size to `idpose freeze --export` and to `idpose evaluate`"
            )
        if depth == _SIXTEEN_BITS:
            raise ValueError("it has 16 bits a channel, and all is measured on 8: round it")
        if "A" in image.getbands() or "transparency" in image.info:
            pixels = np.asarray(image.convert("RGBA"))
            if (pixels[..., 3] < 255).any():
                raise ValueError("it is transparent: lay it on the ground that it should have")
            return pixels[..., :3]
        return np.asarray(image.convert("RGB"))


def _file_names(frozen: EvaluationSet) -> list[str]:
    """The file of every triplet.

    Raises:
        EvaluationError: A triplet id is no name of a file; a set may come from anywhere.
    """
    ids: pa.ChunkedArray = frozen.triplets["triplet_id"]
    for one in ids.to_pylist():
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", one):
            raise EvaluationError(f"no file can be named after the triplet {one!r}")
    return [f"{one}.png" for one in ids.to_pylist()]
