"""`MultiplexedStream`: one of several connections over a rendezvous, and its move to its own."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from hybridge.protocol.errors import ConnectionLost, RelayError
from hybridge.protocol.multiplex_frames import HEADER_BYTES
from hybridge.transport.next_rendezvous import NextRendezvous
from hybridge.transport.stream import HEADROOM_BYTES, Receiver, RelayedStream, with_headroom
from hybridge.transport.stream_weight import StreamWeight
from hybridge.transport.websocket import FRAME_PAYLOAD_BYTES

if TYPE_CHECKING:
    from hybridge.transport.multiplex import Multiplex

_logger = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = FRAME_PAYLOAD_BYTES - HEADER_BYTES
"""Longest piece of a stream that is sent at once: with both headers it fills four TLS records."""


class MultiplexedStream(RelayedStream):
    """One connection of a `Multiplex`, as a byte stream with half-close.

    It holds what one call of `write` was given, and of what arrived no more than its window. When
    it has carried much it moves to a rendezvous of its own, each direction behind what it had sent
    before, and from then on does what that does.

    It has no `subprotocol`: what the rendezvous speaks is not the connection's.
    """

    def __init__(self, multiplex: Multiplex, number: int) -> None:
        super().__init__()
        self._multiplex = multiplex
        self._machine = multiplex.machine
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._is_over = False
        """Whether nothing more comes or goes by the shared rendezvous."""
        self._is_done = False
        """Whether it was closed, or broke."""
        self._answer: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        # Reading.
        self._is_paused = True
        self._is_dropping = False
        self._arrived = bytearray()
        self._has_peer_ended = False
        self._has_peer_moved = False
        self._is_end_told = False
        self._late_error: RelayError | None = None
        # Writing.
        self._held: deque[memoryview] = deque()
        self._eof_wanted = False
        self._eof_sent = False
        # Moving.
        self._own: RelayedStream | None = None
        self._waiting: NextRendezvous | None = None
        self._is_moving = False
        self._sends_there = False
        self._reads_there = False
        self._weight = StreamWeight(multiplex)

    # --- opening ------------------------------------------------------------------------------

    async def wait_answered(self) -> None:
        """Wait for the other side's answer; see `Multiplex.open`."""
        await self._answer

    def answered(self, error: RelayError | None) -> None:
        """Hear the other side's answer."""
        if self._answer.done():
            return
        if error is None:
            self._answer.set_result(None)
        else:
            self._is_over = True
            self._answer.set_exception(error)
            self._answer.exception()  # Whoever waited may have been cancelled.

    @property
    def is_gone(self) -> bool:
        """Whether it was closed, or broke."""
        return self._is_done

    def accept(self) -> None:
        """Open a connection that was asked for.

        Raises:
            ConnectionLost: The other side has given it up, or the rendezvous is gone.
        """
        said = b"" if self._is_over else self._machine.accept(self._number)
        if not said:
            raise ConnectionLost("the sender has gone")
        self._multiplex.send(said)

    def refuse(self, status: int, reason: str) -> None:
        """Refuse a connection that was asked for; nothing where it was given up."""
        if not self._is_over:
            self._is_over = True
            self._multiplex.send(self._machine.refuse(self._number, status, reason))
            self._multiplex.forget(self._number)

    # --- reading ------------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Start reading; see `Stream.attach`."""
        self._receiver = receiver
        self.resume()

    def pause(self) -> None:
        """Stop reading: the other side is slowed down by its window."""
        self._is_paused = True
        if self._reads_there and self._own is not None:
            self._own.pause()

    def resume(self) -> None:
        """Read again."""
        if self._reads_there and self._own is not None:
            self._is_paused = False
            self._own.resume()
        elif self._is_paused:
            self._is_paused = False
            if self._arrived or self._has_peer_ended or self._has_peer_moved or self._late_error:
                self._loop.call_soon(self._deliver)

    def arrived(self, buffer: memoryview, start: int, end: int) -> None:
        """Hear that data has come."""
        receiver = self._receiver
        if self._is_dropping:
            self._consumed(end - start)
        elif receiver is None or self._is_paused or self._arrived:
            self._arrived += buffer[start:end]
        else:
            receiver.data(buffer, start, end)
            if grant := self._machine.consumed(self._number, end - start):
                self._multiplex.send(grant)
        if self._weight.add(end - start):
            self._ask_to_move()

    def _consumed(self, size: int) -> None:
        self._multiplex.send(self._machine.consumed(self._number, size))

    def _deliver(self) -> None:
        """Give what waited, then the end, or what comes by the other rendezvous."""
        while self._arrived and not self._is_paused and self._receiver is not None:
            size = min(len(self._arrived), MAX_PAYLOAD_BYTES)
            room = with_headroom(memoryview(self._arrived)[:size])
            del self._arrived[:size]
            self._receiver.data(room, HEADROOM_BYTES, len(room))
            self._consumed(size)
        if self._arrived or self._is_paused or self._receiver is None:
            return
        if self._has_peer_ended and not self._is_end_told:
            self._is_end_told = True
            self._receiver.ended()
        if self._waiting is not None and self._has_peer_moved:
            self._read_there(self._waiting, self._receiver)
        self._tell_late_error()

    def _read_there(self, waiting: NextRendezvous, receiver: Receiver) -> None:
        """Give what came by the other rendezvous meanwhile; then let its receiver hear itself."""
        while waiting.held:
            room = with_headroom(memoryview(waiting.held))
            waiting.held.clear()
            receiver.data(room, HEADROOM_BYTES, len(room))
            if self._is_paused:
                return
        self._waiting = None
        self._reads_there = True
        waiting.own.attach(receiver)
        if waiting.has_ended:
            receiver.ended()
        if waiting.error is not None:
            self.own_broke(waiting.error)

    def peer_ended(self) -> None:
        """Hear that the other side sends no more."""
        self._has_peer_ended = True
        self._settle_here()
        self._deliver()

    def peer_moved(self) -> None:
        """Hear that what the other side still sends comes by the other rendezvous."""
        self._has_peer_moved = True
        if self._own is None and not self._is_moving:
            self.give_up_move(ConnectionLost("the other end moved the connection to nowhere"))
            return
        self._settle_here()
        self._deliver()

    # --- writing ------------------------------------------------------------------------------

    @property
    def is_blocked(self) -> bool:
        """Whether the window or the rendezvous is full."""
        if self._sends_there and self._own is not None:
            return self._own.is_blocked
        if self._is_over:
            return False
        # Not whether the rendezvous is: who was told to go on may, even if another was quicker.
        if self._held or self in self._multiplex.waiting:
            return True
        return not self._eof_wanted and not self._machine.sendable(self._number)

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        """Send ``buffer[start:end]``, or hold a copy of what may not be sent yet."""
        if self._sends_there and self._own is not None:
            return self._own.write(buffer, start, end)
        if self._is_over or self._eof_wanted:
            return not self.is_blocked
        multiplex = self._multiplex
        size = end - start
        credit = self._machine.sendable(self._number)
        if 0 < size <= min(credit - 1, MAX_PAYLOAD_BYTES) and not (
            self._held or multiplex.is_blocked or self in multiplex.waiting
        ):
            # Nearly every message of a conversation.
            takes_more = multiplex.send_data(self._number, buffer, start, end)
            if self._weight.add(size):
                self._ask_to_move()
            if takes_more:
                return True
            start = end
        if not self._held:
            start = self._push(buffer, start, end)
        if start < end:
            self._held.append(memoryview(bytes(buffer[start:end])))
        if multiplex.is_blocked:
            multiplex.wait_for_room(self)
        return not self.is_blocked

    def _push(self, buffer: memoryview, start: int, end: int) -> int:
        """Send what window and rendezvous take now; give where the rest begins."""
        multiplex = self._multiplex
        first = start
        while start < end and not multiplex.is_blocked:
            size = min(end - start, self._machine.sendable(self._number), MAX_PAYLOAD_BYTES)
            if not size:
                break
            multiplex.send_data(self._number, buffer, start, start + size)
            start += size
        if start > first and self._weight.add(start - first):
            self._ask_to_move()
        return start

    def go_on(self) -> None:
        """Hear that the window or the rendezvous takes more."""
        if self._is_over or self._sends_there:
            return
        while self._held:
            piece = self._held[0][:MAX_PAYLOAD_BYTES]
            room = with_headroom(piece)
            sent = self._push(room, HEADROOM_BYTES, len(room)) - HEADROOM_BYTES
            if sent == len(self._held[0]):
                self._held.popleft()
            elif sent:
                self._held[0] = self._held[0][sent:]
            if sent < len(piece):
                break
        if not self._held and self._eof_wanted:
            self._send_eof()
        if self._multiplex.is_blocked:
            self._multiplex.wait_for_room(self)
        elif not self.is_blocked and self._receiver is not None:
            self._receiver.drained()

    def write_eof(self) -> None:
        """Finish sending, after what is held. The other direction goes on."""
        if self._sends_there and self._own is not None:
            self._own.write_eof()
        elif not (self._eof_wanted or self._is_over):
            self._eof_wanted = True
            if not self._held:
                self._send_eof()

    def _send_eof(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            self._multiplex.send(self._machine.end(self._number))
            self._settle_here()

    # --- moving -------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """What names it in the handshake of a rendezvous of its own."""
        return self._machine.token(self._number)

    @property
    def can_move(self) -> bool:
        """Whether there is anything left to move: it is open, and has not moved."""
        if self._own is not None or self._is_done:
            return False
        return self._has_peer_moved or self._machine.is_open(self._number)

    def begin_move(self) -> None:
        """Say that its own rendezvous is being joined: `move_to` or `give_up_move` follows."""
        self._is_moving = True

    def give_up_move(self, error: RelayError) -> None:
        """Stay here, as there is no other rendezvous; broken if the other side has moved there."""
        self._is_moving = False
        if self._has_peer_moved and self._own is None:
            self.abort()
            self.lost(error)

    def move_to(self, own: RelayedStream) -> None:
        """Go on by another rendezvous, which both ends have joined. Only while `can_move`.

        What is sent from now on goes there; what arrives there is given behind what still comes
        here. A direction that has ended stays ended here.
        """
        self._own = own
        self._waiting = NextRendezvous(self, own)
        own.attach(self._waiting)
        if not self._eof_wanted:
            self._sends_there = True
            self._multiplex.send(self._machine.move(self._number))
            held, self._held = self._held, deque()
            for piece in held:
                room = with_headroom(piece)
                own.write(room, HEADROOM_BYTES, len(room))
            self._settle_here()
        self._deliver()
        if self._sends_there and not own.is_blocked and self._receiver is not None:
            self._receiver.drained()

    def _ask_to_move(self) -> None:
        """Hear that it carries much for its time."""
        if self._multiplex.on_heavy is None or self._eof_wanted or self._has_peer_ended:
            return
        if self.can_move:
            self._multiplex.on_heavy(self)

    # --- ending -------------------------------------------------------------------------------

    def abort(self) -> None:
        """Break the connection at once, so that the other end sees an error."""
        if not self._is_over:
            self._is_over = True
            self._multiplex.send(self._machine.abort(self._number))
        self._is_done = True
        self._leave()
        if self._own is not None:
            self._own.abort()

    async def close(self) -> None:
        """Finish sending, and wait shortly for the other side's end; what still comes is dropped.

        Waits at most `Timing.close_timeout_seconds`; as long as the other side takes what is held,
        that is waited for as well, up to `Timing.stalled_peer_timeout_seconds`.
        """
        timing = self._multiplex.timing
        try:
            self._receiver = None
            self._is_dropping = True
            dropped, self._arrived = len(self._arrived), bytearray()
            if dropped:
                self._consumed(dropped)
            self.write_eof()
            if not self._sends_there:
                seconds = timing.stalled_peer_timeout_seconds if self._held else 0.0
                async with asyncio.timeout(timing.close_timeout_seconds + seconds):
                    await asyncio.shield(self._gone)
            if self._own is not None:
                await self._own.close()
        except TimeoutError:
            _logger.debug("the other end did not end the connection in time")
        finally:
            self.abort()

    def lost(self, error: RelayError) -> None:
        """Hear that the connection broke."""
        self._held.clear()
        if not self._answer.done():
            self.answered(error)
        self._is_over = self._is_done = True
        self._settle()
        if self._own is not None:
            self._own.abort()
        self._late_error = error
        if not (self._has_peer_ended and self._arrived):
            # Otherwise all that the other side sent is here, and is given first.
            self._arrived.clear()
            self._tell_late_error()

    def _tell_late_error(self) -> None:
        error, receiver = self._late_error, self._receiver
        if error is not None and receiver is not None:
            self._late_error = self._receiver = None
            receiver.broken(error)

    def _settle_here(self) -> None:
        """Leave the shared rendezvous when both directions have ended or moved."""
        if (self._has_peer_ended or self._has_peer_moved) and (self._eof_sent or self._sends_there):
            self._is_over = True
            self._leave()

    def _leave(self) -> None:
        self._held.clear()
        self._multiplex.forget(self._number)
        self._settle()

    def _settle(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    # --- what its own rendezvous tells, as long as its receiver does not listen itself --------

    def own_drained(self) -> None:
        """Hear that its own rendezvous takes more."""
        if self._sends_there and self._receiver is not None:
            self._receiver.drained()

    def own_broke(self, error: RelayError) -> None:
        """Hear that its own rendezvous broke: that matters to what goes that way."""
        if not (self._sends_there or self._has_peer_moved):
            return
        if not self._is_over:
            self._is_over = True
            self._multiplex.send(self._machine.abort(self._number))
        self._leave()
        self.lost(error)

    @property
    def has_peer_ended(self) -> bool:
        """Whether the other side had ended before it could move."""
        return self._has_peer_ended
