"""The checks in their order: each once, and none that an earlier failure makes senseless."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from devstack.doctor import authorization, conversation, destination, entity, route, shape
from devstack.doctor.case import Case, Notes, Role
from devstack.doctor.finding import Check, Finding, Verdict, skipped
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import InvalidSetting

_Run = Callable[[Case, Notes], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Step:
    """A check, and those without which it makes no sense."""

    check: Check
    run: _Run
    needs: tuple[Check, ...] = ()


async def _read(case: Case, notes: Notes) -> Finding:
    finding, notes.given = shape.read(case.text.reveal(), case.role)
    return finding


def _on_route(check: Callable[[Case, ConnectionString], Awaitable[Finding]]) -> _Run:
    async def run(case: Case, notes: Notes) -> Finding:
        return await check(case, notes.connection_string)

    return run


STEPS = (
    Step(Check.CONNECTION_STRING, _read),
    Step(Check.DNS, _on_route(route.resolve), (Check.CONNECTION_STRING,)),
    Step(Check.TCP, _on_route(route.connect), (Check.DNS,)),
    Step(Check.PROXY, _on_route(route.pass_proxy), (Check.TCP,)),
    Step(Check.TLS, _on_route(route.secure), (Check.PROXY,)),
    Step(Check.CLOCK, _on_route(route.compare_clocks), (Check.TLS,)),
    Step(Check.WEBSOCKET, authorization.try_websocket, (Check.TLS,)),
    Step(Check.TOKEN, authorization.check_token, (Check.WEBSOCKET,)),
    Step(Check.ENTITY, entity.check_entity, (Check.TOKEN,)),
    Step(Check.METADATA, entity.check_metadata, (Check.TOKEN, Check.ENTITY)),
    Step(Check.LISTENERS, entity.count_listeners, (Check.TOKEN, Check.ENTITY)),
    Step(Check.TARGET, destination.check_target),
    Step(
        Check.CONNECTION, conversation.try_connection, (Check.TOKEN, Check.ENTITY, Check.LISTENERS)
    ),
)


@dataclass(slots=True, kw_only=True)
class Examination:
    """One case, and what was found so far."""

    case: Case
    findings: list[Finding] = field(default_factory=list)
    notes: Notes = field(init=False)

    def __post_init__(self) -> None:
        self.notes = Notes(role=self.case.role)

    @property
    def role(self) -> Role | None:
        """Which side it is; None while that is not known."""
        return self.notes.role

    @property
    def cause(self) -> Finding | None:
        """The first failure: what to mend first. None if there is none."""
        return next((each for each in self.findings if each.verdict is Verdict.FAIL), None)

    @property
    def warnings(self) -> list[Finding]:
        """What is odd, and stops nothing by itself."""
        return [each for each in self.findings if each.verdict is Verdict.WARN]

    async def run(self) -> AsyncIterator[Finding]:
        """Do all checks in order; give each finding when it is there."""
        for step in STEPS:
            failed = next((each for each in step.needs if self._has_failed(each)), None)
            if failed is not None:
                yield self._add(skipped(step.check, f"comes after {self._root(failed).value}"))
                continue
            yield await self._timed(step.run(self.case, self.notes))

    async def run_round_trip(self, sender: Examination) -> Finding:
        """Listen with this case's string and send with another's; see `try_round_trip`."""
        return await self._timed(
            conversation.try_round_trip(
                self.case, self.notes.connection_string, sender.notes.connection_string
            )
        )

    @property
    def may_converse(self) -> bool:
        """Whether the relay took the token, so that a connection may be tried."""
        return not any(self._has_failed(each) for each in (Check.TOKEN, Check.ENTITY))

    def grants(self, role: Role) -> bool:
        """Whether the rule is good for a side, as far as the relay told."""
        verdict, given = self.notes.verdict, self.notes.given
        if verdict is None or given is None:
            return False
        if role is Role.LISTENER:
            return bool(verdict.may_listen)
        return bool(verdict.may_send) or verdict.is_anonymous

    async def _timed(self, checking: Awaitable[Finding]) -> Finding:
        started = time.perf_counter()
        finding = await checking
        took = (time.perf_counter() - started) * 1_000
        return self._add(dataclasses.replace(finding, duration_ms=took))

    def _add(self, finding: Finding) -> Finding:
        self.findings.append(finding)
        return finding

    def _has_failed(self, check: Check) -> bool:
        """Whether a check failed, or was left out because another did."""
        step = next(each for each in STEPS if each.check is check)
        finding = self._of(check)
        if finding is not None and finding.verdict is Verdict.FAIL:
            return True
        return any(self._has_failed(each) for each in step.needs)

    def _root(self, check: Check) -> Check:
        """Find the check that failed, behind one that was left out."""
        finding = self._of(check)
        if finding is not None and finding.verdict is Verdict.FAIL:
            return check
        step = next(each for each in STEPS if each.check is check)
        return next((self._root(each) for each in step.needs if self._has_failed(each)), check)

    def _of(self, check: Check) -> Finding | None:
        return next((each for each in self.findings if each.check is check), None)


def pair(examinations: Sequence[Examination]) -> tuple[Examination, Examination] | None:
    """Find a listener and a sender of one hybrid connection, for a round trip.

    Returns:
        Both, which are the same where one rule grants both rights; None where the relay does not
        let one of them in.

    Raises:
        InvalidSetting: No two strings of one hybrid connection, with Listen and Send, were given.
    """
    for listener in examinations:
        for sender in examinations:
            if _is_same(listener, sender):
                if not (listener.may_converse and sender.may_converse):
                    return None
                if listener.grants(Role.LISTENER) and sender.grants(Role.SENDER):
                    return listener, sender
    if any(not each.may_converse for each in examinations):
        return None
    raise InvalidSetting(
        "--round-trip",
        "needs the strings of a rule with Listen and of one with Send, for one hybrid connection",
        hint="give --connection-string-file twice: the agent's and the client's",
    )


def _is_same(one: Examination, other: Examination) -> bool:
    first, second = one.notes.given, other.notes.given
    if first is None or second is None or first.path is None or second.path is None:
        return False
    return (first.host, first.path.lower()) == (second.host, second.path.lower())
