"""One sender's WebSocket, from connect to close; and the listener that comes to meet it.

The heart (`relay.core.rendezvous`) meets sockets here. Sections 5 and 6 of the specification.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from functools import partial

from hybridge.protocol import address, http_headers
from hybridge.protocol.errors import RelayError
from hybridge.protocol.redaction import one_line
from relay.core.listeners import Criteria, Invitation, ListenerDirectory
from relay.core.operations import Operation
from relay.core.rendezvous import (
    NOT_ACCEPTED,
    UNKNOWN,
    Action,
    DeadlinePassed,
    DismissListener,
    Event,
    Join,
    ListenerAccepted,
    ListenerRejected,
    PairEnded,
    RefuseSender,
    Rendezvous,
    SenderLeft,
    ServiceStopping,
    WaitingRoom,
)
from relay.core.tally import ACCEPT_TIMEOUT, LISTENER_REJECTED, SENDER_LEFT, Side, Tally
from relay.diagnostics import operation_of, report
from relay.faults import Faults
from relay.leg import Pair
from relay.pairs import Pairs
from relay.settings import RelaySettings
from relay.visit import Rest, Visit

MAX_EARLY_BYTES = 262_144
"""Bytes that a side may send before it is joined; then it is not read until it is."""


class WaitingSender:
    """A sender that waits at its rendezvous: watches it, and joins or refuses it.

    Args:
        visit: The sender's request; its token has been checked.
        accept: Headers of its 101.
        entity: Namespace and hybrid connection, as the directory knows them.
        settings: Waits and limits.
    """

    def __init__(
        self,
        visit: Visit,
        accept: list[tuple[str, str]],
        *,
        entity: str,
        settings: RelaySettings,
    ) -> None:
        self.visit = visit
        self.entity = entity
        self.rendezvous = Rendezvous(unknown_status=settings.unknown_rendezvous_status)
        self._accept = accept
        self._settings = settings
        loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Pair | RefuseSender | None] = loop.create_future()
        """A pair, a refusal, or None when the sender has left."""
        self._early = bytearray(visit.early)
        visit.wire.attach(self)
        visit.wire.resume()

    def is_met_by(self, visit: Visit, entity: str) -> bool:
        """Whether a visit is to the address that the listener was given: path, id and action."""
        return (
            visit.target.action is address.Action.ACCEPT
            and entity == self.entity
            and visit.target.segments == self.visit.target.segments
            and visit.target.parameters.get("sb-hc-id") == self.visit.tracking_id
        )

    # --- the sender's stream, before it is joined ---------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Keep what comes before our 101; no client may send that, and some do."""
        self._early += buffer[start:end]
        if len(self._early) >= MAX_EARLY_BYTES:
            self.visit.wire.pause()

    def ended(self) -> None:
        """Hear that the sender has gone."""
        self._left()

    def broken(self, error: RelayError) -> None:
        """Hear that the sender has gone."""
        self._left()

    def drained(self) -> None:
        """Nothing is held yet."""

    def _left(self) -> None:
        self.handle(SenderLeft())
        self._settle(None)

    # --- the rendezvous -----------------------------------------------------------------------

    def handle(self, event: Event) -> list[Action]:
        """Tell the rendezvous; carry out what concerns the sender, give back the rest."""
        rest: list[Action] = []
        for action in self.rendezvous.handle(event):
            if isinstance(action, RefuseSender):
                self._settle(action)
            else:
                rest.append(action)
        return rest

    def join(
        self,
        listener: Visit,
        accept: list[tuple[str, str]],
        subprotocol: str | None,
        *,
        is_held: bool = False,
    ) -> Pair:
        """Answer 101 to both, and join them. The listener's comes first (clause 65)."""
        listener.switch_protocols(accept, subprotocol=subprotocol)
        self.visit.switch_protocols(self._accept, subprotocol=subprotocol)
        wire, tracking_id = self.visit.wire, self.visit.tracking_id
        pair = Pair(wire, listener.wire, settings=self._settings, tracking_id=tracking_id)
        self._settle(pair)
        early = bytes(self._early)
        pair.start(from_sender=early, from_listener=listener.early, is_held=is_held)
        return pair

    def _settle(self, outcome: Pair | RefuseSender | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class WebSocketRelay:
    """Joins senders and listeners of one relay.

    Args:
        directory: Where listeners are found and told.
        pairs: Takes in those that are joined.
        faults: What goes wrong on purpose.
        settings: Waits and limits.
        tally: Counts what becomes of senders.
    """

    def __init__(
        self,
        directory: ListenerDirectory,
        *,
        pairs: Pairs,
        faults: Faults,
        settings: RelaySettings,
        tally: Tally,
    ) -> None:
        self.pairs = pairs
        self._faults = faults
        self._directory = directory
        self._settings = settings
        self._tally = tally
        self._waiting: WaitingRoom[WaitingSender] = WaitingRoom(
            limit=settings.max_pending_rendezvous, make_secret=secrets.token_bytes
        )
        self._is_stopping = False

    @property
    def waiting_count(self) -> int:
        """Senders that wait for a listener now."""
        return len(self._waiting)

    def waiting(self, entity: str) -> list[WaitingSender]:
        """Give the senders of one hybrid connection that wait for a listener."""
        return [sender for sender in self._waiting if sender.entity == entity]

    async def relay(
        self, visit: Visit, accept: list[tuple[str, str]], *, entity: str
    ) -> Rest | None:
        """Serve a sender whose token has been checked, until it is joined, refused or gone.

        Args:
            visit: The sender's handshake.
            accept: Headers of its 101.
            entity: Namespace and hybrid connection, as the directory knows them.

        Returns:
            What to do until the connection is over, where it was joined. It does not hold on to the
            handshake, which is of no use any more and would stay in memory.
        """
        sender = WaitingSender(visit, accept, entity=entity, settings=self._settings)
        try:
            outcome = await self._wait(sender, entity)
        except RelayError as error:
            status = error.status or 500
            self._tally.refused(Side.SENDER, entity, status)
            refused = "a sender was refused: %s"
            report(operation_of(error), refused, error, labels=visit.labels, status=status)
            await visit.refuse_for(error)
            return None
        if isinstance(outcome, RefuseSender):
            await self._refuse(visit, outcome, entity)
        elif outcome is not None:
            self._tally.accepted(Side.SENDER, entity)
            return partial(self._carry, outcome, sender.rendezvous, visit.labels, entity)
        else:
            self._tally.refused(Side.SENDER, entity, 400, SENDER_LEFT)
            left = "a sender left before it was joined"
            report(Operation.SENDER_CONNECTION_CLOSED, left, labels=visit.labels)
        return None

    async def _wait(self, sender: WaitingSender, entity: str) -> Pair | RefuseSender | None:
        visit = sender.visit
        self._faults.check(entity)
        if self._is_stopping:
            sender.handle(ServiceStopping())
            return sender.outcome.result()
        secret = self._waiting.add(sender)
        labels = visit.labels
        try:
            if self._directory.count(entity):
                sending = "telling a listener of a sender"
                report(Operation.MESSAGE_SENDING_TO_LISTENER, sending, labels=labels)
            listener_id = await self._directory.invite(
                entity,
                Invitation(
                    id=visit.tracking_id,
                    path=visit.path,
                    query=visit.target.query,
                    secret=secret,
                    connect_headers=http_headers.connect_headers(visit.head.headers),
                    remote_endpoint=visit.remote,
                ),
                Criteria.from_headers(visit.head.headers),
            )
            report(
                Operation.MESSAGE_SENT_TO_LISTENER,
                "told a listener of a sender",
                labels=labels,
                listener=listener_id,
                sender=f"{visit.remote.address}:{visit.remote.port}",
            )
            try:
                async with asyncio.timeout(self._settings.accept_timeout_seconds):
                    return await asyncio.shield(sender.outcome)
            except TimeoutError:
                sender.handle(DeadlinePassed())
                return await sender.outcome
        finally:
            self._waiting.remove(secret)

    async def _refuse(self, visit: Visit, refusal: RefuseSender, entity: str) -> None:
        operation, result = Operation.PROCESSING_REQUEST_FAILED, None
        if refusal.is_verbatim:
            operation, result = Operation.LISTENER_REJECTED_CONNECTION, LISTENER_REJECTED
        elif refusal.reason == NOT_ACCEPTED:
            operation, result = Operation.LISTENER_ACCEPTING_CONNECTION_TIMEOUT, ACCEPT_TIMEOUT
        self._tally.refused(Side.SENDER, entity, refusal.status, result)
        report(
            operation,
            "a sender was refused: %d %s",
            refusal.status,
            one_line(refusal.reason),
            labels=visit.labels,
            status=refusal.status,
        )
        reason = refusal.reason if refusal.is_verbatim else visit.reason(refusal.reason)
        await visit.refuse(refusal.status, reason)

    async def _carry(
        self, pair: Pair, rendezvous: Rendezvous, labels: Mapping[str, str], entity: str
    ) -> None:
        established = Operation.SENDER_LISTENER_CONNECTION_ESTABLISHED
        report(established, "joined a sender and a listener", labels=labels)
        self.pairs.add(pair, entity)
        try:
            await pair.run()
        finally:
            self.pairs.remove(pair)
            self._tally.disconnected(Side.SENDER, entity, payload_bytes=pair.payload_bytes)
            rendezvous.handle(PairEnded())
            report(
                Operation.SENDER_CONNECTION_CLOSED,
                "a connection ended: %s",
                pair.why,
                labels=labels,
                seconds=round(pair.loop.time() - pair.joined_at, 3),
                bytes_from_sender=pair.sender.frames.payload_bytes,
                bytes_from_listener=pair.listener.frames.payload_bytes,
            )

    async def meet(self, visit: Visit, *, entity: str) -> Rest | None:
        """Serve a listener that opened a rendezvous address.

        Returns:
            What to do until the connection is over, where it was joined.

        Raises:
            MalformedRequest: It is no WebSocket handshake; the address stays good.
        """
        secret = visit.target.parameters.get("sb-hc-rendezvous", "")
        sender = self._waiting.find(secret)
        if sender is None or not sender.is_met_by(visit, entity):
            # Unknown, used and late look alike; so does an address that was changed.
            await visit.refuse(self._settings.unknown_rendezvous_status, visit.reason(UNKNOWN))
            return None
        accept = visit.websocket_accept()
        rejection = visit.target.rejection
        event: Event
        if rejection is None:
            event = ListenerAccepted(_subprotocol(visit))
            accepting = Operation.LISTENER_ACCEPTING_CONNECTION
            report(accepting, "a listener accepts a sender", labels=sender.visit.labels)
        else:
            event = ListenerRejected(rejection.status, rejection.description)
        # One visit uses the address up, whatever comes of it.
        self._waiting.remove(secret)
        for action in sender.handle(event):
            if isinstance(action, Join):
                is_held = self._faults.is_stalled(entity)
                pair = sender.join(visit, accept, action.subprotocol, is_held=is_held)
                return pair.wait_finished
            if isinstance(action, DismissListener):
                await visit.refuse(action.status, visit.reason(action.reason))
        return None

    def stop(self) -> None:
        """Take no new sender, and refuse those that wait."""
        self._is_stopping = True
        for sender in self._waiting:
            sender.handle(ServiceStopping())


def _subprotocol(visit: Visit) -> str | None:
    """Give the listener's answer to the sender's sub-protocols: the first that it names (66)."""
    value = visit.head.value("Sec-WebSocket-Protocol")
    if value is None:
        return None
    return value.split(",")[0].strip() or None
