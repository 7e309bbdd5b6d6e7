"""TLS records as an odd or hostile peer sends them: cut anywhere, split, asked for without end."""

from __future__ import annotations

import _ssl
import asyncio
import contextlib
import ctypes
import random
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hybridge.transport.loop_room import loop_room
from hybridge.transport.tls import open_tls, server_context
from hybridge.transport.tls_stream import MAX_HELD_ANSWER_BYTES, TlsStream
from tests.support.agent_ends import sockets_pair
from tests.support.loops import on_every_loop, run_on
from tests.support.relay import certificate
from tests.support.tcp_ends import Ear
from tests.support.tls_records import (
    DATA,
    HANDSHAKE,
    KEY_UPDATE,
    NAME,
    RawClient,
    RecordMaker,
    meet,
)

CLIENT_HELLO = b"\x01\x00\x00\x00"
"""As much of one as TLS 1.2 looks at before it says that there is no renegotiation."""


async def flooded(client: RawClient, stream: TlsStream, records: list[bytes]) -> None:
    """Let a peer ask and ask, and read no answer; the stream is to cut it off."""
    ear = Ear(stream)
    stream.attach(ear)
    most = 0
    with contextlib.suppress(ConnectionError):
        for each in records:
            await asyncio.get_running_loop().sock_sendall(client.sock, each)
            await asyncio.sleep(0)
            most = max(most, stream.held_bytes)
    await ear.until(lambda: bool(ear.events))

    assert ear.events == ["broken"]
    assert not stream.is_open
    # One read may ask for as much as it is long.
    assert most <= MAX_HELD_ANSWER_BYTES + 262_144
    client.sock.close()


def small(stream: TlsStream, client: RawClient) -> None:
    """Let the kernel hold little, so that a short flood is enough."""
    stream._wire._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "unwatching"])
def test_who_asks_for_renegotiation_without_end_and_reads_nothing_is_cut_off(
    loop: str, tmp_path: Path
) -> None:
    async def test() -> None:
        client = RawClient(tmp_path / "keys", ssl.TLSVersion.TLSv1_2)
        stream = await client.join()
        small(stream, client)
        maker = client.old_record_maker()
        await flooded(
            client,
            stream,
            [
                b"".join(maker.record(HANDSHAKE, CLIENT_HELLO) for _ in range(500))
                for _ in range(12)
            ],
        )

    run_on(loop, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "unwatching"])
def test_who_asks_for_new_keys_without_end_and_reads_nothing_is_cut_off(
    loop: str, tmp_path: Path
) -> None:
    async def test() -> None:
        client = RawClient(tmp_path / "keys")
        stream = await client.join()
        small(stream, client)
        maker = client.record_maker()
        records = []
        for _ in range(6_000):
            records.append(maker.record(HANDSHAKE, KEY_UPDATE))
            maker.update()
        await flooded(
            client, stream, [b"".join(records[at : at + 500]) for at in range(0, 6_000, 500)]
        )

    run_on(loop, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "unwatching"])
def test_new_keys_do_not_disturb_the_bytes_of_either_side(loop: str, tmp_path: Path) -> None:
    async def test() -> None:
        client, stream, ear = await meet(tmp_path)
        maker = client.record_maker()
        said = heard = b""
        for number in range(20):
            records = maker.record(DATA, b"before %d" % number)
            records += maker.record(HANDSHAKE, KEY_UPDATE)
            maker.update()
            records += maker.record(DATA, b"after %d" % number)
            said += b"before %dafter %d" % (number, number)
            # Cut where it hurts: inside the record that brings the new keys, or next to it.
            for piece in (records[: 20 + number * 2], records[20 + number * 2 :]):
                client.sock.send(piece)
                await asyncio.sleep(0.001)
                stream.send_now(b"answer")
                heard += b"answer"
        await ear.until(lambda: len(ear.heard) == len(said))
        assert ear.heard == said
        assert await client.read(len(heard)) == heard
        stream.abort()
        client.sock.close()

    run_on(loop, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "unwatching"])
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_what_is_written_in_the_middle_of_a_message_of_tls_itself_arrives(
    loop: str, cut: int, tmp_path: Path
) -> None:
    async def test() -> None:
        client, stream, ear = await meet(tmp_path)
        maker = client.record_maker()
        client.sock.send(maker.record(DATA, b"x") + maker.record(HANDSHAKE, KEY_UPDATE[:cut]))
        await ear.until(lambda: bool(ear.heard))

        pieces = [b"first", b"a" * 40_000, b"last"]
        stream.send_now(pieces[0])
        stream.send_all(pieces[1:])
        client.sock.send(maker.record(HANDSHAKE, KEY_UPDATE[cut:]))
        maker.update()
        client.sock.send(maker.record(DATA, b"y"))

        assert await client.read(40_009) == b"".join(pieces)
        await ear.until(lambda: ear.heard == b"xy")
        assert not stream.is_blocked
        assert ear.events == (["drained"] if cut == 4 else [])
        stream.abort()
        client.sock.close()

    run_on(loop, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "unwatching"])
@pytest.mark.parametrize("first", ["the pause", "the write"])
def test_who_reads_no_more_until_its_answer_has_left_does_not_wait_for_ever(
    loop: str, first: str, tmp_path: Path
) -> None:
    async def test() -> None:
        client, stream, ear = await meet(tmp_path)
        maker = client.record_maker()
        client.sock.send(maker.record(DATA, b"x") + maker.record(HANDSHAKE, KEY_UPDATE[:4]))
        await ear.until(lambda: bool(ear.heard))
        if first == "the pause":
            stream.pause()
        assert not stream.send_now(b"the answer")
        stream.pause()

        rest = maker.record(HANDSHAKE, KEY_UPDATE[4:])
        maker.update()
        client.sock.send(rest + maker.record(DATA, b"y"))
        assert await client.read(10) == b"the answer"
        client.sock.send(maker.record(DATA, b"z"))
        await asyncio.sleep(0.01)
        assert (bytes(ear.heard), ear.events) == (b"x", ["drained"])
        assert stream.has_input()

        stream.resume()
        await ear.until(lambda: ear.heard == b"xyz")
        stream.abort()
        client.sock.close()

    run_on(loop, test)


@on_every_loop
async def test_what_came_while_paused_is_given_in_order_however_often_tls_had_to_read() -> None:
    with tempfile.TemporaryDirectory() as place:
        client = RawClient(Path(place) / "keys")
        stream = await client.join()
        ear = Ear(stream)
        stream.attach(ear)
        maker = client.record_maker()
        client.sock.send(maker.record(DATA, b"0") + maker.record(HANDSHAKE, KEY_UPDATE[:4]))
        await ear.until(lambda: bool(ear.heard))
        stream.pause()
        for number in range(1, 10):
            stream.send_now(b"answer")
            records = maker.record(HANDSHAKE, KEY_UPDATE[4:])
            maker.update()
            records += maker.record(DATA, b"%d" % number)
            records += maker.record(HANDSHAKE, KEY_UPDATE[:4])
            client.sock.send(records)
            assert await client.read(6) == b"answer"
            if number == 5:
                stream.send_now(b"")
                stream.resume()
                stream.pause()
        stream.send_now(b"last")
        stream.resume()
        records = maker.record(HANDSHAKE, KEY_UPDATE[4:])
        maker.update()
        client.sock.send(records + maker.record(DATA, b"X"))
        await ear.until(lambda: ear.heard.endswith(b"X"))

        assert ear.heard == b"0123456789X"
        assert await client.read(4) == b"last"
        stream.abort()
        client.sock.close()


async def test_data_between_the_halves_of_a_message_of_tls_itself_is_not_hoarded(
    tmp_path: Path,
) -> None:
    client = RawClient(tmp_path / "keys")
    stream = await client.join()
    ear = Ear(stream)
    stream.attach(ear)
    maker = client.record_maker()
    client.sock.send(maker.record(DATA, b"x") + maker.record(HANDSHAKE, KEY_UPDATE[:4]))
    await ear.until(lambda: bool(ear.heard))
    stream.send_now(b"the answer")
    stream.pause()

    for _ in range(3):
        client.sock.send(maker.record(DATA, b"y" * 100))
        await asyncio.sleep(0.01)
    stream.resume()
    await ear.until(lambda: "broken" in ear.events)

    assert len(ear.heard) <= 101
    client.sock.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "unwatching"])
@pytest.mark.parametrize("comes", [True, False])
def test_a_close_in_the_middle_of_a_message_of_tls_itself_is_no_clean_end_before_all_is_sent(
    loop: str, tmp_path: Path, *, comes: bool
) -> None:
    async def test() -> None:
        client, stream, ear = await meet(tmp_path)
        maker = client.record_maker()
        client.sock.send(maker.record(DATA, b"x") + maker.record(HANDSHAKE, KEY_UPDATE[:4]))
        await ear.until(lambda: bool(ear.heard))
        stream.send_now(b"the whole answer")
        stream.pause()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.close(stall_seconds=0.1 if not comes else 20))
            await asyncio.sleep(0.01)
            if comes:
                client.sock.send(maker.record(HANDSHAKE, KEY_UPDATE[4:]))
                assert await client.read(16) == b"the whole answer"
                assert await client.read(1) == b""
            else:
                with pytest.raises(ConnectionError):
                    await client.read(1)
            client.sock.close()

    run_on(loop, test)


async def test_a_ticket_in_two_records_does_not_break_a_connection_that_writes_between_them(
    tmp_path: Path,
) -> None:
    cert, key, ca = certificate()
    server = server_context(cert, key)
    server.num_tickets = 0
    server.keylog_filename = str(tmp_path / "keys")
    near_sock, far_sock = sockets_pair()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(open_tls(far_sock, server, is_server=True))
        near = await open_tls(
            near_sock, ssl.create_default_context(cafile=str(ca)), server_hostname=NAME
        )
    far = serving.result()
    maker = RecordMaker(tmp_path / "keys", "SERVER_TRAFFIC_SECRET_0")
    body = (7_200).to_bytes(4) + bytes(4) + b"\0" + (300).to_bytes(2) + bytes(300) + bytes(2)
    ticket = b"\x04" + len(body).to_bytes(3) + body
    ear = Ear(near)
    near.attach(ear)

    far_sock.send(maker.record(HANDSHAKE, ticket[:100]))
    await asyncio.sleep(0.01)
    near.send_now(b"question")
    far_sock.send(maker.record(HANDSHAKE, ticket[100:]) + maker.record(DATA, b"hello"))

    assert await far.receive() == b"question"
    await ear.until(lambda: ear.heard == b"hello")
    near.abort()
    far.abort()


async def test_records_may_be_cut_at_every_byte(tmp_path: Path) -> None:
    client = RawClient(tmp_path / "keys")
    stream = await client.join()
    ear = Ear(stream)
    stream.attach(ear)
    stream._wire.pause()
    said = b""
    for number in range(3):
        said += (data := bytes([number]) * (number * 40))
        records = client.records_of(data, ends=number == 2)
        # As the wire would tell it; all cuts once, and the last time byte by byte.
        for at in range(len(records)):
            room = memoryview(bytearray(64) + records[at : at + 1])
            stream.data(room, 64, len(room))
            assert loop_room().incoming.pending == loop_room().outgoing.pending == 0

    assert ear.heard == said
    assert ear.events == ["ended"]
    stream.abort()
    client.sock.close()


def _has_heard(ear: Ear, data: bytes) -> bool:
    return len(ear.heard) >= len(data)


@on_every_loop
async def test_two_connections_of_one_thread_take_turns_at_every_cut_and_do_not_mix() -> None:
    with tempfile.TemporaryDirectory() as place:
        clients = [RawClient(Path(place) / str(number)) for number in range(2)]
        streams = [await client.join() for client in clients]
        ears = [Ear(stream) for stream in streams]
        for stream, ear, other in zip(streams, ears, reversed(streams), strict=True):
            stream.attach(ear)
            # What one hears it says on the other, in the middle of its own reading.
            ear.on_data = partial(other.send_now, b"an echo")
        chance = random.Random(7)  # noqa: S311 - the same cuts each time
        said = [b"", b""]
        waiting = [b"", b""]
        for _ in range(300):
            which = chance.randrange(2)
            if not waiting[which]:
                data = chance.randbytes(chance.choice([1, 50, 3_000]))
                said[which] += data
                waiting[which] = clients[which].records_of(data)
            cut = chance.randrange(1, len(waiting[which]) + 1)
            clients[which].sock.send(waiting[which][:cut])
            waiting[which] = waiting[which][cut:]
            await asyncio.sleep(0)
        for client, rest, ear, data in zip(clients, waiting, ears, said, strict=True):
            client.sock.send(rest)
            await ear.until(partial(_has_heard, ear, data))
            assert ear.heard == data
        for client, stream in zip(clients, streams, strict=True):
            assert await client.read(7) >= b"an echo"
            stream.abort()
            client.sock.close()


async def test_pieces_that_cannot_be_made_leave_nothing_for_another_connection(
    tmp_path: Path,
) -> None:
    clients = [RawClient(tmp_path / str(number)) for number in range(2)]
    streams = [await client.join() for client in clients]

    def pieces() -> Iterator[bytes]:
        yield b"good"
        raise MemoryError

    with pytest.raises(MemoryError):
        streams[0].send_all(pieces())
    streams[1].send_now(b"mine")

    assert await clients[1].read(4) == b"mine"
    assert await clients[0].read(4) == b"good"
    for client, stream in zip(clients, streams, strict=True):
        stream.abort()
        client.sock.close()


def _ask_for_small_records(context: ssl.SSLContext) -> None:
    """Offer RFC 6066's max_fragment_length of 512 bytes, for which Python has no words."""
    library = ctypes.CDLL(_ssl.__file__)
    offer = getattr(library, "SSL_CTX_set_tlsext_max_fragment_length", None)
    if offer is None or sys.implementation.name != "cpython":
        pytest.skip("this Python's OpenSSL cannot be reached")
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    assert offer(pointer, ctypes.c_uint8(1)) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_peer_that_wants_small_records_gets_every_byte_in_them(
    version: ssl.TLSVersion, tmp_path: Path
) -> None:
    client = RawClient(tmp_path / "keys", version, prepare=_ask_for_small_records)
    stream = await client.join()
    pieces = [bytes([size % 251]) * size for size in (1, 511, 512, 513, 5_000, 16_384, 40_000)]

    for piece in pieces:
        stream.send_now(piece)
    stream.send_all(pieces)

    expected = b"".join(pieces) * 2
    async with asyncio.timeout(5):
        assert await client.read(len(expected)) == expected
    stream.abort()
    client.sock.close()


async def test_who_fails_leaves_no_records_for_the_next_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = RawClient(tmp_path / "keys")
    stream = await client.join()
    room = loop_room()
    context = server_context(*certificate()[:2])

    for garbage in (b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x03\x01\x00\x05" + b"x" * 500, b"\x16\x03"):
        sock, far = sockets_pair()
        far.send(garbage)
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match=r"SSL|TLS"):
            await open_tls(sock, context, is_server=True)
        assert room.incoming.pending == room.outgoing.pending == 0
        far.close()

    failing = RawClient(tmp_path / "others")
    ear = Ear(await failing.join())

    def fail() -> None:
        ear.stream.send_now(b"an answer")
        raise ArithmeticError

    ear.on_data = fail
    ear.stream.attach(ear)
    failing.sock.send(failing.records_of(b"data", ends=True) + b"\x17\x03\x03\x00\x20 rest")
    await ear.until(lambda: bool(ear.events))
    assert ear.events == ["broken"]
    assert "ArithmeticError" in caplog.text
    assert room.incoming.pending == room.outgoing.pending == 0

    stream.send_now(b"untouched")
    assert await client.read(9) == b"untouched"
    stream.abort()
    client.sock.close()
    failing.sock.close()
