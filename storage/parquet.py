"""Parquet files as bytes, written so that a damaged page is noticed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def to_parquet(table: pa.Table, *, row_group_rows: int = 4096) -> bytes:
    """The table as one Parquet file with page checksums; equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        write_page_checksum=True,
        row_group_size=row_group_rows,
        store_schema=True,
    )
    return buffer.getvalue()


def from_parquet(source: bytes | Any, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns, from bytes or a seekable file.

    Raises:
        pyarrow.ArrowInvalid, OSError: The file is damaged or is not Parquet.
    """
    file = pa.BufferReader(source) if isinstance(source, bytes) else source
    wanted = list(columns) if columns is not None else None
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        # One thread: a pool thread that still lets go of a Python file when the interpreter ends
        # aborts the process.
        return parquet.read(columns=wanted, use_threads=False)
