"""Requests that are no WebSocket handshake: the root, runtime information, and relayed HTTP."""

from __future__ import annotations

import time

from hybridge.protocol import http_headers
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import MalformedRequest, RelayError
from relay import description
from relay.admission import Admission
from relay.core.listeners import ListenerDirectory
from relay.core.tally import Side, Tally
from relay.diagnostics import operation_of, report
from relay.http_relay import HttpRelay
from relay.http_sender import HttpSender
from relay.namespace import entity_of
from relay.settings import RelaySettings
from relay.visit import Visit, sentence

NO_WEBSOCKET = "WebSocket handshakes go to the path below /$hc/."


class HttpDoor:
    """Serves HTTP requests on connections that may carry several.

    Args:
        admission: Who comes in.
        directory: Where listeners are counted.
        relay: What relays.
        settings: Waits and limits.
        tally: What is counted.
    """

    def __init__(
        self,
        admission: Admission,
        directory: ListenerDirectory,
        relay: HttpRelay,
        *,
        settings: RelaySettings,
        tally: Tally,
    ) -> None:
        self._tally = tally
        self._admission = admission
        self._directory = directory
        self._relay = relay
        self._settings = settings

    async def serve(self, visit: Visit) -> bytes | None:
        """Answer one request.

        Returns:
            What the sender sent behind it, the beginning of the next; None where the connection has
            been ended.
        """
        head, target = visit.head, visit.target
        if not target.segments and head.method in ("GET", "HEAD"):
            body = description.feed(namespace=visit.namespace.name, host=head.host, now=time.time())
            return await self._answer(visit, 200, "OK", body, description.FEED_TYPE)
        if head.value("X-PROCESS-AT") == "ServiceBus" and _api_version(visit):
            return await self._describe(visit)
        try:
            return await self._relayed(visit)
        except RelayError as error:
            log_refusal(visit, error, what="send")
            self._tally.refused(Side.SENDER, visit.entity, error.status or 500)
            sender = self._sender(visit)
            sender.refuse(error.status or 500, sentence(error))
            return await self._finish(sender)

    async def _relayed(self, visit: Visit) -> bytes | None:
        if visit.head.wants_websocket:
            raise MalformedRequest(NO_WEBSOCKET)
        found = visit.namespace.find(visit.target.segments)
        token, is_authorization_used = http_headers.token_of_http(
            visit.head.headers,
            visit.target.parameters,
            requires_auth=found is None or found[0].requires_client_authorization,
        )
        connection, _ = self._admission.admit(visit, Claim.SEND, token)
        with self._admission.counted(visit.namespace.name):
            return await self._relay.relay(
                visit,
                entity=entity_of(visit.namespace, connection.name),
                is_authorization_used=is_authorization_used,
            )

    async def _describe(self, visit: Visit) -> bytes | None:
        """Answer the runtime-information GET (section 9.1)."""
        headers = visit.head.headers
        token, _ = http_headers.token_of_http(headers, visit.target.parameters, requires_auth=True)
        try:
            if visit.head.method != "GET":
                raise MalformedRequest("Only GET is supported here.")
            connection, _ = self._admission.admit(visit, Claim.SEND, token, any_claim=True)
        except RelayError as error:
            log_refusal(visit, error, what="describe")
            status = error.status or 500
            reason = visit.reason(str(error))
            body = description.error(status, reason)
            return await self._answer(visit, status, reason, body, description.ERROR_TYPE)
        body = description.entry(
            connection,
            namespace=visit.namespace.name,
            host=visit.head.host,
            api_version=_api_version(visit),
            listeners=self._directory.count(entity_of(visit.namespace, connection.name)),
        )
        return await self._answer(visit, 200, "OK", body, description.ENTRY_TYPE)

    def _sender(self, visit: Visit) -> HttpSender:
        sender = HttpSender(visit, is_last=self._admission.is_stopping)
        sender.start()
        return sender

    async def _answer(
        self, visit: Visit, status: int, reason: str, body: bytes, content_type: str
    ) -> bytes | None:
        sender = self._sender(visit)
        sender.answer(status, reason, body, ("Content-Type", content_type))
        return await self._finish(sender)

    async def _finish(self, sender: HttpSender) -> bytes | None:
        return await sender.finish(stall_seconds=self._settings.stalled_peer_timeout_seconds)


def log_refusal(visit: Visit, error: RelayError, *, what: str) -> None:
    """Log that a request was refused."""
    report(
        operation_of(error),
        "refused %s at %r: %s",
        what,
        visit.path,
        error,
        labels=visit.labels,
        status=error.status or 500,
    )


def _api_version(visit: Visit) -> str:
    for piece in visit.target.query.split("&"):
        name, _, value = piece.partition("=")
        if name.lower() == "api-version":
            return value
    return ""
