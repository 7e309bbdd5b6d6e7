"""The relay's decisions on tokens, beside those of an oracle that shares no code with it.

One outcome each: a grant, or a 401 of the documented kind. What the two disagree on is a bug of one
of them; what the relay routes is always inside what was signed.
"""

from __future__ import annotations

import ast
import base64
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
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
from hybridge.protocol.secret import Secret
from relay.core.authorization import authorize
from relay.namespace import AuthorizationRule, HybridConnection, Namespace
from tests.support.sas_oracle import Served, Signed, decide, entity_of, signature_of

NOW = 1_767_225_600
HOST = "ns1.example.test"
NOT_BASE64 = "not base64, \u00f8 & =!"
HALF_EMPTY = ("", "second-key")
ROOT, BOTH = ("root-1", "root-2"), ("both-1", "both-2")
SERVED = Served(
    hosts=(HOST, "localhost", "::1"),
    namespace_rules={"Root": ("Listen,Send,Manage", ROOT), "both": ("Listen,Send,Manage", BOTH)},
    entities={
        "hc1": {
            "listener": ("Listen", (NOT_BASE64, "k" * 100)),
            "Both": ("Listen", ("own-1", "own-2")),
            "half": ("Send", HALF_EMPTY),
        },
        "hc10": {"listener": ("Listen", ("ten-1", "ten-2"))},
        "team/hc1": {"sender": ("Send", ("team-1", "team-2"))},
        "team": {},
    },
)
KEYS = [NOT_BASE64, "k" * 100, *HALF_EMPTY, *ROOT, *BOTH, "own-1", "own-2", "ten-1", "team-2", "x"]


def _rules(rules: object) -> dict[str, AuthorizationRule]:
    assert isinstance(rules, dict)
    return {
        name.lower(): AuthorizationRule(
            name=name,
            claims=Claim.parse(rights.split(",")),
            primary_key=Secret(primary),
            secondary_key=Secret(secondary),
        )
        for name, (rights, (primary, secondary)) in rules.items()
    }


NAMESPACE = Namespace(
    name="ns1",
    hosts=SERVED.hosts,
    rules=_rules(SERVED.namespace_rules),
    hybrid_connections={
        name: HybridConnection(name=name, rules=_rules(rules))
        for name, rules in SERVED.entities.items()
    },
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


# --- Tokens of every kind ------------------------------------------------------------------------

T = TypeVar("T")
Quoting = Callable[[str], str]
Signing = Callable[[str, str, str], bytes]

odd_schemes = st.sampled_from(["HTTP", "Sb", "ftp", "", "http ", "javascript"])
odd_hosts = st.sampled_from(
    [HOST.upper(), "localhost", "[::1]", "[::1", "::1", "[::1]x", "", "evil.test", f"{HOST}.",
     f"{HOST}.evil.test", "n\u017f1.example.test", "\u212a.test", "%6cocalhost", f"u@{HOST}",
     f"u:p@{HOST}", f"{HOST}@evil.test", f"%40{HOST}", f"{HOST}\\", f"{HOST}\\@evil.test",
     f"{HOST} "]
)  # fmt: skip
odd_ports = st.sampled_from([":443", ":8443", ":", ":x", ":\uff18", ":-1", ":443:443", ":99999999"])
good_paths = st.sampled_from(["", "", "hc1", "hc1/", "HC1", "team/hc1", "Team", "hc1/sub"])
segments = st.sampled_from(
    ["hc1", "hc1", "hc1", "HC1", "hc10", "hc", "team", "Team", "sub", "", ".", "..", "%2e%2E",
    "%2E",
     "a%2fb", "a%2Fb", "a%5cb", "a\\b", "%00", "\0", "caf\u00e9", "caf%C3%A9", "%ff", "%fe", "%FF",
     "%EF%BF%BD", "\ufffd", "%zz", "%", "a b", "a%20b", "a+b", "\u212a", "h\u04411", "$hc", "hc%31",
     "%252e", "%25ff"]
)  # fmt: skip
odd_paths = st.lists(segments, max_size=3).map("/".join)
odd_ends = st.sampled_from(["/", "//", "?a=b", "?/../x", "#f", "#?x", "?\ufffd", "/?x=%2f", "\n"])
good_quotings: st.SearchStrategy[Quoting] = st.sampled_from(
    [
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%3A", "%3a"),
        lambda text: quote(text, safe="/:!*'()"),
    ]
)
odd_quotings: st.SearchStrategy[Quoting] = st.sampled_from(
    [
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: quote(text, safe=" ").replace(" ", "+"),
        lambda text: text.replace("&", ""),
        lambda text: "",
        lambda text: quote(text * 200, safe=""),
    ]
)
good_expiries = st.sampled_from([NOW + 1, NOW + 3_600, 253_402_300_799]).map(str)
odd_expiries = st.sampled_from(
    [NOW, NOW - 1, 0, 1, f"000{NOW + 9}", f"{NOW + 9}.0", "1e12", f"-{NOW}", f"+{NOW + 9}",
     f" {NOW + 9}", f"{NOW + 9} ", "1_767_999_999", "\uff11767999999", "", "9" * 400, "9" * 20,
     "9" * 21,
     "253402300800", "0x7fffffff", "never", "%37"]
).map(str)  # fmt: skip
good_names = st.sampled_from(["listener", "Root", "root", "both", "BOTH", "half", "sender"])
odd_names = st.sampled_from(
    [
        "nobody",
        "",
        "r" * 257,
        "%52%6F%6Ft",
        "Roo+t",
        "Root%00",
        "\u017fender",
        "%C5%BFender",
        " root",
    ]
)
good_signing: Signing = lambda key, sr, se: signature_of(key, Signed(sr, b"", se, ""))  # noqa: E731
odd_signings: st.SearchStrategy[Signing] = st.sampled_from(
    [
        lambda key, sr, se: good_signing(key, sr.lower() + "x", se),
        lambda key, sr, se: good_signing(key, sr, se).rstrip(b"="),
        lambda key, sr, se: good_signing(key, sr, se) + b"\n",
        lambda key, sr, se: good_signing(key, sr, se).swapcase(),
        lambda key, sr, se: good_signing(base64.b64encode(key.encode()).decode(), sr, se),
        lambda key, sr, se: base64.b64decode(good_signing(key, sr, se)).hex().encode(),
        lambda key, sr, se: b"",
    ]
)
IN_ORDER = ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1])
odd_orders = st.sampled_from([[0, 1, 2, 3, 0], [0, 1, 2, 2, 3], [0, 1, 2], [1, 2, 3], []])
odd_extras = st.sampled_from(["x=1", "SE=1", "sr=", "x", "&", "X=1&x=1", " sig =a", "=", "=&="])
odd_prefixes = st.sampled_from(
    ["sharedaccessSIGNATURE ", " SharedAccessSignature ", "Bearer ", "", "SharedAccessSignature\t",
     "SharedAccessSignature  ", "SharedAccessSignature\n"]
)  # fmt: skip
OF_NAME = {
    "root": ROOT, "both": (*BOTH, "own-1"), "listener": (NOT_BASE64, "k" * 100, "ten-1"),
    "half": HALF_EMPTY, "sender": ("team-1", "team-2"),
}  # fmt: skip
PARTS = (
    "scheme", "host", "port", "path", "end", "quoting", "expiry", "name", "key", "signing", "order",
    "extra", "prefix",
)  # fmt: skip


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Tokens that are right, but for up to two parts."""
    odd = draw(st.sets(st.sampled_from(PARTS), max_size=2))

    def part(name: str, good: st.SearchStrategy[T], bad: st.SearchStrategy[T]) -> T:
        return draw(bad if name in odd else good)

    scheme = part("scheme", st.sampled_from(["http", "https", "sb", "wss"]), odd_schemes)
    host = part("host", st.just(HOST), odd_hosts)
    port = part("port", st.just(""), odd_ports)
    path = part("path", good_paths, odd_paths)
    end = part("end", st.just(""), odd_ends)
    sr = part("quoting", good_quotings, odd_quotings)(f"{scheme}://{host}{port}/{path}{end}")
    name = part("name", good_names, odd_names)
    right_keys = OF_NAME.get(name.lower(), ("nobodys",))
    key = part("key", st.sampled_from(right_keys), st.sampled_from(KEYS))
    expiry = part("expiry", good_expiries, odd_expiries)
    sig = quote(part("signing", st.just(good_signing), odd_signings)(key, sr, expiry), safe="+")
    fields = [f"sr={sr}", f"sig={sig}", f"se={expiry}", f"skn={name}"]
    taken = [fields[at] for at in part("order", st.sampled_from(IN_ORDER), odd_orders)]
    extra = part("extra", st.just(""), odd_extras)
    prefix = part("prefix", st.just("SharedAccessSignature "), odd_prefixes)
    return prefix + "&".join(taken + ([extra] if extra else []))


paths = st.sampled_from(
    ["hc1", "hc1", "hc1", "HC1/", "hc1/sub", "hc1/a%2fb", "hc1/caf%C3%A9", "hc1/%ff", "hc1/%fe",
     "hc1/%EF%BF%BD", "hc1//sub", "hc1/a%20b", "hc1/a+b", "hc1/%5c", "hc1/%00", "hc10", "team/hc1",
     "Team/HC1/sub", "team%2Fhc1", "team", "nowhere", "nowhere/else", "hc%31", "hc1/%252e",
     "/hc1", ""]
)  # fmt: skip


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
    names = {
        part.id if isinstance(part, ast.Name) else part.attr
        for side in (node.left, *node.comparators)
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
