"""TLS as a byte stream over a TCP one: records are made and read in memory.

Not `ssl.SSLSocket`: that asks the kernel twice for every record it reads and once for every record
it writes. Here one read brings many records, and one write takes them, which saved 6 to 13 % of the
CPU time of a bulk transfer; see docs/decisions/0002-data-plane.md. And not the event loop's own
TLS: that ends the connection at the peer's close_notify, where ours may still have something to
say, keeps a large buffer for each connection, and cannot resume a session.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from hybridge.protocol.errors import ConnectionLost, RelayError
from hybridge.transport.loop_room import MAX_READ_BYTES, RECORD_BYTES, loop_room
from hybridge.transport.loop_stream import LoopStream
from hybridge.transport.socket_stream import SocketStream
from hybridge.transport.sockets import describe
from hybridge.transport.stream import HEADROOM_BYTES, Receiver, Wire, replay
from hybridge.transport.tls_handshake import shake_hands

_logger = logging.getLogger(__name__)

MAX_HELD_ANSWER_BYTES = 65_536
"""Most bytes that TLS itself may have answered, to wishes for new keys or for renegotiation, while
the peer takes nothing. One that asks on is cut off; one read may bring more than this."""


async def open_tls_stream(
    wire: SocketStream | LoopStream,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    is_server: bool = False,
    session: ssl.SSLSession | None = None,
) -> TlsStream:
    """Do the TLS handshake on a TCP connection. A deadline is the caller's.

    Args:
        wire: The TCP connection, which the stream owns from now on; an error closes it.
        context: Trust, or certificate.
        server_hostname: Name for SNI and for the check of the certificate, where we dial.
        is_server: Whether the peer dialled.
        session: A session to resume.

    Raises:
        OSError: The handshake failed (`ssl.SSLError` is one), or the peer has gone.
        ValueError: The name cannot be asked for.
    """
    room = loop_room()
    try:
        # All connections of a thread share these two: each puts its records in and takes them out
        # before anybody else has a turn. What is not a whole record yet, the TLS object keeps.
        tls = context.wrap_bio(
            room.incoming,
            room.outgoing,
            server_side=is_server,
            server_hostname=server_hostname,
            session=session,
        )
    except BaseException:
        wire.abort()
        raise
    return TlsStream(wire, tls, early=await shake_hands(wire, tls))


class TlsStream(Wire):
    """A TLS connection whose handshake is done; made by `open_tls_stream`.

    Half-close is the business of what runs inside.

    Args:
        wire: The TCP connection, paused, which it owns from now on.
        tls: What knows keys, session and certificate.
        early: Records that came behind the handshake.
    """

    def __init__(
        self, wire: SocketStream | LoopStream, tls: ssl.SSLObject, *, early: bytes
    ) -> None:
        super().__init__()
        self._wire = wire
        self._room = loop_room()
        self.tls = tls
        """What knows session and certificate."""
        # Its methods of the same names, written in Python, only pass on to these.
        records: Any = getattr(tls, "_sslobj", tls)
        self._read_record: Callable[[int, memoryview], int] = records.read
        self._write_record: Callable[[bytes | memoryview], int] = records.write
        self._early = early
        self._late = b""
        """Bytes that came while paused, `MAX_READ_BYTES` at most: only where TLS had to read."""
        self._receiver: Receiver | None = None
        self._reads = False
        self._read_over = False
        self._is_end = False
        self._read_error: OSError | None = None
        self._has_failed = False
        self._held_answers = 0
        self._unwritten: list[bytes] = []
        self._rest_written: asyncio.Future[None] | None = None
        wire.attach(self)

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
            if not self._unwritten:
                self._wire.pause()

    def resume(self) -> None:
        """Read again, beginning with what came meanwhile."""
        if self._reads or self._read_over or not self._wire.is_open:
            return
        self._reads = True
        if self._late or self._early or self._is_end or self._read_error is not None:
            self.loop.call_soon(self._catch_up)
        else:
            self._wire.resume()

    def _catch_up(self) -> None:
        """Give what came with the handshake, or while the receiver had paused."""
        if not self._reads:
            return
        late, self._late = self._late, b""
        early, self._early = self._early, b""
        try:
            if late and self._receiver is not None:
                replay(self._receiver, late)
            if early:
                self.data(memoryview(early), 0, len(early))
            elif self._reads:
                self._tell_end()
        except Exception:
            # A bug of ours: loud, and the end of this connection only.
            _logger.exception("error while handling a connection")
            self._lost("internal error")
        if self._reads:
            self._wire.resume()

    def _tell_end(self) -> None:
        if self._read_error is not None:
            self._lost(describe(self._read_error))
        elif self._is_end:
            self._reads = False
            self._read_over = True
            self._wire.finish_reading()
            if self._receiver is not None:
                self._receiver.ended()

    def has_input(self) -> bool:
        """Whether bytes, an end or an error wait on a connection that is not being read."""
        if self._late or self._early or self._is_end or self._read_error is not None:
            return True
        return self._wire.has_input()

    # --- what the wire tells ------------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take records, and give what is in them."""
        if self._is_end or self._read_error is not None:
            return
        room = self._room
        incoming = room.incoming
        incoming.write(buffer[start:end])
        filled = 0
        try:
            # One call gives one record at most.
            filled = count = self._read_record(RECORD_BYTES, room.target)
            while count and incoming.pending:
                count = self._read_record(RECORD_BYTES, room.target[filled:])
                filled += count
            if not count:
                self._is_end = True
        except ssl.SSLWantReadError:
            pass  # The rest of a record is still to come.
        except ssl.SSLZeroReturnError:
            self._is_end = True
        except OSError as error:
            self._read_error = error.with_traceback(None)  # Its frames hold us.
            self._has_failed = True
        except BaseException:
            incoming.read()  # A bug, or no memory: another connection must not pay for it.
            room.outgoing.read()
            raise
        if room.outgoing.pending:
            self._answer()
        if self._unwritten or self._late:
            is_kept = bool(self._late) or not self._reads
            self._write_rest()
            if is_kept:
                self._keep(room.target[:filled])
                filled = 0
        if self._is_end or self._read_error is not None:
            incoming.read()  # What follows is of no use, and must not be taken for another's.
            if filled and self._receiver is not None:
                self._receiver.data(room.buffer, HEADROOM_BYTES, HEADROOM_BYTES + filled)
            # Where the receiver has paused us just now, the news is for whoever resumes.
            if self._reads and not self._late:
                self._tell_end()
        elif filled and self._receiver is not None:
            self._receiver.data(room.buffer, HEADROOM_BYTES, HEADROOM_BYTES + filled)

    def _answer(self) -> None:
        """Send what TLS has to say of its own, as long as the peer takes it."""
        records = self._room.outgoing.read()
        if self._wire.send_now(records):
            return
        self._held_answers += len(records)
        if self._held_answers > MAX_HELD_ANSWER_BYTES:
            self._fail_reading("the peer asks on and on, and does not read the answers")

    def _keep(self, data: memoryview) -> None:
        """Keep what came along with the message of TLS that was read for while paused."""
        if data and self._unwritten:
            self._fail_reading("data came in the middle of a message of TLS itself")
        self._late += data
        if len(self._late) > MAX_READ_BYTES:
            self._fail_reading("too much came while nothing was to be read")
        if not self._reads and (not self._unwritten or self._read_error is not None):
            self._wire.pause()

    def _fail_reading(self, why: str) -> None:
        self._has_failed = True
        self._read_error = self._read_error or ConnectionAbortedError(why)

    def ended(self) -> None:
        """Hear that the peer ended TCP: without a close_notify that is no orderly end."""
        self._lost("the peer ended TCP, and TLS not before it")

    def broken(self, error: RelayError) -> None:
        """Hear that the wire broke."""
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.broken(error)

    def drained(self) -> None:
        """Hear that all that was held has been written."""
        self._held_answers = 0
        if self._receiver is not None and not self._unwritten:
            self._receiver.drained()

    # --- writing ------------------------------------------------------------------------------

    @property
    def is_blocked(self) -> bool:
        """Whether bytes are held because socket or TLS did not take them."""
        return bool(self._unwritten) or self._wire.is_blocked

    @property
    def held_bytes(self) -> int:
        """How many bytes are held, nearly always encrypted."""
        return self._wire.held_bytes + sum(map(len, self._unwritten))

    @property
    def unreceived_bytes(self) -> int:
        """How many bytes, held here or sent, the peer's machine has not got yet, where known."""
        return self._wire.unreceived_bytes + sum(map(len, self._unwritten))

    @property
    def takes_no_more(self) -> bool:
        """Whether a write has failed: what is sent now goes nowhere. It may still be read."""
        return self._has_failed or self._wire.takes_no_more

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        """Encrypt and send ``buffer[start:end]``."""
        return self.send_now(buffer[start:end])

    def send_now(self, data: bytes | memoryview) -> bool:
        """Encrypt and send ``data``."""
        self._encrypt(data)
        return self._wire.send_now(self._room.outgoing.read()) and not self._unwritten

    def send_all(self, pieces: Iterable[bytes]) -> bool:
        """Encrypt ``pieces``, and send them in one write."""
        try:
            for piece in pieces:
                self._encrypt(piece)
        finally:
            # Where a piece could not be made, too: nobody else may find these records.
            takes_more = self._wire.send_now(self._room.outgoing.read())
        return takes_more and not self._unwritten

    def _encrypt(self, data: bytes | memoryview) -> None:
        if self._has_failed:
            return
        if self._unwritten:
            self._unwritten.append(bytes(data))
            return
        sent, size = 0, len(data)
        try:
            sent = self._write_record(data)
            while sent < size:  # Nearly always one call takes all.
                sent += self._write_record(memoryview(data)[sent:])
        except ssl.SSLWantReadError:
            self._write_later(memoryview(data)[sent:])
        except OSError as error:
            self._write_failed(error)

    def _write_later(self, data: bytes | memoryview) -> None:
        """Hold bytes: a message of TLS itself, a ticket or new keys, has arrived in part.

        Until all of it is here OpenSSL writes nothing, so it is read for even while paused.
        """
        self._unwritten.append(bytes(data))
        self._wire.resume()

    def _write_failed(self, error: OSError) -> None:
        self._has_failed = True
        # Not at once: we may be deep inside the handling of the other stream's data.
        self.loop.call_soon(self._lost, describe(error))

    def _write_rest(self) -> None:
        """Write what TLS did not take before, now that more has been read."""
        rest, self._unwritten = self._unwritten, []
        if not rest:
            return
        for piece in rest:
            self._encrypt(piece)
        takes_more = self._wire.send_now(self._room.outgoing.read())
        if self._unwritten:
            if self._is_end:
                self._fail_reading("the peer ended in the middle of a message of TLS itself")
                self._drop_rest()
            return
        self._settle_rest()
        if takes_more:
            # Not at once: we are in the middle of reading. Otherwise the wire tells.
            self.loop.call_soon(self._tell_drained)

    def _tell_drained(self) -> None:
        if self.is_blocked or not self.is_open:
            return
        try:
            self.drained()
        except Exception:
            _logger.exception("error while handling a connection")
            self._lost("internal error")

    def _drop_rest(self) -> None:
        self._unwritten.clear()
        self._settle_rest()

    def _settle_rest(self) -> None:
        if self._rest_written is not None and not self._rest_written.done():
            self._rest_written.set_result(None)

    @property
    def tls_version(self) -> str | None:
        """``TLSv1.2`` or ``TLSv1.3``."""
        return self.tls.version()

    def _flush_records(self) -> None:
        if self._room.outgoing.pending:
            self._wire.send_now(self._room.outgoing.read())

    def write_eof(self) -> None:
        """Send FIN, after what is held, without a close_notify."""
        self._wire.write_eof()

    # --- ending -------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the connection is still ours."""
        return self._wire.is_open

    def abort(self) -> None:
        """Close at once with RST; the receiver is told nothing more."""
        self._reads = False
        self._receiver = None  # It holds us, mostly: together we would wait for a full collection.
        self._drop_rest()
        self._wire.abort()

    async def close(self, *, stall_seconds: float = 600.0) -> None:
        """Write what is held, send close_notify, end TCP in order; see `Wire.close`."""
        try:
            await self._wire.flush(stall_seconds)
            if self._unwritten:
                await self._read_for_rest(stall_seconds)
            self._reads = False
            self._say_goodbye()
            await self._wire.close(stall_seconds=stall_seconds)
        finally:
            self.abort()

    async def _read_for_rest(self, seconds: float) -> None:
        """Read, and drop it, until TLS has taken what is to be written; break where it does not."""
        self._receiver = None
        self._rest_written = self.loop.create_future()
        self.resume()
        try:
            async with asyncio.timeout(seconds):
                await self._rest_written
        except TimeoutError:
            self.abort()

    def _say_goodbye(self) -> None:
        # Without its close_notify the end would look broken to a peer that has all that was sent.
        if not self._has_failed and self._wire.is_open:
            try:
                self.tls.unwrap()
            except OSError as error:
                _logger.debug("the peer's close_notify is not awaited: %s", error)
            self._flush_records()

    def _lost(self, why: str) -> None:
        if self.is_open:
            self.broken(ConnectionLost(f"the connection broke: {why}"))
