"""A TCP connection as a byte stream on the event loop's own transport.

For loops that cannot watch sockets, as Windows' proactor. Slower than `SocketStream`: every byte is
copied twice more, and up to one read of the loop's is held for a receiver that has paused. What
receiver and caller see is the same.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.sockets import (
    LINGER_SECONDS,
    MAX_LINGER_BYTES,
    describe,
    has_input,
    reset_on_close,
)
from hybridge.transport.stream import Receiver, Wire, replay

_logger = logging.getLogger(__name__)

CHUNK_BYTES = 262_144
"""Most bytes that a receiver is given at once."""


async def open_loop_stream(sock: socket.socket) -> LoopStream:
    """Make a stream of a connected socket, which it owns from now on."""
    stream = LoopStream(sock)
    loop = asyncio.get_running_loop()
    # Without TLS the name of this method says more than it does: any connected socket will do.
    await loop.connect_accepted_socket(lambda: stream, sock)
    return stream


class LoopStream(Wire, asyncio.Protocol):
    """A TCP connection that the loop reads and writes; made by `open_loop_stream`."""

    _transport: asyncio.Transport

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._receiver: Receiver | None = None
        self._early = bytearray()
        self._reads = False
        self._holds_loop = False
        self._read_over = False
        self._has_peer_ended = False
        self._failure: BaseException | None = None
        self._is_blocked = False
        self._eof_wanted = False
        self._is_open = True
        self._flushed: asyncio.Future[None] | None = None
        self._lingering: asyncio.Future[None] | None = None
        self._linger_budget = MAX_LINGER_BYTES

    # --- reading ------------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Tell ``receiver`` what happens from now on, and read if reading is not paused."""
        first = self._receiver is None
        self._receiver = receiver
        if first:
            self.resume()

    def pause(self) -> None:
        """Stop reading. The loop reads once more, to see an end; then it stops too."""
        self._reads = False

    def finish_reading(self) -> None:
        """Read nothing more, for good: what runs inside has told that this was all."""
        self.pause()
        self._read_over = True

    def resume(self) -> None:
        """Read again, beginning with what came meanwhile."""
        if self._reads or self._read_over or not self._is_open or self._lingering is not None:
            return
        self._reads = True
        if self._early or self._holds_loop or self._has_peer_ended or self._failure is not None:
            self.loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        """Give what was kept while nobody wanted it: bytes, then the end or the error."""
        try:
            while self._early and self._reads:
                chunk = bytes(self._early[:CHUNK_BYTES])
                del self._early[:CHUNK_BYTES]
                self._give(chunk)
            if not self._reads:
                return
            if self._failure is not None:
                self._lost(describe(self._failure))
            elif self._has_peer_ended:
                self._end_reading()
            elif self._holds_loop:
                self._holds_loop = False
                self._transport.resume_reading()
        except Exception:
            # A bug of ours: loud, and the end of this connection only.
            _logger.exception("error while handling a connection")
            self._lost("internal error")

    def _give(self, data: bytes) -> None:
        if self._receiver is not None:
            replay(self._receiver, data)

    def _end_reading(self) -> None:
        self._reads = False
        self._read_over = True
        if self._receiver is not None:
            self._receiver.ended()

    def has_input(self) -> bool:
        """Whether bytes, an end or an error wait on a connection that is not being read."""
        if self._early or self._has_peer_ended or self._failure is not None:
            return True
        return self._is_open and has_input(self._sock.fileno())

    # --- what the loop tells ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hear that the loop has taken the socket over."""
        if not isinstance(transport, asyncio.Transport):
            raise AssertionError("a socket's transport reads and writes")
        # Blocked is what the socket did not take at once: no bytes of slack.
        transport.set_write_buffer_limits(0)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what the loop has read."""
        if self._lingering is not None:
            self._linger_budget -= len(data)
            if self._linger_budget <= 0:
                self._stop_lingering()
            return
        self._early += data
        if self._reads:
            self._catch_up()
        else:
            self._hold_loop()

    def _hold_loop(self) -> None:
        if not self._holds_loop:
            self._holds_loop = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Hear that the peer has finished sending; it may still read."""
        self._has_peer_ended = True
        self._stop_lingering()
        if self._reads:
            self._catch_up()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        """Hear that the socket has failed; the loop closes it now."""
        if not self._is_open:
            return
        error = error or ConnectionAbortedError("the connection is closed")
        self._failure = error.with_traceback(None)  # Its frames may hold us.
        self._rescue()
        self._stop_lingering()
        if self._read_over:
            self._lost(describe(self._failure))
            return
        self._unblock()
        if self._reads:
            self._catch_up()

    def _rescue(self) -> None:
        """Read what the peer had sent before; a failed write must not cost it.

        No more than the kernel had room for.
        """
        try:
            while data := self._sock.recv(CHUNK_BYTES):
                self._early += data
        except OSError as error:
            _logger.debug("nothing more to read: %s", error)

    def pause_writing(self) -> None:
        """Hear that the socket does not take more."""
        self._is_blocked = True

    def resume_writing(self) -> None:
        """Hear that all has been written."""
        # Not at once: the loop is in the middle of its own work, and an abort would confuse it.
        self.loop.call_soon(self._unblock)

    def _unblock(self) -> None:
        if not self._is_blocked or self._transport.get_write_buffer_size():
            return
        self._is_blocked = False
        if self._eof_wanted:
            self._shutdown_writing()
        self._settle_flushed()
        if self._receiver is None:
            return
        try:
            self._receiver.drained()
        except Exception:
            _logger.exception("error while handling a connection")
            self._lost("internal error")

    # --- writing ------------------------------------------------------------------------------

    @property
    def is_blocked(self) -> bool:
        """Whether bytes are held because the socket did not take them."""
        return self._is_blocked

    @property
    def held_bytes(self) -> int:
        """How many bytes are held."""
        return self._transport.get_write_buffer_size() if self._is_blocked else 0

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        """Send a copy of ``buffer[start:end]``; the loop holds what the socket does not take."""
        return self.send_now(bytes(buffer[start:end]))

    def send_now(self, data: bytes) -> bool:
        """Send ``data``; the loop holds what the socket does not take."""
        if self._is_open and self._failure is None and not self._transport.is_closing():
            self._transport.write(data)
        return not self._is_blocked

    def write_eof(self) -> None:
        """Send FIN, after what is held."""
        self._eof_wanted = True
        if not self._is_blocked and self._is_open:
            self._shutdown_writing()

    def _shutdown_writing(self) -> None:
        if self._failure is not None:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            # The loop will hear of it when it reads, and tells `connection_lost`.
            _logger.debug("could not finish sending: %s", error)

    # --- ending -------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the connection is still ours."""
        return self._is_open

    def abort(self) -> None:
        """Close at once with RST; the receiver is told nothing more."""
        if self._is_open:
            reset_on_close(self._sock)
            self._release()

    async def close(self, *, stall_seconds: float = 600.0) -> None:
        """Write what is held, end in order; see `Wire.close`."""
        try:
            await self.flush(stall_seconds)
            if not self._is_open:
                return
            self._reads = False
            if not self._eof_wanted:
                self.write_eof()
            if not self._has_peer_ended and self._failure is None:
                await self._linger()
        finally:
            if self._is_blocked:
                # Cancelled: what is cut off must not look complete.
                self.abort()
            self._release()

    async def flush(self, stall_seconds: float) -> None:
        """Wait until all is written; break the connection where it stalls for this long."""
        while self._is_blocked and self._is_open:
            before = self.held_bytes
            if self._flushed is None or self._flushed.done():
                self._flushed = self.loop.create_future()
            try:
                async with asyncio.timeout(stall_seconds):
                    await asyncio.shield(self._flushed)
            except TimeoutError:
                if self.held_bytes >= before:
                    self.abort()

    async def _linger(self) -> None:
        """Read and drop until the peer's end, so that our last bytes are not lost to a reset."""
        self._early.clear()
        if self._lingering is None:
            self._lingering = self.loop.create_future()
        if self._holds_loop:
            self._holds_loop = False
            self._transport.resume_reading()
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await asyncio.shield(self._lingering)
        except TimeoutError:
            _logger.debug("the peer did not close in time")

    def _stop_lingering(self) -> None:
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)

    def _settle_flushed(self) -> None:
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)

    def _lost(self, why: str) -> None:
        if not self._is_open:
            return
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.broken(ConnectionLost(f"the connection broke: {why}"))

    def _release(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._receiver = None  # It holds us, mostly: together we would wait for a full collection.
        self._reads = False
        self._is_blocked = False
        self._early.clear()
        self._transport.abort()
        # Before the loop does: the proactor would send a FIN first, and a reset would look orderly.
        self._sock.close()
        self._settle_flushed()
        self._stop_lingering()
