"""A socket as a byte stream: non-blocking, and driven by ourselves.

Why not the event loop's own transport: two copies less, no buffer per connection while idle, TLS
session resumption, and a write that says at once what the socket did not take. See
docs/decisions/0002-data-plane.md.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.loop_room import loop_room
from hybridge.transport.sockets import (
    LINGER_SECONDS,
    MAX_LINGER_BYTES,
    bytes_in_flight,
    describe,
    has_input,
    reset_on_close,
)
from hybridge.transport.stream import HEADROOM_BYTES, Receiver, Wire

_logger = logging.getLogger(__name__)

READ_BYTES = 4 * 65_520
"""Most bytes of one plain TCP read: four frames that, with headers of 8 bytes, fill TLS records."""


class SocketStream(Wire):
    """A connected socket. Events come to the attached `Receiver`, which may be exchanged.

    Bytes that the kernel does not take are copied and held; there are never more than what one call
    of `write` or `send_now` was given, as long as the caller looks at `is_blocked`.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._fd = sock.fileno()
        self._room = loop_room()
        self._receiver: Receiver | None = None
        self._held: list[memoryview] = []
        self._reads = False
        self._writes = False
        self._eof_wanted = False
        self._read_over = False
        self._read_error: OSError | None = None
        self._reset: OSError | None = None
        # libuv stops watching a socket at its error, after one call, in which bytes may come first.
        self._is_told_once = not isinstance(self.loop, asyncio.SelectorEventLoop)
        self._write_error: OSError | None = None
        self._is_suspect = False
        self._is_open = True
        self._flushed: asyncio.Future[None] | None = None
        self._lingering: asyncio.Future[None] | None = None

    # --- reading ------------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Tell ``receiver`` what happens from now on, and read if reading is not paused."""
        first = self._receiver is None
        self._receiver = receiver
        if first:
            self.resume()
            if self._reads:
                # Whoever has spoken first is heard without another look at the socket.
                self.loop.call_soon(self._on_readable)

    def pause(self) -> None:
        """Stop reading."""
        if self._reads:
            self._reads = False
            if self._is_open:
                self.loop.remove_reader(self._fd)

    def finish_reading(self) -> None:
        """Read nothing more, for good: what runs inside has told that this was all."""
        self.pause()
        self._read_over = True

    def resume(self) -> None:
        """Read again, beginning with an error that no selector may tell of."""
        if self._reads or self._read_over or not self._is_open or self._lingering is not None:
            return
        self._reads = True
        self.loop.add_reader(self._fd, self._on_readable)
        if self._reset is not None or self._write_error is not None:
            self.loop.call_soon(self._on_readable)

    def _on_readable(self) -> None:
        if not self._reads:
            return
        room = self._room
        count = 0
        is_end = False
        error = self._read_error
        if error is None:
            try:
                count = self._sock.recv_into(room.target, READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as problem:
                # It is kept, and must not keep the frames that it passed, and all that they hold.
                error = problem.with_traceback(None)
            else:
                if not count:
                    # With EPIPE the peer's orderly end had come before the reset, and all it sent.
                    if self._reset is not None and self._reset.errno != errno.EPIPE:
                        error = self._reset
                    is_end = True
        try:
            if count and self._receiver is not None:
                self._receiver.data(room.buffer, HEADROOM_BYTES, HEADROOM_BYTES + count)
            # The socket tells an error once, an end again and again. Where the receiver has paused
            # us just now, the news is for whoever resumes: the receiver may be another then.
            if error is not None or is_end:
                self._read_error = error
                if self._reads:
                    self._end_reading(error)
            elif self._is_told_once and self._reads:
                if count == READ_BYTES or self._reset is not None:
                    if self._was_reset():
                        self.loop.call_soon(self._on_readable)
                elif not self._is_suspect:
                    self._is_suspect = True
                    room.late_resets.add(self)
        except Exception:
            # A bug of ours: loud, and the end of this connection only.
            _logger.exception("error while handling a connection")
            self._lost("internal error")

    def _end_reading(self, error: OSError | None) -> None:
        if not self._is_open:
            return
        self.pause()
        self._read_over = True
        error = error or self._write_error
        receiver = self._receiver
        if receiver is None:
            return
        if error is None:
            receiver.ended()
        else:
            self._lost(describe(error))

    def _was_reset(self) -> bool:
        """Whether an error waits behind the bytes, of which the loop will not tell again."""
        if self._is_told_once and self._reset is None:
            number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # The system tells an error once: it may have told it to a write of ours before.
            self._reset = OSError(number, os.strerror(number)) if number else self._write_error
        return self._reset is not None

    def look_for_reset(self) -> None:
        """Find an error that the loop told of together with bytes, and will not tell of again."""
        self._is_suspect = False
        if self._is_open and self._reads and self._was_reset():
            self._on_readable()

    def has_input(self) -> bool:
        """Whether bytes, an end or an error wait on a socket that is not being read."""
        return has_input(self._fd)

    # --- writing ------------------------------------------------------------------------------

    @property
    def is_blocked(self) -> bool:
        """Whether bytes are held because the socket did not take them."""
        return bool(self._held)

    @property
    def held_bytes(self) -> int:
        """How many bytes are held."""
        return sum(map(len, self._held))

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        """Send ``buffer[start:end]`` now; hold a copy of what the socket does not take."""
        sent = 0 if self._held else self._push(buffer[start:end])
        if sent == end - start:
            return True
        self._hold(memoryview(bytes(buffer[start + sent : end])))
        return False

    def send_now(self, data: bytes) -> bool:
        """Send ``data`` now; hold what the socket does not take, without a copy."""
        sent = 0 if self._held else self._push(data)
        if sent == len(data):
            return True
        self._hold(memoryview(data)[sent:])
        return False

    def _hold(self, rest: memoryview) -> None:
        self._held.append(rest)
        self._await_room()

    def _await_room(self) -> None:
        if not self._writes:
            self._writes = True
            self.loop.add_writer(self._fd, self._on_writable)

    def _push(self, view: memoryview | bytes) -> int:
        """Offer bytes to the socket; give how many it took. After an error, it takes all."""
        if self._write_error is not None or not self._is_open:
            return len(view)
        try:
            return self._sock.send(view)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._write_failed(error)
            return len(view)

    def _on_writable(self) -> None:
        held = self._held
        while held:
            view = held[0]
            sent = self._push(view)
            if self._write_error is not None or not self._is_open:
                return
            if sent < len(view):
                held[0] = view[sent:]
                return
            del held[0]
        self._stop_writing()
        if self._eof_wanted:
            self._shutdown_writing()
        self._tell_drained()

    def _stop_writing(self) -> None:
        if self._writes:
            self._writes = False
            self.loop.remove_writer(self._fd)

    def _tell_drained(self) -> None:
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)
        if self._receiver is None:
            return
        try:
            self._receiver.drained()
        except Exception:
            _logger.exception("error while handling a connection")
            self._lost("internal error")

    def _write_failed(self, error: OSError) -> None:
        """Note that the peer takes no more. What it had sent before may still be read."""
        self._write_error = error.with_traceback(None)  # Its frames hold us, and who was sending.
        self._held.clear()
        self._stop_writing()
        # Not at once: we may be deep inside the handling of the other stream's data.
        self.loop.call_soon(self._after_write_error)

    def _after_write_error(self) -> None:
        if not self._is_open or self._write_error is None:
            return
        if self._read_over:
            self._lost(describe(self._write_error))
        else:
            # Who is paused hears of the end when it resumes, no sooner: what the peer sent before
            # it left, perhaps all it had to say and its Close, waits unread and must not be lost.
            # How long that may take is for those to limit who hold the reader up.
            self._tell_drained()
            # The write has taken the error that the loop told of, and it may not tell again.
            self._on_readable()

    def write_eof(self) -> None:
        """Send FIN, after what is held."""
        self._eof_wanted = True
        if not self._held and self._is_open:
            self._shutdown_writing()

    def _shutdown_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if self._write_error is None:
                self._write_failed(error)

    # --- ending -------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the socket is still ours."""
        return self._is_open

    @property
    def unreceived_bytes(self) -> int:
        """How many bytes, held here or sent, the peer's machine has not got yet, where known."""
        return self.held_bytes + (bytes_in_flight(self._sock) if self._is_open else 0)

    @property
    def takes_no_more(self) -> bool:
        """Whether a write has failed: what is sent now goes nowhere. It may still be read."""
        return self._write_error is not None or not self._is_open

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
            self.pause()
            await self._say_goodbye(stall_seconds)
            if self._is_open and not self._read_over:
                await self._linger()
        finally:
            if self._held or not self._eof_wanted:
                # Cancelled: what is cut off must not look complete.
                self.abort()
            self._release()

    async def flush(self, stall_seconds: float) -> None:
        """Wait until all is written; break the connection where it stalls for this long."""
        while self._held and self._is_open:
            before = self.held_bytes
            if not await self._emptied(stall_seconds) and self.held_bytes >= before:
                self.abort()

    async def _emptied(self, seconds: float) -> bool:
        """Wait until the socket has taken what there was for it, or is gone; False: not in time."""
        if self._flushed is None or self._flushed.done():
            self._flushed = self.loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._flushed)
        except TimeoutError:
            return False
        return True

    async def _say_goodbye(self, _stall_seconds: float) -> None:
        """Tell the peer that this was all."""
        if not self._eof_wanted:
            self._eof_wanted = True
            self._shutdown_writing()

    async def _linger(self) -> None:
        """Read and drop until the peer's end, so that our last bytes are not lost to a reset."""
        self.pause()  # While we waited for room, the receiver may have resumed.
        if self._lingering is None:
            self._lingering = self.loop.create_future()
        budget = MAX_LINGER_BYTES

        def drop() -> None:
            nonlocal budget
            count = 1
            while count and budget > 0:
                try:
                    count = socket.socket.recv_into(self._sock, self._room.target)
                except (BlockingIOError, InterruptedError):
                    return
                except OSError:
                    count = 0
                budget -= count
            self._stop_lingering()

        self.loop.add_reader(self._fd, drop)
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await asyncio.shield(self._lingering)
        except TimeoutError:
            _logger.debug("the peer did not close in time")
        finally:
            self._stop_lingering()

    def _stop_lingering(self) -> None:
        if self._lingering is not None and self._is_open:
            self.loop.remove_reader(self._fd)
            if not self._lingering.done():
                self._lingering.set_result(None)

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
        self.pause()
        self._stop_writing()
        self._stop_lingering()
        self._is_open = False
        self._room.late_resets.discard(self)
        self._receiver = None  # It holds us, mostly: together we would wait for a full collection.
        self._held.clear()
        self._sock.close()
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)
