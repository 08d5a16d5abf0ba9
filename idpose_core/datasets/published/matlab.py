"""MATLAB files of version 5, read as if somebody hostile had written them.

Nothing in such a file is run: there are no pickles in it. What it could do is claim sizes, and
expand to much more than it is; both are looked at before anything is read.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from idpose_core.datasets.published.files import read_bytes
from storage.reasons import Status, Unusable

_HEADER = 128
_COMPRESSED = 15  # miCOMPRESSED of the format's description


def read_mat(
    path: Path, shapes: Mapping[str, tuple[int, ...] | None], *, largest: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Some variables of a .mat file.

    Args:
        path: The file.
        shapes: The variables, each with the shape that it must have; None = any. Those that the
            file does not have are left out.
        largest: Bytes that one variable may take.

    Raises:
        Unusable: It is missing or damaged, a variable is too large or has another shape.
    """
    data = read_bytes(path)
    if data[_HEADER - 4 : _HEADER] in (b"\x00\x02IM", b"\x02\x00MI"):
        raise Unusable(
            Status.NOT_AS_PUBLISHED, f"{path.name} was saved as version 7.3 and not as version 5"
        )
    try:
        _check_sizes(data, largest)
        found = scipy.io.loadmat(io.BytesIO(data), variable_names=list(shapes))
    # Whatever a damaged file makes of the reader: it has no error of its own.
    except Exception as error:
        detail = f"{path.name}: not a .mat file that can be read ({error})"
        raise Unusable(Status.DECODE_FAILED, detail) from error
    arrays = {name: np.asarray(found[name]) for name in shapes if name in found}
    for name, array in arrays.items():
        wanted = shapes[name]
        if wanted is not None and array.shape != wanted:
            raise Unusable(
                Status.NOT_AS_PUBLISHED, f"{path.name}: {name} is {array.shape} and not {wanted}"
            )
    return arrays


def _check_sizes(data: bytes, largest: int) -> None:
    """Walk over the variables without reading them."""
    order = "<" if data[_HEADER - 2 : _HEADER] == b"IM" else ">"
    at = _HEADER
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        at += 8 + size
        if at > len(data):
            raise ValueError("it is cut off")
        if kind == _COMPRESSED:
            opened = zlib.decompressobj()
            size = len(opened.decompress(data[at - size : at], largest + 1))
        if size > largest:
            raise ValueError(f"a variable takes more than {largest} bytes")
    for name, shape, _ in scipy.io.whosmat(io.BytesIO(data)):
        if math.prod(shape) > largest:
            raise ValueError(f"{name} claims to be {shape}")
