"""A WebSocket as a byte stream with half-close.

The frames are ours, not a library's: a Close ends one direction only, and no library API lets the
other go on. `send_eof` sends Close 1000; the peer's Close is the end of its bytes; TCP lost without
a Close is a broken connection. Section 6 of the specification.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from hybridge.protocol.close_codes import is_clean
from hybridge.protocol.errors import ConnectionLost, ProtocolViolation, RelayError
from hybridge.protocol.frames import Close, Opcode, close_payload, control_frame, mask_frame
from hybridge.protocol.liveness import Liveness, Verdict
from hybridge.protocol.payload_reader import PayloadReader
from hybridge.protocol.redaction import one_line
from hybridge.transport.handshake import shake_hands
from hybridge.transport.loop_room import loop_room
from hybridge.transport.stream import Receiver, RelayedStream, Wire, replay
from hybridge.transport.timing import Timing

FRAME_PAYLOAD_BYTES = 65_528
"""Most payload of a frame that we send: with its header of 8 bytes it fills four TLS records."""

MAX_WHOLE_WRITE_BYTES = 65_529
"""Longest write that leaves as one message: the longest UDP datagram there is, over IPv6, and the
two bytes of its length (section 10.3) must not be divided."""

SHUTDOWN_REASON = "Shutdown"
"""Reason of our Close, as Microsoft's .NET library gives it."""


async def open_websocket(
    wire: Wire,
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    timing: Timing | None = None,
) -> WebSocketStream:
    """Do the dialling side's handshake on an open stream. A deadline is the caller's.

    Raises:
        HandshakeRefused: See `hybridge.transport.handshake.shake_hands`.
        Unreachable: See `hybridge.transport.handshake.shake_hands`.
    """
    rest, subprotocol = await shake_hands(wire, url, headers=headers, subprotocols=subprotocols)
    return WebSocketStream(wire, rest=rest, subprotocol=subprotocol, timing=timing or Timing())


class WebSocketStream(RelayedStream):
    """The dialling end of a rendezvous, as a byte stream with half-close.

    Bytes leave as binary messages. What arrives is given without message boundaries; empty messages
    are nothing. Attributes:

        subprotocol: The one that was agreed on, or None.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        rest: bytes = b"",
        subprotocol: str | None = None,
        timing: Timing,
    ) -> None:
        super().__init__()
        self.subprotocol = subprotocol
        self._wire = wire
        self._keys = loop_room().mask_keys
        self._rest = rest
        self._timing = timing
        self._frames = PayloadReader()
        self._receiver: Receiver | None = None
        self._is_paused = True
        self._close_sent = False
        self._close_received = False
        self._is_over = False
        self._late_pong: bytes | None = None
        self._gone: asyncio.Future[None] | None = None
        self._loop = wire.loop
        self._liveness = Liveness(
            self._loop.time(),
            ping_interval_seconds=timing.ping_interval_seconds,
            answer_seconds=timing.pong_timeout_seconds,
            stall_seconds=timing.stalled_peer_timeout_seconds,
        )
        self._timer = self._loop.call_at(self._liveness.next_check, self._check_liveness)

    # --- pushed -------------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Start reading; see `Stream.attach`."""
        self._receiver = receiver
        self._is_paused = False
        self._wire.attach(self)
        rest, self._rest = self._rest, b""
        replay(self, rest)
        if not self._is_paused:
            self._wire.resume()

    @property
    def is_blocked(self) -> bool:
        """Whether frames are held back because the relay does not take them."""
        return self._wire.is_blocked

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        """Send ``buffer[start:end]`` as one binary message.

        More than `MAX_WHOLE_WRITE_BYTES` becomes messages of at most `FRAME_PAYLOAD_BYTES`.
        """
        if self._close_sent or start >= end:
            return not self._wire.is_blocked
        if end - start <= MAX_WHOLE_WRITE_BYTES:
            frame = mask_frame(buffer, start, end, mask_key=next(self._keys))
            return self._wire.send_now(frame)
        return self._wire.send_all(
            mask_frame(
                buffer, first, min(end, first + FRAME_PAYLOAD_BYTES), mask_key=next(self._keys)
            )
            for first in range(start, end, FRAME_PAYLOAD_BYTES)
        )

    def write_eof(self) -> None:
        """Send Close 1000: this direction is complete. The other goes on."""
        self._send_close(1000, SHUTDOWN_REASON)

    def _send_close(self, code: int, reason: str) -> None:
        if not self._close_sent:
            self._close_sent = True
            self._send_control(Opcode.CLOSE, close_payload(code, reason))

    def _send_control(self, opcode: Opcode, payload: bytes) -> None:
        self._wire.send_now(control_frame(opcode, payload, mask_key=next(self._keys)))

    def pause(self) -> None:
        """Stop reading."""
        self._is_paused = True
        self._liveness.excuse()
        self._wire.pause()

    def resume(self) -> None:
        """Read again."""
        self._is_paused = False
        self._wire.resume()

    def abort(self) -> None:
        """Drop TCP without a Close, so that the other end sees a broken connection."""
        self._is_over = True
        self._timer.cancel()
        self._wire.abort()
        self._settle()

    async def close(self) -> None:
        """Send Close where none was sent, wait for the peer's, then close TLS and TCP.

        Waits at most `Timing.close_timeout_seconds` for the peer; what it still sends is dropped.
        """
        try:
            self._send_close(1000, SHUTDOWN_REASON)
            self._receiver = None
            self._gone = self._loop.create_future()
            if self._wire.is_open and not self._is_over:
                self._is_paused = False
                self._wire.attach(self)
                self._wire.resume()
                try:
                    async with asyncio.timeout(self._timing.close_timeout_seconds):
                        # The relay ends TCP once it has both Closes.
                        await self._gone
                except TimeoutError:
                    self._is_over = True
            await self._wire.close(stall_seconds=self._timing.stalled_peer_timeout_seconds)
        finally:
            self.abort()

    # --- what the wire tells ------------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take what was read from the wire."""
        self._liveness.heard_at = self._loop.time()
        try:
            spans = self._frames.feed(buffer, start, end)
        except ProtocolViolation as error:
            self._send_close(1002, "protocol error")
            self._break(ConnectionLost(f"the relay broke the WebSocket protocol: {error}"))
            return
        if self._receiver is not None:
            self._deliver(self._receiver, buffer, spans)
        for payload in self._frames.pings:
            self._answer_ping(payload)
        if self._frames.close is not None and not self._close_received:
            self._close_received = True
            self._peer_closed(self._frames.close)

    def _deliver(
        self, receiver: Receiver, buffer: memoryview, spans: list[tuple[int, int]]
    ) -> None:
        if len(spans) > 1:
            spans = _joined(buffer, spans)
        for first, last in spans:
            receiver.data(buffer, first, last)

    def _answer_ping(self, payload: bytes) -> None:
        if self._close_sent:
            return
        if self._wire.is_blocked:
            # Only the last is owed (RFC 6455, 5.5.3): a peer cannot make us hold more.
            self._late_pong = payload
        else:
            self._send_control(Opcode.PONG, payload)

    def _peer_closed(self, close: Close) -> None:
        receiver = self._receiver
        if is_clean(close.code):
            if receiver is not None:
                receiver.ended()
        else:
            error = ConnectionLost(
                one_line(f"the other end closed the connection with {close.code} {close.reason}")
            )
            self._send_close(1000, "")
            self._break(error)

    def ended(self) -> None:
        """Hear that the relay closed TLS or TCP."""
        self._wire_over(ConnectionLost("the connection ended without a Close"))

    def broken(self, error: RelayError) -> None:
        """Hear that the wire broke."""
        self._wire_over(error)

    def _wire_over(self, error: RelayError) -> None:
        self._is_over = True
        self._settle()
        if self._close_received and self._close_sent:
            self._timer.cancel()
        else:
            self._break(error, told=self._close_received)

    def _break(self, error: RelayError, *, told: bool = False) -> None:
        receiver, self._receiver = self._receiver, None
        self.abort()
        # After the peer's Close its direction was complete. But what we send goes nowhere now.
        if receiver is not None and (not told or not self._close_sent):
            receiver.broken(error)

    def drained(self) -> None:
        """Hear that all that was held has been written."""
        self._liveness.moved = True
        pong, self._late_pong = self._late_pong, None
        if pong is not None:
            self._answer_ping(pong)
        if self._receiver is not None and not self._wire.is_blocked:
            self._receiver.drained()

    def _settle(self) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def _check_liveness(self) -> None:
        if self._is_over or not self._wire.is_open:
            return
        now = self._loop.time()
        # After a Close nobody owes an answer; TCP's own keepalive watches then.
        is_judged = not (self._is_paused or self._close_received or self._close_sent)
        verdict = self._liveness.check(now, is_blocked=self._wire.is_blocked, is_judged=is_judged)
        if verdict is Verdict.PING and not self._close_sent:
            self._liveness.ping_sent(now, is_judged=is_judged)
            self._send_control(Opcode.PING, b"")
        elif verdict is Verdict.DEAD:
            self._break(ConnectionLost("the relay has not answered a ping"))
            return
        elif verdict is Verdict.STALLED:
            self._break(ConnectionLost("the relay took no bytes and sent none for too long"))
            return
        self._timer = self._loop.call_at(self._liveness.next_check, self._check_liveness)


_JOIN_BELOW_BYTES = 4_096


def _joined(buffer: memoryview, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Move small pieces together, so that many small frames become one write."""
    if len(spans) < 2:
        return spans
    joined: list[tuple[int, int]] = []
    first, last = spans[0]
    for start, end in spans[1:]:
        if end - start < _JOIN_BELOW_BYTES:
            buffer[last : last + end - start] = buffer[start:end]
            last += end - start
        else:
            joined.append((first, last))
            first, last = start, end
    joined.append((first, last))
    return joined
