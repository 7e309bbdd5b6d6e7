"""The target, as the agent's machine sees it. Nothing is sent there."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from devstack.doctor.case import Case, Notes, Role
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, fail, ok, skipped, warn
from hybridge.program.host_port import format_host_port
from hybridge.protocol.errors import RelayError, TargetRefused, TargetTimedOut
from hybridge.transport.names import is_address
from hybridge.transport.tcp import dial_socket


async def check_target(case: Case, notes: Notes) -> Finding:
    """Connect to the target, and leave. Of several, the first that fails is told."""
    if notes.role is Role.SENDER:
        return skipped(Check.TARGET, "only the agent's machine can tell: --as listener, there")
    if case.takes_datagrams:
        return skipped(Check.TARGET, "it takes UDP, which answers nobody who only asks")
    targets = case.targets
    if not targets and notes.information is not None and notes.information.target is not None:
        targets = (notes.information.target,)
    if not targets:
        if notes.information is None:
            return skipped(Check.TARGET, "not known: give --target HOST:PORT")
        return fail(Fault.NO_TARGET)
    for host, port in targets:
        finding = await _dial(case, host, port)
        if finding is not None:
            return finding
    shown = ", ".join(format_host_port(*each) for each in targets)
    return ok(Check.TARGET, f"{shown} accepts connections from here")


async def _dial(case: Case, host: str, port: int) -> Finding | None:
    from hcm_agent.allow_list import TargetNotAllowed

    shown = format_host_port(host, port)
    try:
        admit = None if case.allow_list is None else case.allow_list.check(host, port)
        async with asyncio.timeout(case.timeout_seconds):
            sock = await dial_socket(host, port, admit=admit)
    except TargetNotAllowed as error:
        return fail(Fault.TARGET_NOT_ALLOWED, str(error), next_step=error.hint)
    except TimeoutError:
        return fail(Fault.TARGET_TIMEOUT, f"{shown} did not answer in {case.timeout_seconds:g} s")
    except TargetTimedOut as error:
        return fail(Fault.TARGET_TIMEOUT, str(error))
    except TargetRefused as error:
        if "refused" in str(error):
            return fail(Fault.TARGET_REFUSES, str(error))
        return fail(Fault.TARGET_NAME_UNKNOWN, str(error))
    except RelayError as error:
        return fail(Fault.TARGET_UNREACHABLE, str(error))
    with sock:
        peer = str(sock.getpeername()[0])
    if _is_name(host) and ipaddress.ip_address(peer).is_loopback:
        return warn(Fault.TARGET_LOOPS, f"{shown} leads to this machine itself, {peer}")
    return None


def _is_name(host: str) -> bool:
    """Whether a host is a name other than this machine's own for itself."""
    if host.lower().rstrip(".").rpartition(".")[2] in ("localhost", "localdomain"):
        return False
    return not is_address(host) and host.lower() != socket.gethostname().lower()
