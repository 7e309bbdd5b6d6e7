"""What can be wrong with a token, in the order in which the relay would notice it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Refusal(enum.Enum):
    """How a relay refuses a token; the value is what its reason phrase begins with (4.2).

    Defined in the order of the relay's own checks: of several faults it names the first.
    """

    MISSING = "MissingToken"
    MALFORMED = "MalformedToken"
    SIGNATURE = "InvalidSignature"
    AUDIENCE = "InvalidAudience"
    EXPIRED = "ExpiredToken"
    CLAIM = "Authorization failed for specified action"

    @property
    def rank(self) -> int:
        """The place in the order of the checks, from 0."""
        return _ORDER.index(self)


_ORDER = tuple(Refusal)


class Part(enum.Enum):
    """The part of a token that is looked at."""

    FORM = "token"
    RULE = "rule"
    SIGNATURE = "signature"
    AUDIENCE = "audience"
    EXPIRY = "expiry"
    CLAIM = "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with a token."""

    part: Part

    refusal: Refusal
    """What the relay answers for it, if nothing before it is wrong."""

    problem: str
    """What is wrong, one line. Shows neither key nor signature."""

    remedy: str
    """What would be right, one line."""


def in_order(faults: list[Fault]) -> tuple[Fault, ...]:
    """Sort faults, so that the first is the one that the relay names; each problem once."""
    once: dict[tuple[Part, str], Fault] = {}
    for fault in faults:
        once.setdefault((fault.part, fault.problem), fault)
    return tuple(sorted(once.values(), key=lambda fault: fault.refusal.rank))
