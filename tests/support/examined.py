"""Examine a case, and compare what was found with what there is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from devstack.doctor.case import Case, Role
from devstack.doctor.examination import Examination
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, Verdict
from hybridge.incoming_connection import IncomingConnection
from hybridge.listener import Listener
from hybridge.protocol.errors import RelayError
from hybridge.protocol.secret import Secret
from tests.support.relay import KEY, SECOND_KEY, RunningRelay


def case_of(
    relay: RunningRelay, text: str | None = None, role: Role | None = None, **changes: object
) -> Case:
    """Make a case for a relay: the sender's at hc1, unless the test says otherwise."""
    given = relay.connection_string() if text is None else text
    case = Case(
        text=Secret(given),
        role=role,
        ca=relay.ca,
        connect_to=relay.connect_to,
        timeout_seconds=20.0,
    )
    return replace(case, **changes)  # type: ignore[arg-type] # the fields of a case


async def examine(case: Case) -> Examination:
    """Examine a case to its end; no key and no signature may be in what is found."""
    examination = Examination(case=case)
    async for finding in examination.run():
        check_no_secret(finding, case)
    return examination


def check_no_secret(finding: Finding, case: Case) -> None:
    shown = repr(finding) + repr(case)
    for secret in (KEY, SECOND_KEY, KEY[::-1], "sig="):
        assert secret not in shown


async def find(case: Case, fault: Fault, *, verdict: Verdict = Verdict.FAIL) -> Finding:
    """Examine a case that has one fault: it is found, and all in front of it is well.

    Returns:
        The finding.
    """
    examination = await examine(case)
    told = [(each.check.value, each.verdict.value, each.what) for each in examination.findings]
    found = [each for each in examination.findings if each.fault is fault]
    assert found, told
    at = examination.findings.index(found[0])
    assert found[0].verdict is verdict, told
    bad = (Verdict.FAIL, Verdict.WARN)
    assert not [each for each in examination.findings[:at] if each.verdict in bad], told
    if verdict is Verdict.FAIL:
        assert examination.cause is found[0]
    assert found[0].what
    assert found[0].next_step
    return found[0]


def verdicts(examination: Examination) -> dict[Check, Verdict]:
    return {each.check: each.verdict for each in examination.findings}


def listen_string(relay: RunningRelay, path: str = "hc1") -> str:
    return relay.connection_string(path, key_name="listenrule")


async def accepting(connection: IncomingConnection) -> None:
    stream = await connection.accept()
    await stream.receive()
    stream.abort()


@asynccontextmanager
async def agent(
    relay: RunningRelay,
    answer: Callable[[IncomingConnection], Awaitable[None]] = accepting,
    path: str = "hc1",
    rule: str = "listenrule",
) -> AsyncIterator[None]:
    """An agent that does with each sender what the test says."""

    async def serve(listener: Listener) -> None:
        async for connection in listener:
            with contextlib.suppress(RelayError):
                await answer(connection)

    text = relay.connection_string(path, key_name=rule)
    async with Listener(text, ca=relay.ca, connect_to=relay.connect_to) as listener:
        await listener.wait_online()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve(listener))
            yield
            serving.cancel()
