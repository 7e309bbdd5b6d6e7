"""TLS in memory over another wire, for loops that cannot watch a `ssl.SSLSocket`.

Not the loop's own TLS: that ends the connection at the peer's close_notify, where ours may still
have something to say, and it does not tell how much it holds.
"""

from __future__ import annotations

import asyncio
import logging
import ssl

from hybridge.protocol.errors import ConnectionLost, RelayError
from hybridge.transport.loop_stream import LoopStream
from hybridge.transport.read_room import MAX_READ_BYTES, read_room
from hybridge.transport.sockets import describe
from hybridge.transport.stream import HEADROOM_BYTES, Receiver, Wire

_logger = logging.getLogger(__name__)


class LoopTlsStream(Wire):
    """A TLS connection over a `LoopStream`. First `shake_hands`, then it is a stream.

    Args:
        wire: The TCP connection, which it owns from now on.
        context: Trust, or certificate.
        server_hostname: Name for SNI and for the check of the certificate, where we dial.
        is_server: Whether the peer dialled.
        session: A session to resume.
    """

    def __init__(
        self,
        wire: LoopStream,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        is_server: bool = False,
        session: ssl.SSLSession | None = None,
    ) -> None:
        super().__init__()
        self._wire = wire
        self._room = read_room()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=is_server,
            server_hostname=server_hostname,
            session=session,
        )
        """What knows session and certificate."""
        self._shaken: asyncio.Future[None] = self.loop.create_future()
        self._receiver: Receiver | None = None
        self._reads = False
        self._read_over = False
        self._is_end = False
        self._read_error: OSError | None = None
        self._has_failed = False

    async def shake_hands(self) -> None:
        """Do the TLS handshake. A deadline is the caller's.

        Raises:
            OSError: The handshake failed (`ssl.SSLError` is one), or the peer has gone. The
                connection is closed.
        """
        try:
            self._wire.attach(self)
            self._shake()
            await self._shaken
        except OSError:
            # In order, so that the alert that says why arrives.
            await self._wire.close()
            raise
        except BaseException:
            self._wire.abort()
            raise

    def _shake(self) -> None:
        if self._shaken.done():
            return
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush_records()
        except OSError as error:
            self._flush_records()
            self._has_failed = True
            self._shaken.set_exception(error)
        else:
            self._flush_records()
            self._wire.pause()
            self._shaken.set_result(None)

    # --- reading ------------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Tell ``receiver`` what happens from now on, and read if reading is not paused."""
        first = self._receiver is None
        self._receiver = receiver
        if first:
            self.resume()

    def pause(self) -> None:
        """Stop reading."""
        if self._reads:
            self._reads = False
            self._wire.pause()

    def resume(self) -> None:
        """Read again, beginning with what came meanwhile."""
        if not self._reads and not self._read_over and self.is_open:
            self._reads = True
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        """Decrypt and give; once there is no more, read the wire again."""
        if not self._reads:
            return
        filled = self._decrypt()
        try:
            if filled and self._receiver is not None:
                self._receiver.data(self._room.buffer, HEADROOM_BYTES, HEADROOM_BYTES + filled)
            if self._reads:  # The receiver may have paused us just now.
                self._go_on(filled)
        except Exception:
            # A bug of ours: loud, and the end of this connection only.
            _logger.exception("error while handling a connection")
            self._lost("internal error")

    def _go_on(self, filled: int) -> None:
        if self._read_error is not None:
            self._lost(describe(self._read_error))
        elif self._is_end:
            self._reads = False
            self._read_over = True
            if self._receiver is not None:
                self._receiver.ended()
        elif filled == MAX_READ_BYTES:
            self.loop.call_soon(self._read_on)
        else:
            self._wire.resume()

    def _decrypt(self) -> int:
        filled = 0
        target = self._room.target
        while filled < MAX_READ_BYTES and not self._is_end and self._read_error is None:
            try:
                count = self.tls.read(MAX_READ_BYTES - filled, target[filled:])
            except ssl.SSLWantReadError:
                break
            except OSError as error:
                self._read_error = error
                self._has_failed = True
                break
            self._is_end = not count
            filled += int(count)
        return filled

    def has_input(self) -> bool:
        """Whether bytes, an end or an error wait on a connection that is not being read."""
        return bool(self._incoming.pending or self.tls.pending()) or self._wire.has_input()

    # --- what the wire tells ------------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take what was read from the wire."""
        if self._read_over:
            return
        self._incoming.write(buffer[start:end])
        if self._shaken.done():
            self._read_on()
        else:
            self._shake()

    def ended(self) -> None:
        """Hear that the peer ended TCP: without a close_notify that is no orderly end."""
        self._incoming.write_eof()
        if self._shaken.done():
            self._read_on()
        else:
            self._shake()

    def broken(self, error: RelayError) -> None:
        """Hear that the wire broke."""
        self._reads = False
        if not self._shaken.done():
            self._shaken.set_exception(ConnectionResetError(str(error)))
        elif self._receiver is not None:
            self._receiver.broken(error)

    def drained(self) -> None:
        """Hear that all that was held has been written."""
        if self._receiver is not None:
            self._receiver.drained()

    # --- writing ------------------------------------------------------------------------------

    @property
    def is_blocked(self) -> bool:
        """Whether bytes are held because the socket did not take them."""
        return self._wire.is_blocked

    @property
    def held_bytes(self) -> int:
        """How many bytes are held, encrypted."""
        return self._wire.held_bytes

    def write(self, buffer: memoryview, start: int, end: int) -> None:
        """Encrypt and send ``buffer[start:end]``."""
        if self._has_failed or not self._wire.is_open:
            return
        try:
            while start < end:
                start += self.tls.write(buffer[start:end])
        except OSError as error:
            self._has_failed = True
            # Not at once: we may be deep inside the handling of the other stream's data.
            self.loop.call_soon(self._lost, describe(error))
        self._flush_records()

    @property
    def tls_version(self) -> str | None:
        """``TLSv1.2`` or ``TLSv1.3``."""
        return self.tls.version()

    def send_now(self, data: bytes) -> None:
        """Encrypt and send ``data``."""
        self.write(memoryview(data), 0, len(data))

    def _flush_records(self) -> None:
        if self._outgoing.pending:
            self._wire.send_now(self._outgoing.read())

    def write_eof(self) -> None:
        """Send FIN, after what is held; as `SocketStream` does, without a close_notify."""
        self._wire.write_eof()

    # --- ending -------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the connection is still ours."""
        return self._wire.is_open

    def abort(self) -> None:
        """Close at once with RST; the receiver is told nothing more."""
        self._reads = False
        self._wire.abort()

    async def close(self, *, stall_seconds: float = 600.0) -> None:
        """Write what is held, send close_notify, end TCP in order; see `Wire.close`."""
        try:
            await self._wire.flush(stall_seconds)
            self._reads = False
            self._say_goodbye()
            await self._wire.close(stall_seconds=stall_seconds)
        finally:
            self.abort()

    def _say_goodbye(self) -> None:
        if not self._has_failed and self._wire.is_open:
            try:
                # Sends close_notify; the peer's own is not waited for.
                self.tls.unwrap()
            except OSError as error:
                _logger.debug("the peer's close_notify is not awaited: %s", error)
            self._flush_records()

    def _lost(self, why: str) -> None:
        if self.is_open:
            self.abort()
            if self._receiver is not None:
                self._receiver.broken(ConnectionLost(f"the connection broke: {why}"))
