"""The hybrid connection itself: does it exist, where does it lead, is anybody there?"""

from __future__ import annotations

from devstack.doctor.case import Case, Notes, Role
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, fail, ok, skipped, warn
from hybridge.management import runtime_information
from hybridge.program.host_port import format_host_port
from hybridge.protocol.errors import AuthorizationFailed, EndpointNotFound, RelayError

MAX_LISTENERS = 25
"""How many a hybrid connection may have, at Azure."""


async def check_entity(case: Case, notes: Notes) -> Finding:
    """Check that the hybrid connection exists; read what the relay tells of it."""
    given = notes.connection_string
    if given.is_anonymous:
        return skipped(Check.ENTITY, "without a key the relay does not tell; connecting will")
    verdict = notes.verdict
    if verdict is not None and verdict.exists is False:
        return fail(Fault.ENTITY_MISSING, f"the relay knows no '{notes.path}' ({verdict.says})")
    try:
        notes.information = await runtime_information(
            given, ca=case.ca, connect_to=case.connect_to, proxy=case.proxy, timing=case.timing
        )
    except AuthorizationFailed:
        return skipped(Check.ENTITY, "this relay tells it to rules with Manage; connecting will")
    except EndpointNotFound as error:
        return fail(Fault.ENTITY_MISSING, f"the relay knows no '{notes.path}' ({error})")
    except RelayError as error:
        return skipped(Check.ENTITY, f"the relay does not tell: {error}")
    return ok(Check.ENTITY, f"'{notes.path}' exists, made {notes.information.created_at}")


async def check_metadata(case: Case, notes: Notes) -> Finding:
    """Check that somebody says where the connections lead."""
    information = notes.information
    if information is None:
        if notes.role is Role.LISTENER and (case.targets or case.takes_datagrams):
            return skipped(Check.METADATA, "cannot be read with this rule, and --target is given")
        return warn(Fault.METADATA_UNREADABLE)
    if information.target is not None:
        return ok(Check.METADATA, f"the endpoint is {format_host_port(*information.target)}")
    if notes.role is Role.SENDER:
        return warn(
            Fault.METADATA_WITHOUT_ENDPOINT,
            next_step="give the client --listen; the agent needs --target",
        )
    if case.targets or case.takes_datagrams:
        return skipped(Check.METADATA, "it names no endpoint, and --target does")
    return fail(Fault.METADATA_WITHOUT_ENDPOINT)


async def count_listeners(case: Case, notes: Notes) -> Finding:
    """Check that an agent is connected."""
    if notes.information is None:
        return skipped(Check.LISTENERS, "the relay does not tell how many; connecting will")
    count = notes.information.listener_count
    if notes.role is Role.LISTENER:
        if count >= MAX_LISTENERS:
            return warn(Fault.LISTENERS_FULL, f"{count} are connected, and no more may be")
        if count == 0:
            what = "none is connected: no agent runs, or none gets through to the relay"
            return warn(Fault.NO_LISTENER, what, next_step="start it here: hcm run")
    elif count == 0:
        return fail(Fault.NO_LISTENER)
    return ok(Check.LISTENERS, "1 is connected" if count == 1 else f"{count} are connected")
