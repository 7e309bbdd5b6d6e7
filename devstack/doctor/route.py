"""The way to the relay: name, TCP, TLS and the relay's clock."""

from __future__ import annotations

import asyncio
import email.utils
import socket
from dataclasses import dataclass

import h11

from devstack.doctor import certificates
from devstack.doctor.case import Case
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, fail, ok, skipped, warn
from devstack.doctor.reach import dialer_for, open_socket, proxy_of
from hybridge.program.host_port import format_host_port
from hybridge.protocol import address
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import (
    ProxyCredentialsRefused,
    ProxyGarbled,
    ProxyRefused,
    RelayError,
    TargetRefused,
    TargetTimedOut,
    Unreachable,
    UntrustedCertificate,
)
from hybridge.transport.http_exchange import exchange
from hybridge.transport.names import is_address, look_up
from hybridge.transport.tcp import dial_socket
from hybridge.transport.tls import open_tls

MAX_CLOCK_BEHIND_SECONDS = 300.0
"""From here on it is a fault: the shortest tokens of our own ends live 10 minutes."""

MAX_CLOCK_OFF_SECONDS = 30.0
"""From here on it is remarked on."""

PROXY = "the proxy"


@dataclass(frozen=True, slots=True)
class Hop:
    """The machine that is dialled first."""

    host: str
    port: int
    name: str
    """What it is called in findings."""

    def __str__(self) -> str:
        return format_host_port(self.host, self.port)


def first_hop(case: Case, given: ConnectionString) -> Hop:
    """Say whom this machine connects to: the relay, or what stands in front of it or for it."""
    proxy = proxy_of(case, given)
    if proxy is not None:
        return Hop(proxy.host, proxy.port, PROXY)
    if case.connect_to is not None:
        return Hop(*case.connect_to, "--connect-to")
    return Hop(given.host, given.port, "the namespace")


async def resolve(case: Case, given: ConnectionString) -> Finding:
    """Check the DNS."""
    hop = first_hop(case, given)
    if is_address(hop.host):
        return ok(Check.DNS, f"{hop.name} is an address, {hop.host}: no name to look up")
    try:
        async with asyncio.timeout(case.timeout_seconds):
            found = await look_up(hop.host, hop.port, socket.SOCK_STREAM)
    except TimeoutError:
        return fail(Fault.DNS_TIMEOUT, f"no answer about {hop.host} in {case.timeout_seconds:g} s")
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not the name of a host"
        return fail(
            Fault.NAME_UNKNOWN,
            f"the name {hop.host!r} cannot be resolved: {said}",
            next_step=_proxy_step(hop) or _spelling(hop.host),
        )
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    return ok(Check.DNS, f"{hop.host} is {', '.join(addresses[:4])}")


def _proxy_step(hop: Hop) -> str:
    """Give the next step where it is the proxy that is not reached; empty for the usual one."""
    return "check the proxy's host and port, and whether it runs" if hop.name == PROXY else ""


def _spelling(host: str) -> str:
    """Give the next step for a name that looks misspelt; empty for the usual one."""
    if "servicebus" in host and not host.endswith(".servicebus.windows.net"):
        return "is the host right? Azure's namespaces are named NAME.servicebus.windows.net"
    if "." not in host and host != "localhost":
        return "write the whole name of the host, such as NAME.servicebus.windows.net"
    return ""


async def connect(case: Case, given: ConnectionString) -> Finding:
    """Check TCP."""
    hop = first_hop(case, given)
    try:
        async with asyncio.timeout(case.timeout_seconds):
            sock = await dial_socket(hop.host, hop.port)
    except TimeoutError:
        what = f"{hop} did not answer in {case.timeout_seconds:g} s"
        return fail(Fault.TCP_TIMEOUT, what, next_step=_proxy_step(hop))
    except TargetRefused as error:
        return fail(Fault.PORT_CLOSED, str(error), next_step=_proxy_step(hop))
    except TargetTimedOut as error:
        return fail(Fault.TCP_TIMEOUT, str(error), next_step=_proxy_step(hop))
    except Unreachable as error:
        return fail(Fault.NO_ROUTE, str(error), next_step=_proxy_step(hop))
    with sock:
        peer = sock.getpeername()
    return ok(Check.TCP, f"{format_host_port(peer[0], peer[1])} accepts connections")


async def pass_proxy(case: Case, given: ConnectionString) -> Finding:
    """Check that the proxy, if there is one, opens a tunnel to the relay."""
    proxy = proxy_of(case, given)
    if proxy is None:
        return skipped(Check.PROXY, "none is used")
    try:
        (await open_socket(case, given)).close()
    except ProxyCredentialsRefused as error:
        return fail(Fault.PROXY_AUTHENTICATION, str(error), next_step=error.hint)
    except ProxyGarbled as error:
        return fail(Fault.PROXY_GARBAGE, str(error), next_step=error.hint)
    except ProxyRefused as error:
        fault = Fault.PROXY_FAILED if "cannot reach" in str(error) else Fault.PROXY_REFUSES
        return fail(fault, str(error), next_step=error.hint)
    except Unreachable as error:
        return fail(Fault.PROXY_TIMEOUT, str(error), next_step=error.hint)
    return ok(Check.PROXY, f"{proxy} leads to the relay")


async def secure(case: Case, given: ConnectionString) -> Finding:
    """Check TLS: whether it is spoken, by whom, and whether we trust it."""
    context = dialer_for(case, given).tls.context
    try:
        async with asyncio.timeout(case.timeout_seconds):
            sock = await open_socket(case, given)
            wire = await open_tls(sock, context, server_hostname=given.host)
    except TimeoutError:
        return fail(Fault.TLS_TIMEOUT, f"no TLS from {given.host} in {case.timeout_seconds:g} s")
    except RelayError as error:
        return fail(Fault.TLS_FAILED, str(error))
    except OSError as error:
        return await certificates.explain(error, case, given)
    try:
        version, seen = wire.tls_version, certificates.seen_on(wire.tls)
    finally:
        wire.abort()
    return ok(Check.TLS, f"{version}, issued by {seen}")


async def compare_clocks(case: Case, given: ConnectionString) -> Finding:
    """Compare this machine's clock with the relay's, by the ``Date`` of an answer."""
    dialer = dialer_for(case, given)
    request = h11.Request(
        method="GET",
        target="/",
        headers=[("Host", address.authority(given.host, given.port)), ("Connection", "close")],
    )
    try:
        async with asyncio.timeout(case.timeout_seconds):
            wire = await dialer.dial(given.host, given.port)
            try:
                asked_at = case.clock()
                response, _ = await exchange(wire, request)
                answered_at = case.clock()
            finally:
                wire.abort()
    except TimeoutError:
        what = f"no answer to an HTTP request in {case.timeout_seconds:g} s"
        return fail(Fault.NOT_A_RELAY, what)
    except UntrustedCertificate as error:
        return skipped(Check.CLOCK, str(error))
    except RelayError as error:
        return fail(Fault.NOT_A_RELAY, str(error))
    dates = [value.decode("latin-1") for name, value in response.headers if name == b"date"]
    try:
        # The header leaves out the fraction of its second.
        relays = email.utils.parsedate_to_datetime(dates[0]).timestamp() + 0.5
    except (IndexError, ValueError):
        return skipped(Check.CLOCK, "the answer has no Date to compare with")
    return _judge((asked_at + answered_at) / 2 - relays)


def _judge(ahead: float) -> Finding:
    """Judge by how many seconds this machine's clock is ahead of the relay's."""
    if abs(ahead) < MAX_CLOCK_OFF_SECONDS:
        off = "less than a second" if abs(ahead) < 1 else f"{abs(ahead):.0f} s"
        return ok(Check.CLOCK, f"{off} from the relay's")
    off = f"{abs(ahead):.0f} s" if abs(ahead) < 120 else f"{abs(ahead) / 60:.0f} min"
    if ahead > 0:
        return warn(Fault.CLOCK_AHEAD, f"this machine's clock is {off} ahead of the relay's")
    what = f"this machine's clock is {off} behind the relay's"
    if ahead <= -MAX_CLOCK_BEHIND_SECONDS:
        return fail(Fault.CLOCK_BEHIND, what)
    return warn(Fault.CLOCK_BEHIND, what)
