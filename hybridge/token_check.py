"""Ask a relay about a token: does it open a hybrid connection there, for which rights?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import h11

from hybridge.protocol.errors import MalformedToken, Unreachable
from hybridge.protocol.proxies import Proxy
from hybridge.protocol.token_questions import Answer, Question, RelayVerdict, read_answers
from hybridge.transport.dialer import Dialer
from hybridge.transport.http_exchange import exchange
from hybridge.transport.timing import Timing


async def ask_relay(
    token: str,
    *,
    host: str,
    port: int,
    path: str,
    ca: Path | None = None,
    connect_to: tuple[str, int] | None = None,
    proxy: Proxy | str | None = None,
    timing: Timing | None = None,
) -> RelayVerdict:
    """Ask a relay what it thinks of a token. Five short requests; nothing is opened by them.

    Args:
        token: What to ask about. It is sent to this relay, whomever it is for.
        host: The namespace's host.
        port: Its port.
        path: Name of the hybrid connection.
        ca: PEM file of further trusted authorities.
        connect_to: TCP address to dial instead of the namespace's.
        proxy: The proxy on the way; see `hybridge.Listener`.
        timing: ``open_timeout_seconds`` is for each request.

    Raises:
        ConnectionLost: The connection broke before an answer.
        InvalidSetting: The CA file, or the address of a proxy, cannot be used.
        MalformedMessage: An answer is too long.
        MalformedToken: It cannot stand in a header, so it cannot be asked about.
        ProxyFailed: The proxy on the way opened no tunnel.
        Unreachable: The relay cannot be reached, or did not answer in time.
    """
    if not (token.isascii() and token.isprintable()):
        raise MalformedToken("the token cannot stand in a header: it is not printable ASCII")
    timing = timing or Timing()
    dialer = Dialer(host, ca=ca, connect_to=connect_to, proxy=proxy, timing=timing)
    timeout = timing.open_timeout_seconds
    answers = {}
    for question in Question:
        request = question.request(host, port, path, token)
        try:
            async with asyncio.timeout(timeout):
                wire = await dialer.dial(host, port)
                try:
                    response, _ = await exchange(
                        wire,
                        h11.Request(
                            method="GET", target=request.target, headers=list(request.headers)
                        ),
                    )
                finally:
                    wire.abort()
        except TimeoutError as error:
            raise Unreachable(f"the relay {host} did not answer in time") from error
        answers[question] = Answer(
            status=response.status_code,
            reason=bytes(response.reason).decode(errors="replace"),
            names_websocket_version=any(
                name == b"sec-websocket-version" for name, _ in response.headers
            ),
        )
    return read_answers(answers)
