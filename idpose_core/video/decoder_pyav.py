"""Decoding with PyAV, the default: knows every codec of FFmpeg and seeks by time stamp."""

from __future__ import annotations

import math
from collections.abc import Iterator

import av
import av.container
import av.error
import av.video.stream
import numpy as np

from idpose_core.video.container import (
    check_size,
    milliseconds,
    open_container,
    orientation,
    video_stream,
)
from idpose_core.video.frames import Frame, Selector, Target
from storage.reasons import Status, Unusable

SEEK_GAP_MS = 4000  # a shorter gap is decoded through: key frames are seldom closer
SEEK_MARGIN_MS = 1000  # containers seek by decoding order, which runs ahead of presentation


def load() -> PyAVDecoder:
    """PyAV, to decode with one thread."""
    return PyAVDecoder()


class PyAVDecoder:
    """Decodes with PyAV, one thread."""

    name = "pyav"

    def frames(self, path: str, targets: Iterator[Target]) -> Iterator[Frame]:
        """Yield the wanted frames; see ``frames.Decoder``."""
        selector = Selector(targets)
        delivered = False
        with open_container(path) as container:
            stream = video_stream(container)
            try:
                for timestamp_ms, frame in _walk(container, stream, selector):
                    if frame.is_corrupt:
                        raise Unusable(Status.DECODE_FAILED, "damaged frame")
                    check_size(frame.width, frame.height)
                    if selector.take(timestamp_ms):
                        # threads: else the colour conversion starts one for every core
                        pixels = frame.reformat(format="rgb24", threads=1).to_ndarray()
                        image = pixels.astype(np.uint8, copy=False)
                        yield Frame(timestamp_ms, orientation(frame).apply(image))
                        delivered = True
            except MemoryError:
                raise
            except (av.error.FFmpegError, Unusable) as error:
                if not delivered:
                    raise Unusable(Status.DECODE_FAILED, str(error)) from error


def _walk(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    selector: Selector,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield frames with their times until nothing more is wanted, leaping over long gaps."""
    position = 0
    gap: float = SEEK_GAP_MS
    while (wanted := selector.next_ms) is not None:
        leap = wanted > position + gap
        if leap and not _seek(container, stream, wanted - SEEK_MARGIN_MS):
            leap, gap = False, math.inf
        for timestamp_ms, frame in _decode(container, stream):
            if leap:
                leap = False
                if timestamp_ms > wanted:  # landed too late: no more leaps, from the start again
                    gap = math.inf
                    _seek(container, stream, 0)
                    break
                if timestamp_ms <= position:  # key frames are further apart than the gap
                    gap *= 2
            position = timestamp_ms
            yield timestamp_ms, frame
            if selector.next_ms is None or selector.next_ms > position + gap:
                break
        else:
            return


def _seek(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, to_ms: int
) -> bool:
    """Move to the last key frame before a time; False where the container cannot."""
    if stream.time_base is None:
        return False
    offset = round(max(to_ms, 0) / 1000 / stream.time_base) + (stream.start_time or 0)
    try:
        container.seek(offset, stream=stream)
    except MemoryError:
        raise
    except av.error.FFmpegError:
        return False
    return True


def _decode(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[tuple[int, av.VideoFrame]]:
    # AVI stores no presentation times. Where frames are reordered, FFmpeg's guesses go back and
    # forth; the decoding times rise with the frames, late by the codec's delay (a frame or two).
    decoding_times = container.format.name == "avi" and stream.codec_context.has_b_frames
    for frame in container.decode(stream):
        stamps = (frame.dts, frame.pts) if decoding_times else (frame.pts, frame.dts)
        stamp = next((stamp for stamp in stamps if stamp is not None), None)
        if stamp is not None:
            yield milliseconds(stamp, stream), frame
