"""Decoding with decord: kept for those who use it elsewhere; unmaintained since 2021.

It bundles FFmpeg 4, which has no decoder for AV1, cannot count the frames of a GIF, and returns
frames of other times from MPEG transport streams. How many frames it gives of a damaged file
differs from one reading of the same bytes to the next, and they may be wrong.
"""

from __future__ import annotations

from idpose_core.video.indexed import IndexedDecoder, IndexedVideo

INSTALL = "the decoder decord is not installed: pip install 'idpose[decord]', or decoder=pyav"


def load() -> IndexedDecoder:
    """Load decord, to decode with one thread.

    Raises:
        ImportError: decord is not installed; the message names the command.
    """
    try:
        import decord
    except ImportError as error:
        raise ImportError(INSTALL) from error
    decord.logging.set_level(decord.logging.QUIET)

    def open_video(path: str) -> IndexedVideo:
        reader = decord.VideoReader(path, num_threads=1)
        return IndexedVideo(len(reader), lambda index: reader[index].asnumpy())

    return IndexedDecoder(
        "decord",
        open_video,
        (decord.DECORDError, RuntimeError),
        without=frozenset({"av1", "gif", "mpegts"}),
    )
