"""What the relay says: do WebSockets reach it, does the token open the hybrid connection?"""

from __future__ import annotations

import asyncio
import uuid

from devstack.doctor import shape
from devstack.doctor.case import Case, Notes, Role
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, fail, ok, warn
from devstack.doctor.reach import dialer_for
from hybridge.management import TOKEN_LIFETIME_SECONDS
from hybridge.protocol import address, token_inspection
from hybridge.protocol.connection_string import token_for
from hybridge.protocol.errors import HandshakeRefused, RelayError
from hybridge.protocol.redaction import one_line
from hybridge.protocol.secret import Secret
from hybridge.protocol.token_faults import Refusal
from hybridge.protocol.token_questions import RelayVerdict
from hybridge.token_check import ask_relay
from hybridge.transport.handshake import shake_hands


async def try_websocket(case: Case, notes: Notes) -> Finding:
    """Check that a WebSocket handshake arrives at the relay as one.

    It asks to listen, without a token: a relay that sees a handshake answers 401, and registers
    nobody.
    """
    given = notes.connection_string
    dialer = dialer_for(case, given)
    url = address.listen_url(given.host, given.port, notes.path, listener_id=str(uuid.uuid4()))
    try:
        async with asyncio.timeout(case.timeout_seconds):
            wire = await dialer.dial(given.host, given.port)
            try:
                await shake_hands(wire, url)
            finally:
                wire.abort()
    except TimeoutError:
        return fail(Fault.WEBSOCKET_CUT, f"no answer to a handshake in {case.timeout_seconds:g} s")
    except HandshakeRefused as refusal:
        return _answered(refusal)
    except RelayError as error:
        return fail(Fault.WEBSOCKET_CUT, str(error))
    return ok(Check.WEBSOCKET, "a handshake is answered")


def _answered(refusal: HandshakeRefused) -> Finding:
    said = _shown(refusal)
    if refusal.status == 401:
        return ok(Check.WEBSOCKET, "a handshake reaches the relay")
    if "TrackingId:" in refusal.reason and refusal.status in (404, 429, 500, 503):
        # A relay's own words, which it has for handshakes too; what they mean is seen later.
        return ok(Check.WEBSOCKET, f"a handshake reaches the relay, which says {said}")
    if refusal.status == 400 and "web-socket" in refusal.reason.lower():
        what = "a handshake reaches the relay as a plain request: the header Upgrade is missing"
        return fail(Fault.UPGRADE_STRIPPED, what)
    return fail(Fault.UPGRADE_STRIPPED, f"a handshake is answered {said}, not by a relay's 401")


def _shown(refusal: HandshakeRefused) -> str:
    return one_line(f"{refusal.status} {refusal.reason.partition(' TrackingId:')[0]}").strip()


async def check_token(case: Case, notes: Notes) -> Finding:
    """Check signature, audience, expiry and right, by asking the relay."""
    given = notes.connection_string
    expires_at = int(case.clock()) + TOKEN_LIFETIME_SECONDS
    token = token_for(given, expires_at=expires_at)
    try:
        verdict = await ask_relay(
            token or "none",
            host=given.host,
            port=given.port,
            path=notes.path,
            ca=case.ca,
            connect_to=case.connect_to,
            proxy=case.proxy,
            timing=case.timing,
        )
    except RelayError as error:
        return fail(Fault.TOKEN_NOT_CHECKED, str(error), next_step=error.hint)
    notes.verdict = verdict
    if token is None:
        return _anonymous(verdict, notes)
    notes.token = Secret(token)
    if "ip has been prevented" in verdict.says.lower():
        return fail(Fault.ADDRESS_BLOCKED, f"the relay answers {verdict.says}")
    if verdict.opens is False:
        return _refused(verdict, notes, now=case.clock())
    notes.role = notes.role or _role_of(verdict, given.key_name or "")
    if verdict.opens is None:
        return warn(Fault.TOKEN_NOT_CHECKED, f"the relay answers {verdict.says}")
    return _judge_right(verdict, notes)


def _anonymous(verdict: RelayVerdict, notes: Notes) -> Finding:
    notes.role = notes.role or Role.SENDER
    if notes.role is Role.LISTENER:
        return fail(Fault.NO_TOKEN, "a listener needs a token", next_step=Fault.NO_KEY.next_step)
    if not verdict.is_anonymous:
        return fail(Fault.NO_TOKEN)
    return ok(Check.TOKEN, "none is given, and senders need none here")


def _refused(verdict: RelayVerdict, notes: Notes, *, now: float) -> Finding:
    given = notes.connection_string
    refusal = verdict.fault.refusal if verdict.fault else Refusal.MALFORMED
    what = f"the relay answers {verdict.says}"
    if given.token is not None:
        # Made elsewhere: the workbench knows more about it than the relay says.
        seen = token_inspection.inspect(
            given.token.reveal(), now=now, connection_string=given
        ).faults
        same = next((each for each in seen if each.refusal is refusal), None)
        if same is not None and refusal is not Refusal.MALFORMED:
            return fail(_REFUSALS[refusal], f"{what} {same.problem}", next_step=same.remedy)
    elif refusal is Refusal.SIGNATURE and shape.is_odd_key(given):
        return fail(Fault.TRUNCATED_KEY, what)
    elif refusal is Refusal.EXPIRED:
        return fail(
            Fault.TOKEN_EXPIRED,
            f"{what} It was made just now",
            next_step="set this machine's clock: it is behind the relay's by more than the "
            "token's life",
        )
    return fail(_REFUSALS[refusal], what)


_REFUSALS = {
    Refusal.MISSING: Fault.NO_TOKEN,
    Refusal.MALFORMED: Fault.MALFORMED_TOKEN,
    Refusal.SIGNATURE: Fault.WRONG_KEY,
    Refusal.AUDIENCE: Fault.WRONG_AUDIENCE,
    Refusal.EXPIRED: Fault.TOKEN_EXPIRED,
    Refusal.CLAIM: Fault.WRONG_RIGHT,
}


def _role_of(verdict: RelayVerdict, key_name: str) -> Role:
    """Say which side a rule is for; its name decides where the rights do not."""
    if verdict.may_listen is not verdict.may_send:
        if verdict.may_listen is True or verdict.may_send is False:
            return Role.LISTENER
        return Role.SENDER
    return Role.SENDER if "send" in key_name.lower() else Role.LISTENER


def _judge_right(verdict: RelayVerdict, notes: Notes) -> Finding:
    role = notes.role or Role.LISTENER
    given = notes.connection_string
    whose = f"rule {shape.rule_name(given)}" if given.key_name else "the token's rule"
    has = verdict.may_listen if role is Role.LISTENER else verdict.may_send
    other = verdict.may_send if role is Role.LISTENER else verdict.may_listen
    if role is Role.SENDER and verdict.is_anonymous:
        return ok(Check.TOKEN, "it is taken, and senders need none here")
    if has is False:
        wanted, found = ("Listen", "Send") if role is Role.LISTENER else ("Send", "Listen")
        what = f"{whose} grants no {wanted}, which a {role.value} needs"
        if other:
            what += f"; it grants {found}"
        return fail(Fault.WRONG_RIGHT, what)
    return ok(Check.TOKEN, f"{whose} is known here, and grants {role.claim}")
