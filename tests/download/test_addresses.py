"""Addresses: what counts as private, one lookup only, and that is what is connected to."""

from __future__ import annotations

import socket
from typing import Any

import httpcore
import pytest

from idpose_core.download.addresses import (
    AddressPolicy,
    CheckedNetwork,
    Deadline,
    is_public,
    place_of,
)
from storage.reasons import Status, Unusable
from tests.download.server import LocalServer

PRIVATE = (
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%lo", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "not an address", "",
    "fec0::1", "::127.0.0.1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "2001:0:7f00:1::", "3fff::1",
    "5f00::1", "192.0.0.8", "192.88.99.1",
)  # fmt: skip
PUBLIC = (
    "8.8.8.8",
    "142.250.74.46",
    "2a00:1450:4001:80b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "017700000001", "0177.0.0.1",
        "[::1]", "0", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "①②⑦.⓪.⓪.①",
    ],
)  # fmt: skip
def test_every_way_to_write_this_machine_is_refused(host: str) -> None:
    name, port = place_of(f"http://{host}/x")
    with pytest.raises(Unusable) as caught:
        AddressPolicy().allowed(name, port)
    assert caught.value.status is Status.ADDRESS_REFUSED


def test_only_the_private_place_of_the_template_is_allowed() -> None:
    policy = AddressPolicy(("127.0.0.1", 8000))
    assert policy.allowed("127.0.0.1", 8000) == ["127.0.0.1"]
    for place in (("127.0.0.1", 8001), ("127.0.0.2", 8000), ("localhost", 8000)):
        with pytest.raises(Unusable):
            policy.allowed(*place)


def test_what_was_checked_is_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that gives a public address first and this machine's afterwards gets nowhere."""
    answers = ["8.8.8.8", "127.0.0.1", "127.0.0.1"]
    connected: list[Any] = []

    def look_up(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        if host != "rebinding.example":  # a number, which the connection passes on
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", connect)
    network = CheckedNetwork(AddressPolicy(), Deadline(5))
    with pytest.raises(httpcore.ConnectError):
        network.connect_tcp("rebinding.example", 80)
    assert connected == [("8.8.8.8", 80)]
    assert len(answers) == 2
    with pytest.raises(Unusable) as caught:
        network.connect_tcp("rebinding.example", 80)
    assert caught.value.status is Status.ADDRESS_REFUSED
    assert connected == [("8.8.8.8", 80)]


def test_a_private_address_is_not_even_knocked_at() -> None:
    with LocalServer() as server, pytest.raises(Unusable):
        CheckedNetwork(AddressPolicy(), Deadline(5)).connect_tcp("127.0.0.1", server.port)
    assert server.asked == []


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://A.example/x", ("a.example", 80)),
        ("https://a.example:8443", ("a.example", 8443)),
        ("https://[2001:DB8::1]/", ("2001:db8::1", 443)),
        ("http://user:pass@a.example@b.example/", ("b.example", 80)),
    ],
)
def test_the_place_of_an_address(url: str, place: tuple[str, int]) -> None:
    assert place_of(url) == place


@pytest.mark.parametrize(
    "url", ["ftp://a.example/x", "file:///etc/passwd", "a.example", "http://", "http://a:99999/"]
)
def test_what_is_no_web_address(url: str) -> None:
    with pytest.raises(ValueError):
        place_of(url)
