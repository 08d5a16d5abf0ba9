"""An S3 server on this machine (moto's), and a proxy before it that fails as a test says."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "bucket"
# Planted: the tests look for them in whatever is written.
KEY, SECRET, TOKEN = "AKIAPLANTEDKEYOFTEST", "planted/secret+of+test", "planted-token-of-test"
_PER_HOP = ("connection", "content-length", "transfer-encoding", "keep-alive")


def credentials(endpoint: str) -> dict[str, str]:
    """The environment of a client of an endpoint."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server with the bucket ``bucket``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _create_bucket(endpoint, time.monotonic() + 60)
        yield endpoint
    finally:
        process.terminate()
        process.wait(30)


def _create_bucket(endpoint: str, deadline: float) -> None:
    request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
    while True:
        try:
            urllib.request.urlopen(request, timeout=10).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the S3 server does not start"
            time.sleep(0.1)


@dataclass(frozen=True)
class Asked:
    """One request: method, path with its query, and the bytes that were sent and came back."""

    method: str
    path: str
    sent: int
    answered: int


Fault = Callable[["_Handler"], None]
Rule = Callable[[str, str], Fault | None]  # of method and path


@dataclass
class FaultyProxy:
    """Passes requests on to an endpoint, unless ``rule`` has a fault for them.

    Attributes:
        rule: Asked for every request.
        asked: What was passed on.
        hit: The faults that met a request, by name.
    """

    endpoint: str
    rule: Rule = lambda method, path: None
    asked: list[Asked] = field(default_factory=list)
    hit: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """The proxy's address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        server.proxy = self  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        proxy: FaultyProxy = self.server.proxy  # type: ignore[attr-defined]
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.rule(self.command, self.path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if fault is None:
                self.answer(*self.passed_on())
            else:
                proxy.hit.append(fault.__name__)
                fault(self)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def passed_on(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the endpoint answers."""
        proxy: FaultyProxy = self.server.proxy  # type: ignore[attr-defined]
        host = proxy.endpoint.removeprefix("http://")
        # S3 decides atomically who creates an object; moto looks first and writes then.
        with proxy.lock if self.command in ("PUT", "POST") else contextlib.nullcontext():
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request(self.command, self.path, self.body, dict(self.headers.items()))
            found = connection.getresponse()
            data = found.read()
            connection.close()
        proxy.asked.append(Asked(self.command, self.path, len(self.body), len(data)))
        return found.status, found.getheaders(), data

    def answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, cut: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _PER_HOP:
                self.send_header(name, value)
        known = {name.lower(): value for name, value in headers}
        head = self.command == "HEAD"
        length = known.get("content-length", "0") if head else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            self.break_off()

    def break_off(self) -> None:
        """Close the connection in the middle."""
        self.close_connection = True
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


def refuse(status: int, code: str, words: str = "of the test") -> Fault:
    """An error of S3; an answer to HEAD has no body."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"

    def fault(handler: _Handler) -> None:
        data = b"" if handler.command == "HEAD" else text.encode()
        handler.answer(status, [("Content-Type", "application/xml")], data)

    fault.__name__ = code
    return fault


def lose_reply(handler: _Handler) -> None:
    """What was asked for is done, and nobody learns it."""
    handler.passed_on()
    handler.break_off()


def cut_body(handler: _Handler) -> None:
    """Half of the body, under the length of the whole."""
    status, headers, data = handler.passed_on()
    if data and handler.command == "GET":
        handler.answer(status, headers, data, cut=len(data) // 2)
    else:
        handler.answer(status, headers, data)


def slow(seconds: float) -> Fault:
    """The answer comes late."""

    def slow_answer(handler: _Handler) -> None:
        time.sleep(seconds)
        handler.answer(*handler.passed_on())

    return slow_answer


def silent(handler: _Handler) -> None:
    """No answer at all."""
    time.sleep(90)


def first(fault: Fault, times: int = 1, method: str = "", within: str = "") -> Rule:
    """The fault for so many requests of this method, to paths with these letters."""
    left, lock = [times], threading.Lock()

    def rule(asked: str, path: str) -> Fault | None:
        with lock:
            if (method and asked != method) or within not in path or not left[0]:
                return None
            left[0] -= 1
            return fault

    return rule


def every(period: int, *faults: Fault) -> Rule:
    """One of the faults, in turn, for every so manieth request."""
    count, lock = [0], threading.Lock()

    def rule(method: str, path: str) -> Fault | None:
        with lock:
            count[0] += 1
            which, due = divmod(count[0], period)
            return None if due else faults[which % len(faults)]

    return rule
