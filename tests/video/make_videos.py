"""Small videos for tests, written with PyAV. Each frame carries its own number, readable again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
_BITS = 12


def numbered_frames(
    count: int, *, width: int = 192, height: int = 96, first: int = 0, seed: int = 0
) -> Iterator[Image]:
    """Frames uint8 [H, W, 3]: the number in black and white bars above, moving texture below."""
    texture = np.random.default_rng(seed).integers(0, 256, (6, 40, 3), dtype=np.uint8)
    cell = max(1, width // 20)
    big = texture.repeat(cell, axis=0).repeat(cell, axis=1)
    big = np.tile(big, (height // big.shape[0] + 1, width // big.shape[1] + 2, 1))
    bar = width // _BITS
    for number in range(first, first + count):
        image = np.ascontiguousarray(np.roll(big, -2 * number, axis=1)[:height, :width])
        image[: height // 2] = 0
        for bit in range(_BITS):
            if number >> bit & 1:
                image[: height // 2, bit * bar : (bit + 1) * bar] = 255
        yield image


def frame_number(image: Image) -> int:
    """Read the number of a frame made by ``numbered_frames``, after any lossy coding."""
    height, width = image.shape[:2]
    bar = width // _BITS
    row = image[height // 8 : height * 3 // 8].mean(axis=(0, 2))
    return sum(int(row[bit * bar + bar // 2] > 128) << bit for bit in range(_BITS))


@contextmanager
def _ordinary_priority() -> Iterator[None]:
    """Take back what SVT-AV1 does for root: it makes its caller, and so all children, real-time."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_video(
    path: Path,
    frames: Iterable[Image],
    *,
    fps: float | Fraction = 25,
    timestamps_ms: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    mirrored: bool = False,
    key_frame_every: int = 12,
    container: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode frames uint8 [H, W, 3].

    Args:
        path: Where to; its extension chooses the container unless ``container`` names one.
        frames: All of one size (even sides for yuv420p).
        fps: Constant frame rate, unless
        timestamps_ms: gives the time of each frame.
        codec: An encoder of PyAV's: libx264, libvpx-vp9, libsvtav1, mpeg4, gif, ffv1.
        pixel_format: rgb8 for gif.
        rotation: Counter-clockwise degrees that a player turns the frames by.
        mirrored: Whether a player mirrors them after that.
        key_frame_every: Greatest distance of key frames.
        container: Format name, where the extension shall lie.
        options: Options of the encoder.
        container_options: Options of the container.
    """
    base = Fraction(1, 1000) if timestamps_ms is not None else 1 / Fraction(fps)
    opened = av.open(str(path), "w", format=container, options=container_options or {})
    with _ordinary_priority(), opened as out:
        stream = None
        for index, image in enumerate(frames):
            if stream is None:
                rate = 25 if timestamps_ms is not None else Fraction(fps)
                stream = out.add_stream(codec, rate=rate, options=options or {})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pixel_format
                stream.codec_context.gop_size = key_frame_every
                stream.codec_context.thread_count = 1  # the same bytes every time
                stream.codec_context.time_base = base
                stream.time_base = base
                if rotation or mirrored:
                    stream.set_display_rotation(rotation, hflip=mirrored)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = timestamps_ms[index] if timestamps_ms is not None else index
            frame.time_base = base
            out.mux(stream.encode(frame))
        if stream is not None:
            out.mux(stream.encode())
    return path


def write_sound(path: Path, *, seconds: float = 0.5) -> Path:
    """A file with sound and no video."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        samples = np.zeros((1, int(16000 * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
