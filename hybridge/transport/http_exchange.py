"""One HTTP request without a body, and its answer, over a stream."""

from __future__ import annotations

import h11

from hybridge.protocol.errors import MalformedMessage, Unreachable
from hybridge.protocol.redaction import one_line
from hybridge.transport.stream import Stream

MAX_RESPONSE_BYTES = 65_536
"""Longest body that is read."""


Head = h11.Response | h11.InformationalResponse
"""The head of an answer; an informational one only if it switches protocols (101)."""


async def exchange(wire: Stream, request: h11.Request) -> tuple[Head, bytes]:
    """Send a request and read the answer. A deadline, and the stream, are the caller's.

    Returns:
        The answer's head and body. A switch of protocols is an answer too, without a body.

    Raises:
        ConnectionLost: The stream broke.
        MalformedMessage: The body is longer than `MAX_RESPONSE_BYTES`.
        Unreachable: What answered is no HTTP server, or it closed without an answer.
    """
    http = h11.Connection(h11.CLIENT)
    await wire.send((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    response: Head | None = None
    body = bytearray()
    try:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await wire.receive()
                if not data and response is None:
                    raise Unreachable("the relay closed the connection without an answer")
                http.receive_data(data)
            elif event is h11.PAUSED:
                break
            elif isinstance(event, h11.Response) or (
                isinstance(event, h11.InformationalResponse) and event.status_code == 101
            ):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_RESPONSE_BYTES:
                    raise MalformedMessage(f"the answer is longer than {MAX_RESPONSE_BYTES} bytes")
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError as error:
        raise Unreachable(
            f"what answered is no HTTP server: {one_line(str(error))}",
            hint="check the name and the port of the namespace",
        ) from error
    if response is None:
        raise Unreachable("the relay closed the connection without an answer")
    return response, bytes(body)
