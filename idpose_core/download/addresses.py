"""Which addresses may be connected to, checked at the moment of the connection.

A name is looked up once, what it gave is checked, and the connection goes to that number: no
second lookup can give another address, and a redirect passes the same way as the first request.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpcore

from storage.reasons import Status, Unusable

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Of IPv6 nothing else is given out: neither site-local nor IPv4-compatible addresses
_UNICAST = ipaddress.ip_network("2000::/3")
# Special by IANA's registries, and unknown to the tables of Python 3.11
_RESERVED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
_SOCKET_OPTIONS = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),)


@dataclass(frozen=True)
class AddressPolicy:
    """Public addresses, and at most one private place.

    Attributes:
        private: Host and port that may have a private address: those of the source's own
            template, where ``source.allow_private`` is set. A redirect to any other private
            place is refused all the same.
    """

    private: tuple[str, int] | None = None

    def allowed(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to, from one lookup.

        Raises:
            Unusable: CONNECTION_FAILED where the name is not known, ADDRESS_REFUSED where it has
                no address that is allowed.
        """
        found = look_up(host, port)
        if (host.lower(), port) == self.private:
            return found
        public = [address for address in found if is_public(address)]
        if not public:
            raise Unusable(
                Status.ADDRESS_REFUSED,
                f"{host}:{port} has the private address {found[0]} (see source.allow_private)",
            )
        return public


def is_public(address: str) -> bool:
    """Whether an address is one of the open network.

    Private, loopback, link-local, shared, documentation, reserved and multicast ones are not, nor
    are IPv6 addresses that stand for such an IPv4 address.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if not all(is_public(str(inner)) for inner in _embedded(parsed)):
            return False
        if parsed.ipv4_mapped is not None or parsed in _NAT64:
            return True
        if parsed not in _UNICAST:
            return False
    special = parsed.is_multicast or any(parsed in network for network in _RESERVED)
    return parsed.is_global and not special


def _embedded(address: ipaddress.IPv6Address) -> Iterable[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to: mapped, 6to4, Teredo, NAT64."""
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def look_up(host: str, port: int) -> list[str]:
    """The numeric addresses of a host, in the resolver's order.

    Raises:
        Unusable: CONNECTION_FAILED.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unusable(Status.CONNECTION_FAILED, f"no address of {host}: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def place_of(url: str) -> tuple[str, int]:
    """Host (lower case) and port of a web address.

    Raises:
        ValueError: It is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"not an http or https address: {url[:200]!r}")
    return parts.hostname.lower(), parts.port or _PORTS[parts.scheme]


class Deadline:
    """A limit for everything that one video needs of the network.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; 0 where it has passed."""
        return max(0.0, self._end - time.monotonic())

    def bound(self, timeout: float | None) -> float:
        """A timeout that does not reach beyond the deadline."""
        # Not 0, which would mean a socket that does not wait at all
        return max(0.001, self.left if timeout is None else min(timeout, self.left))


class CheckedNetwork(httpcore.NetworkBackend):
    """Connections to allowed addresses only, none of which outlives the deadline."""

    def __init__(self, policy: AddressPolicy, deadline: Deadline) -> None:
        self._policy = policy
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """See httpcore.NetworkBackend.

        Raises:
            Unusable: As ``AddressPolicy.allowed``.
        """
        failure: Exception | None = None
        for address in self._policy.allowed(host, port):
            try:
                stream = self._sockets.connect_tcp(
                    address,
                    port,
                    timeout=self._deadline.bound(timeout),
                    local_address=local_address,
                    socket_options=socket_options or _SOCKET_OPTIONS,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return _BoundedStream(stream, self._deadline)
        raise failure or httpcore.ConnectError(f"no address of {host}")


class _BoundedStream(httpcore.NetworkStream):
    """A stream whose every wait ends with the deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._deadline.left:
            raise httpcore.ReadTimeout("deadline")
        return self._stream.read(max_bytes, self._deadline.bound(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.bound(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        bound = self._deadline.bound(timeout)
        return _BoundedStream(
            self._stream.start_tls(ssl_context, server_hostname, bound), self._deadline
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
