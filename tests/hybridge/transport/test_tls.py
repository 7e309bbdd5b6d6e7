"""TLS streams, on event loops that watch sockets and on one that cannot."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from hybridge.protocol.errors import ConnectionLost, Unreachable, UntrustedCertificate
from hybridge.transport.listening import open_sockets
from hybridge.transport.loop_room import loop_room
from hybridge.transport.stream import Wire
from hybridge.transport.tcp import dial_socket, dial_tcp
from hybridge.transport.tls import ClientTls, Connect, open_tls, server_context
from tests.support.agent_ends import sockets_pair
from tests.support.loops import on_every_loop
from tests.support.relay import certificate
from tests.support.tcp_ends import (
    BULK,
    Ear,
    read_to_end,
    receive_all,
    reset,
    write_meets_reset,
)
from tests.support.until import until

NAME = "ns1.servicebus.windows.net"


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[socket.socket, int]]:
    (sock,) = open_sockets("127.0.0.1", 0, flag="--port")
    with sock:
        yield sock, sock.getsockname()[1]


def at(port: int) -> Connect:
    """Dials a port of this machine, whatever the name."""
    return partial(dial_socket, "127.0.0.1", port)


async def accept(listening: socket.socket) -> Wire:
    cert, key, _ = certificate()
    sock, _ = await asyncio.get_running_loop().sock_accept(listening)
    return await open_tls(sock, server_context(cert, key), is_server=True)


async def tls_streams(client: ClientTls | None = None) -> tuple[Wire, Wire]:
    client = client or ClientTls(certificate()[2])
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(accept(sock))
        near = await client.dial(NAME, 443, connect=at(port))
        return near, await accepting


async def raw_client(port: int) -> ssl.SSLSocket:
    """A blocking TLS client of the standard library, in a thread while it shakes hands."""
    context = ssl.create_default_context(cafile=str(certificate()[2]))
    sock = socket.create_connection(("127.0.0.1", port))
    return await asyncio.to_thread(context.wrap_socket, sock, server_hostname=NAME)


@on_every_loop
async def test_bytes_go_both_ways_at_once() -> None:
    near, far = await tls_streams()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(near.send(BULK))
        tasks.create_task(far.send(BULK[::-1]))
        for stream, expected in ((near, BULK[::-1]), (far, BULK)):
            received = bytearray()
            while len(received) < len(BULK):
                received += await stream.receive()
            assert received == expected
    near.abort()
    far.abort()


@on_every_loop
async def test_a_stream_that_closes_ends_in_order_after_all_that_it_sent() -> None:
    near, far = await tls_streams()
    near.send_now(BULK * 4)
    assert near.is_blocked

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(near.close())
        assert await receive_all(far) == BULK * 4
        tasks.create_task(far.close())


@on_every_loop
async def test_after_the_peers_end_it_may_still_be_written_to() -> None:
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(accept(sock))
        peer = await raw_client(port)
        near = await accepting
    peer.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        peer.unwrap()  # Sends close_notify, and reads on.

    assert await near.receive() == b""
    await near.send(b"late answer")

    peer.setblocking(True)
    assert await asyncio.to_thread(peer.recv, 100) == b"late answer"
    near.abort()
    peer.close()


@on_every_loop
async def test_tcp_that_ends_without_a_goodbye_is_a_broken_connection() -> None:
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(accept(sock))
        peer = await raw_client(port)
        near = await accepting
    ear = Ear(near)
    near.attach(ear)
    peer.send(b"half of it")

    peer.close()
    await ear.until(lambda: bool(ear.events))

    assert (bytes(ear.heard), ear.events) == (b"half of it", ["broken"])


@on_every_loop
async def test_a_reset_is_a_broken_connection() -> None:
    near, far = await tls_streams()
    far.abort()
    with pytest.raises(ConnectionLost):
        await near.receive()
    assert not near.is_open


@on_every_loop
async def test_a_reset_that_a_write_meets_first_is_not_missed() -> None:
    far, near = await tls_streams()
    ear = Ear(near)
    near.attach(ear)

    def leave() -> None:
        far.send_now(b"the last words")
        far.abort()

    await write_meets_reset(near, leave)
    await ear.until(lambda: "broken" in ear.events)

    assert ear.heard == b"the last words"
    assert not near.is_open


@on_every_loop
async def test_a_forged_record_is_a_broken_connection() -> None:
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(accept(sock))
        peer = await raw_client(port)
        near = await accepting
    ear = Ear(near)
    near.attach(ear)

    socket.socket.send(peer, b"\x17\x03\x03\x00\x20" + b"x" * 32)
    await ear.until(lambda: bool(ear.events))

    assert ear.events == ["broken"]
    assert not near.is_open
    peer.close()


async def test_a_bug_while_records_are_read_leaves_none_of_them_to_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near, far = await tls_streams()
    ear = Ear(far)
    far.attach(ear)

    def fail(*_: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(far, "_read_record", fail)
    near.send_now(b"records")
    await ear.until(lambda: ear.events == ["broken"])

    assert not loop_room().incoming.pending
    near.abort()


@on_every_loop
async def test_a_reader_that_pauses_holds_the_sender_back_and_then_gets_everything() -> None:
    near, far = await tls_streams()
    ear = Ear(far)
    far.attach(ear)
    far.pause()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(near.send(BULK * 4))
        await until(lambda: near.is_blocked)
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert not sending.done()
        assert ear.heard == b""

        far.resume()
        await ear.until(lambda: len(ear.heard) == 4 * len(BULK))
    assert ear.heard == BULK * 4
    near.abort()
    far.abort()


@on_every_loop
async def test_a_receiver_that_pauses_at_every_read_loses_nothing() -> None:
    near, far = await tls_streams()
    ear = Ear(far)

    def pause_a_moment() -> None:
        far.pause()
        far.loop.call_soon(far.resume)

    ear.on_data = pause_a_moment
    far.attach(ear)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(near.send(BULK))
        await ear.until(lambda: len(ear.heard) == len(BULK))
        tasks.create_task(near.close())
        await ear.until(lambda: ear.events == ["ended"])
        far.abort()

    assert ear.heard == BULK


@on_every_loop
async def test_an_idle_connection_has_no_input_until_its_peer_leaves() -> None:
    near, far = await tls_streams()
    assert not near.has_input()

    far.abort()

    await until(near.has_input)
    near.abort()


@on_every_loop
async def test_a_session_is_resumed() -> None:
    client = ClientTls(certificate()[2])
    cert, key, _ = certificate()
    context = server_context(cert, key)
    reused = []
    async with listening() as (sock, port):
        for _ in range(2):
            async with asyncio.TaskGroup() as tasks:
                accepting = tasks.create_task(asyncio.get_running_loop().sock_accept(sock))
                dialling = tasks.create_task(client.dial(NAME, 443, connect=at(port)))
                far = await open_tls((await accepting)[0], context, is_server=True)
            near = dialling.result()
            reused.append(near.tls.session_reused)
            near.abort()
            far.abort()
    assert reused == [False, True]


@on_every_loop
async def test_a_certificate_that_is_not_trusted_is_said_to_be_so() -> None:
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        tasks.create_task(refused(sock, looked_at=True))
        with pytest.raises(UntrustedCertificate) as caught:
            await ClientTls().dial(NAME, 443, connect=at(port))
        assert (caught.value.issuer or "").startswith("Hybridge development CA")
        assert str(caught.value.issuer) in str(caught.value)


@pytest.mark.parametrize("trouble", [Unreachable("gone"), ConnectionResetError(), None])
async def test_who_signed_it_is_left_out_where_a_second_look_fails(
    trouble: Exception | None,
) -> None:
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        tasks.create_task(refused(sock))
        dialled = 0

        async def connect() -> socket.socket:
            nonlocal dialled
            dialled += 1
            if dialled == 2 and trouble is not None:
                raise trouble
            found = await at(port)()
            if dialled == 2:
                peer, _ = await asyncio.get_running_loop().sock_accept(sock)
                peer.close()
            return found

        with pytest.raises(UntrustedCertificate) as caught:
            await ClientTls().dial(NAME, 443, connect=connect)

    assert dialled == 2
    assert caught.value.issuer is None
    assert "issued" not in str(caught.value)
    assert "--ca" in caught.value.hint


@on_every_loop
async def test_a_wrong_host_name_is_not_trusted() -> None:
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        tasks.create_task(refused(sock))
        with pytest.raises(UntrustedCertificate):
            await ClientTls(certificate()[2]).dial("evil.test", 443, connect=at(port))


async def refused(listening: socket.socket, *, looked_at: bool = False) -> None:
    """Accept a peer that does not trust us: it says so in an alert, and may look once more."""
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        await accept(listening)
    if looked_at:
        with pytest.raises(ssl.SSLEOFError):  # It leaves as soon as it has seen the certificate.
            await accept(listening)


@on_every_loop
async def test_a_peer_that_speaks_no_tls_or_leaves_is_unreachable() -> None:
    async with listening() as (sock, port):
        for rude in (b"SSH-2.0-OpenSSH_9.6\r\n", b""):
            async with asyncio.TaskGroup() as tasks:
                accepting = tasks.create_task(asyncio.get_running_loop().sock_accept(sock))
                dialling = tasks.create_task(dial_is_unreachable(port))
                peer, _ = await accepting
                peer.send(rude)
                if rude:
                    peer.shutdown(socket.SHUT_WR)
                else:
                    reset(peer)
                await dialling
                peer.close()


async def dial_is_unreachable(port: int) -> None:
    with pytest.raises(Unreachable):
        await ClientTls(certificate()[2]).dial(NAME, 443, connect=at(port))


@on_every_loop
async def test_a_handshake_that_is_given_up_leaves_nothing_open() -> None:
    client = ClientTls(certificate()[2])
    loop = asyncio.get_running_loop()
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        dialling = tasks.create_task(client.dial(NAME, 443, connect=at(port)))
        peer, _ = await loop.sock_accept(sock)
        assert await loop.sock_recv(peer, 65_536)

        dialling.cancel()

        with peer, contextlib.suppress(ConnectionResetError):
            await read_to_end(peer)


@on_every_loop
async def test_a_bare_tcp_peer_that_dials_the_server_and_leaves_is_an_error() -> None:
    async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(fails(sock))
        stream = await dial_tcp("127.0.0.1", port)
        await stream.close()
        assert await accepting


async def fails(listening: socket.socket) -> bool:
    try:
        await accept(listening)
    except OSError:
        return True
    return False


@on_every_loop
async def test_a_name_that_cannot_be_asked_for_leaves_no_socket_open() -> None:
    for name in ("", ".example.test"):
        near, far = sockets_pair()
        with pytest.raises(ValueError, match=r"server_hostname|idna"):
            await open_tls(near, ssl.create_default_context(), server_hostname=name)

        assert near.fileno() == -1
        far.close()
