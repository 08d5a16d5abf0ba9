"""The child process that touches video files.

``python -m idpose_core.video.decoding_process PARENT`` (a process id) answers requests on standard
input until that closes. A file that makes a decoder crash, hang or eat memory takes down this
process and nothing else.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from idpose_core.processes import die_with
from idpose_core.video.container import inspect
from idpose_core.video.frames import Decoder, exact_targets, grid_targets
from idpose_core.video.messages import Header, read_message, write_message
from storage.reasons import Status, Unusable

MEMORY_LIMIT = 6 << 30  # bytes of address space
_LOG_LIMIT = 1 << 20

Reply = tuple[Header, memoryview | bytes]


def main() -> None:
    """Answer requests until the parent closes the pipe or dies."""
    _limit()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print must not write into the replies

    def read(count: int) -> bytearray:
        data = bytearray(sys.stdin.buffer.read(count))
        if len(data) < count:
            raise EOFError
        return data

    while True:
        try:
            request, _ = read_message(read)
        except EOFError:
            return
        for header, payload in _answer(request):
            write_message(replies, header, payload)
        gc.collect()  # containers and their streams refer to each other: free their memory now
        if _address_space() > MEMORY_LIMIT * 3 // 4:
            return  # a library leaks: the next request goes to a fresh process


def _limit() -> None:
    """Bound memory and logs, and die with the parent."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LOG_LIMIT, _LOG_LIMIT))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with(int(sys.argv[1]))


def _address_space() -> int:
    """Bytes of address space in use; 0 where the system does not say."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0


def _answer(request: Header) -> Iterator[Reply]:
    """Replies to one request; the last one is of kind "end" or says why there is no more."""
    try:
        if request["ask"] == "info":
            info, _ = inspect(request["path"])
            yield {"kind": "info", **asdict(info)}, b""
        elif request["ask"] == "frames":
            yield from _frames(request)
        yield {"kind": "end"}, b""
    except Unusable as unusable:
        yield _unusable(unusable.status, unusable.detail), b""
    except MemoryError:
        yield _unusable(Status.DECODER_CRASHED, f"more than {MEMORY_LIMIT >> 30} GiB memory"), b""
    except ImportError as error:
        yield {"kind": "missing", "detail": str(error)}, b""
    except Exception:  # a defect of idpose: the parent raises it
        yield {"kind": "defect", "detail": traceback.format_exc()}, b""


def _frames(request: Header) -> Iterator[Reply]:
    inspect(request["path"])  # says exactly what is wrong, whichever decoder is used
    targets = (
        exact_targets(request["timestamps_ms"])
        if "timestamps_ms" in request
        else grid_targets(request["fps"], request["windows_ms"])
    )
    for frame in _load(request["decoder"]).frames(request["path"], targets):
        image = np.ascontiguousarray(frame.image)
        header = {"kind": "frame", "timestamp_ms": frame.timestamp_ms, "shape": image.shape}
        yield header, image.data.cast("B")


def _unusable(status: Status, detail: str) -> Header:
    return {"kind": "unusable", "status": status.value, "detail": detail}


@cache
def _load(name: str) -> Decoder:
    module = importlib.import_module(f"idpose_core.video.decoder_{name}")
    decoder: Decoder = module.load()
    return decoder


if __name__ == "__main__":
    main()
