"""Relayed HTTP (section 7): senders' requests, and the listeners that come to meet them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

from hybridge.protocol import address, http_headers
from hybridge.protocol.errors import EndpointNotFound, RelayError
from hybridge.protocol.redaction import one_line
from hybridge.protocol.request_target import request_target
from relay.core.listeners import NO_LISTENERS, Criteria, ListenerDirectory, RequestInvitation
from relay.core.operations import Operation
from relay.core.rendezvous import UNKNOWN, WaitingRoom
from relay.core.tally import SENDER_LEFT, Side, Tally
from relay.diagnostics import report
from relay.faults import Faults
from relay.http_exchange import Exchange
from relay.settings import RelaySettings
from relay.visit import Rest, Visit, sentence


class HttpRelay:
    """Hands HTTP requests to listeners, and their responses back.

    Args:
        directory: Where listeners are found and told.
        faults: What goes wrong on purpose.
        settings: Waits and limits.
        tally: What is counted.
    """

    def __init__(
        self,
        directory: ListenerDirectory,
        *,
        faults: Faults,
        settings: RelaySettings,
        tally: Tally,
    ) -> None:
        self._faults = faults
        self._tally = tally
        self._directory = directory
        self._settings = settings
        self._waiting: WaitingRoom[Exchange] = WaitingRoom(
            limit=settings.max_pending_requests, make_secret=secrets.token_bytes
        )
        self._is_stopping = False
        self._ended = asyncio.Event()

    @property
    def request_count(self) -> int:
        """Requests that are being relayed now."""
        return len(self._waiting)

    def live(self) -> Iterator[tuple[str, int]]:
        """Give the entity of each request, and the payload that it has carried so far."""
        return ((each.entity, each.payload_bytes) for each in self._waiting)

    def requests(self, entity: str) -> list[Exchange]:
        """Give the requests of one hybrid connection."""
        return [each for each in self._waiting if each.entity == entity]

    @property
    def held_bytes(self) -> int:
        """Bytes that are held back for peers that do not take them, of all requests."""
        return sum(each.held_bytes for each in self._waiting)

    async def relay(
        self, visit: Visit, *, entity: str, is_authorization_used: bool
    ) -> bytes | None:
        """Serve a request whose token has been checked, to the end of its response.

        Args:
            visit: The sender's request.
            entity: Namespace and hybrid connection, as the directory knows them.
            is_authorization_used: Whether ``Authorization`` was the relay's token.

        Returns:
            What the sender sent behind it; None where the connection has been ended.
        """
        exchange = Exchange(
            visit, entity=entity, settings=self._settings, is_last=self._is_stopping
        )
        exchange.sender.start()
        sent = Operation.SENDER_SENT_HTTP_REQUEST
        report(sent, "a request comes", labels=visit.labels, method=visit.head.method)
        secret = ""
        try:
            self._faults.check(entity)
            secret = self._waiting.add(exchange)
            await self._hand_over(exchange, secret, is_authorization_used=is_authorization_used)
            is_answered = await exchange.over
        except RelayError as error:
            if not exchange.over.done():
                exchange.refuse(self._status(error), sentence(error))
            is_answered = exchange.over.result()
        finally:
            self._waiting.remove(secret)
            self._ended.set()
            exchange.sender_left()  # If it is not over, this was cancelled.
        self._log_end(exchange, is_answered=is_answered)
        if not is_answered:
            visit.wire.abort()
            return None
        return await exchange.sender.finish(
            stall_seconds=self._settings.stalled_peer_timeout_seconds
        )

    def _status(self, error: RelayError) -> int:
        if isinstance(error, EndpointNotFound) and str(error) == NO_LISTENERS:
            return self._settings.no_listener_http_status
        return error.status or 500

    async def _hand_over(
        self, exchange: Exchange, secret: str, *, is_authorization_used: bool
    ) -> None:
        visit, entity = exchange.visit, exchange.entity
        criteria = Criteria.from_headers(visit.head.headers)
        # Nobody is asked for a body that has nowhere to go.
        if not self._directory.count(entity):
            raise EndpointNotFound(NO_LISTENERS, hint="start a listener, such as `hcm run`")
        body = await exchange.collect()
        if exchange.over.done():
            return
        exchange.invitation = RequestInvitation(
            id=visit.tracking_id,
            path=visit.path,
            query=visit.target.query,
            secret=secret,
            request_target=request_target(visit.path, visit.target.query),
            method=visit.head.method,
            request_headers=http_headers.request_headers_to_listener(
                visit.head.headers,
                via_host=visit.host,
                authorization_consumed=is_authorization_used,
            ),
            remote_endpoint=visit.remote,
            body=body,
        )
        labels = visit.labels
        sending = Operation.MESSAGE_SENDING_TO_LISTENER
        report(sending, "looking for a listener to tell", labels=labels)
        delivery = await self._directory.request(entity, exchange.invitation, criteria, exchange)
        report(
            Operation.MESSAGE_SENT_TO_LISTENER,
            "told a listener of a request",
            labels=labels,
            listener=delivery.listener_id,
            form=delivery.form.value,
        )
        exchange.deliver(delivery)

    def _log_end(self, exchange: Exchange, *, is_answered: bool) -> None:
        side, entity, sender = Side.SENDER, exchange.entity, exchange.sender
        self._tally.transferred(entity, exchange.payload_bytes)
        if exchange.outcome is Operation.LISTENER_SENT_HTTP_RESPONSE:
            self._tally.accepted(side, entity)
        elif is_answered:
            self._tally.refused(side, entity, exchange.status)
        elif exchange.outcome is Operation.SENDER_CONNECTION_CLOSED:
            self._tally.refused(side, entity, 400, SENDER_LEFT)
        else:
            self._tally.refused(side, entity, 502)
        report(
            exchange.outcome,
            "a request ended: %s",
            one_line(exchange.why),
            labels=exchange.visit.labels,
            status=exchange.status,
            seconds=exchange.seconds,
            bytes_from_sender=sender.body_bytes,
            bytes_from_listener=sender.sent_bytes,
        )

    async def meet(self, visit: Visit, *, entity: str) -> Rest | None:
        """Serve a listener that opened the address of a request.

        Returns:
            What to do until its socket is let go, where it was let in.

        Raises:
            MalformedRequest: It is no WebSocket handshake; the address stays good.
        """
        secret = visit.target.parameters.get("sb-hc-rendezvous", "")
        exchange = self._waiting.find(secret)
        leg = None
        if exchange is not None and _is_met_by(exchange, visit, entity):
            accept = visit.websocket_accept()
            await exchange.delivered
            leg = exchange.meet(visit, accept)
            accepting = Operation.LISTENER_ACCEPTING_CONNECTION
            report(accepting, "a listener opens an address", labels=exchange.visit.labels)
        if leg is None:
            # Unknown, used and late look alike; so does an address that was changed.
            await visit.refuse(self._settings.unknown_rendezvous_status, visit.reason(UNKNOWN))
            return None
        return leg.run

    def stop(self) -> None:
        """Let each sender's connection end with the request that it carries now."""
        self._is_stopping = True
        for exchange in self._waiting:
            exchange.sender.is_last = True

    async def wait_idle(self) -> None:
        """Return when no request is being relayed."""
        while self._waiting:
            self._ended.clear()
            await self._ended.wait()

    def abort(self, why: str) -> None:
        """Break all requests that are being relayed."""
        for exchange in self._waiting:
            exchange.abort(why)


def _is_met_by(exchange: Exchange, visit: Visit, entity: str) -> bool:
    """Whether a visit is to the address that the listener was given: path, id and action."""
    invitation = exchange.invitation
    return (
        invitation is not None
        and visit.target.action is address.Action.REQUEST
        and entity == exchange.entity
        and visit.target.segments == exchange.visit.target.segments
        and visit.target.parameters.get("sb-hc-id") == invitation.id
    )
