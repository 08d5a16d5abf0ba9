"""Decoding with torchcodec, an optional extra: it needs FFmpeg's shared libraries of the system."""

from __future__ import annotations

from idpose_core.video.indexed import IndexedDecoder, IndexedVideo

INSTALL = (
    "the decoder torchcodec cannot be used: pip install 'idpose[torchcodec]' and install FFmpeg's "
    "shared libraries (apt-get install ffmpeg), or decoder=pyav"
)


def load() -> IndexedDecoder:
    """Load torchcodec, to decode with one thread.

    Raises:
        ImportError: torchcodec or FFmpeg's libraries are missing; the message names the commands.
    """
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError) as error:  # RuntimeError: FFmpeg's libraries are missing
        raise ImportError(INSTALL) from error

    def open_video(path: str) -> IndexedVideo:
        reader = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1)
        return IndexedVideo(len(reader), lambda index: reader.get_frame_at(index).data.numpy())

    return IndexedDecoder(
        "torchcodec",
        open_video,
        (RuntimeError, ValueError, IndexError),
        without=frozenset({"mpegts"}),  # its seeking there misses frames
    )
