"""The listener's rendezvous socket of one HTTP request: the request out, the response in (7.5)."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from hybridge.protocol import messages
from hybridge.protocol.close_codes import CloseCode
from hybridge.protocol.errors import MalformedMessage, ProtocolViolation, RelayError
from hybridge.protocol.frames import Opcode, close_payload, control_frame, header
from hybridge.protocol.liveness import Liveness, Verdict
from hybridge.protocol.message_parts import Part, PartReader
from hybridge.transport.stream import Wire, replay
from relay.core.request_events import (
    Channel,
    Event,
    ListenerClosed,
    ListenerViolated,
    RendezvousBroken,
    ResponseBody,
    ResponseEnded,
    ResponseStarted,
)
from relay.settings import RelaySettings

_logger = logging.getLogger(__name__)

FRAME_PAYLOAD_BYTES = 65_532
"""Most payload of a frame that we send: with its header of 4 bytes it fills four TLS records, and
it is below what Microsoft's Java SDK refuses (65,536)."""

CLOSE_SECONDS = 5.0
"""How long a Close of either side waits for the other's."""

NOT_TEXT = "Command messages must be MessageType=Text."
NOT_A_RESPONSE = "'response' command was expected."
NO_REQUEST_ID = "'response.requestId' is required."
FOREIGN_REQUEST_ID = "'response.requestId' is not that of this request."
NOT_BINARY = "The body that the response announced must be MessageType=Binary."


class LegOwner(Protocol):
    """Whose socket it is: the request."""

    def take(self, events: list[Event]) -> None:
        """Hear what one read of the socket brought."""

    def leg_drained(self) -> None:
        """Hear that more of the request may be sent."""


class RequestLeg:
    """A rendezvous socket, its handshake answered.

    Args:
        wire: The stream.
        request_id: What the response must name.
        owner: Is told of the response.
        settings: Waits, in seconds.
    """

    def __init__(
        self, wire: Wire, *, request_id: str, owner: LegOwner, settings: RelaySettings
    ) -> None:
        self.wire = wire
        self._request_id = request_id
        self._owner = owner
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._reader = PartReader()
        self._command: bytearray | None = bytearray()
        """The response as it comes; None once it is there, or no more is wanted."""
        self._owed_pong: bytes | None = None
        self._is_body_due = False
        self._body_begun = False
        self._is_paused = False
        self._is_leaving = False
        self._close_sent = False
        self._close_seen = False
        self._over: asyncio.Future[bool] = self._loop.create_future()
        """Whether the end is an orderly one."""
        self.finished: asyncio.Future[None] = self._loop.create_future()
        """Done when the stream is let go."""
        self._closing: asyncio.TimerHandle | None = None
        self._liveness = Liveness(
            self._loop.time(),
            ping_interval_seconds=settings.ping_interval_seconds,
            answer_seconds=settings.pong_timeout_seconds,
            stall_seconds=settings.stalled_peer_timeout_seconds,
        )
        self._timer = self._loop.call_at(self._liveness.next_check, self._check_liveness)

    def start(self, early: bytes) -> None:
        """Begin to read, with what came right after the handshake."""
        self.wire.attach(self)
        replay(self, early)
        if self.wire.is_open and not self._is_paused:
            self.wire.resume()

    async def run(self) -> None:
        """Serve the socket to its end."""
        try:
            if await self._over:
                await self.wire.close(stall_seconds=self._settings.stalled_peer_timeout_seconds)
        finally:
            self._timer.cancel()
            if self._closing is not None:
                self._closing.cancel()
            self.wire.abort()
            if not self.finished.done():
                self.finished.set_result(None)

    # --- the request's side -------------------------------------------------------------------

    @property
    def is_blocked(self) -> bool:
        """Whether the listener does not take what it is sent."""
        return self.wire.is_blocked

    def send_request(self, text: bytes) -> None:
        """Send the ``request`` as one text message."""
        self._send_message(text, Opcode.TEXT, is_last=True)

    def send_body(self, pieces: list[bytes], *, is_last: bool) -> None:
        """Send more of the request's body: one binary message, as it comes."""
        if not (pieces or is_last):
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        opcode = Opcode.CONTINUATION if self._body_begun else Opcode.BINARY
        self._body_begun = True
        self._send_message(data, opcode, is_last=is_last)

    def _send_message(self, data: bytes, opcode: Opcode, *, is_last: bool) -> None:
        size = len(data)
        if size <= FRAME_PAYLOAD_BYTES:
            self.wire.send_now(header(opcode, size, fin=is_last) + data)
            return
        view = memoryview(data)
        pieces: list[bytes | memoryview] = []
        for start in range(0, size, FRAME_PAYLOAD_BYTES):
            piece = view[start : start + FRAME_PAYLOAD_BYTES]
            fin = is_last and start + FRAME_PAYLOAD_BYTES >= size
            pieces += (header(opcode, len(piece), fin=fin), piece)
            opcode = Opcode.CONTINUATION
        self.wire.send_now(b"".join(pieces))

    def pause(self) -> None:
        """Take no more of the response: the sender is slower."""
        if not self._is_paused:
            self._is_paused = True
            self._liveness.excuse()
            self.wire.pause()

    def resume(self) -> None:
        """Take more of the response."""
        if self._is_paused:
            self._is_paused = False
            self.wire.resume()

    def close(self, code: int, reason: str) -> None:
        """Send a Close; the listener has a short time to answer it."""
        if self._over.done():
            return
        self._want_no_more()
        if not self._close_sent:
            self._close_sent = True
            self.wire.send_now(control_frame(Opcode.CLOSE, close_payload(code, reason)))
        if self._close_seen:
            self._end(is_orderly=True)
        else:
            self._await_close(is_orderly=True)

    def leave(self) -> None:
        """Send nothing more, wait shortly for the listener's Close, then break the socket."""
        self._want_no_more()
        self._is_leaving = True
        self._await_close(is_orderly=False)

    def abort(self) -> None:
        """Break the socket."""
        self.wire.abort()
        self._end(is_orderly=False)

    def _want_no_more(self) -> None:
        self._command, self._is_body_due = None, False
        self.resume()

    def _await_close(self, *, is_orderly: bool) -> None:
        if self._closing is None:
            self._closing = self._loop.call_later(CLOSE_SECONDS, self._stop_waiting, is_orderly)

    def _stop_waiting(self, is_orderly: bool) -> None:
        if is_orderly:
            self._end(is_orderly=True)
        else:
            self.abort()

    def _end(self, *, is_orderly: bool) -> None:
        if not self._over.done():
            self._over.set_result(is_orderly)

    # --- what the stream tells ----------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take frames."""
        self._liveness.heard_at = self._loop.time()
        if self._close_seen or self._over.done():
            return
        events: list[Event] = []
        is_broken = False
        try:
            for part in self._reader.feed(buffer, start, end):
                events += self._events(part)
        except ProtocolViolation as error:
            is_broken = True
            events.append(ListenerViolated(f"{error}.", error.close_code))
        if self._reader.pings:
            # Only the last is owed (RFC 6455, 5.5.3).
            self._owed_pong = self._reader.pings[-1]
            self._send_owed_pong()
        close = self._reader.close
        if close is not None:
            self._close_seen = True
            events.append(ListenerClosed(is_clean=close.code in (None, CloseCode.NORMAL)))
        if events:
            self._owner.take(events)
        if is_broken:
            self._end(is_orderly=self._close_sent)  # No answer to the Close could be read.
        elif self._close_seen and (self._close_sent or self._is_leaving):
            self.close(CloseCode.NORMAL, "NormalClosure")

    def ended(self) -> None:
        """Hear that the listener ended TLS or TCP."""
        self._lost("ended without a Close")

    def broken(self, error: RelayError) -> None:
        """Hear that the stream broke."""
        self._lost(str(error))

    def drained(self) -> None:
        """Hear that all that was held has been written."""
        self._liveness.moved = True
        self._send_owed_pong()
        self._owner.leg_drained()

    def _send_owed_pong(self) -> None:
        """Answer the last ping; once there is room, since who pings need not read the answers."""
        if self._owed_pong is None or self.wire.is_blocked:
            return
        pong, self._owed_pong = self._owed_pong, None
        if not self._close_sent:
            self.wire.send_now(control_frame(Opcode.PONG, pong))

    def _lost(self, why: str) -> None:
        if self._over.done():
            return
        _logger.debug("a rendezvous socket: %s", why)
        if not self._close_seen:
            self._owner.take([RendezvousBroken()])
        self.abort()

    # --- messages -----------------------------------------------------------------------------

    def _events(self, part: Part) -> list[Event]:
        if self._is_body_due:
            return self._body_events(part)
        if self._command is None:
            return []  # A stray message after all was said (104).
        if not part.is_text:
            return self._violation(NOT_TEXT)
        self._command += part.data
        if len(self._command) > messages.MAX_MESSAGE_BYTES:
            return self._violation("The command is too large.", CloseCode.MESSAGE_TOO_BIG)
        if not part.is_last:
            return []
        text, self._command = bytes(self._command), None
        return self._response_events(text)

    def _body_events(self, part: Part) -> list[Event]:
        if part.is_text:
            return self._violation(NOT_BINARY)
        events: list[Event] = []
        if part.data:
            events.append(ResponseBody(Channel.RENDEZVOUS, part.data))
        if part.is_last:
            self._is_body_due = False
            events.append(ResponseEnded(Channel.RENDEZVOUS))
        return events

    def _response_events(self, text: bytes) -> list[Event]:
        try:
            message = messages.parse(text.decode())
        except UnicodeDecodeError:
            return self._violation("The command is not UTF-8.", CloseCode.INVALID_DATA)
        except MalformedMessage as error:
            is_id = str(error).startswith("response.requestId")
            return self._violation(NO_REQUEST_ID if is_id else f"{error}.")
        if not isinstance(message, messages.Response | messages.UnusableResponse):
            return self._violation(NOT_A_RESPONSE)
        if message.request_id != self._request_id:
            return self._violation(FOREIGN_REQUEST_ID)
        if isinstance(message, messages.UnusableResponse):
            return self._violation(f"{message.problem}.")
        self._is_body_due = message.body
        return [ResponseStarted(Channel.RENDEZVOUS, message)]

    def _violation(self, problem: str, code: int = CloseCode.PROTOCOL_ERROR) -> list[Event]:
        self._command, self._is_body_due = None, False
        return [ListenerViolated(problem, code)]

    # --- time ---------------------------------------------------------------------------------

    def _check_liveness(self) -> None:
        if self._over.done() or not self.wire.is_open:
            return
        now = self._loop.time()
        # A Close, whichever way, ends the duty to answer.
        is_judged = not (self._is_paused or self._close_seen or self._close_sent)
        is_blocked = self.wire.is_blocked
        verdict = self._liveness.check(now, is_blocked=is_blocked, is_judged=is_judged)
        if verdict is Verdict.PING and not self._close_sent:
            self._liveness.ping_sent(now, is_judged=is_judged)
            self.wire.send_now(control_frame(Opcode.PING))
        elif verdict in (Verdict.DEAD, Verdict.STALLED):
            self._lost(verdict.value)
            return
        self._timer = self._loop.call_at(self._liveness.next_check, self._check_liveness)
