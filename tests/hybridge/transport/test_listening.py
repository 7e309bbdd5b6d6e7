from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from hybridge.protocol.errors import InvalidSetting
from hybridge.transport import listening
from hybridge.transport.listening import AddressUnusable, bound_address, open_sockets


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    found: list[socket.socket] = []
    yield found
    for each in found:
        each.close()


def test_localhost_is_both_loopbacks_on_one_port(opened: list[socket.socket]) -> None:
    opened += open_sockets("localhost", 0, flag="--port")

    addresses = [bound_address(each) for each in opened]
    assert [host for host, _ in addresses] == ["127.0.0.1", "::1"]
    assert addresses[0][1] == addresses[1][1] != 0
    for address in addresses:
        socket.create_connection(address).close()


def test_without_ipv6_localhost_is_one_loopback(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = listening._open

    def without_ipv6(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
        if ":" in address:
            raise OSError(99, "Cannot assign requested address")
        return real(address, port, kind)

    monkeypatch.setattr(listening, "_open", without_ipv6)
    opened += open_sockets("localhost", 0, flag="--port")

    assert [bound_address(each)[0] for each in opened] == ["127.0.0.1"]


def test_a_free_port_must_be_free_on_both_loopbacks(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = listening._open
    refused: list[int] = []

    def once_in_use(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
        if ":" in address and len(refused) < 3:
            refused.append(port)
            raise OSError(98, "Address already in use")
        return real(address, port, kind)

    monkeypatch.setattr(listening, "_open", once_in_use)
    opened += open_sockets("localhost", 0, flag="--port")

    assert len(opened) == 2
    assert len(refused) == 3


def test_a_port_in_use_is_named_with_the_flag(opened: list[socket.socket]) -> None:
    opened += open_sockets("127.0.0.1", 0, flag="--port")
    port = bound_address(opened[0])[1]

    with pytest.raises(AddressUnusable, match=rf"127\.0\.0\.1:{port} is in use") as caught:
        open_sockets("localhost", port, flag="--admin-port")

    assert "--admin-port" in caught.value.hint


def test_a_port_in_use_on_one_loopback_leaves_the_other_free(opened: list[socket.socket]) -> None:
    opened += open_sockets("::1", 0, flag="--port")
    port = bound_address(opened[0])[1]

    with pytest.raises(AddressUnusable, match=rf"\[::1\]:{port} is in use"):
        open_sockets("localhost", port, flag="--port")

    opened += open_sockets("127.0.0.1", port, flag="--port")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(AddressUnusable, match=r"203\.0\.113\.1 is no address of this machine"):
        open_sockets("203.0.113.1", 0, flag="--port")


def test_a_name_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(InvalidSetting, match="relay: this name has no address"):
        open_sockets("relay", 0, flag="--port")


def test_a_port_that_is_not_allowed_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listening, "_open", refuse)

    with pytest.raises(AddressUnusable, match=r"may not listen on 127\.0\.0\.1:443") as caught:
        open_sockets("127.0.0.1", 443, flag="--port")

    assert "ip_unprivileged_port_start" in caught.value.hint


def test_a_loopback_address_that_macos_does_not_have_yet_comes_with_the_line_that_adds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
        raise OSError(errno.EADDRNOTAVAIL, "Can't assign requested address")

    monkeypatch.setattr(listening, "_open", refuse)

    with pytest.raises(AddressUnusable, match=r"127\.64\.0\.1 is no address of this") as caught:
        open_sockets("127.64.0.1", 5432, flag="Listen")

    assert caught.value.hint.startswith("sudo ifconfig lo0 alias 127.64.0.1 up; or ")


@pytest.mark.parametrize(
    ("system", "command"),
    [("linux", "ss -lntup"), ("darwin", "lsof -nP -i :"), ("win32", "netstat -abno")],
)
def test_the_hint_names_the_command_that_tells_who_has_a_port(
    monkeypatch: pytest.MonkeyPatch, system: str, command: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("sys.platform", system)
        with pytest.raises(AddressUnusable, match="is in use") as caught:
            open_sockets("127.0.0.1", taken.getsockname()[1], flag="--listen")

    assert command in caught.value.hint
