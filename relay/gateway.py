"""The relay's one port: TLS, the first request, which door to open (sections 1 to 4)."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import ssl
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from hybridge.protocol import address, http_headers
from hybridge.protocol.address import Action, Target
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import (
    EndpointNotFound,
    MalformedRequest,
    QuotaExceeded,
    RelayError,
    ServerBusy,
)
from hybridge.protocol.messages import RemoteEndpoint
from hybridge.transport.stream import Wire
from hybridge.transport.websocket import HeadReader
from relay import description
from relay.control_channel import ControlChannel
from relay.core import tracking
from relay.core.authorization import Grant, authorize
from relay.core.listeners import NO_LISTENERS, Listeners
from relay.core.operations import Operation
from relay.core.tally import Side, Tally
from relay.diagnostics import operation_of, report
from relay.entrance import Entrance, remote_endpoint
from relay.namespace import HybridConnection, Namespace
from relay.request_head import MAX_HEAD_BYTES, RequestHead, parse_head
from relay.responses import response
from relay.settings import RelaySettings
from relay.visit import Visit
from relay.websocket_relay import Rest, WebSocketRelay

NOT_FOUND = "Endpoint does not exist."
ONLY_WEBSOCKET = "This endpoint is only for web-socket requests."
NOT_RELAYED = "Relayed HTTP is not available in this version."


class Gateway:
    """Serves connections: who is asked for, may they, and which door.

    Args:
        settings: Waits and limits.
        namespaces: What is served; see `replace`.
        context: TLS of new connections; see `replace`.
    """

    def __init__(
        self,
        settings: RelaySettings,
        namespaces: tuple[Namespace, ...],
        context: ssl.SSLContext,
    ) -> None:
        self._settings = settings
        self._context = context
        self._hosts: dict[str, Namespace] = {}
        self.listeners = Listeners(
            random.SystemRandom().choice,
            limit=settings.max_listeners,
            limit_status=settings.listener_limit_status,
        )
        self.tally = Tally()
        self.websockets = WebSocketRelay(self.listeners, settings=settings, tally=self.tally)
        self._entrance = Entrance(settings)
        self._gateway_numbers = itertools.cycle(range(1_000))
        self._connections: Counter[str] = Counter()
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_stopping = False
        self.replace(namespaces, context)

    def replace(self, namespaces: tuple[Namespace, ...], context: ssl.SSLContext) -> None:
        """Serve these namespaces from now on. Live connections are not touched.

        Control channels of a hybrid connection that is gone close with 1001 (clause 50).
        """
        self._hosts = {host: each for each in namespaces for host in each.hosts}
        self._context = context
        self.tally.serve(namespaces)
        known = {_entity(each, name) for each in namespaces for name in each.hybrid_connections}
        for entity in self.listeners.entities():
            if entity not in known:
                for channel in self.listeners.channels(entity):
                    channel.close(1001, "The hybrid connection was deleted.")

    def stop(self) -> None:
        """Take no new listener or sender; tell the listeners to go elsewhere."""
        self._is_stopping = True
        self.websockets.stop()
        for entity in self.listeners.entities():
            for channel in self.listeners.channels(entity):
                channel.close(1001, "The service is shutting down.")

    async def wait_idle(self) -> None:
        """Return when every request that was read has been served to its end."""
        await self._idle.wait()

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    # --- one connection -----------------------------------------------------------------------

    async def serve(self, sock: socket.socket) -> None:
        """Serve one accepted connection to its end."""
        remote = remote_endpoint(sock)
        wire = await self._entrance.secured(sock, self._context)
        if wire is None:
            return
        try:
            visit = await self._first_request(wire, remote)
            if visit is None:
                return
            with self._busy():
                rest = await self._open_door(visit)
                del visit
                if rest is not None:
                    await rest()
        finally:
            wire.abort()

    async def _first_request(self, wire: Wire, remote: RemoteEndpoint) -> Visit | None:
        """Read the first request; None where there is none, or it was answered already."""
        reader = HeadReader(wire, max_bytes=MAX_HEAD_BYTES)
        try:
            async with asyncio.timeout(self._settings.head_timeout_seconds):
                raw = await reader.read()
        except TimeoutError:
            if not reader.is_empty:
                await self._refuse_unread(wire, 408, "The request head did not come in time.")
            return None
        if raw is None:
            if reader.is_too_long:
                problem = f"The request head is longer than {MAX_HEAD_BYTES} bytes."
                await self._refuse_unread(wire, 431, problem)
            return None
        host = path = ""
        try:
            head = parse_head(raw)
            path = head.target.partition("?")[0]
            host = address.split_authority(head.host)[0]
            namespace = self._hosts.get(host)
            if namespace is None:
                raise EndpointNotFound(NOT_FOUND)
            target = _parse_target(head)
        except RelayError as error:
            message = f"{error}".rstrip(".") + "."
            await self._refuse_unread(wire, error.status or 400, message, host=host, path=path)
            return None
        number = next(self._gateway_numbers)
        return Visit(
            wire=wire,
            head=head,
            early=reader.rest,
            remote=remote,
            tracking_id=tracking.new_tracking_id(target.parameters.get("sb-hc-id"), number),
            host=host,
            target=target,
            namespace=namespace,
        )

    async def _refuse_unread(
        self, wire: Wire, status: int, message: str, *, host: str = "", path: str = ""
    ) -> None:
        """Refuse a request that leads nowhere: no namespace, or no request at all."""
        is_websocket_path = path.lower().startswith("/$hc/")
        reason = tracking.phrase(
            message,
            tracking_id=f"{uuid.uuid4()}_G0",
            host=host,
            path=path[len("/$hc/") :] if is_websocket_path else path,
            now=time.time(),
            http=not is_websocket_path,
        )
        body = tracking.error_body(status, reason)
        headers = [("Content-Type", "application/json")]
        wire.send_now(response(status, reason, headers, body, now=time.time()))
        await wire.close()

    # --- doors --------------------------------------------------------------------------------

    async def _open_door(self, visit: Visit) -> Rest | None:
        if not visit.target.is_websocket_path:
            await self._serve_http(visit)
            return None
        try:
            if not visit.head.wants_websocket:
                raise MalformedRequest(ONLY_WEBSOCKET)
            match visit.target.action:
                case Action.LISTEN:
                    await self._serve_listener(visit)
                case Action.CONNECT:
                    return await self._serve_sender(visit)
                case Action.ACCEPT | Action.REQUEST:
                    found = visit.namespace.find(visit.target.segments)
                    entity = _entity(visit.namespace, found[0].name) if found else ""
                    return await self.websockets.meet(visit, entity=entity)
        except RelayError as error:
            self._log_refusal(visit, error)
            await visit.refuse_for(error)
        return None

    def _log_refusal(self, visit: Visit, error: RelayError) -> None:
        action, status = visit.target.action, error.status or 500
        report(
            operation_of(error),
            "refused %s at %r: %s",
            action.value,
            visit.path,
            error,
            labels=visit.labels,
            status=status,
        )
        if action is Action.LISTEN:
            self.tally.refused(Side.LISTENER, visit.entity, status)
        elif action is Action.CONNECT and visit.target.is_websocket_path:
            self.tally.refused(Side.SENDER, visit.entity, status)

    async def _serve_listener(self, visit: Visit) -> None:
        delay = self._settings.listen_handshake_delay_seconds
        if delay:
            # Before all else: what changes meanwhile counts.
            await asyncio.sleep(delay)
            visit.namespace = self._hosts.get(visit.host, visit.namespace)
        connection, grant = self._admit(visit, Claim.LISTEN, self._websocket_token(visit))
        accept = visit.websocket_accept()
        entity = _entity(visit.namespace, connection.name)
        with self._counted(visit.namespace.name):
            labels = visit.labels
            channel = ControlChannel(
                visit.wire,
                tracking_id=visit.tracking_id,
                authority=visit.head.host,
                grant=grant,
                renew=lambda token: self._renewed(visit, token),
                settings=self._settings,
                labels=labels,
            )
            listener_id = visit.tracking_id.split("_G")[0]
            try:
                self.listeners.register(entity, listener_id, channel)
            except QuotaExceeded:
                channel.detach()
                raise
            visit.switch_protocols(accept)
            self.tally.accepted(Side.LISTENER, entity)
            report(
                Operation.NEW_LISTENER_REGISTERED,
                "a listener is online",
                labels=labels,
                rule=grant.rule,
                tls=visit.wire.tls_version,
            )
            try:
                channel.start(visit.early)
                await channel.closed
            finally:
                self.listeners.unregister(entity, listener_id, channel)
                self.tally.disconnected(Side.LISTENER, entity)
                offline = "a listener is offline: %s"
                report(Operation.LISTENER_UNREGISTERED, offline, channel.why, labels=labels)
                await channel.finish()

    def _renewed(self, visit: Visit, token: str) -> Grant:
        """Check a new token against the namespace as it is now."""
        namespace = self._hosts.get(visit.host, visit.namespace)
        found = namespace.find(visit.target.segments)
        return authorize(
            namespace,
            found[0] if found else None,
            token,
            claim=Claim.LISTEN,
            path_segments=visit.target.segments,
            now=time.time() - self._settings.clock_skew_seconds,
        )

    async def _serve_sender(self, visit: Visit) -> Rest | None:
        connection, grant = self._admit(visit, Claim.SEND, self._websocket_token(visit))
        accept = visit.websocket_accept()
        report(
            Operation.NEW_SENDER_REGISTERING,
            "a sender connects",
            labels=visit.labels,
            rule=grant.rule,
            tls=visit.wire.tls_version,
        )
        with self._counted(visit.namespace.name):
            entity = _entity(visit.namespace, connection.name)
            rest = await self.websockets.relay(visit, accept, entity=entity)
        return None if rest is None else partial(self._count_while, visit.namespace.name, rest)

    async def _count_while(self, namespace: str, rest: Rest) -> None:
        with self._counted(namespace):
            await rest()

    def _websocket_token(self, visit: Visit) -> str | None:
        return http_headers.token_of_websocket(visit.head.headers, visit.target.parameters)

    def _admit(
        self, visit: Visit, claim: Claim, token: str | None, *, any_claim: bool = False
    ) -> tuple[HybridConnection, Grant]:
        """Check the token, then that there is something to use it on (in this order, 4.1)."""
        found = visit.namespace.find(visit.target.segments)
        grant = authorize(
            visit.namespace,
            found[0] if found else None,
            token,
            claim=claim,
            path_segments=visit.target.segments,
            now=time.time() - self._settings.clock_skew_seconds,
            any_claim=any_claim,
        )
        if found is None:
            raise EndpointNotFound(NOT_FOUND, hint="check the name of the hybrid connection")
        if self._is_stopping:
            raise ServerBusy("The service is shutting down.", hint="try again")
        return found[0], grant

    @contextmanager
    def _counted(self, namespace: str) -> Iterator[None]:
        limit = self._settings.max_connections
        if self._connections[namespace] >= limit:
            raise QuotaExceeded(
                f"QuotaExceeded: The maximum number of connections ({limit}) is open.",
                hint="close connections, or raise MaxConnections",
            )
        self._connections[namespace] += 1
        try:
            yield
        finally:
            self._connections[namespace] -= 1

    # --- plain HTTP ---------------------------------------------------------------------------

    async def _serve_http(self, visit: Visit) -> None:
        head, target = visit.head, visit.target
        if not target.segments and head.method in ("GET", "HEAD"):
            body = description.feed(namespace=visit.namespace.name, host=head.host, now=time.time())
            await visit.answer_http(200, "OK", body, description.FEED_TYPE)
        elif head.value("X-PROCESS-AT") == "ServiceBus" and _api_version(visit):
            await self._describe(visit)
        else:
            await self._refuse_relayed_http(visit)

    async def _describe(self, visit: Visit) -> None:
        """Answer the runtime-information GET (section 9.1)."""
        headers = visit.head.headers
        token, _ = http_headers.token_of_http(headers, visit.target.parameters, requires_auth=True)
        try:
            if visit.head.method != "GET":
                raise MalformedRequest("Only GET is supported here.")
            connection, _ = self._admit(visit, Claim.SEND, token, any_claim=True)
        except RelayError as error:
            self._log_refusal(visit, error)
            status = error.status or 500
            reason = visit.reason(str(error))
            body = description.error(status, reason)
            await visit.answer_http(status, reason, body, "application/xml; charset=utf-8")
            return
        body = description.entry(
            connection,
            namespace=visit.namespace.name,
            host=visit.head.host,
            api_version=_api_version(visit),
            listeners=self.listeners.count(_entity(visit.namespace, connection.name)),
        )
        await visit.answer_http(200, "OK", body, description.ENTRY_TYPE)

    async def _refuse_relayed_http(self, visit: Visit) -> None:
        """Say why a request is not relayed; at best, that relayed HTTP is not there yet."""
        found = visit.namespace.find(visit.target.segments)
        needs_token = found is None or found[0].requires_client_authorization
        headers = visit.head.headers
        token, _ = http_headers.token_of_http(
            headers, visit.target.parameters, requires_auth=needs_token
        )
        try:
            connection, _ = self._admit(visit, Claim.SEND, token)
            if not self.listeners.count(_entity(visit.namespace, connection.name)):
                status = self._settings.no_listener_http_status
                raise EndpointNotFound(NO_LISTENERS, status=status)
            raise RelayError(NOT_RELAYED, status=501)
        except RelayError as error:
            self._log_refusal(visit, error)
            await visit.refuse_http(error.status or 500, str(error))


def _entity(namespace: Namespace, name: str) -> str:
    return f"{namespace.name}/{name}".lower()


def _parse_target(head: RequestHead) -> Target:
    if head.method == "CONNECT":
        raise MalformedRequest("CONNECT is not supported.", status=405)
    return address.parse_target(head.target)


def _api_version(visit: Visit) -> str:
    for piece in visit.target.query.split("&"):
        name, _, value = piece.partition("=")
        if name.lower() == "api-version":
            return value
    return ""
