"""What a video file is, read through PyAV (FFmpeg): stream, orientation, time stamps, limits."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import av.container
import av.error
import av.logging
import av.video.frame
import av.video.stream
import numpy as np
from av.sidedata.sidedata import SideData

from idpose_core.video.frames import Image, VideoInfo
from storage.reasons import Status, Unusable

MIN_SIDE = 32
MAX_PIXELS = 8192 * 8192

# Formats that hold their own frames. FFmpeg also opens play lists and scripts (hls, concat, dash,
# image2 and more) that make it read other files, which a hostile file must not achieve.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,flv,live_flv,mpegts,mpeg,mpegvideo,ogg,asf,wtv,"
    "mxf,nut,ivf,h264,hevc,av1,obu,m4v,dv,rm,swf,vob,yuv4mpegpipe,apng,webp,webp_anim,"
    "wav,mp3,flac,aac,aiff,w64,ac3,amr,caf,au"  # sound only: NO_VIDEO_STREAM says more
)

# FFmpeg has a limit of its own, a little above, and then forgets the size: only its log has it.
_REFUSED_SIZE = re.compile(r"Picture size (\d+)x(\d+)")
_PATIENCE = 300  # packets read for a first frame: more than any codec's delay


@dataclass(frozen=True)
class Orientation:
    """How to bring a coded picture upright: transpose first, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged: no rotation does that."""
        return self.transpose ^ self.mirror_x ^ self.mirror_y

    @property
    def degrees(self) -> int:
        """Degrees counter-clockwise, before any mirroring from left to right."""
        if self.transpose:
            return 90 if self.mirror_y else 270
        return 180 if self.mirror_y else 0

    def apply(self, image: Image) -> Image:
        """Return the upright picture, contiguous. image: uint8 [H, W, 3]."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        if self.mirror_x:
            image = image[:, ::-1]
        if self.mirror_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


def orientation(frame: av.video.frame.VideoFrame) -> Orientation:
    """Orientation from a frame's display matrix, to the nearest right angle.

    The matrix maps coded (x, y), y down, to (a x + c y, b x + d y); FFmpeg stores it as nine 32-bit
    integers a, b, u, c, d, v, x, y, w (libavutil/display.h).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


@contextmanager
def open_container(path: str) -> Iterator[av.container.InputContainer]:
    """Open a video file; it can make FFmpeg read no other file and no network.

    Raises:
        Unusable: EMPTY_FILE, UNREADABLE or NOT_A_VIDEO.
    """
    _check_file(path)
    try:
        # "file:" so that no name is taken for a protocol or an option
        container = av.open(
            "file:" + path,
            options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS},
            metadata_errors="replace",
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        raise Unusable(
            Status.NOT_A_VIDEO,
            f"no video container, or one cut off before its index: {_message(error)}",
        ) from error
    with container:
        yield container


def _check_file(path: str) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # do not wait for a pipe's other end
        try:
            status = os.fstat(handle)
            if stat.S_ISREG(status.st_mode) and status.st_size:
                os.read(handle, 1)
        finally:
            os.close(handle)
    except OSError as error:
        raise Unusable(Status.UNREADABLE, error.strerror or repr(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise Unusable(Status.UNREADABLE, "not a regular file")
    if not status.st_size:
        raise Unusable(Status.EMPTY_FILE)


def _message(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def video_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    """The video stream to use, set to decode with one thread (the build runs many processes).

    Raises:
        Unusable: NO_VIDEO_STREAM (a cover picture is none), DECODE_FAILED for a codec that FFmpeg
            does not know, FRAME_TOO_LARGE or FRAME_TOO_SMALL by the declared size.
    """
    pictures = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    if not streams:
        raise Unusable(Status.NO_VIDEO_STREAM, f"a {container.format.name} file without video")
    best = container.streams.best("video")
    stream = next((s for s in streams if s is best), streams[0])
    context = stream.codec_context
    if context is None:
        raise Unusable(Status.DECODE_FAILED, "no decoder for this codec")
    check_size(context.width, context.height)
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def check_size(width: int, height: int) -> None:
    """Refuse frames that are too large to decode or too small to show anything.

    Raises:
        Unusable: FRAME_TOO_LARGE or FRAME_TOO_SMALL. A size of 0 is not known yet: neither.
    """
    if width * height > MAX_PIXELS:
        raise Unusable(Status.FRAME_TOO_LARGE, f"{width}x{height}, at most {MAX_PIXELS} pixels")
    if 0 < min(width, height) < MIN_SIDE:
        raise Unusable(Status.FRAME_TOO_SMALL, f"{width}x{height}, at least {MIN_SIDE} a side")


def milliseconds(pts: int, stream: av.video.stream.VideoStream) -> int:
    """A time stamp of the stream, in milliseconds from the stream's start time."""
    if stream.time_base is None:
        raise Unusable(Status.DECODE_FAILED, "the stream has no time base")
    return round((pts - (stream.start_time or 0)) * stream.time_base * 1000)


def first_frame(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> av.video.frame.VideoFrame:
    """Decode the first frame.

    Raises:
        Unusable: FRAME_TOO_LARGE where FFmpeg refuses it for its size, else DECODE_FAILED.
    """
    with _log() as said:
        try:
            for count, packet in enumerate(container.demux(stream)):
                for frame in stream.decode(packet):
                    return frame
                if count >= _PATIENCE:
                    break
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            _check_refused_size(said)
            raise Unusable(Status.DECODE_FAILED, f"first frame: {_message(error)}") from error
    _check_refused_size(said)
    raise Unusable(Status.DECODE_FAILED, "the video stream holds no frame")


@contextmanager
def _log() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg says of errors meanwhile, as (level, part of FFmpeg, text)."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # what was said of another file is news of this one
    try:
        with av.logging.Capture() as said:
            yield said
    finally:
        av.logging.set_level(before)


def _check_refused_size(said: list[tuple[int, str, str]]) -> None:
    for _, _, text in said:
        if refused := _REFUSED_SIZE.search(text):
            check_size(int(refused[1]), int(refused[2]))


def inspect(path: str) -> tuple[VideoInfo, Orientation]:
    """Read what the container says, and decode one frame to see that it can be decoded.

    Raises:
        Unusable: For every file that cannot be used: see ``open_container``, ``video_stream`` and
            ``first_frame``; DECODE_FAILED for frames that have no time stamps.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        frame = first_frame(container, stream)
        check_size(frame.width, frame.height)
        if frame.pts is None:
            raise Unusable(
                Status.DECODE_FAILED,
                f"its frames have no time stamps ({container.format.name}): a raw stream is to be "
                "put into a container, as mp4, first",
            )
        turned = orientation(frame)
        width, height = frame.width, frame.height
        info = VideoInfo(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=height if turned.transpose else width,
            height=width if turned.transpose else height,
            rotation=turned.degrees,
            duration_ms=_duration_ms(container, stream),
            average_fps=float(stream.average_rate or stream.guessed_rate or 0),
        )
    return info, turned


def _duration_ms(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> int:
    if stream.duration is not None and stream.time_base is not None:
        return max(0, round(stream.duration * stream.time_base * 1000))
    if container.duration is not None:
        return max(0, round(Fraction(container.duration, av.time_base) * 1000))
    return 0


def presentation_times(path: str) -> list[int]:
    """Time stamps of all frames in milliseconds, in presentation order, read without decoding.

    For decoders that count frames: decord keeps its own times as 32-bit floats, which are half a
    millisecond off after an hour.

    Raises:
        Unusable: DECODE_FAILED for AVI with B-frames, which has no such times.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        if container.format.name == "avi" and stream.codec_context.has_b_frames:
            raise Unusable(
                Status.DECODE_FAILED, "AVI with B-frames has decoding times only: use pyav"
            )
        stamps = []
        try:
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is not None:
                    stamps.append(packet.pts)
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            if not stamps:
                raise Unusable(Status.DECODE_FAILED, _message(error)) from error
        return [milliseconds(stamp, stream) for stamp in sorted(stamps)]
