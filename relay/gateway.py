"""The relay's one port: TLS, the first request, which door to open (sections 1 to 4)."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import ssl
import time
import uuid
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
)
from hybridge.protocol.messages import RemoteEndpoint
from hybridge.transport.http_head import HeadReader
from hybridge.transport.stream import Wire
from relay.admission import NOT_FOUND, STOPPING, Admission
from relay.control_channel import ControlChannel
from relay.core import tracking
from relay.core.authorization import Grant
from relay.core.listeners import Listeners
from relay.core.operations import Operation
from relay.core.tally import Side, Tally
from relay.diagnostics import report
from relay.entrance import Entrance, remote_endpoint
from relay.faults import Faults
from relay.http_door import HttpDoor, log_refusal
from relay.http_relay import HttpRelay
from relay.namespace import Namespace, entity_of
from relay.pairs import Pairs
from relay.request_head import MAX_HEAD_BYTES, RequestHead, parse_head
from relay.responses import response
from relay.settings import RelaySettings
from relay.visit import Rest, Visit
from relay.websocket_relay import WebSocketRelay

ONLY_WEBSOCKET = "This endpoint is only for web-socket requests."


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
        pairs = Pairs()
        self.faults = Faults(self.listeners, pairs)
        self.websockets = WebSocketRelay(
            self.listeners, pairs=pairs, faults=self.faults, settings=settings, tally=self.tally
        )
        self.http = HttpRelay(
            self.listeners, faults=self.faults, settings=settings, tally=self.tally
        )
        self._entrance = Entrance(settings)
        self._gateway_numbers = itertools.cycle(range(1_000))
        self._admission = Admission(settings)
        self._http_door = HttpDoor(
            self._admission, self.listeners, self.http, settings=settings, tally=self.tally
        )
        self._idle_readers: set[HeadReader] = set()
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.replace(namespaces, context)

    def replace(self, namespaces: tuple[Namespace, ...], context: ssl.SSLContext) -> None:
        """Serve these namespaces from now on. Live connections are not touched.

        Control channels of a hybrid connection that is gone close with 1001 (clause 50).
        """
        self._hosts = {host: each for each in namespaces for host in each.hosts}
        self._context = context
        self.tally.serve(namespaces)
        known = {entity_of(each, name) for each in namespaces for name in each.hybrid_connections}
        for entity in self.listeners.entities():
            if entity not in known:
                for channel in self.listeners.channels(entity):
                    channel.close(1001, "The hybrid connection was deleted.")

    def stop(self) -> None:
        """Take no new listener or sender; tell the listeners to go elsewhere."""
        self._admission.is_stopping = True
        self.websockets.stop()
        self.http.stop()
        for reader in list(self._idle_readers):
            if reader.is_empty:
                reader.give_up()
        for entity in self.listeners.entities():
            for channel in self.listeners.channels(entity):
                channel.retire(1001, STOPPING)

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
            early: bytes | None = None
            while (visit := await self._next_request(wire, remote, early)) is not None:
                with self._busy():
                    early, rest = await self._open_door(visit)
                    del visit
                    if rest is not None:
                        await rest()
                if early is None:
                    break
        finally:
            wire.abort()

    async def _next_request(
        self, wire: Wire, remote: RemoteEndpoint, early: bytes | None
    ) -> Visit | None:
        """Read a request; None where there is none, or it was answered already.

        Args:
            wire: The connection.
            remote: Where it comes from.
            early: What came behind the request before; None for the first of the connection.
        """
        settings = self._settings
        reader = HeadReader(wire, max_bytes=MAX_HEAD_BYTES, early=early or b"")
        seconds = settings.keep_alive_seconds if early == b"" else settings.head_timeout_seconds
        if early is not None:
            self._idle_readers.add(reader)
        try:
            async with asyncio.timeout(seconds):
                raw = await reader.read()
        except TimeoutError:
            if not reader.is_empty:
                await self._refuse_unread(wire, 408, "The request head did not come in time.")
            elif early is not None:
                await wire.close()
            return None
        finally:
            self._idle_readers.discard(reader)
        if raw is None:
            if reader.is_too_long:
                problem = f"The request head is longer than {MAX_HEAD_BYTES} bytes."
                await self._refuse_unread(wire, 431, problem)
            elif early is not None and reader.is_empty:
                await wire.close()
            return None
        return await self._visit(wire, remote, raw, reader.rest)

    async def _visit(
        self, wire: Wire, remote: RemoteEndpoint, raw: bytes, rest: bytes
    ) -> Visit | None:
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
        # Of an HTTP request the response finds back by this id: it is never the sender's choice.
        client_id = target.parameters.get("sb-hc-id") if target.is_websocket_path else None
        return Visit(
            wire=wire,
            head=head,
            early=rest,
            remote=remote,
            tracking_id=tracking.new_tracking_id(client_id, number),
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

    async def _open_door(self, visit: Visit) -> tuple[bytes | None, Rest | None]:
        """Serve a request.

        Returns:
            What came behind it, where the connection may carry another; and what is left to do.
        """
        if not visit.target.is_websocket_path:
            return await self._http_door.serve(visit), None
        return None, await self._serve_websocket(visit)

    async def _serve_websocket(self, visit: Visit) -> Rest | None:
        try:
            if not visit.head.wants_websocket:
                raise MalformedRequest(ONLY_WEBSOCKET)
            match visit.target.action:
                case Action.LISTEN:
                    await self._serve_listener(visit)
                case Action.CONNECT:
                    return await self._serve_sender(visit)
                case Action.ACCEPT:
                    return await self.websockets.meet(visit, entity=visit.entity)
                case Action.REQUEST:
                    return await self.http.meet(visit, entity=visit.entity)
        except RelayError as error:
            action = visit.target.action
            log_refusal(visit, error, what=action.value)
            if action in (Action.LISTEN, Action.CONNECT):
                side = Side.LISTENER if action is Action.LISTEN else Side.SENDER
                self.tally.refused(side, visit.entity, error.status or 500)
            await visit.refuse_for(error)
        return None

    async def _serve_listener(self, visit: Visit) -> None:
        delay = self._settings.listen_handshake_delay_seconds
        if delay:
            # Before all else: what changes meanwhile counts.
            await asyncio.sleep(delay)
            visit.namespace = self._hosts.get(visit.host, visit.namespace)
        connection, grant = self._admission.admit(visit, Claim.LISTEN, self._websocket_token(visit))
        accept = visit.websocket_accept()
        entity = entity_of(visit.namespace, connection.name)
        with self._admission.counted(visit.namespace.name):
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
        return self._admission.grant(visit, namespace, Claim.LISTEN, token)

    async def _serve_sender(self, visit: Visit) -> Rest | None:
        connection, grant = self._admission.admit(visit, Claim.SEND, self._websocket_token(visit))
        accept = visit.websocket_accept()
        report(
            Operation.NEW_SENDER_REGISTERING,
            "a sender connects",
            labels=visit.labels,
            rule=grant.rule,
            tls=visit.wire.tls_version,
        )
        with self._admission.counted(visit.namespace.name):
            entity = entity_of(visit.namespace, connection.name)
            rest = await self.websockets.relay(visit, accept, entity=entity)
        return None if rest is None else partial(self._count_while, visit.namespace.name, rest)

    async def _count_while(self, namespace: str, rest: Rest) -> None:
        with self._admission.counted(namespace):
            await rest()

    def _websocket_token(self, visit: Visit) -> str | None:
        return http_headers.token_of_websocket(visit.head.headers, visit.target.parameters)


def _parse_target(head: RequestHead) -> Target:
    if head.method == "CONNECT":
        raise MalformedRequest("CONNECT is not supported.", status=405)
    return address.parse_target(head.target)
