"""One file from one address, resumable, within limits of time, size and place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urljoin

import httpcore

from idpose_core.download.addresses import AddressPolicy, CheckedNetwork, Deadline, place_of
from idpose_core.download.answers import (
    check_beginning,
    content_range,
    failure_of_answer,
    failure_of_network,
    header,
)
from idpose_core.download.partial import Note, Partial
from storage.reasons import Status, Unusable

_REDIRECTS = 8
_AGENT = "Mozilla/5.0 (compatible; idpose)"
_PERSONAL = ("authorization", "cookie")
_NETWORK = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


@dataclass(frozen=True)
class Limits:
    """What one video may take.

    Attributes:
        connect_s: Longest time to a connection.
        stall_s: Longest silence of the server.
        deadline_s: Longest time on the network, later tries included and waiting left out.
        max_bytes: Largest file.
        bytes_per_s: Fastest pace of a transfer; None = as fast as the server gives.
    """

    connect_s: float = 20.0
    stall_s: float = 30.0
    deadline_s: float = 1800.0
    max_bytes: int = 2 << 30
    bytes_per_s: float | None = None


@dataclass(frozen=True)
class Target:
    """What to fetch.

    Attributes:
        url: Where it is now; it may differ from one try to the next.
        variant: Which of several forms of the video it is.
        headers: To send along; a Cookie among them goes to no other host.
        chunk_bytes: Ask for so many bytes at a time, where the server likes that better.
    """

    url: str
    variant: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    chunk_bytes: int | None = None


class Transfer:
    """How files are fetched.

    Args:
        policy: Which addresses may be asked.
        limits: What a file may take.
        proxy: Address of an HTTP proxy. It looks names up itself, so what it connects to cannot be
            checked here; names that are known here are checked by a lookup of our own.
        cookies: Gives the Cookie header for an address.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        limits: Limits,
        *,
        proxy: str | None = None,
        cookies: Callable[[str], str | None] = lambda url: None,
    ) -> None:
        self._policy = policy
        self._limits = limits
        self._proxy = proxy
        self._cookies = cookies

    def fetch(self, target: Target, partial: Partial, deadline: Deadline) -> None:
        """Fetch what is missing of a file.

        Args:
            target: What to fetch.
            partial: What is there of it; all of it, when this returns.
            deadline: For this video.

        Raises:
            Unusable: It could not be had, or not now; what was fetched stays in ``partial``.
            OSError: It could not be written.
        """
        if partial.note.variant != target.variant:
            partial.restart(Note(target.variant))
        if not partial.note.validator or partial.size > (partial.note.length or partial.size):
            partial.restart(Note(target.variant))  # nothing says what it is a part of
        with self._pool(deadline) as pool:
            while not _is_complete(partial):
                before = partial.size
                self._ask(pool, target, partial, deadline)
                if partial.note.length is None:
                    return  # the server ended it and did not say how long it is
                if partial.size == before:
                    raise Unusable(Status.INCOMPLETE, f"{before} of {partial.note.length} bytes")

    def _pool(self, deadline: Deadline) -> httpcore.ConnectionPool:
        # No connection is kept for a second request: the server may have closed it meanwhile.
        if self._proxy is None:
            network = CheckedNetwork(self._policy, deadline)
            return httpcore.ConnectionPool(network_backend=network, max_keepalive_connections=0)
        # The operator chose the proxy, so that its own address may be a private one.
        to_proxy = CheckedNetwork(AddressPolicy(place_of(self._proxy)), deadline)
        return httpcore.HTTPProxy(
            self._proxy, network_backend=to_proxy, max_keepalive_connections=0
        )

    def _ask(
        self, pool: httpcore.ConnectionPool, target: Target, partial: Partial, deadline: Deadline
    ) -> None:
        """One request for what is missing, or for the next chunk of it."""
        wanted, begun = _range(target, partial.note, partial.size), False
        try:
            with self._follow(pool, target, wanted, deadline) as response:
                begun = True
                self._match(response, partial)
                self._copy(response, partial, deadline)
        except _NETWORK as error:
            raise failure_of_network(error, begun=begun, late=not deadline.left) from error
        except httpcore.ProxyError as error:
            raise Unusable(Status.CONNECTION_FAILED, f"proxy: {error}") from error

    @contextlib.contextmanager
    def _follow(
        self,
        pool: httpcore.ConnectionPool,
        target: Target,
        wanted: Mapping[str, str],
        deadline: Deadline,
    ) -> Iterator[httpcore.Response]:
        """The answer at the end of the redirects; each of them passes the same check."""
        url, first = target.url, _place(target.url)
        for _ in range(_REDIRECTS):
            place = _place(url)
            if self._proxy is not None:
                self._check_by_name(*place)
            kept = target.headers
            if place != first:
                kept = {k: v for k, v in kept.items() if k.lower() not in _PERSONAL}
            sent = {"User-Agent": _AGENT, **kept, "Accept-Encoding": "identity", **wanted}
            if cookie := self._cookies(url):
                sent["Cookie"] = cookie
            timeout = {
                "connect": deadline.bound(self._limits.connect_s),
                "read": deadline.bound(self._limits.stall_s),
                "write": deadline.bound(self._limits.stall_s),
            }
            headers = list(sent.items())
            with pool.stream("GET", url, headers=headers, extensions={"timeout": timeout}) as found:
                location = header(found, "location")
                if not 300 <= found.status < 400 or location is None:
                    yield found
                    return
                url = _joined(url, location)
        raise Unusable(
            Status.BAD_REDIRECT, f"over {_REDIRECTS} redirects, the last to {_shown(url)}"
        )

    def _check_by_name(self, host: str, port: int) -> None:
        try:
            self._policy.allowed(host, port)
        except Unusable as unusable:
            if unusable.status is not Status.CONNECTION_FAILED:  # only the proxy knows the name
                raise

    def _match(self, response: httpcore.Response, partial: Partial) -> None:
        """Bring the partial file to where the answer goes on."""
        have, note = partial.size, partial.note
        if response.status == 416 and have:
            partial.restart(Note(note.variant))
            raise Unusable(Status.INCOMPLETE, f"the file changed: it has no byte {have} any more")
        if response.status not in (200, 206):
            raise failure_of_answer(response)
        coding = header(response, "content-encoding")
        if coding not in (None, "identity"):
            raise Unusable(Status.DOWNLOAD_FAILED, f"packed ({coding}), which was not asked for")
        # A weak ETag does not promise equal bytes.
        etag, changed = header(response, "etag"), header(response, "last-modified")
        validator = changed if etag is None or etag.startswith("W/") else etag
        start, length = 0, _length(response)
        if response.status == 206:
            start, length = content_range(header(response, "content-range"))
        if length == 0:
            raise Unusable(Status.EMPTY_FILE, "0 bytes, by its length")
        if length is not None and length > self._limits.max_bytes:
            raise Unusable(Status.TOO_LARGE, f"{length} bytes, at most {self._limits.max_bytes}")
        if start == 0:
            partial.restart(replace(note, length=length, validator=validator))
        elif start != have or length != note.length or validator not in (None, note.validator):
            partial.restart(Note(note.variant))
            raise Unusable(Status.INCOMPLETE, "the file changed since its first part was fetched")

    def _copy(self, response: httpcore.Response, partial: Partial, deadline: Deadline) -> None:
        have, began = partial.size, time.monotonic()
        before = have
        for data in response.iter_stream():
            if have == 0:
                check_beginning(data)
            have += len(data)
            if have > self._limits.max_bytes:
                raise Unusable(Status.TOO_LARGE, f"more than {self._limits.max_bytes} bytes")
            partial.append(data)
            if self._limits.bytes_per_s is not None:
                due = began + (have - before) / self._limits.bytes_per_s
                time.sleep(min(max(0.0, due - time.monotonic()), deadline.left))
            if not deadline.left:
                raise Unusable(
                    Status.DOWNLOAD_TIMEOUT, f"{have} bytes in {self._limits.deadline_s:.0f} s"
                )


def _is_complete(partial: Partial) -> bool:
    return partial.note.length is not None and partial.size == partial.note.length


def _range(target: Target, note: Note, have: int) -> dict[str, str]:
    if not have and target.chunk_bytes is None:
        return {}
    last = "" if target.chunk_bytes is None else have + target.chunk_bytes - 1
    asked = {"Range": f"bytes={have}-{last}"}
    return asked | {"If-Range": note.validator} if have and note.validator else asked


def _length(response: httpcore.Response) -> int | None:
    text = header(response, "content-length")
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


def _place(url: str) -> tuple[str, int]:
    try:
        url.encode("ascii")
        return place_of(url)
    except (ValueError, UnicodeError) as error:
        raise Unusable(Status.ADDRESS_REFUSED, f"no web address: {_shown(url)!r}") from error


def _joined(url: str, location: str) -> str:
    """Where a redirect leads; letters that no address may have are escaped, as browsers do."""
    escaped = quote(location.encode("latin-1"), safe="%/:?#[]@!$&'()*+,;=~")
    try:
        return urljoin(url, escaped)
    except ValueError as error:
        raise Unusable(Status.BAD_REDIRECT, f"to no web address: {_shown(location)!r}") from error


def _shown(url: str) -> str:
    """An address without its query, which may hold a key."""
    return url.split("?")[0][:200]
