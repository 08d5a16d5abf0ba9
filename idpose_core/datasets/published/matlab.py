"""MATLAB files of version 5, read as if somebody hostile had written them.

Only what the published sets hold is read: arrays of numbers, and cells of words. SciPy's reader is
not used: on a damaged file it ends the process by a segmentation fault, and it unpacks whatever a
file claims. Here every length is checked against what is there, and nothing larger than is allowed
is unpacked. Form: MathWorks, *MAT-File Format*, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from idpose_core.datasets.published.files import read_bytes
from storage.reasons import Status, Unusable

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15  # types of an element
_CELL, _CHARACTERS = 1, 4  # classes of a matrix
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), start=6))
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
          13: "u8"}  # fmt: skip
_WORDS = {1: "ascii", 2: "ascii", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_COMPLEX = 0x800
_MOST_PARTS = 10_000  # of a variable; a list of words has one for each

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


@dataclass(frozen=True)
class _Matrix:
    """A variable whose values were not looked at yet."""

    name: str
    kind: int
    complex: bool
    shape: tuple[int, ...]
    parts: list[tuple[int, memoryview]]
    order: str


def read_arrays(
    path: Path, shapes: Mapping[str, tuple[int, ...]], *, largest: int
) -> dict[str, Array]:
    """Some arrays of a .mat file.

    Args:
        path: The file.
        shapes: The arrays, each with the shape that it must have.
        largest: Bytes that one variable may take.

    Returns:
        Those that the file has.

    Raises:
        Unusable: It is missing or damaged, or a variable is too large or of another form.
    """

    def take(matrix: _Matrix) -> Array:
        wanted = shapes[matrix.name]
        if matrix.kind not in _CLASSES or matrix.complex:
            raise Unusable(Status.NOT_AS_PUBLISHED, f"{path.name}: {matrix.name} holds no numbers")
        if matrix.shape != wanted:
            detail = f"{path.name}: {matrix.name} is {matrix.shape} and not {wanted}"
            raise Unusable(Status.NOT_AS_PUBLISHED, detail)
        return _numbers(matrix)

    return _read(path, set(shapes), largest, take)


def read_words(path: Path, name: str, *, largest: int) -> list[str]:
    """The words of one cell array of a .mat file, in its order.

    Args:
        path: The file.
        name: Of the variable.
        largest: Bytes that a variable may take.

    Raises:
        Unusable: It is missing or damaged, or has no such variable.
    """

    def take(matrix: _Matrix) -> list[str]:
        if matrix.kind != _CELL or len(matrix.parts) != math.prod(matrix.shape):
            raise Unusable(Status.NOT_AS_PUBLISHED, f"{path.name}: {name} is no list of words")
        return [_word(_matrix(data, matrix.order)) for _, data in matrix.parts]

    found = _read(path, {name}, largest, take)
    if name not in found:
        raise Unusable(Status.NOT_AS_PUBLISHED, f"{path.name} has no variable {name}")
    return found[name]


def _read(path: Path, wanted: set[str], largest: int, take: Callable[[_Matrix], T]) -> dict[str, T]:
    data = read_bytes(path)
    version, order = data[_HEADER - 4 : _HEADER - 2], data[_HEADER - 2 : _HEADER]
    if order not in (b"IM", b"MI"):
        raise Unusable(Status.DECODE_FAILED, f"{path.name} is no .mat file of version 5")
    if b"\x02" in version:
        raise Unusable(
            Status.NOT_AS_PUBLISHED, f"{path.name} was saved as version 7.3 and not as version 5"
        )
    found: dict[str, T] = {}
    try:
        for matrix in _variables(data, "<" if order == b"IM" else ">", largest):
            if matrix.name in found:
                raise ValueError(f"{matrix.name} is there twice")
            if matrix.name in wanted:
                found[matrix.name] = take(matrix)
    except (ValueError, zlib.error) as error:
        raise Unusable(Status.DECODE_FAILED, f"{path.name} is damaged: {error}") from error
    return found


def _variables(data: bytes, order: str, largest: int) -> Iterator[_Matrix]:
    for kind, body in _elements(memoryview(data)[_HEADER:], order):
        if kind != _COMPRESSED:
            if len(body) > largest:
                raise ValueError(f"a variable takes more than {largest} bytes")
            yield _matrix(body, order, kind)
            continue
        opened = zlib.decompressobj()
        unpacked = opened.decompress(body, largest + 1)
        if len(unpacked) > largest:
            raise ValueError(f"a variable takes more than {largest} bytes")
        if not opened.eof:
            raise ValueError("it is cut off")
        for inner, values in _elements(memoryview(unpacked), order):
            yield _matrix(values, order, inner)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of each element."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("it is cut off")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start, padding = at + 8, 0 if kind == _COMPRESSED else -size % 8
        if kind >> 16:  # a small element has its bytes in the second half of its tag
            kind, size, start, padding = kind & 0xFFFF, kind >> 16, at + 4, 4 - (kind >> 16)
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        if start + size > len(data):
            raise ValueError("it is cut off")
        yield kind, data[start : start + size]
        at = start + size + padding


def _matrix(data: memoryview, order: str, kind: int = _MATRIX) -> _Matrix:
    if kind != _MATRIX:
        raise ValueError(f"an element of type {kind} where a variable should be")
    parts = list(islice(_elements(data, order), _MOST_PARTS + 1))
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"a variable of more than {_MOST_PARTS} parts")
    if [part[0] for part in parts[:3]] != [6, 5, 1] or len(parts[0][1]) != 8:
        raise ValueError("a variable without class, size or name")
    (flags, size, name), values = (part[1] for part in parts[:3]), parts[3:]
    if len(size) % 4 or len(size) > 4 * 32:
        raise ValueError("a variable of no size")
    shape = struct.unpack(f"{order}{len(size) // 4}i", size)
    if min(shape, default=-1) < 0:
        raise ValueError(f"a variable of size {shape}")
    word = struct.unpack_from(f"{order}I", flags)[0]
    told = bytes(name).decode("ascii", "replace")
    return _Matrix(told, word & 0xFF, bool(word & _COMPLEX), shape, values, order)


def _numbers(matrix: _Matrix) -> Array:
    """The values; a file may store them in a smaller type than their class."""
    if len(matrix.parts) != 1 or matrix.parts[0][0] not in _TYPES:
        raise ValueError(f"{matrix.name} has no values")
    [(kind, data)] = matrix.parts
    stored, meant = np.dtype(matrix.order + _TYPES[kind]), np.dtype(_CLASSES[matrix.kind])
    if len(data) != stored.itemsize * math.prod(matrix.shape):
        raise ValueError(f"{matrix.name} claims to be {matrix.shape}, and has {len(data)} bytes")
    if stored.kind == "f" and meant.kind != "f":
        raise ValueError(f"{matrix.name} stores fractions as {meant}")
    return np.frombuffer(data, stored).reshape(matrix.shape, order="F").astype(meant)


def _word(matrix: _Matrix) -> str:
    parts = matrix.parts
    if matrix.kind != _CHARACTERS or len(parts) != 1 or parts[0][0] not in _WORDS:
        raise ValueError("a cell that holds no word")
    code = _WORDS[parts[0][0]]
    if code == "utf-16":
        code += "-le" if matrix.order == "<" else "-be"
    return bytes(parts[0][1]).decode(code)
