"""What one check found."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridge.protocol.redaction import one_line

if TYPE_CHECKING:
    from devstack.doctor.faults import Fault


class Check(enum.Enum):
    """What is looked at, in this order; the value is its name for people."""

    CONNECTION_STRING = "connection string"
    DNS = "dns"
    TCP = "tcp"
    PROXY = "proxy"
    TLS = "tls"
    CLOCK = "clock"
    WEBSOCKET = "websocket"
    TOKEN = "token"  # noqa: S105 - a name
    ENTITY = "entity"
    METADATA = "metadata"
    LISTENERS = "listeners"
    TARGET = "target"
    CONNECTION = "connection"
    ROUND_TRIP = "round trip"

    @property
    def code(self) -> str:
        """Its name for programs: ``round-trip``."""
        return self.value.replace(" ", "-")


class Verdict(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    """Nothing that stops a connection, or nothing that is certain."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """Not looked at: it does not apply, or an earlier failure makes it senseless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's result. No text shows a key or a token."""

    check: Check
    verdict: Verdict

    what: str
    """What was found, one line."""

    fault: Fault | None = None
    """Of a warning or a failure: which."""

    next_step: str = ""
    """Of a warning or a failure: what to do, one line."""

    duration_ms: float = 0.0

    def fields(self) -> dict[str, object]:
        """Write the object for programs."""
        fields: dict[str, object] = {
            "check": self.check.code,
            "verdict": self.verdict.value,
            "code": None if self.fault is None else self.fault.code,
            "what": one_line(self.what),
        }
        if self.next_step:
            fields["nextStep"] = one_line(self.next_step)
        return fields | {"durationMs": round(self.duration_ms, 1)}


def ok(check: Check, what: str) -> Finding:
    """All is well."""
    return Finding(check=check, verdict=Verdict.OK, what=what)


def skipped(check: Check, why: str) -> Finding:
    """Nothing was looked at."""
    return Finding(check=check, verdict=Verdict.SKIPPED, what=why)


def fail(fault: Fault, what: str = "", *, next_step: str = "") -> Finding:
    """Something stops connections.

    Args:
        fault: Which; it knows its check.
        what: What was found here; the fault's own meaning if not given.
        next_step: What to do here; the fault's own if not given.
    """
    return _faulty(Verdict.FAIL, fault, what, next_step)


def warn(fault: Fault, what: str = "", *, next_step: str = "") -> Finding:
    """Something is odd; the arguments are those of `fail`."""
    return _faulty(Verdict.WARN, fault, what, next_step)


def _faulty(verdict: Verdict, fault: Fault, what: str, next_step: str) -> Finding:
    return Finding(
        check=fault.check,
        verdict=verdict,
        what=what or fault.meaning,
        fault=fault,
        next_step=next_step or fault.next_step,
    )
