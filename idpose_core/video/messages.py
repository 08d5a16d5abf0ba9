"""Messages between the build and its decoding process: a JSON header, then raw bytes.

Layout: header length and payload length (two unsigned 32-bit integers, big endian), header
(UTF-8 JSON object), payload. Nothing is unpickled, so a decoder that a hostile file has taken over
can send wrong pictures, not code.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import IO, Any

Header = dict[str, Any]
_LENGTHS = struct.Struct(">II")
_MAX_HEADER = 64 << 20  # a request may list every time stamp of a long video
_MAX_PAYLOAD = 1 << 30


def write_message(stream: IO[bytes], header: Header, payload: memoryview | bytes = b"") -> None:
    """Write one message and flush."""
    encoded = json.dumps(header).encode()
    stream.write(_LENGTHS.pack(len(encoded), len(payload)))
    stream.write(encoded)
    stream.write(payload)
    stream.flush()


def read_message(read: Callable[[int], bytearray]) -> tuple[Header, bytearray]:
    """Read one message.

    Args:
        read: Returns exactly that many bytes, or raises (EOFError at the end of the stream).

    Raises:
        ValueError: What arrives is not a message.
    """
    header_length, payload_length = _LENGTHS.unpack(read(_LENGTHS.size))
    if header_length > _MAX_HEADER or payload_length > _MAX_PAYLOAD:
        raise ValueError(f"message of {header_length} + {payload_length} bytes")
    header = json.loads(read(header_length))
    if not isinstance(header, dict):
        raise ValueError("message header is not an object")
    return header, read(payload_length)
