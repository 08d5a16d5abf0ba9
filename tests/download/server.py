"""A web server on this machine whose every path behaves as a test says."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Asked:
    """One request: path with its query, headers by lower-case name, and when."""

    path: str
    headers: Mapping[str, str]
    at: float


Behaviour = Callable[[BaseHTTPRequestHandler], None]


class LocalServer:
    """Serves ``routes`` (path without its query to behaviour) until it is left."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.routes: dict[str, Behaviour] = {}
        self.otherwise: Behaviour = answer(404)
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.close_connection = True
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append(Asked(self.path, headers, time.monotonic()))
                behave = outer.routes.get(self.path.split("?")[0], outer.otherwise)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    behave(self)  # unless the client has had enough

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self._server.stopping = self.stopping  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "") -> str:
        return f"http://{self.host}:{self.port}{path}"

    def count(self, path: str) -> int:
        return sum(1 for asked in self.asked if asked.path == path)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    """An answer of this status; headers are named like ``retry_after="1"``."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def redirect(location: str, code: int = 302) -> Behaviour:
    return answer(code, Location=location)


def page(text: str = "<!doctype html><title>Not here</title>") -> Behaviour:
    """A web page in place of a video, with status 200."""
    return answer(200, text.encode(), Content_Type="text/html")


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first request meets the first behaviour, and so on; the last one stays."""
    left = list(behaviours)
    lock = threading.Lock()

    def behave(handler: BaseHTTPRequestHandler) -> None:
        with lock:
            now = left.pop(0) if len(left) > 1 else left[0]
        now(handler)

    return behave


def video(
    data: bytes,
    *,
    etag: str | None = '"v1"',
    changed: str | None = None,
    ranges: bool = True,
    stop_at: int | None = None,
    then: Callable[[BaseHTTPRequestHandler], None] | None = None,
    length: bool = True,
) -> Behaviour:
    """Serves bytes, in parts where asked.

    Args:
        data: The whole file.
        etag: Its validator.
        changed: Its time of change.
        ranges: Whether parts are served.
        stop_at: Break off at this byte of the file.
        then: What to do there, before the connection is closed.
        length: Whether the answer has a Content-Length.
    """

    def behave(handler: BaseHTTPRequestHandler) -> None:
        start, end = 0, len(data) - 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        match = handler.headers.get("If-Range")
        partly = asked is not None and ranges and match in (None, etag, changed)
        if partly and asked is not None:
            start = int(asked[1])
            end = min(end, int(asked[2])) if asked[2] else end
            if start > len(data) - 1:
                answer(416, Content_Range=f"bytes */{len(data)}")(handler)
                return
        handler.send_response(206 if partly else 200)
        if partly:
            handler.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        for name, value in (("ETag", etag), ("Last-Modified", changed)):
            if value is not None:
                handler.send_header(name, value)
        if length:
            handler.send_header("Content-Length", str(end + 1 - start))
        else:
            handler.send_header("Connection", "close")
        handler.end_headers()
        stop = end + 1 if stop_at is None else min(end + 1, max(start, stop_at))
        handler.wfile.write(data[start:stop])
        handler.wfile.flush()
        if stop < end + 1 and then is not None:
            then(handler)

    return behave


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Say nothing for as long as the server runs, at most a minute."""
    handler.server.stopping.wait(60)  # type: ignore[attr-defined]


def drip(pieces: Sequence[bytes], seconds: float) -> Behaviour:
    """Write raw bytes, a piece at a time."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            if handler.server.stopping.wait(seconds):  # type: ignore[attr-defined]
                return

    return behave
