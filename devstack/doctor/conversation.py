"""A connection through the hybrid connection, and a byte there and back."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from devstack.doctor.case import Case, Notes, Role
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, fail, ok, skipped
from hybridge.listener import Listener
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import (
    ConnectionLost,
    HandshakeRefused,
    RelayError,
    Unreachable,
    UntrustedCertificate,
)
from hybridge.protocol.redaction import one_line
from hybridge.sender import connect
from hybridge.transport.stream import Stream

if TYPE_CHECKING:
    from hybridge.incoming_connection import IncomingConnection
    from hybridge.incoming_request import IncomingRequest

FIRST_BYTES_SECONDS = 1.0
"""How long a server that speaks first may take to do so, or a broken connection to break."""

ROUND_TRIPS = 5
"""How often a byte goes there and back; the fastest counts."""

ONLY_THIS_LISTENER = "Microsoft-Relay-AllowedListeners"
"""Header by which a sender names the listeners it will have (section 4.6)."""

BUSY = 503
"""What a sender gets who is not ours, and comes to the temporary listener."""

TRY_AGAIN = "hybridge doctor is testing here for a moment: try again."


# --- the sender's side ---------------------------------------------------------------------------


async def try_connection(case: Case, notes: Notes) -> Finding:
    """Connect as the client does, look whether the connection holds, and leave. Sends nothing."""
    if notes.role is not Role.SENDER:
        return skipped(Check.CONNECTION, "it takes a rule with Send: --as sender, or --round-trip")
    started = time.perf_counter()
    try:
        stream = await connect(
            notes.connection_string,
            ca=case.ca,
            connect_to=case.connect_to,
            proxy=case.proxy,
            timing=case.timing,
        )
    except HandshakeRefused as refusal:
        return _refused(refusal)
    except RelayError as error:
        return fail(Fault.CONNECTION_FAILED, str(error), next_step=error.hint)
    took = (time.perf_counter() - started) * 1_000
    async with _dropped(stream):
        try:
            async with asyncio.timeout(FIRST_BYTES_SECONDS):
                first = await stream.receive()
        except TimeoutError:
            return ok(Check.CONNECTION, f"made in {took:.0f} ms, and it holds")
        except ConnectionLost as error:
            return fail(Fault.CONNECTION_LOST, str(error))
    if not first:
        return fail(Fault.CONNECTION_LOST, "the other end closed it at once")
    return ok(Check.CONNECTION, f"made in {took:.0f} ms; the other end speaks first")


def _refused(refusal: HandshakeRefused) -> Finding:
    message = one_line(refusal.reason.partition(" TrackingId:")[0])
    said = f"{refusal.status} {message}".strip()
    is_relays = "TrackingId:" in refusal.reason
    lowered = message.lower()
    if is_relays and "no listeners connected" in lowered:
        return fail(Fault.NO_LISTENER, f"the relay answers {said}")
    if is_relays and "listeners accepted the connection within" in lowered:
        return fail(Fault.LISTENER_DOES_NOT_COME, f"the relay answers {said}")
    if is_relays and "endpoint does not exist" in lowered:
        return fail(Fault.ENTITY_MISSING, f"the relay answers {said}")
    if is_relays:
        return fail(Fault.CONNECTION_REFUSED, one_line(f"the relay answers {refusal}"))
    return fail(Fault.LISTENER_REJECTS, f"the agent answers {said}", next_step=_agents(refusal))


def _agents(refusal: HandshakeRefused) -> str:
    """Give the next step after an agent's own refusal; empty for the usual one."""
    match refusal.status:
        case 501:
            return "where its target is http://: send HTTP requests, which no doctor does"
        case 502:
            return "on the agent's machine: is the target running, and reachable from there?"
        case 504:
            return "on the agent's machine: does a firewall stand between agent and target?"
        case 503:
            return "try again: the agent stops, or is at its limit"
        case _:
            return ""


@asynccontextmanager
async def _dropped(stream: Stream) -> AsyncIterator[None]:
    """Drop a connection on which nothing was sent, without waiting for the other end."""
    try:
        yield
    finally:
        stream.abort()


# --- both sides ----------------------------------------------------------------------------------


async def try_round_trip(
    case: Case, listening: ConnectionString, sending: ConnectionString
) -> Finding:
    """Listen and send at once, and measure a byte's way there and back.

    Other senders that come to the temporary listener meanwhile are told to try again (503).

    Args:
        case: How to reach the relay.
        listening: Of a rule with Listen.
        sending: Of a rule with Send, for the same hybrid connection.
    """
    listener = Listener(
        listening,
        ca=case.ca,
        connect_to=case.connect_to,
        proxy=case.proxy,
        timing=case.timing,
        request_handler=_turn_request_away,
    )
    async with listener:
        try:
            await listener.wait_online()
        except RelayError as error:
            return fail(Fault.LISTENER_REFUSED, str(error), next_step=error.hint)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(_serve(listener), name="temporary listener")
            asking = tasks.create_task(_ask(case, listener.id, sending), name="sender")
            await asyncio.wait([serving, asking], return_when=asyncio.FIRST_COMPLETED)
            finding = asking.result() if asking.done() else serving.result()
            serving.cancel()
            asking.cancel()
        await listener.stop_accepting()
        return finding


async def _serve(listener: Listener) -> Finding:
    """Echo to our own sender, and turn others away; return only if the rendezvous fails."""
    async with asyncio.TaskGroup() as tasks:
        async for connection in listener:
            headers = {name.lower(): value for name, value in connection.connect_headers.items()}
            if headers.get(ONLY_THIS_LISTENER.lower()) != listener.id:
                tasks.create_task(_turn_away(connection), name="turn a sender away")
                continue
            try:
                stream = await connection.accept()
            except (Unreachable, UntrustedCertificate) as error:
                host = urlsplit(connection.address).hostname
                return fail(Fault.RENDEZVOUS_UNREACHABLE, f"the gateway {host}: {error}")
            except RelayError as error:
                return fail(Fault.LISTENER_REFUSED, str(error), next_step=error.hint)
            tasks.create_task(_echo(stream), name="echo")
    return fail(Fault.LISTENER_REFUSED, "the relay closed the control channel")


async def _echo(stream: Stream) -> None:
    async with _dropped(stream):
        with contextlib.suppress(RelayError):
            while data := await stream.receive():
                await stream.send(data)


async def _turn_away(connection: IncomingConnection) -> None:
    with contextlib.suppress(RelayError):
        await connection.reject(BUSY, TRY_AGAIN)


async def _turn_request_away(request: IncomingRequest) -> None:
    await request.respond(BUSY, TRY_AGAIN.encode())


async def _ask(case: Case, listener_id: str, sending: ConnectionString) -> Finding:
    """Send a byte to our own listener and wait for it, a few times."""
    started = time.perf_counter()
    try:
        stream = await connect(
            sending,
            ca=case.ca,
            connect_to=case.connect_to,
            proxy=case.proxy,
            timing=case.timing,
            headers=[(ONLY_THIS_LISTENER, listener_id)],
        )
    except HandshakeRefused as refusal:
        return _refused(refusal)
    except RelayError as error:
        return fail(Fault.CONNECTION_FAILED, str(error), next_step=error.hint)
    made_ms = (time.perf_counter() - started) * 1_000
    fastest_ms = math.inf
    async with _dropped(stream):
        try:
            async with asyncio.timeout(case.timeout_seconds):
                for number in range(ROUND_TRIPS):
                    started = time.perf_counter()
                    await stream.send(bytes([number]))
                    if await stream.receive() != bytes([number]):
                        return fail(Fault.BYTES_LOST, "another byte came back than was sent")
                    fastest_ms = min(fastest_ms, (time.perf_counter() - started) * 1_000)
        except TimeoutError:
            return fail(Fault.BYTES_LOST, f"nothing came back in {case.timeout_seconds:g} s")
        except RelayError as error:
            return fail(Fault.BYTES_LOST, str(error))
    return ok(
        Check.ROUND_TRIP, f"made in {made_ms:.0f} ms; a byte there and back in {fastest_ms:.1f} ms"
    )
