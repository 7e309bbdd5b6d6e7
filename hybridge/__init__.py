"""Azure Relay Hybrid Connections in Python: both ends, as an asyncio SDK.

The public names::

    from hybridge import Listener, connect

    async with Listener(listen_connection_string) as listener:
        async for connection in listener:
            stream = await connection.accept()

    async with connect(send_connection_string) as stream:
        await stream.send(b"hello")
        await stream.send_eof()
        answer = await stream.receive()

Below them, each layer knows only the ones under it: `hybridge.program` (what the three programs
share), this SDK, `hybridge.transport` (sockets), `hybridge.protocol` (no I/O).
"""

from __future__ import annotations

from hybridge.listener import IncomingConnection, Listener
from hybridge.management import RuntimeInformation, runtime_information
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import RelayError
from hybridge.protocol.sas import sign
from hybridge.sender import Sender, connect
from hybridge.transport.stream import Stream
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import WebSocketStream

__all__ = [
    "ConnectionString",
    "IncomingConnection",
    "Listener",
    "RelayError",
    "RuntimeInformation",
    "Sender",
    "Stream",
    "Timing",
    "WebSocketStream",
    "connect",
    "runtime_information",
    "sign",
]
