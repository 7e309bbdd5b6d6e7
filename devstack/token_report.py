"""What `hybridge token inspect` prints: a page for people, an object for programs.

Nothing here shows a signature or a key.
"""

from __future__ import annotations

from dataclasses import dataclass

from hybridge.protocol import token_parts, token_text
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import RelayError
from hybridge.protocol.redaction import one_line
from hybridge.protocol.token_faults import Fault, Part, Refusal, in_order
from hybridge.protocol.token_inspection import Inspection, State, distance, moment
from hybridge.protocol.token_questions import RelayVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A relay that was asked, and what came of it."""

    host: str
    port: int
    path: str

    verdict: RelayVerdict | None
    """None if it could not be asked: see `error`."""

    error: RelayError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A token's inspection, with what a relay said."""

    inspection: Inspection
    connection_string: ConnectionString | None
    now: float
    asked: Asked | None = None

    claim_fault: Fault | None = None
    """The right that the token should have, and has not."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All that is wrong, in the order of the relay's checks."""
        more = [self._relays_fault, self.claim_fault]
        return in_order([*self.inspection.faults, *(fault for fault in more if fault)])

    @property
    def is_valid(self) -> bool | None:
        """Whether the token is taken, a relay's word before our own; None if that is not known."""
        verdict = self.asked.verdict if self.asked else None
        if any(fault.refusal in _UNREADABLE for fault in self.inspection.faults):
            return False
        if self.claim_fault:
            return False
        if verdict is not None and verdict.opens is not None:
            return verdict.opens
        return self.inspection.is_valid

    @property
    def _relays_fault(self) -> Fault | None:
        verdict = self.asked.verdict if self.asked else None
        if verdict is None or verdict.fault is None:
            return None
        # Said better by our own finding, where there is one of the same kind.
        known = {fault.refusal for fault in self.inspection.faults}
        return None if verdict.fault.refusal in known else verdict.fault

    # --- for people -------------------------------------------------------------------------------

    def text(self) -> str:
        """Write the page for people."""
        inspection = self.inspection
        kind = inspection.kind.value
        lines = [kind[:1].upper() + kind[1:], ""]
        lines += [_row(name, value) for name, value in self._decoded()]
        if inspection.checks:
            lines += ["", self._checked_with(), ""]
            for check in inspection.checks:
                if check.part is Part.CLAIM and self.asked is not None:
                    continue  # The relay's answer stands below.
                says = f": {check.says}" if check.says else ""
                lines.append(_row(check.part.value, f"{check.state.value}{says}"))
                lines += [
                    _row("", f"→ {fault.remedy}")
                    for fault in inspection.faults
                    if check.state is State.WRONG and fault.problem == check.says
                ]
        told = {check.says for check in inspection.checks}
        others = [fault for fault in self.faults if fault.problem not in told]
        if others:
            lines += [""] if inspection.checks or self._decoded() else []
            for fault in others:
                lines += [_row(fault.part.value, fault.problem), _row("", f"→ {fault.remedy}")]
        if self.asked is not None:
            lines += ["", *self._what_the_relay_said(self.asked)]
        return "\n".join([*lines, "", self._conclusion()])

    def _decoded(self) -> list[tuple[str, str]]:
        parts = self.inspection.parts
        if parts is None:
            return list(self.inspection.claims)
        rows = [("resource", parts.resource or "none")]
        if parts.opened is not None:
            rows.append(("opens", token_parts.describe_opened(parts.opened)))
        rows.append(("rule", _rule(parts.key_name)))
        if parts.expires_at is not None:
            at = parts.expires_at
            verb = "expires" if at > self.now else "expired"
            rows.append((verb, f"{moment(at)}, {distance(at, self.now)}"))
        if writer := token_parts.recognise_writer(parts.fields):
            rows.append(("written as", writer))
        return rows

    def _checked_with(self) -> str:
        given = self.connection_string
        if given is None:
            return "Checked without a connection string"
        path = f"{given.endpoint}{given.path or ''}"
        if given.key is None:
            return f"Checked with a connection string for {path}, which has no key"
        return f"Checked with the connection string of rule '{given.key_name}' for {path}"

    def _what_the_relay_said(self, asked: Asked) -> list[str]:
        lines = [f"Asked {asked.host}:{asked.port} about '{one_line(asked.path)}'", ""]
        verdict = asked.verdict
        if verdict is None:
            return [*lines, _row("answer", f"none: {asked.error}")]
        opens = {True: "opens it", False: "does not open it", None: "not known"}[verdict.opens]
        lines.append(_row("token", f"{opens}: {verdict.says}"))
        if verdict.opens is not False:
            send = _YES_NO[verdict.may_send]
            if verdict.is_anonymous:
                send = "senders need no token here, so theirs is not looked at"
            lines += [_row("Listen", _YES_NO[verdict.may_listen]), _row("Send", send)]
        if verdict.exists is False:
            lines.append(_row("", "→ there is no such hybrid connection: check its name"))
        return lines

    def _conclusion(self) -> str:
        if self.is_valid:
            if self.inspection.faults:
                return "The relay takes it. It is the connection string that does not fit."
            return "Valid."
        if self.is_valid is None:
            return "Nothing wrong was found. The signature was not checked."
        faults = [fault for fault in self.faults if fault.refusal in self._refusals()]
        also = f", for the first of {len(faults)} faults" if len(faults) > 1 else ""
        return f"Not valid: a relay answers 401 {faults[0].refusal.value}{also}."

    def _refusals(self) -> tuple[Refusal, ...]:
        """Name the refusals that count: what only the connection string says, a relay overrules."""
        verdict = self.asked.verdict if self.asked else None
        if verdict is None or verdict.opens is None:
            return tuple(Refusal)
        said = (Refusal.CLAIM,) if verdict.fault is None else (verdict.fault.refusal,)
        return (*_UNREADABLE, *said)

    # --- for programs -----------------------------------------------------------------------------

    def fields(self) -> dict[str, object]:
        """Write the object for programs."""
        parts = self.inspection.parts
        fields: dict[str, object] = {"kind": self.inspection.kind.value, "valid": self.is_valid}
        if parts is not None:
            opens = "" if parts.opened is None else token_parts.describe_opened(parts.opened)
            fields |= {
                "resource": one_line(parts.resource),
                "opens": one_line(opens),
                "rule": one_line(_rule(parts.key_name)),
                "expiresAt": parts.expires_at,
                "writtenAs": token_parts.recognise_writer(parts.fields),
            }
        if self.inspection.claims:
            fields["claims"] = {name: one_line(value) for name, value in self.inspection.claims}
        fields["checks"] = [
            {"part": check.part.value, "state": check.state.value, "says": one_line(check.says)}
            for check in self.inspection.checks
        ]
        fields["faults"] = [
            {
                "part": fault.part.value,
                "refusal": fault.refusal.value,
                "problem": one_line(fault.problem),
                "remedy": one_line(fault.remedy),
            }
            for fault in self.faults
        ]
        if self.asked is not None:
            fields["relay"] = _relay_fields(self.asked)
        return fields


_UNREADABLE = (Refusal.MISSING, Refusal.MALFORMED)
_YES_NO = {True: "yes", False: "no", None: "cannot be told without doing it"}


def _relay_fields(asked: Asked) -> dict[str, object]:
    fields: dict[str, object] = {
        "host": asked.host,
        "port": asked.port,
        "path": one_line(asked.path),
    }
    if asked.verdict is None:
        return fields | {"error": one_line(str(asked.error))}
    verdict = asked.verdict
    return fields | {
        "opens": verdict.opens,
        "exists": verdict.exists,
        "mayListen": verdict.may_listen,
        "maySend": verdict.may_send,
        "sendersNeedNoToken": verdict.is_anonymous,
        "says": verdict.says,
    }


def _row(name: str, value: str) -> str:
    return f"  {name:<11}{one_line(value)}"


def _rule(key_name: str) -> str:
    if token_text.looks_like_key(key_name):
        return "*** (it looks like a key)"
    return key_name or "none"
