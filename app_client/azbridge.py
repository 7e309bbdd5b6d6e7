"""Ask the other end for a port, as azbridge's local forwards do (section 10.1)."""

from __future__ import annotations

from hybridge.protocol.azbridge import Mode, SenderPreamble
from hybridge.protocol.errors import RelayError
from hybridge.transport.prefaced import PrefacedStream
from hybridge.transport.stream import Stream


async def ask_for_port(stream: Stream, port_name: str, mode: Mode) -> Stream:
    """Ask for a port on a stream that has just been joined. A deadline is the caller's.

    Returns:
        What follows the preamble. Nothing was sent but the preamble.

    Raises:
        PortRefused: The other end does not open it. The stream is closed.
        ConnectionLost: The stream broke.
    """
    preamble = SenderPreamble(port_name, mode)
    opened = PrefacedStream(stream, preamble)
    try:
        for message in preamble.messages:
            opened.send_message(message)
        await opened.read_preamble()
        try:
            preamble.check()
        except RelayError:
            await opened.close()
            raise
    except BaseException:
        opened.abort()
        raise
    return opened
