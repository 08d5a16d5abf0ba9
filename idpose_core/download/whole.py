"""Whether a file that came without its length is all there."""

from __future__ import annotations

import struct
from pathlib import Path

from storage.reasons import Status, Unusable


def check_whole(path: Path) -> None:
    """Compare the boxes of an MP4 (ISO/IEC 14496-12, section 4.2) with the bytes that are there.

    An answer that ends with its connection looks the same whether it was cut off or not. Files of
    other forms pass: their own lengths are often unknown too.

    Raises:
        Unusable: INCOMPLETE.
    """
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        if file.read(8)[4:] != b"ftyp":
            return
        while at + 8 <= size:
            file.seek(at)
            length = struct.unpack(">I4x", file.read(8))[0]
            if length == 1 and at + 16 <= size:  # the length proper follows
                length = struct.unpack(">Q", file.read(8))[0]
            if length < 8:  # 0: to the end of the file; else damaged, and the decoder says more
                return
            at += length
    if at > size:
        raise Unusable(Status.INCOMPLETE, f"{size} bytes, and its last box ends at {at}")
