"""A way through relay and agent to an echo target, as an application that blocks sees it."""

from __future__ import annotations

import socket

import pytest

from devstack.testing import BackgroundHybridConnection

SECONDS = 30.0
"""How long anything may take, on a machine that is busy with other tests."""


def connected(hybrid_connection: BackgroundHybridConnection) -> socket.socket:
    return socket.create_connection(hybrid_connection.local_address, timeout=SECONDS)


def assert_echo(sock: socket.socket, data: bytes = b"select 1") -> None:
    sock.sendall(data)
    received = b""
    while len(received) < len(data):
        part = sock.recv(65_536)
        assert part, f"the end came after {received!r}"
        received += part
    assert received == data


def assert_works(hybrid_connection: BackgroundHybridConnection) -> None:
    with connected(hybrid_connection) as sock:
        assert_echo(sock)


def assert_refused(hybrid_connection: BackgroundHybridConnection) -> None:
    # A reset that is quick enough is the answer to connecting already.
    with pytest.raises(ConnectionResetError), connected(hybrid_connection) as sock:
        sock.recv(1)
