"""A pair of WebSocket legs that the relay has joined: frames across, each leg watched and ended.

A connection is two directions, each ending on its own (section 6.2). A Close ends one and is passed
on, unanswered; TCP lost without a Close is an abort, and the other side sees it as one.
"""

from __future__ import annotations

import asyncio
import enum
import logging

from hybridge.protocol.errors import ProtocolViolation, RelayError
from hybridge.protocol.forwarder import Forwarder, joined
from hybridge.protocol.frames import Close, Opcode, close_payload, control_frame
from hybridge.protocol.liveness import Liveness, Verdict
from hybridge.transport.stream import Wire, replay
from relay.settings import RelaySettings

_logger = logging.getLogger(__name__)

UNREAD_SECONDS = 0.5
"""After one side has gone and the other still sends, and its machine has got all that it was sent:
how long it may read that before it is aborted. A reset may take from it what it has not read."""


class Ending(enum.Enum):
    """How a pair came to its end."""

    CLOSED = "both sides closed"
    VIOLATED = "one side broke the protocol"
    ABORTED = "aborted"
    TOLD = "the relay closed both sides"


class Pair:
    """Two legs, and when they are over.

    Args:
        sender: The sender's stream, its handshake answered.
        listener: The listener's stream, its handshake answered.
        settings: Waits, in seconds.
        tracking_id: Names the connection in the logs.
    """

    def __init__(
        self, sender: Wire, listener: Wire, *, settings: RelaySettings, tracking_id: str = ""
    ) -> None:
        self.settings = settings
        self.tracking_id = tracking_id
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self.loop.create_future()
        """Done when nothing more is carried."""
        self.finished: asyncio.Future[None] = self.loop.create_future()
        """Done when both streams are let go."""
        self.ending = Ending.CLOSED
        self.why = Ending.CLOSED.value
        self.joined_at = self.loop.time()
        self.sender = Leg(self, sender, "sender")
        self.listener = Leg(self, listener, "listener")
        self.sender.other = self.listener
        self.listener.other = self.sender
        self._idle_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._carried = 0
        self._violator: Leg | None = None

    def start(self, *, from_sender: bytes, from_listener: bytes, is_held: bool = False) -> None:
        """Begin, with what was read of each side after its handshake; held, with no more."""
        self.sender.start(from_sender)
        self.listener.start(from_listener)
        if is_held:
            self.hold()

    def hold(self) -> None:
        """Read nothing of either side until `go_on`."""
        if not self.over.done():
            self.sender.hold()
            self.listener.hold()

    def go_on(self) -> None:
        """Read again what `hold` has left."""
        if not self.over.done():
            self.sender.go_on()
            self.listener.go_on()

    async def run(self) -> None:
        """Wait for the end, and end both legs the way it came."""
        try:
            await self.over
            stall = self.settings.stalled_peer_timeout_seconds
            if self._violator is not None:
                await self._violator.wire.close(stall_seconds=stall)
            elif self.ending in (Ending.CLOSED, Ending.TOLD):
                async with asyncio.TaskGroup() as closing:
                    for leg in (self.sender, self.listener):
                        closing.create_task(leg.wire.close(stall_seconds=stall), name="close leg")
        finally:
            for timer in (self._idle_timer, self._unread_timer):
                if timer is not None:
                    timer.cancel()
            self.sender.release()
            self.listener.release()
            if not self.finished.done():
                self.finished.set_result(None)

    async def wait_finished(self) -> None:
        """Return when both streams are let go."""
        await self.finished

    def abort(self, why: str) -> None:
        """Break both legs, without a Close."""
        if not self.over.done():
            self.ending, self.why = Ending.ABORTED, why
            self.sender.wire.abort()
            self.listener.wire.abort()
            self.over.set_result(None)

    def close(self, code: int, why: str) -> None:
        """End both legs with a Close of ours; one that is in the middle of a frame is aborted."""
        if not self.over.done():
            self.ending, self.why = Ending.TOLD, why
            self.sender.tell_end(code, why)
            self.listener.tell_end(code, why)
            self.over.set_result(None)

    def violated(self, leg: Leg, error: ProtocolViolation) -> None:
        """End after a malformed frame: that side was told by a Close, the other is aborted."""
        if not self.over.done():
            self.ending = Ending.VIOLATED
            self.why = f"the {leg.name} broke the WebSocket protocol: {error}"
            self._violator = leg
            leg.other.wire.abort()
            self.over.set_result(None)

    def undeliverable(self, leg: Leg) -> None:
        """Hear that what a side sends has no reader any more: that must not look like success."""
        if self._unread_timer is None and not self.over.done():
            self._await_reading(leg, None, 0.0)

    def _await_reading(self, leg: Leg, before: int | None, until: float) -> None:
        """Abort a side once nothing has been on its way to it for a while, or nothing moves."""
        unreceived, now = leg.wire.unreceived_bytes, self.loop.time()
        if before is None or unreceived < before:
            until = now + self.settings.stalled_peer_timeout_seconds
        if (before == 0 and not unreceived) or now >= until:
            self.abort(f"the {leg.other.name} has gone, and the {leg.name} still sent")
        else:
            self._unread_timer = self.loop.call_later(
                UNREAD_SECONDS, self._await_reading, leg, unreceived, until
            )

    def leg_closed(self) -> None:
        """Hear that a side's Close has come and been passed on."""
        if self.over.done():
            return
        if self.sender.has_passed_close and self.listener.has_passed_close:
            self.over.set_result(None)
        elif self._idle_timer is None:
            self._watch_half_closed()

    def _watch_half_closed(self) -> None:
        """One side has closed: the other must send within a time, unless something is held back."""
        self._carried = self.payload_bytes
        delay = self.settings.half_close_idle_seconds
        self._idle_timer = self.loop.call_later(delay, self._half_closed_too_long)

    def _half_closed_too_long(self) -> None:
        if self.over.done():
            return
        closed, still_open = self.sender, self.listener
        if not closed.has_closed:
            closed, still_open = still_open, closed
        # What its machine has not taken yet counts: a slow reader is waited for.
        is_held = closed.wire.is_blocked or still_open.wire.unreceived_bytes > 0
        is_held = is_held or not still_open.is_read
        # Ends of ours ping while they hold their reading back, for an application that is slow.
        is_held = is_held or still_open.was_heard_within(self.settings.half_close_idle_seconds)
        if closed.is_gone and not still_open.wire.unreceived_bytes:
            self.abort(f"the {closed.name} has gone, and the {still_open.name} did not close")
        elif self.payload_bytes == self._carried and not is_held:
            self.abort(f"the {closed.name} closed, and the {still_open.name} sent nothing more")
        else:
            self._watch_half_closed()

    @property
    def payload_bytes(self) -> int:
        """What has been carried so far, both ways."""
        return self.sender.frames.payload_bytes + self.listener.frames.payload_bytes


class Leg:
    """One side of a pair: reads masked frames from its stream, writes to the other leg's."""

    other: Leg

    __slots__ = (
        "_closing",
        "_late_pong",
        "_liveness",
        "_pair",
        "_timer",
        "_wants_ping",
        "frames",
        "has_closed",
        "has_passed_close",
        "is_gone",
        "is_held",
        "is_paused",
        "name",
        "other",
        "wire",
    )

    def __init__(self, pair: Pair, wire: Wire, name: str) -> None:
        self._pair = pair
        self.wire = wire
        self.name = name
        self.frames = Forwarder()
        self.has_closed = False
        """Whether this side's Close has come, and so its direction is complete."""
        self.has_passed_close = False
        """Whether the Close has gone on to the other side, which may be later."""
        self.is_gone = False
        """Whether this side's TCP connection has ended after its Close."""
        self.is_paused = False
        """Whether it is not read because the other side does not take its bytes."""
        self.is_held = False
        """Whether it is not read because somebody wants it so."""
        self._late_pong: bytes | None = None
        self._wants_ping = False
        self._closing: asyncio.TimerHandle | None = None
        """Sends this side's Close on, later."""
        settings = pair.settings
        self._liveness = Liveness(
            pair.joined_at,
            ping_interval_seconds=settings.ping_interval_seconds,
            answer_seconds=settings.pong_timeout_seconds,
            stall_seconds=settings.stalled_peer_timeout_seconds,
        )
        self._timer = pair.loop.call_at(self._liveness.next_check, self._check_liveness)

    def start(self, early: bytes) -> None:
        """Begin to read, with what came before."""
        self.wire.attach(self)
        replay(self, early)
        if not self.is_paused and self.wire.is_open:
            self.wire.resume()

    def was_heard_within(self, seconds: float) -> bool:
        """Whether anything has come from this side lately, a ping at least."""
        return self._pair.loop.time() - self._liveness.heard_at < seconds

    @property
    def is_read(self) -> bool:
        """Whether what this side sends is read."""
        return not (self.is_paused or self.is_held)

    def hold(self) -> None:
        """Read nothing more, until `go_on`."""
        self.is_held = True
        self._liveness.excuse()
        self.wire.pause()

    def go_on(self) -> None:
        """Read again."""
        self.is_held = False
        if self.is_read and self.wire.is_open and not self._pair.over.done():
            self.wire.resume()

    def tell_end(self, code: int, reason: str) -> None:
        """Send a Close of ours where none was sent; abort where a frame would swallow it."""
        self.wire.pause()
        if self.is_gone or self.other.has_closed:
            return
        if self.other.frames.is_between_frames:
            self.wire.send_now(control_frame(Opcode.CLOSE, close_payload(code, reason)))
        else:
            self.wire.abort()

    def release(self) -> None:
        """Let go of the stream, the timers, and the other side.

        What is left in a circle waits for the garbage collector to look at everything there is,
        and with thousands of connections that stops the relay for half a second.
        """
        self._timer.cancel()
        if self._closing is not None:
            self._closing.cancel()
        self.wire.abort()
        del self.other, self._pair

    # --- what the stream tells ----------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take frames, and pass them on."""
        self._liveness.heard_at = self._pair.loop.time()
        if self.has_closed:
            return  # After its Close a side has nothing more to say.
        try:
            pieces = self.frames.feed(buffer, start, end)
        except ProtocolViolation as error:
            self._violated(error)
            return
        other = self.other
        if other.is_gone and pieces:
            # Its Close would be taken for the end of bytes that nobody got.
            self._pause()
            self._pair.undeliverable(self)
            return
        if len(pieces) == 1:
            takes_more = other.wire.send_now(pieces[0])
        elif pieces:
            takes_more = other.wire.send_all(joined(pieces))
        else:
            takes_more = not other.wire.is_blocked
        for payload in self.frames.pings:
            self._answer_ping(payload)
        if self.frames.close is not None:
            self._forward_close(self.frames.close)
        elif not takes_more:
            self._pause()
        if other._wants_ping or other._late_pong is not None:
            other.send_late_frames()

    def ended(self) -> None:
        """Hear that the peer ended TLS or TCP; after its Close it may still read."""
        if not self.has_closed:
            self._pair.abort(f"the {self.name}'s connection ended without a Close")

    def broken(self, error: RelayError) -> None:
        """Hear that the stream broke."""
        self._lost(str(error))

    def drained(self) -> None:
        """Hear that all that was held for this side has been written."""
        self._liveness.moved = True
        self.send_late_frames()
        other = self.other
        if other.is_paused and not self.wire.is_blocked:
            other.is_paused = False
            if not other.is_held:
                other.wire.resume()

    def _lost(self, why: str) -> None:
        if self._pair.over.done():
            return
        if self.has_closed:
            # Not an abort: peers drop TCP right after their Close. The other side still gets all
            # that was sent, and the Close. If it sends, or bytes of it were held back, they have no
            # reader any more.
            self.is_gone = True
            self.wire.abort()
            self._timer.cancel()
            if self.other.is_paused:
                self._pair.undeliverable(self.other)
            return
        self._pair.abort(f"the {self.name}: {why}")

    def _violated(self, error: ProtocolViolation) -> None:
        if self.other.frames.is_between_frames and not self.other.has_closed:
            payload = close_payload(error.close_code, str(error))
            self.wire.send_now(control_frame(Opcode.CLOSE, payload))
        self.wire.pause()
        self._pair.violated(self, error)

    # --- Close --------------------------------------------------------------------------------

    def _forward_close(self, close: Close) -> None:
        delay = self._pair.settings.close_forward_delay_seconds
        rest = delay - (self._pair.loop.time() - self._pair.joined_at) if delay else 0.0
        self.has_closed = True
        if rest > 0:
            self._closing = self._pair.loop.call_later(rest, self._send_close, close)
        else:
            self._send_close(close)

    def _send_close(self, close: Close) -> None:
        if self.frames.payload_bytes and self.other.wire.takes_no_more and not self.other.is_gone:
            # Some of this side's bytes went nowhere: no orderly end may follow them.
            self._pair.undeliverable(self)
            return
        if not self.other.is_gone:
            self.other.wire.send_now(control_frame(Opcode.CLOSE, close.payload))
        self.has_passed_close = True
        self._pair.leg_closed()

    # --- control frames of our own ------------------------------------------------------------

    def _answer_ping(self, payload: bytes) -> None:
        self._late_pong = payload  # Only the last is owed (RFC 6455, 5.5.3).
        self.send_late_frames()

    def send_late_frames(self) -> None:
        """Send the pong and the ping that are due, once no data frame is half written."""
        if self._late_pong is None and not self._wants_ping:
            return
        if self.other.has_closed or self.is_gone:
            # This side has got a Close, or is gone: nothing may follow.
            self._late_pong, self._wants_ping = None, False
            return
        if self.wire.is_blocked or not self.other.frames.is_between_frames:
            return
        pong, self._late_pong = self._late_pong, None
        if pong is not None:
            self.wire.send_now(control_frame(Opcode.PONG, pong))
        if self._wants_ping:
            self._wants_ping = False
            is_judged = self.is_read and not self.has_closed
            self._liveness.ping_sent(self._pair.loop.time(), is_judged=is_judged)
            self.wire.send_now(control_frame(Opcode.PING))

    def _pause(self) -> None:
        self.is_paused = True
        self._liveness.excuse()
        self.wire.pause()

    def _check_liveness(self) -> None:
        if self._pair.over.done() or self.is_gone or not self.wire.is_open:
            return
        verdict = self._liveness.check(
            self._pair.loop.time(),
            is_blocked=self.wire.is_blocked,
            # A Close, whichever way, ends the duty to answer.
            is_judged=self.is_read and not (self.has_closed or self.other.has_closed),
        )
        if verdict is Verdict.PING:
            self._wants_ping = True
            self.send_late_frames()
        elif verdict is Verdict.DEAD:
            self._pair.abort(f"the {self.name} has not answered a ping")
            return
        elif verdict is Verdict.STALLED:
            self._pair.abort(f"the {self.name} took no bytes and sent none for too long")
            return
        self._timer = self._pair.loop.call_at(self._liveness.next_check, self._check_liveness)
