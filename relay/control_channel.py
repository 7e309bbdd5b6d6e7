"""One listener's WebSocket, from listen to close (section 4)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from hybridge.protocol import address, messages
from hybridge.protocol.close_codes import CloseCode, reason_bytes
from hybridge.protocol.errors import (
    AuthorizationFailed,
    EndpointNotFound,
    MalformedMessage,
    QuotaExceeded,
    RelayError,
)
from hybridge.protocol.liveness import Liveness, Verdict
from hybridge.transport.stream import Wire, replay
from relay.core.authorization import Grant
from relay.core.listeners import NO_LISTENERS, Answers, Invitation, RequestInvitation
from relay.core.operations import Operation
from relay.core.outstanding import Outstanding
from relay.core.request_flow import Form
from relay.diagnostics import operation_of, report
from relay.settings import RelaySettings

_logger = logging.getLogger(__name__)

MAX_UNSENT_BYTES = 1_048_576
"""Messages and pongs held for a listener that does not read; beyond it the listener is dropped."""

MAX_INLINE_UNSENT_BYTES = 524_288
"""With more than this held for a listener, requests with their bodies go by rendezvous."""

MAX_REASON_CHARACTERS = 70
"""What fits of a Close reason before its TrackingId: a Close holds 123 bytes of it."""

EXPIRED = "ExpiredToken: The token is expired."
"""Reason of the Close after a token's time and the grace (clause 49)."""

CLOSE_SECONDS = 5.0
"""How long a Close of ours waits for the listener's."""

MAX_TIMER_SECONDS = 86_400.0
"""Longest single wait for a token's expiry; then the clock is read again."""


class ControlChannel:
    """Keeps a listener's control channel: invitations and requests out, responses and renewals in.

    Args:
        wire: The stream, its handshake answered.
        tracking_id: Names the channel in logs and Close reasons.
        authority: ``Host`` of the listener's handshake: rendezvous addresses are built from it.
        grant: What the listener's token gave it.
        renew: Checks a new token; raises `AuthorizationFailed`.
        settings: Waits, in seconds.
        labels: What every log line about it carries; None for the TrackingId alone.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        tracking_id: str,
        authority: str,
        grant: Grant,
        renew: Callable[[str], Grant],
        settings: RelaySettings,
        labels: Mapping[str, object] | None = None,
    ) -> None:
        self.tracking_id = tracking_id
        self._labels = {"id": tracking_id} if labels is None else labels
        self.why = "the listener closed"
        self._wire = wire
        self._authority = authority
        self._grant = grant
        self._renew = renew
        self._settings = settings
        self._protocol = Protocol(
            Side.SERVER, state=State.OPEN, max_size=messages.MAX_MESSAGE_BYTES
        )
        self._text = bytearray()
        self._in_text = False
        self._outstanding = Outstanding()
        self._retirement: tuple[int, str] | None = None
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done as soon as the listener must no longer be told of senders."""
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._liveness = Liveness(
            self._loop.time(),
            ping_interval_seconds=settings.ping_interval_seconds,
            answer_seconds=settings.pong_timeout_seconds,
            stall_seconds=settings.stalled_peer_timeout_seconds,
        )
        self._timer = self._loop.call_at(self._liveness.next_check, self._check_liveness)
        self._expiry: asyncio.TimerHandle | None = None

    def start(self, early: bytes) -> None:
        """Begin to read, with what came right after the handshake."""
        self._await_expiry()
        self._wire.attach(self)
        replay(self, early)
        if self._wire.is_open:
            self._wire.resume()

    async def finish(self) -> None:
        """After `closed`: give the closing handshake its time, then let go of the stream."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._gone
                await self._wire.close()
        except TimeoutError:
            _logger.debug("a listener did not answer a Close")
        finally:
            self.release()

    def detach(self) -> None:
        """Let go of the timers; the stream is somebody else's again."""
        self._timer.cancel()
        if self._expiry is not None:
            self._expiry.cancel()

    def release(self) -> None:
        """Let go of the stream and the timers."""
        self.detach()
        self._wire.abort()
        self._settle()

    # --- the directory's side -----------------------------------------------------------------

    def invite(self, invitation: Invitation) -> None:
        """Tell the listener of a sender.

        Raises:
            QuotaExceeded: The sender's headers do not fit a control message.
        """
        self._check_open()
        accept = messages.Accept(
            address=self._address(invitation, address.Action.ACCEPT),
            id=invitation.id,
            connect_headers=invitation.connect_headers,
            remote_endpoint=invitation.remote_endpoint,
        )
        try:
            text = messages.serialize(accept)
        except MalformedMessage as error:
            raise QuotaExceeded(
                "The request headers are too large for the listener's control channel.",
                hint="send fewer or shorter headers",
                status=431,
            ) from error
        self._protocol.send_text(text.encode())
        self._flush()

    def request(self, invitation: RequestInvitation, answers: Answers) -> tuple[str, Form]:
        """Tell the listener of an HTTP request; give its address, and how it was told (7.3)."""
        self._check_open()
        url = self._address(invitation, address.Action.REQUEST)
        self._outstanding.add(invitation.id, answers)
        text = self._inline(invitation, url)
        if text is None:
            form = Form.RENDEZVOUS
            self._protocol.send_text(messages.serialize(messages.Request(address=url)).encode())
        else:
            form = Form.CONTROL_CHANNEL
            self._protocol.send_text(text)
            if invitation.body:
                # Nothing may come between the two (117).
                self._protocol.send_binary(invitation.body)
        self._flush()
        return url, form

    def _inline(self, invitation: RequestInvitation, url: str) -> bytes | None:
        """Write the whole request; None where it must go by rendezvous."""
        body = invitation.body
        if body is None:
            return None
        try:
            text = messages.serialize(invitation.message(url, has_body=bool(body))).encode()
        except MalformedMessage:
            return None  # The headers are too large for a control message.
        if self._wire.held_bytes + len(text) + len(body) > MAX_INLINE_UNSENT_BYTES:
            return None
        return text

    def forget(self, request_id: str) -> None:
        """Ignore what the listener still says of a request."""
        self._outstanding.forget(request_id)
        self._retire_if_idle()

    def retire(self, code: int, reason: str) -> None:
        """Close once the requests that it carries have been answered."""
        self._retirement = code, reason
        self._retire_if_idle()

    def _retire_if_idle(self) -> None:
        if self._retirement is not None and self._outstanding.is_idle:
            self.close(*self._retirement)

    def _address(self, invitation: Invitation | RequestInvitation, action: address.Action) -> str:
        return address.rendezvous_url(
            self._settings.public_host or self._authority,
            invitation.path,
            query=invitation.query,
            action=action,
            connection_id=invitation.id,
            secret=invitation.secret,
        )

    def _check_open(self) -> None:
        if self._protocol.state is not State.OPEN or self.closed.done():
            # It has just ended, and the directory has not been told yet.
            raise EndpointNotFound(NO_LISTENERS, hint="try again")

    def close(self, code: int, reason: str) -> None:
        """Send a Close, and wait for the listener's in `finish`."""
        if self._protocol.state is State.OPEN:
            self.why = f"closed with {code}: {reason}"
            shown = f"{reason[:MAX_REASON_CHARACTERS]} TrackingId:{self.tracking_id}"
            self._protocol.send_close(code, reason_bytes(shown).decode())
            self._flush()
        self._end()

    # --- what the stream tells ----------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take bytes from the listener."""
        self._liveness.heard_at = self._loop.time()
        self._protocol.receive_data(bytes(buffer[start:end]))
        for frame in self._protocol.events_received():
            if self.closed.done():
                break
            if isinstance(frame, Frame):
                self._take(frame.opcode, bytes(frame.data), frame.fin)
        self._outstanding.deliver()
        self._flush()
        self._retire_if_idle()
        if self._protocol.state is not State.OPEN:
            self._end()
        if self._protocol.state is State.CLOSED or self._protocol.close_rcvd is not None:
            self._settle()

    def ended(self) -> None:
        """Hear that the listener ended TLS or TCP."""
        self._drop("the listener's connection ended")

    def broken(self, error: RelayError) -> None:
        """Hear that the stream broke."""
        self._drop(str(error))

    def drained(self) -> None:
        """Hear that all that was held has been written."""
        self._liveness.moved = True

    def _flush(self) -> None:
        for chunk in self._protocol.data_to_send():
            if chunk:
                self._wire.send_now(chunk)
            else:
                # The library's word for: close TCP now.
                self._settle()
        if self._wire.held_bytes > MAX_UNSENT_BYTES:
            # An orderly end would first have to be read.
            self._wire.abort()
            self._drop("the listener does not read its control channel", is_unresponsive=True)

    def _take(self, opcode: Opcode, data: bytes, is_last: bool) -> None:
        if opcode is Opcode.TEXT:
            self._in_text = True
            self._text.clear()
            self._outstanding.text_began()
        elif opcode is Opcode.BINARY:
            self._in_text = False
            self._outstanding.binary_began()
        elif opcode is not Opcode.CONT:
            return
        if not self._in_text:
            self._outstanding.binary(data, is_last=is_last)
            return
        self._text += data
        if is_last:
            self._command(bytes(self._text))

    def _command(self, data: bytes) -> None:
        try:
            message = messages.parse(data.decode())
        except UnicodeDecodeError:
            self.close(CloseCode.INVALID_DATA, "A command is not UTF-8.")
        except MalformedMessage as error:
            self.close(CloseCode.PROTOCOL_ERROR, f"A command cannot be read: {error}.")
        else:
            if isinstance(message, messages.RenewToken):
                self._take_token(message)
            elif isinstance(message, messages.Response | messages.UnusableResponse):
                self._outstanding.response(message)
            # What we do not know is ignored (clause 55).

    def _take_token(self, message: messages.RenewToken) -> None:
        try:
            self._grant = self._renew(message.token.reveal())
        except AuthorizationFailed as error:
            refused = "a listener's new token was refused: %s"
            report(operation_of(error), refused, error, labels=self._labels)
            self.close(CloseCode.POLICY_VIOLATION, str(error))
            return
        self._await_expiry()

    # --- time ---------------------------------------------------------------------------------

    def _await_expiry(self) -> None:
        """Close with 1008 once the token's time and the grace are over (clauses 48, 49)."""
        if self._expiry is not None:
            self._expiry.cancel()
        left = self._grant.expires_at + self._settings.token_grace_seconds - time.time()
        if left > 0:
            self._expiry = self._loop.call_later(min(left, MAX_TIMER_SECONDS), self._await_expiry)
        elif not self.closed.done():
            expired = Operation.LISTENER_CLOSING_FROM_EXPIRED_TOKEN
            report(expired, "a listener's token expired", labels=self._labels)
            self.close(CloseCode.POLICY_VIOLATION, EXPIRED)

    def _check_liveness(self) -> None:
        if self.closed.done() or not self._wire.is_open:
            return
        now = self._loop.time()
        verdict = self._liveness.check(now, is_blocked=self._wire.is_blocked, is_judged=True)
        if verdict is Verdict.PING:
            self._liveness.ping_sent(now, is_judged=True)
            self._protocol.send_ping(b"")
            self._flush()
        elif verdict is not Verdict.WAIT:
            self._drop("the listener has not answered a ping", is_unresponsive=True)
            return
        self._timer = self._loop.call_at(self._liveness.next_check, self._check_liveness)

    # --- the end ------------------------------------------------------------------------------

    def _drop(self, why: str, *, is_unresponsive: bool = False) -> None:
        if not self.closed.done():
            self.why = why
            if is_unresponsive:
                report(Operation.LISTENER_UNRESPONSIVE, "%s", why, labels=self._labels)
        self._end()
        self._settle()

    def _end(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
            self._outstanding.lost()

    def _settle(self) -> None:
        self._end()
        if not self._gone.done():
            self._gone.set_result(None)
