"""The TLS handshake over a TCP stream, with records made and read in memory."""

from __future__ import annotations

import asyncio
import ssl

from hybridge.protocol.errors import RelayError
from hybridge.transport.loop_room import loop_room
from hybridge.transport.loop_stream import LoopStream
from hybridge.transport.socket_stream import SocketStream


async def shake_hands(wire: SocketStream | LoopStream, tls: ssl.SSLObject) -> bytes:
    """Do the TLS handshake. A deadline is the caller's.

    Args:
        wire: The TCP connection; nobody has read it yet. Afterwards it is paused.
        tls: Made over the two buffers of `hybridge.transport.loop_room`.

    Returns:
        Records that came behind the handshake, for whoever reads on.

    Raises:
        OSError: The handshake failed (`ssl.SSLError` is one), or the peer has gone. The
            connection is closed.
    """
    handshake = _Handshake(wire, tls)
    try:
        handshake.go_on(b"")
        wire.attach(handshake)
        await handshake.done
    except OSError:
        # In order, so that the alert that says why arrives.
        await wire.close()
        raise
    except BaseException:
        wire.abort()
        raise
    else:
        return handshake.early
    finally:
        del handshake  # It holds the error, and the error this frame: neither would be freed.


class _Handshake:
    """Receives on the wire until hands are shaken."""

    def __init__(self, wire: SocketStream | LoopStream, tls: ssl.SSLObject) -> None:
        self._wire = wire
        self._tls = tls
        self._room = loop_room()
        self.done: asyncio.Future[None] = wire.loop.create_future()
        self.early = b""

    def go_on(self, records: bytes | memoryview) -> None:
        self._room.incoming.write(records)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self.done.set_exception(error.with_traceback(None))  # Its frames hold us.
        else:
            self._wire.pause()
            self.done.set_result(None)
        finally:
            self.early = self._room.incoming.read()
            if self._room.outgoing.pending:
                self._wire.send_now(self._room.outgoing.read())

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        if not self.done.done():
            self.go_on(buffer[start:end])
        else:
            self.early += buffer[start:end]

    def ended(self) -> None:
        if not self.done.done():
            why = "the peer ended TCP in the middle of the TLS handshake"
            self.done.set_exception(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, why))

    def broken(self, error: RelayError) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionResetError(str(error)))

    def drained(self) -> None:
        pass
