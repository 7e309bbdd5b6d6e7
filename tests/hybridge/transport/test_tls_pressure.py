"""TLS where it goes wrong easily: writes that did not fit, sessions that skip the name check."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import ssl

import pytest

from hybridge.protocol.errors import UntrustedCertificate
from hybridge.transport.loop_room import RECORD_BYTES
from hybridge.transport.sockets import bytes_in_flight
from hybridge.transport.tls import ClientTls, open_tls, server_context
from hybridge.transport.tls_stream import TlsStream
from tests.hybridge.transport.test_tls import at, listening
from tests.support.relay import certificate
from tests.support.until import until

NAME = "ns1.servicebus.windows.net"
OTHER_NAME = "ns2.example.test"


async def _tight_streams() -> tuple[TlsStream, TlsStream]:
    """Two ends whose kernel buffers are as small as they can be."""
    cert, key, ca = certificate()
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
    client = ssl.create_default_context(cafile=str(ca))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(open_tls(far, server_context(cert, key), is_server=True))
        dialling = tasks.create_task(open_tls(near, client, server_hostname=NAME))
    streams = dialling.result(), serving.result()
    assert isinstance(streams[0], TlsStream)
    assert isinstance(streams[1], TlsStream)
    return streams[0], streams[1]


class _Writer:
    """Writes random sizes by both ways, whether the stream is blocked or not, up to a bound."""

    def __init__(self, stream: TlsStream, seed: int) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()
        self.count = 0
        self._random = random.Random(seed)  # noqa: S311 - the same sizes each time

    def write(self) -> None:
        size = self._random.choice(
            [1, 7, 100, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 50_000, 262_112]
        )
        data = self._random.randbytes(size)
        self.digest.update(data)
        self.count += size
        if self._random.random() < 0.5:
            self.stream.send_now(data)
        else:
            room = memoryview(bytearray(14 + size))
            room[14:] = data
            self.stream.write(room, 14, 14 + size)
            room[:] = bytes(14 + size)  # The buffer is another's as soon as write has returned.


async def _hash_of(stream: TlsStream) -> tuple[str, int]:
    digest, count = hashlib.sha256(), 0
    while data := await stream.receive():
        digest.update(data)
        count += len(data)
    return digest.hexdigest(), count


@pytest.mark.parametrize("seed", range(6))
async def test_writes_that_did_not_fit_are_offered_again_as_they_were(seed: int) -> None:
    near, far = await _tight_streams()
    writer = _Writer(near, seed)

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(_hash_of(far))
        was_blocked = 0
        for _ in range(40):
            writer.write()
            was_blocked += near.is_blocked
            # A control frame is written while data is held, and goes behind it.
            near.send_now(b"ping")
            writer.digest.update(b"ping")
            writer.count += 4
            await until(lambda: near.held_bytes <= 300_000)
        tasks.create_task(near.close())
        result = await reading
        tasks.create_task(far.close())

    assert result == (writer.digest.hexdigest(), writer.count)
    assert was_blocked > 20


def _fill(stream: TlsStream) -> int:
    """Write until the kernel takes nothing more, not even a close_notify, and nothing is held."""
    count = 0
    sock = stream._wire._sock
    while bytes_in_flight(sock) < sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF):
        stream.send_now(b"x")
        count += 1
    assert not stream.is_blocked
    return count


async def test_an_orderly_end_for_which_there_is_no_room_yet_is_orderly_all_the_same() -> None:
    near, far = await _tight_streams()
    count = _fill(near)

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(near.close())
        _, received = await _hash_of(far)
        tasks.create_task(far.close())

    assert received == count


async def test_an_orderly_end_that_finds_no_room_for_too_long_breaks_the_connection() -> None:
    near, far = await _tight_streams()
    _fill(near)

    async with asyncio.timeout(20):
        await near.close(stall_seconds=0.05)

    with pytest.raises(Exception, match="the connection broke"):
        await _hash_of(far)
    far.abort()


async def test_an_orderly_end_that_is_cancelled_while_there_is_no_room_is_no_orderly_end() -> None:
    near, far = await _tight_streams()
    _fill(near)

    async with asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(near.close())
        await asyncio.sleep(0)
        closing.cancel()

    assert not near.is_open
    with pytest.raises(Exception, match="the connection broke"):
        await _hash_of(far)
    far.abort()


async def test_an_abort_while_writes_are_held_is_no_orderly_end() -> None:
    near, far = await _tight_streams()
    near.send_now(bytes(1_000_000))
    assert near.is_blocked

    near.abort()

    with pytest.raises(Exception, match="the connection broke"):
        await _hash_of(far)
    far.abort()


async def test_a_resumed_session_is_never_used_for_another_name() -> None:
    cert, key, ca = certificate()
    client, context = ClientTls(ca), server_context(cert, key)

    async def accept(sock: socket.socket) -> None:
        accepted, _ = await asyncio.get_running_loop().sock_accept(sock)
        with contextlib.suppress(OSError):
            stream = await open_tls(accepted, context, is_server=True)
            await stream.receive()
            stream.abort()

    async def dial(name: str) -> bool | UntrustedCertificate:
        """Dial under a name; give whether a session was resumed, or why not even that."""
        async with listening() as (sock, port), asyncio.TaskGroup() as tasks:
            tasks.create_task(accept(sock))
            try:
                near = await client.dial(name, 443, connect=at(port))
            except UntrustedCertificate as error:
                return error
            is_resumed = bool(near.tls.session_reused)
            await near.close()
            return is_resumed

    outcomes = [await dial(name) for name in (NAME, NAME, OTHER_NAME, NAME, OTHER_NAME)]

    assert all(isinstance(outcomes[place], UntrustedCertificate) for place in (2, 4))
    assert [outcomes[0], outcomes[1], outcomes[3]] == [False, True, True]
