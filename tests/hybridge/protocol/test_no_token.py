"""What stands around a token, and what is none: each told for what it is."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from hybridge.protocol.connection_string import serialize
from hybridge.protocol.token_faults import Part, Refusal
from hybridge.protocol.token_text import MAX_LAYERS, MAX_TEXT_CHARACTERS, Kind
from tests.support.inspection import (
    KEY,
    ORDERS,
    SEND,
    look,
    only_fault,
    signed,
    signed_otherwise,
    states,
)
from tests.support.sas_tokens import HOST, NOW

# --- What stands around it, or is no token --------------------------------------------------------

GOOD = signed()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'"{GOOD}"', "quotation marks"),
        (f"'{GOOD}'", "quotation marks"),
        (f"\u201c{GOOD}\u201d", "quotation marks"),
        (f'"{GOOD}', "quotation marks"),
        (f"Authorization: {GOOD}", "'Authorization:' stands in front"),
        (f"ServiceBusAuthorization:{GOOD}", "'ServiceBusAuthorization:' stands in front"),
        (f"Bearer {GOOD}", "'Bearer' stands in front"),
        (quote(GOOD), "URL-encoded once more"),
        (quote(quote(GOOD)), "URL-encoded once more"),
        (GOOD.replace("&", "&amp;"), "'&amp;'"),
        (GOOD.replace("&", "\\u0026"), "JSON's escapes"),
        (GOOD[:60] + "\n" + GOOD[60:], "several lines"),
        (GOOD.replace(" ", "\n"), "several lines"),
        (GOOD.removeprefix("SharedAccessSignature "), "missing in front"),
        (f"?sb-hc-action=connect&sb-hc-token={quote(GOOD, safe='')}&x=1", "'sb-hc-token'"),
        (f"Endpoint=sb://{HOST}/;SharedAccessSignature={GOOD};EntityPath=orders", "token inside"),
    ],
)
def test_what_stands_around_a_good_token_is_its_only_fault(text: str, problem: str) -> None:
    fault = only_fault(text)

    assert fault.refusal is Refusal.MALFORMED
    assert problem in fault.problem
    assert states(look(text))["signature"] == "ok"


def test_several_layers_are_all_named() -> None:
    faults = look(f'Authorization: "{quote(GOOD)}"').faults

    assert [fault.problem.split()[0] for fault in faults] == ["the", "there", "the"]


@pytest.mark.parametrize(
    ("text", "kind", "refusal"),
    [
        ("", Kind.NOTHING, Refusal.MISSING),
        (" \n", Kind.NOTHING, Refusal.MISSING),
        (KEY, Kind.KEY, Refusal.MALFORMED),
        (serialize(SEND), Kind.CONNECTION_STRING, Refusal.MALFORMED),
        (f'"{serialize(SEND)}"', Kind.CONNECTION_STRING, Refusal.MALFORMED),
        ("Bearer eyJhbGciOiJub25lIn0.e30.c2ln", Kind.JWT, Refusal.MALFORMED),
        ("com.microsoft.azure.relay.TokenProvider@1a2b3c", Kind.OBJECT_NAME, Refusal.MALFORMED),
        ("hello", Kind.UNKNOWN, Refusal.MALFORMED),
        ("x" * (MAX_TEXT_CHARACTERS + 1), Kind.UNKNOWN, Refusal.MALFORMED),
    ],
)
def test_what_was_pasted_instead_of_a_token_is_named(
    text: str, kind: Kind, refusal: Refusal
) -> None:
    inspection = look(text)

    assert inspection.kind is kind
    assert inspection.faults[-1].refusal is refusal
    assert inspection.is_valid is False
    assert bool(inspection.text) == (kind is Kind.JWT)
    assert KEY not in repr(inspection)


def test_a_json_web_token_shows_for_whom_and_until_when_it_is() -> None:
    payload = b'{"aud":"https://relay.azure.net/","iss":"i","nbf":1767225600,"exp":1767229200}'
    text = f"eyJhbGciOiJub25lIn0.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"

    assert look(text).claims == (
        ("audience", "https://relay.azure.net/"), ("issuer", "i"),
        ("from", "2026-01-01 00:00:00 UTC"), ("until", "2026-01-01 01:00:00 UTC"),
    )  # fmt: skip


@pytest.mark.parametrize("payload", [b"[]", b"{", b"\xff", b'{"exp":"soon","nbf":1e300}'])
def test_a_json_web_token_that_cannot_be_read_shows_nothing(payload: bytes) -> None:
    text = f"eyJhbGciOiJub25lIn0.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"

    assert look(text).claims == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD[:40], "'sig' and 'se' and 'skn' are missing"),
        (GOOD.partition("&se=")[0], "'se' and 'skn' are missing"),
        (GOOD.partition("&skn=")[0], "'skn' is missing"),
        (GOOD + "&sr=x", "'sr' is there twice"),
        (GOOD + "&X=1&x=2", "a field is there twice"),
        (GOOD + "&secret", "a field of the token has no '='"),
        (GOOD.replace("skn=send", "skn="), "'skn' is missing or empty"),
        (GOOD + "&x=" + "x" * 4_096, "longer than 4096"),
        (GOOD + "&x=\u00f8", "outside ASCII"),
        ("SharedAccessSignature", "none of the fields"),
        (GOOD.replace("skn=send", "skn=" + "s" * 257), "longer than 256"),
    ],
)
def test_a_token_that_cannot_be_read_says_why(text: str, problem: str) -> None:
    faults = look(text).faults

    assert faults[0].refusal is Refusal.MALFORMED
    assert problem in faults[0].problem


@pytest.mark.parametrize(
    ("expiry", "problem"),
    [
        (f"{NOW}000", "in milliseconds"),
        (f"{NOW}.5", "has a fraction"),
        ("2026-01-01T00:00", "is a date"),
        ("-1", "no time"),
        ("soon", "no time"),
        ("9" * 30, "no time"),
    ],
)
def test_an_expiry_that_cannot_be_read_says_what_it_looks_like(expiry: str, problem: str) -> None:
    sr = quote(ORDERS, safe="")
    text = signed_otherwise(KEY.encode(), f"{sr}\n{expiry}", sr).replace(
        f"se={NOW + 3_600}", f"se={expiry}"
    )

    fault = only_fault(text)

    assert (fault.part, fault.refusal) == (Part.EXPIRY, Refusal.MALFORMED)
    assert problem in fault.problem


def test_layers_around_a_token_are_taken_away_up_to_a_bound() -> None:
    def wrapped(layers: int) -> str:
        return "".join("\"'"[n % 2] for n in range(layers)) + GOOD

    inner, outer = look(wrapped(MAX_LAYERS)), look(wrapped(MAX_LAYERS + 1))

    assert inner.kind is Kind.SHARED_ACCESS_SIGNATURE
    assert outer.kind is Kind.UNKNOWN
