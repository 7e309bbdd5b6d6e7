"""Peers that do not speak the protocol, or none at all: each is answered, and nothing breaks."""

from __future__ import annotations

import asyncio
import logging
import ssl
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest

from relay.settings import RelaySettings
from tests.support.raw import RawPeer, RelayPeers, upgrade_request
from tests.support.relay import HOST, RunningRelay, certificate, running_relay
from tests.support.wire import TRACKED, http_request

ROOT = http_request("/", HOST)
TLS_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
SHORT_SECONDS = 0.25


@pytest.fixture
async def hurried() -> AsyncIterator[RunningRelay]:
    """A relay that waits for nobody."""
    settings = RelaySettings(
        tls_timeout_seconds=SHORT_SECONDS, head_timeout_seconds=SHORT_SECONDS, drain_seconds=0
    )
    async with running_relay(settings=settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a peer sends, it is no error of the relay's: no traceback, no error in the log."""
    caplog.set_level("DEBUG")
    yield
    assert not [each for each in caplog.get_records("call") if each.levelno >= logging.ERROR]
    assert not [each for each in caplog.get_records("call") if each.exc_info]


async def dial_plain(relay: RunningRelay) -> RawPeer:
    """Connect without TLS."""
    return RawPeer(*await asyncio.open_connection("127.0.0.1", relay.port))


async def is_well(relay: RunningRelay) -> bool:
    """Whether the relay still serves others."""
    peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
    peer, answer = await peers.request(ROOT)
    peer.reset()
    return answer.status == 200


# --- Before TLS ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        ROOT,
        b"POST /hc1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT db:5432 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
    ids=["GET", "POST", "HTTP/2", "CONNECT", "long"],
)
async def test_plain_http_on_the_tls_port_is_told_so_in_plain_http(
    relay: RunningRelay, data: bytes
) -> None:
    async with await dial_plain(relay) as peer:
        await peer.send(data)
        answer = await peer.answer()

        assert answer.status == 400
        assert answer.reason == "This port speaks TLS: use https:// or wss://."
        assert answer.body.decode().strip() == answer.reason
        assert answer.all("Connection") == ["close"]
        assert await peer.ended()
    assert await is_well(relay)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"\x05\x01\x00",
        b"\xff\xfe",
        b"\x15\x03\x01\x00\x02\x02\x28",
        TLS_HANDSHAKE + b"\xff" * 600,
        b"\x80\x2e\x01\x00\x02",
    ],
    ids=["zeros", "SOCKS", "noise", "TLS alert", "broken hello", "SSL 2"],
)
async def test_what_is_neither_tls_nor_http_is_closed(relay: RunningRelay, data: bytes) -> None:
    async with await dial_plain(relay) as peer:
        await peer.send(data)
        await peer.ended()
    assert await is_well(relay)


@pytest.mark.parametrize(
    "data",
    [b"", TLS_HANDSHAKE, b"\x16" * 1_000],
    ids=["nothing", "half a hello", "noise like a long record"],
)
async def test_a_peer_that_does_not_finish_tls_is_closed(
    hurried: RunningRelay, data: bytes
) -> None:
    async with await dial_plain(hurried) as peer:
        await peer.send(data)

        await peer.ended()  # with a reset where bytes of it were left unread
    assert await is_well(hurried)


@pytest.mark.parametrize("data", [b"", TLS_HANDSHAKE[:1], TLS_HANDSHAKE[:5], TLS_HANDSHAKE])
async def test_peers_that_are_silent_or_drip_do_not_keep_others_from_shaking_hands(
    data: bytes,
) -> None:
    settings = RelaySettings(max_handshakes=1, drain_seconds=0)
    async with (
        running_relay(settings=settings) as relay,
        await dial_plain(relay) as one,
        await dial_plain(relay) as other,
    ):
        await one.send(data)
        await other.send(data)
        assert await is_well(relay)


async def test_a_peer_that_leaves_at_once_is_no_matter(relay: RunningRelay) -> None:
    for data in (b"", b"G", TLS_HANDSHAKE):
        async with await dial_plain(relay) as peer:
            await peer.send(data)
            peer.reset()
    assert await is_well(relay)


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def old_client() -> ssl.SSLContext:
    """A client that speaks TLS 1.0 too, and takes whatever comes."""
    context = ssl.create_default_context(cafile=str(certificate()[2]))
    context.set_ciphers("ALL:@SECLEVEL=0")
    _set_versions(context, ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    return context


def _set_versions(context: ssl.SSLContext, lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version, context.maximum_version = lowest, highest


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """Shake hands in memory; give the version that both agreed on."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=HOST)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (near, far) * 3:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return near.version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_of_tls_are_refused(
    relay: RunningRelay, old_client: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    _set_versions(old_client, version, version)
    old_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old_server.load_cert_chain(*certificate()[:2])
    old_server.set_ciphers("ALL:@SECLEVEL=0")
    _set_versions(old_server, version, version)
    # First that this client can speak it: else its failure below would say nothing of the relay.
    assert _shake_hands(old_client, old_server) == version.name.replace("_", ".")

    with pytest.raises(ssl.SSLError, match=r"(?i)protocol[ _]version"):
        await RawPeer.dial(relay.port, ca=relay.ca, name=HOST, context=old_client)

    assert await is_well(relay)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_new_versions_of_tls_are_spoken(relay: RunningRelay, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(relay.ca))
    _set_versions(context, version, version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with await RawPeer.dial(relay.port, ca=relay.ca, name=HOST, context=context) as peer:
        tls = peer.writer.get_extra_info("ssl_object")
        await peer.send(ROOT)

        assert tls.version() == version.name.replace("_", ".")
        assert tls.selected_alpn_protocol() == "http/1.1"
        assert tls.compression() is None
        assert (await peer.answer()).status == 200


@pytest.mark.parametrize("cipher", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"])
async def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    relay: RunningRelay, old_client: ssl.SSLContext, cipher: str
) -> None:
    _set_versions(old_client, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    old_client.set_ciphers(f"{cipher}:@SECLEVEL=0")

    with pytest.raises(ssl.SSLError):
        await RawPeer.dial(relay.port, ca=relay.ca, name=HOST, context=old_client)


# --- The request head in time --------------------------------------------------------------------


async def test_a_peer_that_asks_for_nothing_is_closed(hurried: RunningRelay) -> None:
    async with await RawPeer.dial(hurried.port, ca=hurried.ca, name=HOST) as peer:
        await peer.ended()
    assert await is_well(hurried)


@pytest.mark.parametrize("data", [b"G", ROOT[:-1], ROOT[:-4], b"\r\n"])
async def test_a_peer_that_does_not_finish_its_head_is_answered_408(
    hurried: RunningRelay, data: bytes
) -> None:
    async with await RawPeer.dial(hurried.port, ca=hurried.ca, name=HOST) as peer:
        await peer.send(data)
        answer = await peer.answer()

        assert answer.status == 408
        assert TRACKED.fullmatch(answer.reason)
        assert await peer.ended()
    assert await is_well(hurried)


async def test_a_head_that_comes_byte_by_byte_gets_no_more_time(hurried: RunningRelay) -> None:
    async def drip(peer: RawPeer) -> None:
        for byte in ROOT[:-1] * 100:
            await peer.send(bytes([byte]))
            await asyncio.sleep(SHORT_SECONDS / 50)

    async with (
        await RawPeer.dial(hurried.port, ca=hurried.ca, name=HOST) as peer,
        asyncio.TaskGroup() as tasks,
    ):
        dripping = tasks.create_task(drip(peer))
        answer = await peer.answer()
        dripping.cancel()

    assert answer.status == 408


async def test_a_head_in_many_pieces_is_read(relay: RunningRelay, peers: RelayPeers) -> None:
    async with await peers.dial() as peer:
        for byte in ROOT:
            await peer.send(bytes([byte]))

        assert (await peer.answer()).status == 200


# --- How much ------------------------------------------------------------------------------------


def head_of(size: int) -> bytes:
    close = ("Connection", "close")
    empty = http_request("/", HOST, close, ("X", ""))
    return http_request("/", HOST, close, ("X", "x" * (size - len(empty))))


@pytest.mark.parametrize("size", [32_768 + 1, 65_536, 1_000_000])
async def test_a_head_that_is_too_long_is_answered_431(peers: RelayPeers, size: int) -> None:
    peer, answer = await peers.request(head_of(size))

    assert answer.status == 431
    assert TRACKED.fullmatch(answer.reason)
    assert await peer.ended()


async def test_a_head_without_an_end_is_answered_431(peers: RelayPeers) -> None:
    peer, answer = await peers.request(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000)

    assert answer.status == 431
    assert await peer.ended()


async def test_a_head_of_the_largest_size_is_read(peers: RelayPeers) -> None:
    _, answer = await peers.request(head_of(32_768))

    assert answer.status == 200


@pytest.mark.parametrize(("count", "status"), [(127, 200), (128, 431), (2_000, 431)])
async def test_more_than_128_headers_are_answered_431(
    peers: RelayPeers, count: int, status: int
) -> None:
    headers = [(f"X-{number}", "1") for number in range(count - 1)]
    peer, answer = await peers.request(http_request("/", HOST, ("Connection", "close"), *headers))

    assert answer.status == status
    assert await peer.ended()


# --- What is not spoken here ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"CONNECT db:5432 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
    ids=["CONNECT", "HTTP/2.0", "the preface of HTTP/2"],
)
async def test_what_is_clear_but_not_spoken_here_is_named(
    peers: RelayPeers, data: bytes, status: int
) -> None:
    peer, answer = await peers.request(data)

    assert answer.status == status
    assert await peer.ended()


async def test_requests_on_one_connection_are_answered_in_order_up_to_a_bad_one(
    peers: RelayPeers,
) -> None:
    async with await peers.dial() as peer:
        await peer.send(ROOT + ROOT + b"GET / HTTP/1.1\n\n" + b"\r\n\r\n" + ROOT)
        answers = [await peer.answer() for _ in range(3)]

        assert [answer.status for answer in answers] == [200, 200, 400]
        assert answers[2].all("Connection") == ["close"]
        assert await peer.reader.read() == b""


async def test_a_peer_that_leaves_before_its_answer_is_no_matter(relay: RunningRelay) -> None:
    peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
    for data in (ROOT, upgrade_request("/$hc/hc1", host=HOST), head_of(65_536)):
        peer = await peers.dial()
        await peer.send(data)
        peer.reset()
    assert await is_well(relay)
