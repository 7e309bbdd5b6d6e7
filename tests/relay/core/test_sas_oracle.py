"""The relay's decisions on tokens, beside those of an oracle that shares no code with it.

One outcome each: a grant, or a 401 of the documented kind. What the two disagree on is a bug of one
of them; what the relay routes is always inside what was signed.
"""

from __future__ import annotations

import ast
import hmac
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

import hybridge
import relay
from hybridge.protocol import address, sas
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import (
    AuthorizationFailed,
    InvalidAudience,
    InvalidSignature,
    MalformedAddress,
    MalformedToken,
)
from relay.core.authorization import authorize
from tests.support.sas_oracle import Signed, decide, entity_of, signature_of
from tests.support.sas_tokens import (
    HALF_EMPTY,
    HOST,
    NAMESPACE,
    NOW,
    ROOT,
    SERVED,
    paths,
    segments,
    tokens,
)


def relays_decision(text: str | None, path: str, claim: Claim) -> str:
    """Ask the relay as the gateway does: the target is parsed, looked up, and then authorized."""
    target = address.parse_target(f"/$hc/{path}?sb-hc-action=connect")
    found = NAMESPACE.find(target.segments)
    try:
        grant = authorize(
            NAMESPACE, found[0] if found else None, text,
            claim=claim, path_segments=target.segments, now=NOW,
        )  # fmt: skip
    except AuthorizationFailed as error:
        return f"{type(error).__name__}{'' if error.status == 401 else error.status}"
    return f"+{grant.rule}"


@pytest.mark.clause(20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 32, 33, 35, 40)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=tokens(), path=paths, claim=st.sampled_from([Claim.LISTEN, Claim.SEND]))
def test_relay_and_oracle_decide_alike(text: str, path: str, claim: Claim) -> None:
    expected = decide(SERVED, text, path, right=str(claim), now=NOW)
    event(expected.partition("+")[0] or "granted")

    assert relays_decision(text, path, claim) == expected


@settings(max_examples=200, deadline=None)
@given(own=st.lists(segments, max_size=3), asked=st.lists(segments, max_size=3))
def test_what_is_routed_is_inside_what_was_signed(own: list[str], asked: list[str]) -> None:
    path = quote("/".join(asked), safe="/%+$")
    resource = f"http://{HOST}/{'/'.join(own)}"
    text = sas.sign(resource, key_name="Root", key=ROOT[0], expires_at=NOW + 1)
    try:
        target = address.parse_target(f"/$hc/{path}")
    except MalformedAddress:
        assume(False)
    found = NAMESPACE.find(target.segments)

    if sas.covers(sas.parse(text), NAMESPACE.hosts, target.segments):
        assert decide(SERVED, text, path, right="Send", now=NOW) == "+Root"
        # The name that it was routed to is a prefix of the same path, so the two nest.
        assert (found[0].name if found else None) == entity_of(SERVED, path)


@given(st.text() | st.text().map("SharedAccessSignature ".__add__), paths)
def test_relay_and_oracle_refuse_hostile_text_alike(text: str, path: str) -> None:
    assert relays_decision(text, path, Claim.SEND) == decide(
        SERVED, text, path, right="Send", now=NOW
    )


# --- Examples, each with the one outcome that it has ----------------------------------------------


def signed(resource: str, *, sr: str = "", expiry: str = str(NOW + 60), extra: str = "") -> str:
    """A token of the rule Root whose signature is good, whatever it says."""
    sr = sr or quote(resource, safe="")
    sig = signature_of(ROOT[0], Signed(sr, b"", expiry, ""))
    return f"SharedAccessSignature sr={sr}&sig={quote(sig, safe='')}&se={expiry}&skn=Root{extra}"


@pytest.mark.parametrize(
    "path",
    [".", "..", "hc1/.", "hc1/..", "./hc1", "hc1/../hc1", "%2e", "%2E%2e/hc1", "hc1/%2e/", "hc1//x",
     "hc1%2fx", "hc1%2Fx", "hc1%5cx", "hc1%5Cx", "hc1\\x", "hc1%00", "hc1\0", "hc1/%ff",
     "hc1/\ufffd"],
)  # fmt: skip
def test_a_resource_with_two_readings_is_for_the_wrong_audience(path: str) -> None:
    for asked in ("hc1", "hc1/x", "hc1/%ff", "hc1/hc1/hc1"):
        assert relays_decision(signed(f"http://{HOST}/{path}"), asked, Claim.SEND) == (
            InvalidAudience.__name__
        )


def test_bytes_that_are_no_text_do_not_open_one_another() -> None:
    # Both would decode to U+FFFD.
    for sr in (
        f"http://{HOST}/hc1/%ff",
        f"http://{HOST}/hc1/%25ff",
        f"http://{HOST}/hc1/%EF%BF%BD",
    ):
        assert relays_decision(signed("", sr=sr), "hc1/%fe", Claim.SEND) == InvalidAudience.__name__


@pytest.mark.parametrize("field", ["sr", "sig", "se", "skn", "SR", "Skn", "unknown"])
def test_a_field_twice_is_malformed_however_good_the_signature(field: str) -> None:
    again = f"&{field}=1" if field != "unknown" else "&unknown=1&Unknown=2"

    assert relays_decision(signed(f"http://{HOST}/", extra=again), "hc1", Claim.SEND) == (
        MalformedToken.__name__
    )


@pytest.mark.parametrize(
    ("expiry", "outcome"),
    [
        (str(NOW + 1), "+Root"),
        (f"0000{NOW + 1}", "+Root"),  # Decided: a plain decimal number all the same.
        ("253402300799", "+Root"),
        (str(NOW), "ExpiredToken"),
        ("0", "ExpiredToken"),
        ("1", "ExpiredToken"),
        *((odd, "MalformedToken") for odd in (
            "253402300800", "9" * 400, "0" * 21, f"-{NOW}", f"+{NOW + 1}", f"{NOW + 1}.0", "1e12",
            "0x7fffffff", "1_767_999_999", f" {NOW + 1}", f"{NOW + 1} 0", f"{NOW + 1}%20", "\uff11",
            "\u0661767999999", "\u00b2", "%31767999999", "", "never",
        )),
    ],
)  # fmt: skip
def test_an_odd_expiry_has_one_outcome(expiry: str, outcome: str) -> None:
    assert relays_decision(signed(f"http://{HOST}/", expiry=expiry), "hc1", Claim.SEND) == outcome


@pytest.mark.parametrize("size", [4_096, 65_536, 1_048_576])
@pytest.mark.parametrize("filler", ["a", "/", "%2f", "../", "\u00f8", "&sr=", "+"])
def test_a_resource_without_end_is_malformed(size: int, filler: str) -> None:
    text = signed("", sr=f"http://{HOST}/" + filler * (size // len(filler)))

    assert relays_decision(text, "hc1", Claim.SEND) == MalformedToken.__name__


def test_an_empty_key_opens_nothing_and_the_other_one_does() -> None:
    sr = quote(f"http://{HOST}/hc1", safe="")
    for key, outcome in ((HALF_EMPTY[0], "InvalidSignature"), (HALF_EMPTY[1], "+half")):
        sig = quote(signature_of(key, Signed(sr, b"", str(NOW + 1), "")), safe="")
        text = f"SharedAccessSignature sr={sr}&sig={sig}&se={NOW + 1}&skn=half"
        assert relays_decision(text, "hc1", Claim.SEND) == outcome


# --- Time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_name", ["listener", "both", "Root", "nobody"])
@pytest.mark.parametrize("path", ["hc1", "nowhere"])
def test_a_refused_signature_costs_the_same_whichever_rules_there_are(
    monkeypatch: pytest.MonkeyPatch, key_name: str, path: str
) -> None:
    made: list[int] = []
    compared: list[int] = []
    digest, compare_digest = hmac.digest, hmac.compare_digest

    def counting(key: bytes, msg: bytes, algorithm: str) -> bytes:
        made.append(len(msg))
        return digest(key, msg, algorithm)

    def comparing(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return compare_digest(one, other)

    monkeypatch.setattr("hmac.digest", counting)
    monkeypatch.setattr("hmac.compare_digest", comparing)
    text = sas.sign(f"http://{HOST}/", key_name=key_name, key="wrong", expires_at=NOW + 1)
    made.clear()

    assert relays_decision(text, path, Claim.SEND) == InvalidSignature.__name__

    # Two keys at the hybrid connection and two at the namespace, there or not.
    assert made == [len(sas.parse(text).signed_text)] * 4
    assert compared == [44] * 4


def _compares_a_secret_by_equality(node: ast.AST) -> bool:
    if not isinstance(node, ast.Compare):
        return False
    if not any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
        return False
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Call) and ast.unparse(side.func) == "len" for side in sides):
        return False
    names = {
        part.id if isinstance(part, ast.Name) else part.attr
        for side in sides
        for part in ast.walk(side)
        if isinstance(part, ast.Name | ast.Attribute)
    }
    words = ("signature", "digest", "hmac")
    return any(word in name.lower() for name in names for word in words)


def test_no_signature_is_compared_in_a_time_that_tells_how_far_it_is_right() -> None:
    found = []
    for package in (hybridge, relay):
        for path in Path(package.__path__[0]).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if _compares_a_secret_by_equality(node):
                    found.append((path.name, getattr(node, "lineno", 0)))  # noqa: PERF401

    assert found == []
    assert _compares_a_secret_by_equality(ast.parse("token.signature == made", mode="eval").body)
