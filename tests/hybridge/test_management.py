from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from hybridge import runtime_information
from hybridge.protocol.errors import (
    AuthorizationFailed,
    EndpointNotFound,
    HandshakeRefused,
    MalformedConnectionString,
    MalformedMessage,
    RelayError,
    Unreachable,
)
from hybridge.transport.timing import Timing
from tests.support.raw import RelayPeers
from tests.support.relay import HOST, RunningRelay, certificate, running_relay


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    async with running_relay() as running:
        yield running


@pytest.mark.clause(126)
async def test_it_tells_of_the_target_and_counts_listeners(relay: RunningRelay) -> None:
    peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)

    before = await runtime_information(
        relay.connection_string(), ca=relay.ca, connect_to=relay.connect_to
    )
    async with await peers.listener("hc1", relay.token(key_name="listenrule")):
        during = await runtime_information(
            relay.connection_string(), ca=relay.ca, connect_to=relay.connect_to
        )

    assert before.target == ("db.corp.local", 5432)
    assert before.requires_client_authorization
    assert before.created_at == "2026-01-01T00:00:00Z"
    assert (before.listener_count, during.listener_count) == (0, 1)


async def test_a_namespace_may_be_an_ipv6_address(relay: RunningRelay) -> None:
    text = relay.connection_string().replace(f"//{relay.host}", "//[::1]")

    with pytest.raises(EndpointNotFound, match="SystemTracker:::1:hc1"):  # Understood, not 400.
        await runtime_information(text, ca=relay.ca, connect_to=relay.connect_to)


async def test_a_wrong_key_and_a_wrong_name_are_different_errors(relay: RunningRelay) -> None:
    async def ask(text: str) -> None:
        await runtime_information(text, ca=relay.ca, connect_to=relay.connect_to)

    with pytest.raises(AuthorizationFailed, match="invalid signature"):
        await ask(relay.connection_string(key="d3Jvbmc="))
    root = relay.connection_string("gone", key_name="RootManageSharedAccessKey")
    with pytest.raises(AuthorizationFailed):
        await ask(root)
    key = relay.connection_string().split("SharedAccessKey=")[1].split(";")[0]
    with pytest.raises(EndpointNotFound):
        await ask(root.replace(key, key[::-1]))


@pytest.mark.parametrize(
    "text",
    [
        "Endpoint=sb://localhost/;EntityPath=hc1",
        "Endpoint=sb://localhost/;SharedAccessKeyName=a;SharedAccessKey=b",
    ],
)
async def test_it_needs_a_path_and_a_key(text: str) -> None:
    with pytest.raises(MalformedConnectionString):
        await runtime_information(text)


_ENTRY = '<entry xmlns="http://www.w3.org/2005/Atom"><content/></entry>'
_FEED = '<feed xmlns="http://www.w3.org/2005/Atom"/>'


def _response(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (_response("200 OK", _FEED), EndpointNotFound),
        (_response("200 OK", _ENTRY), MalformedMessage),
        (_response("200 OK", "no xml"), MalformedMessage),
        (_response("200 OK", "x" * 70_000), MalformedMessage),
        (_response("503 Busy", ""), HandshakeRefused),
        (_response("404 Not there", ""), EndpointNotFound),
        (b"HTTP/1.1 204 No content\r\n\r\n", EndpointNotFound),
        (b"220 smtp ready\r\n", Unreachable),
        (b"", Unreachable),
    ],
)
async def test_any_other_answer_is_an_error_of_ours(
    answer: bytes, wanted: type[RelayError]
) -> None:
    cert, key, ca = certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /hc1?api-version=2016-07 HTTP/1.1\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        string = f"Endpoint=sb://{HOST}/;SharedAccessKeyName=a;SharedAccessKey=b;EntityPath=hc1"
        with pytest.raises(wanted):
            await runtime_information(string, ca=ca, connect_to=server.sockets[0].getsockname()[:2])


async def test_a_relay_that_says_nothing_is_given_up(relay: RunningRelay) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        with pytest.raises(Unreachable, match="in time"):
            await runtime_information(
                relay.connection_string(),
                ca=relay.ca,
                connect_to=server.sockets[0].getsockname()[:2],
                timing=Timing(open_timeout_seconds=0.05),
            )
