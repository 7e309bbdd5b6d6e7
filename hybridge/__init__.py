"""Azure Relay Hybrid Connections in Python: both ends, as an asyncio SDK.

The public names::

    from hybridge import Listener, connect

    async with Listener(listen_connection_string) as listener:
        async for connection in listener:
            stream = await connection.accept()

    async def hello(request):  # HTTP that is relayed
        await request.respond(200, b"hello")

    async with Listener(listen_connection_string, request_handler=hello) as listener:
        await listener.wait_closed()

    async with connect(send_connection_string) as stream:
        await stream.send(b"hello")
        await stream.send_eof()
        answer = await stream.receive()

Below them, each layer knows only the ones under it: `hybridge.program` (what the three programs
share), this SDK, `hybridge.transport` (sockets), `hybridge.protocol` (no I/O).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridge.incoming_connection import IncomingConnection
    from hybridge.incoming_request import IncomingRequest, RequestBody
    from hybridge.listener import Listener
    from hybridge.management import RuntimeInformation, runtime_information
    from hybridge.outgoing_response import OutgoingResponse
    from hybridge.protocol.connection_string import ConnectionString
    from hybridge.protocol.errors import RelayError
    from hybridge.protocol.sas import sign
    from hybridge.request_intake import RequestHandler
    from hybridge.sender import Sender, connect
    from hybridge.transport.stream import Stream
    from hybridge.transport.timing import Timing
    from hybridge.transport.websocket import WebSocketStream

__all__ = [
    "ConnectionString",
    "IncomingConnection",
    "IncomingRequest",
    "Listener",
    "OutgoingResponse",
    "RelayError",
    "RequestBody",
    "RequestHandler",
    "RuntimeInformation",
    "Sender",
    "Stream",
    "Timing",
    "WebSocketStream",
    "connect",
    "runtime_information",
    "sign",
]

# Imported at first use: the relay needs neither end, and shall be up within a second.
_HOMES = {
    "ConnectionString": "hybridge.protocol.connection_string",
    "IncomingConnection": "hybridge.incoming_connection",
    "IncomingRequest": "hybridge.incoming_request",
    "Listener": "hybridge.listener",
    "OutgoingResponse": "hybridge.outgoing_response",
    "RelayError": "hybridge.protocol.errors",
    "RequestBody": "hybridge.incoming_request",
    "RequestHandler": "hybridge.request_intake",
    "RuntimeInformation": "hybridge.management",
    "Sender": "hybridge.sender",
    "Stream": "hybridge.transport.stream",
    "Timing": "hybridge.transport.timing",
    "WebSocketStream": "hybridge.transport.websocket",
    "connect": "hybridge.sender",
    "runtime_information": "hybridge.management",
    "sign": "hybridge.protocol.sas",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
