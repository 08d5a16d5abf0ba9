"""Digests of values, files and tables that do not depend on how they are laid out.

Every name in a root is derived from one of these, so that equal content has equal names in every
process, whatever its hash seed, dictionary order or shard packing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

_ROWS_AT_ONCE = 10_000


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, shortest exact floats.

    Args:
        value: None, bool, int, finite float, str, bytes (as hexadecimal text), or mappings and
            sequences of these.

    Raises:
        ValueError: A float is not finite.
        TypeError: A value of another type.
    """
    return _text(_plain(value))


def digest(value: Any) -> str:
    """128-bit BLAKE2b of the canonical text, as 32 hexadecimal characters."""
    return digest_of(canonical(value))


def digest_of(text: bytes) -> str:
    """``digest`` of a value whose canonical text is this."""
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def sha256(data: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a local file, read in pieces.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(tables: Mapping[str, pa.Table], columns: Mapping[str, Sequence[str]]) -> str:
    """Digest of what tables say, whatever the order and grouping of their rows.

    Args:
        tables: Named tables.
        columns: For each name the columns that count; the rows are sorted by their canonical
            text, so that neither input order nor shard layout enters.
    """
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tables):
        chosen = tables[name].select(list(columns[name]))
        # Plain already, but for bytes; in parts, since rows as Python values take much memory.
        parts = chosen.to_batches(max_chunksize=_ROWS_AT_ONCE)
        rows = sorted(_text(row) for part in parts for row in part.to_pylist())
        total.update(canonical({"table": name, "columns": list(columns[name]), "rows": len(rows)}))
        for row in rows:
            total.update(len(row).to_bytes(8, "little"))
            total.update(row)
    return total.hexdigest()


def _text(value: Any) -> bytes:
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"not a finite number: {value}")
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | frozenset | set):
        items = sorted(value) if isinstance(value, frozenset | set) else value
        return [_plain(item) for item in items]
    raise TypeError(f"no canonical form for {type(value).__name__}")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
)
