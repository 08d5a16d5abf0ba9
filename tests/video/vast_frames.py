"""Flat grey pictures of any size, coded by hand: no encoder at hand takes 16384x16384."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av

GREY = 128


def grey_png(side: int) -> bytes:
    """A PNG of side x side pixels, side a multiple of 16, 8 bits of grey each.

    Source: PNG specification, sections 5 and 11.
    """
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    # A sixteenth is packed, so that it can be repeated (zlib: RFC 1950, an empty last block: 1951)
    part = (b"\0" + bytes([GREY]) * side) * (side // 16)
    pack = zlib.compressobj(wbits=-15)
    packed = pack.compress(part) + pack.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(16):
        check = zlib.adler32(part, check)
    lines = b"\x78\x01" + packed * 16 + b"\x03\0" + struct.pack(">I", check)
    parts = [(b"IHDR", header), (b"IDAT", lines), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def grey_h264(side: int) -> bytes:
    """An H.264 stream of one key frame of side x side pixels, side a multiple of 16 (ITU-T H.264).

    Each macroblock is intra 16x16, predicted by the mean of its neighbours, without a residual:
    one byte. The first has no neighbours, and so is grey.
    """
    blocks = side // 16
    # Sequence parameters, 7.3.2.1: baseline, level 6.2, order of display = order of coding
    sequence = "01000010" + "11000000" + f"{62:08b}" + _ue(0, 0, 2, 1) + "0"
    sequence += _ue(blocks - 1, blocks - 1) + "1" + "1" + "0" + "0"
    # Picture parameters, 7.3.2.2: CAVLC, no weights
    picture = _ue(0, 0) + "00" + _ue(0, 0, 0) + "0" + "00" + _ue(0, 0, 0) + "000"
    # Slice header, 7.3.3 (key frame, QP as in the picture parameters), then macroblocks, 7.3.5
    start = _ue(0, 7, 0) + "0000" + _ue(0) + "00" + _ue(0)
    block = _ue(3) + _ue(0) + "1" + "1"  # 16x16 by the mean; chroma by the mean; same QP; nothing
    assert len(block) == 8
    whole = len(start) // 8 * 8
    rest = start[whole:]
    first, repeated = (rest + block)[:8], (block * 2)[8 - len(rest) :][:8]
    body = [int(start[:whole], 2).to_bytes(whole // 8, "big"), bytes([int(first, 2)])]
    body += [bytes([int(repeated, 2)]) * (blocks * blocks - 1), _closed(block[8 - len(rest) :])]
    units = [(0x67, _closed(sequence)), (0x68, _closed(picture)), (0x65, b"".join(body))]
    false = [b"\0\0" + bytes([end]) for end in range(4)]  # would end a unit too early
    assert not any(code in data for _, data in units for code in false)
    return b"".join(b"\0\0\0\1" + bytes([kind]) + data for kind, data in units)


def _ue(*numbers: int) -> str:
    """Exponential-Golomb codes, 9.1."""
    return "".join(f"{number + 1:0{2 * (number + 1).bit_length() - 1}b}" for number in numbers)


def _closed(bits: str) -> bytes:
    """Bits with the stop bit behind them, filled up to whole bytes."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def write_grey(path: Path, codec: str, side: int, frames: int = 2) -> Path:
    """A video of such pictures: ``png`` or ``h264``; the extension chooses the container."""
    picture = {"png": grey_png, "h264": grey_h264}[codec](side)
    with av.open(str(path), "w") as out:
        stream = out.add_mux_stream(codec, rate=10, width=side, height=side)
        for index in range(frames):
            packet = av.Packet(picture)
            packet.stream, packet.is_keyframe = stream, True
            packet.time_base, packet.duration = Fraction(1, 1000), 100
            packet.pts = packet.dts = index * 100
            out.mux(packet)
    return path
