"""A Unix socket in place of a local port."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from hybridge.protocol.errors import HandshakeRefused
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import TcpStream
from hybridge.transport.unix_listening import UnixAddress
from tests.support.agent_ends import receive_all
from tests.support.client_ends import Relay, Running, dial, outcome_of, running, to, with_event


def unix(path: Path) -> UnixAddress:
    return UnixAddress(path=path)


async def visit(running: Running, path: Path) -> Stream:
    """Connect as an application, once the socket is there."""
    assert await running.addresses.get() == ("orders", (str(path), 0))
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, str(path))
    return TcpStream(sock)


async def test_bytes_pass_both_ways_and_each_end_of_sending_on_its_own(tmp_path: Path) -> None:
    path, ready = tmp_path / ".s.PGSQL.5432", tmp_path / "ready"
    relay = Relay()
    async with running(relay, to("orders", listen=unix(path)), ready_file=ready) as client:
        application = await visit(client, path)
        target = await relay.far_ends.get()
        assert json.loads(ready.read_text())["listening"] == [
            {"hybrid_connection": "orders", "protocol": "unix", "path": str(path)}
        ]

        await application.send(b"select 1")
        await application.send_eof()
        assert await receive_all(target) == b"select 1"
        await target.send(b"one row")
        await target.send_eof()
        assert await receive_all(application) == b"one row"
        await application.close()
        await target.close()
    assert not path.exists()


async def test_last_words_before_a_close_arrive_although_the_relay_was_still_dialled(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    relay = Relay()
    relay.may_answer.clear()
    async with running(relay, to("orders", listen=unix(path))) as client:
        await client.addresses.get()
        with socket.socket(socket.AF_UNIX) as application:
            application.connect(str(path))
            await relay.asked.acquire()
            application.sendall(b"the end is near")

        relay.may_answer.set()
        target = await relay.far_ends.get()

        assert await receive_all(target) == b"the end is near"
        await target.close()


async def test_a_refused_connection_ends_at_once_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "db"
    relay = Relay(answer=HandshakeRefused(404, "There are no listeners connected."))
    async with running(relay, to("orders", listen=unix(path))) as client:
        application = await visit(client, path)

        assert await outcome_of(application) == ""
        application.abort()

    assert len(with_event(caplog, "connection_refused")) == 1


async def test_a_socket_of_another_program_keeps_the_others_going(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "db"
    relay = Relay()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        async with running(relay, to("stock", listen=unix(path)), to("orders")) as client:
            application = await dial(client)
            target = await relay.far_ends.get()
            for end in (application, target):
                end.abort()

    assert path.exists()
    assert "is in use" in with_event(caplog, "not_open")[0].message
