"""Decoding as the build uses it: in a child process, within a deadline and a memory limit.

The child is kept for the next call of the same thread and started anew after a crash. It dies with
the thread that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO

import numpy as np

from idpose_core.video.frames import Frame, VideoInfo, exact_targets, grid_targets
from idpose_core.video.messages import Header, read_message, write_message
from storage.reasons import Status, Unusable

DECODERS = ("pyav", "decord", "torchcodec")

_PIPE_BYTES = 1 << 20
_PATIENCE_S = 5  # for an idle process to say that it is there
_PACKAGES = Path(__file__).resolve().parents[2]
_own = threading.local()  # the idle decoding process of this thread


def probe(path: str, *, deadline_s: float = 60) -> VideoInfo:
    """What a video file says about itself; its first frame is decoded to see that it can be.

    Raises:
        Unusable: EMPTY_FILE, UNREADABLE, NOT_A_VIDEO, NO_VIDEO_STREAM, FRAME_TOO_SMALL (a side
            under 32 pixels), FRAME_TOO_LARGE (over 8192 * 8192 pixels), DECODE_FAILED,
            DECODE_TIMEOUT or DECODER_CRASHED.
    """
    [(header, _)] = _ask({"ask": "info", "path": path}, deadline_s)
    return VideoInfo(**{name: value for name, value in header.items() if name != "kind"})


def check_decoder(decoder: str) -> None:
    """Load a decoder's package, so that a missing one is told before a build.

    Raises:
        ImportError: It is not installed; the message names the command.
        ValueError: There is no decoder of this name.
    """
    if decoder not in DECODERS:
        raise ValueError(f"no decoder {decoder!r}: choose from {', '.join(DECODERS)}")
    if decoder != "pyav":
        import_module(f"idpose_core.video.decoder_{decoder}").load()


def sample_frames(
    path: str,
    *,
    fps: float,
    windows_ms: Sequence[tuple[int, int]] | None = None,
    decoder: str = "pyav",
    deadline_s: float = 600,
) -> Iterator[Frame]:
    """Frames at regular times: for each grid time k / fps the first frame at or after it.

    Args:
        path: Video file.
        fps: Grid times a second, in (0, 250].
        windows_ms: Only grid times within these windows (both ends included); long gaps between
            them are leapt over, not decoded. None for the whole video.
        decoder: One of ``DECODERS``. All give the same time stamps and pixels.
        deadline_s: Seconds of waiting for the decoder in all. The time that the caller spends
            between two frames does not count.

    Yields:
        Frames with rising time stamps, each once. A grid time without a frame in the half period
        after it gives none. A damaged file gives its frames before the damage.

    Raises:
        Unusable: As ``probe``; DECODE_FAILED if damage comes before the first wanted frame.
        ValueError: A rate, window or decoder name that does not exist.
        ImportError: The decoder is not installed; the message names the command.
    """
    grid_targets(fps, windows_ms)
    windows = [list(window) for window in windows_ms] if windows_ms is not None else None
    return _frames(path, {"fps": fps, "windows_ms": windows}, decoder, deadline_s)


def frames_at(
    path: str,
    timestamps_ms: Sequence[int],
    *,
    decoder: str = "pyav",
    deadline_s: float = 600,
) -> Iterator[Frame]:
    """The frames that ``sample_frames`` reported with these time stamps, in order of time.

    A time stamp at which no frame lies gives none. Arguments and errors are those of
    ``sample_frames``.
    """
    wanted = [first for first, _ in exact_targets(timestamps_ms)]
    return _frames(path, {"timestamps_ms": wanted}, decoder, deadline_s)


def _frames(path: str, wanted: Header, decoder: str, deadline_s: float) -> Iterator[Frame]:
    if decoder not in DECODERS:
        raise ValueError(f"no decoder {decoder!r}: choose one of {', '.join(DECODERS)}")
    request = {"ask": "frames", "path": path, "decoder": decoder, **wanted}
    return (
        Frame(header["timestamp_ms"], np.frombuffer(pixels, np.uint8).reshape(header["shape"]))
        for header, pixels in _ask(request, deadline_s)
    )


def _ask(request: Header, deadline_s: float) -> Iterator[tuple[Header, bytearray]]:
    """Send a request to this thread's decoding process and yield its replies."""
    # The process keeps the working directory that it was started in
    request = {**request, "path": os.path.abspath(request["path"])}  # noqa: PTH100
    process = _take()
    finished = False
    try:
        for header, payload in process.replies(request, deadline_s):
            kind = header["kind"]
            finished = kind in ("end", "unusable", "missing", "defect")
            if kind == "end":
                return
            if kind == "unusable":
                raise Unusable(Status(header["status"]), header["detail"])
            if kind == "missing":
                raise ImportError(header["detail"])
            if kind == "defect":
                raise RuntimeError(f"defect in the decoding process:\n{header['detail']}")
            yield header, payload
    finally:
        # A process that is left in the middle of its replies would answer the next request wrongly
        if finished and getattr(_own, "process", None) is None:
            _own.process = process
        else:
            process.stop()


def _take() -> _DecodingProcess:
    process: _DecodingProcess | None = getattr(_own, "process", None)
    _own.process = None
    if process is not None:
        if process.usable():
            return process
        process.stop()
    return _DecodingProcess()


class _DecodingProcess:
    """A running decoding process and the two pipes to it."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._owner = os.getpid()
        search = [str(_PACKAGES), os.environ.get("PYTHONPATH", "")]
        module = "idpose_core.video.decoding_process"
        self._popen = subprocess.Popen(
            # -P: no module is taken from the working directory
            [sys.executable, "-P", "-m", module, str(self._owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))},
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._requests: IO[bytes] = self._popen.stdin
        self._replies: IO[bytes] = self._popen.stdout
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self._replies, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._stop = weakref.finalize(self, _stop, self._popen, self._owner)

    def usable(self) -> bool:
        """Whether it answers, and is this process's own (not inherited by a fork)."""
        if self._owner != os.getpid():
            return False
        try:
            [(header, _)] = itertools.islice(self.replies({"ask": "nothing"}, _PATIENCE_S), 1)
        except Unusable:  # killed while it was idle, or on its way out
            return False
        return bool(header["kind"] == "end")

    def stop(self) -> None:
        """Kill it and close the pipes."""
        self._stop()
        self._log.close()

    def replies(self, request: Header, deadline_s: float) -> Iterator[tuple[Header, bytearray]]:
        """Send a request and yield the replies for as long as the caller asks for more.

        Raises:
            Unusable: DECODE_TIMEOUT or DECODER_CRASHED.
        """
        left = deadline_s

        def read(count: int) -> bytearray:
            nonlocal left
            data = bytearray(count)
            view, filled = memoryview(data), 0
            while filled < count:
                began = time.monotonic()
                ready, _, _ = select.select([self._replies], [], [], max(left, 0))
                left -= time.monotonic() - began
                if not ready:
                    raise Unusable(Status.DECODE_TIMEOUT, f"no frame within {deadline_s:g} s")
                got = os.readv(self._replies.fileno(), [view[filled:]])
                if not got:
                    raise Unusable(Status.DECODER_CRASHED, self._obituary())
                filled += got
            return data

        try:
            write_message(self._requests, request)
        except BrokenPipeError as error:
            raise Unusable(Status.DECODER_CRASHED, self._obituary()) from error
        while True:
            yield read_message(read)

    def _obituary(self) -> str:
        code = self._popen.wait()
        how = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - 500))
        said = self._log.read().decode(errors="replace").strip()
        return f"{how}: {said}" if said else how


def _stop(popen: subprocess.Popen[bytes], owner: int) -> None:
    if owner != os.getpid():
        return  # a fork inherited the object, not the process
    popen.kill()
    popen.wait()
    for pipe in (popen.stdin, popen.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # a request that it never read
                pipe.close()
