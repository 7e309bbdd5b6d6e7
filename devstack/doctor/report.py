"""What `hybridge doctor` prints: lines for people, an object for programs and support tickets.

Nothing here shows a key, a token or a signature: neither a finding nor a connection string's
secret part gets this far.
"""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from devstack.doctor import shape
from devstack.doctor.finding import Check, Finding, Verdict
from hybridge.program.host_port import format_host_port
from hybridge.protocol.redaction import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devstack.doctor.case import Role
    from devstack.doctor.examination import Examination

WIDTH = 80
"""Longest line, as far as words allow."""

_NAME_WIDTH = max(len(each.value) for each in Check) + 2

_SYMBOLS = {Verdict.OK: "✓", Verdict.WARN: "!", Verdict.FAIL: "✗", Verdict.SKIPPED: "·"}
_ASCII = {Verdict.OK: "ok  ", Verdict.WARN: "warn", Verdict.FAIL: "FAIL", Verdict.SKIPPED: "-   "}
_COLORS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red", Verdict.SKIPPED: ""}


class Lines:
    """Writes findings as lines.

    Args:
        has_symbols: Whether the terminal knows more than ASCII.
    """

    def __init__(self, *, has_symbols: bool) -> None:
        self._marks = _SYMBOLS if has_symbols else _ASCII
        self._arrow = "→ " if has_symbols else "-> "

    def mark(self, verdict: Verdict) -> tuple[str, str]:
        """Give the mark of a verdict, and its colour."""
        return self._marks[verdict], _COLORS[verdict]

    def body(self, finding: Finding) -> Iterator[str]:
        """Give the lines behind the mark: what was found, and under it what to do."""
        name = f"{finding.check.value:<{_NAME_WIDTH}}"
        indent = " " * len(name)
        yield from self._wrapped(one_line(finding.what), first=name, rest=indent)
        if finding.next_step:
            yield from self._wrapped(
                one_line(finding.next_step), first=indent + self._arrow, rest=f"{indent}  "
            )

    def _wrapped(self, text: str, *, first: str, rest: str) -> list[str]:
        margin = len(self._marks[Verdict.OK]) + 3
        return textwrap.wrap(
            text,
            width=WIDTH - margin,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def indent(self) -> str:
        """Give what stands in front of all lines of a finding but the first."""
        return " " * (len(self._marks[Verdict.OK]) + 3)


def title(examination: Examination, *, role: Role | None) -> str:
    """Say what is examined, and from which side, where that is known."""
    given = examination.notes.given
    if given is None:
        return "a connection string"
    side = "" if role is None else f", as {role.value}"
    name = f"'{one_line(given.path)}'" if given.path else "a namespace"
    return f"{name} at {one_line(format_host_port(given.host, given.port))}{side}"


def conclusion(examinations: Sequence[Examination]) -> list[str]:
    """Give the last lines: the cause and the next step, or that all is well."""
    lines = []
    for examination in examinations:
        where = f"{title(examination, role=examination.role)}: " if len(examinations) > 1 else ""
        cause = examination.cause
        if cause is not None and cause.fault is not None:
            lines.append(f"{where}Cause: {cause.fault.code}: {one_line(cause.what)}")
            lines.append(f"{where}Next: {one_line(cause.next_step)}")
        else:
            side = "" if examination.role is None else f" for a {examination.role.value}"
            lines.append(f"{where}Nothing stands in the way{side}.{_remarks(examination)}")
    return lines


def _remarks(examination: Examination) -> str:
    codes = [each.fault.code for each in examination.warnings if each.fault is not None]
    return f" Worth a look: {', '.join(codes)}." if codes else ""


def fields(examinations: Sequence[Examination], *, version: str, now: float) -> dict[str, object]:
    """Write the object for programs."""
    return {
        "hybridge": version,
        "examinedAt": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ok": all(each.cause is None for each in examinations),
        "examinations": [_examination(each) for each in examinations],
    }


def _examination(examination: Examination) -> dict[str, object]:
    given, cause = examination.notes.given, examination.cause
    return {
        "namespace": None if given is None else one_line(given.host),
        "port": None if given is None else given.port,
        "hybridConnection": None if given is None else one_line(given.path or ""),
        "rule": None if given is None or not given.key_name else shape.rule_name(given).strip("'"),
        "role": None if examination.role is None else examination.role.value,
        "cause": None if cause is None or cause.fault is None else cause.fault.code,
        "findings": [each.fields() for each in examination.findings],
    }
