"""The workbench's findings, beside the relay's decisions: no fault exactly where it grants."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hybridge.protocol import token_inspection
from hybridge.protocol.connection_string import ConnectionString, parse
from hybridge.protocol.secret import Secret
from hybridge.protocol.token_faults import Fault, Part, Refusal, in_order
from hybridge.protocol.token_inspection import State, distance, inspect
from hybridge.protocol.token_parts import recognise_writer
from tests.support.inspection import (
    KEY,
    ORDERS,
    look,
    only_fault,
    signed,
    signed_otherwise,
    states,
)
from tests.support.sas_oracle import Served, decide
from tests.support.sas_tokens import HOST, NOT_BASE64, NOW, ROOT, tokens
from tests.support.vectors import load_vectors, rows

NODE = load_vectors("sas")["node"]
assert isinstance(NODE, dict)


# --- What is right --------------------------------------------------------------------------------


def test_a_good_token_has_no_fault_and_only_its_right_is_unknown() -> None:
    inspection = look(signed())

    assert inspection.is_valid is True
    assert inspection.faults == ()
    assert states(inspection) == {
        "rule": "ok", "audience": "ok", "signature": "ok", "expiry": "ok", "right": "unknown",
    }  # fmt: skip
    assert inspection.parts is not None
    assert inspection.parts.resource == ORDERS
    assert (inspection.parts.key_name, inspection.parts.expires_at) == ("send", NOW + 3_600)


@pytest.mark.parametrize("around", ["{}", "  {}\n", "\ufeff{}\r\n\r\n"])
def test_blanks_and_line_ends_around_a_token_do_not_count(around: str) -> None:
    assert look(around.format(signed())).is_valid is True


@pytest.mark.parametrize(
    "resource",
    [f"sb://{HOST}", f"http://{HOST}:443/Orders", f"https://{HOST}/", f"wss://{HOST}/orders"],
)
def test_other_forms_of_the_same_resource_are_right(resource: str) -> None:
    assert look(signed(resource)).is_valid is True


def test_a_token_for_one_request_is_right_and_said_to_be_no_good_for_listening() -> None:
    inspection = look(signed(f"https://{HOST}/orders/7?x=1"))

    assert inspection.is_valid is True
    assert [check.says for check in inspection.checks if check.part is Part.AUDIENCE] == [
        "for requests below this path only, not for listening"
    ]


def test_without_a_connection_string_nothing_is_said_of_the_signature() -> None:
    inspection = look(signed(), None)

    assert (inspection.is_valid, inspection.faults) == (None, ())
    assert states(inspection)["signature"] == "unknown"


def test_the_connection_string_of_a_whole_namespace_checks_the_host() -> None:
    root = parse(f"Endpoint=sb://{HOST}/;SharedAccessKeyName=send;SharedAccessKey={KEY}")

    assert look(signed(), root).is_valid is True
    assert only_fault(signed("http://elsewhere.test/orders/"), root).part is Part.AUDIENCE


@pytest.mark.parametrize("row", rows(NODE["tokens"]))
def test_a_token_of_microsofts_node_libraries_is_recognised_and_right(
    row: dict[str, object],
) -> None:
    text, name, key = str(row["token"]), str(row["key_name"]), str(row["key"])
    given = ConnectionString(host="ns1.example.test", key_name=name, key=Secret(key))

    inspection = inspect(text, now=NOW - 1, connection_string=given)

    assert inspection.is_valid is True
    assert inspection.parts is not None
    assert "Node" in recognise_writer(inspection.parts.fields)


@pytest.mark.parametrize(
    ("sr", "writer"),
    [
        (quote(ORDERS, safe=""), ".NET"),
        (quote(f"http://{HOST}/", safe=""), "root of a namespace"),
        (quote(f"sb://{HOST}:8443", safe=""), "Java library, as a sender"),
        (quote(f"sb://{HOST}:8443/orders", safe=""), "Java library, as a listener"),
        (quote(f"https://{HOST}/orders/a%20b?x=1", safe=""), "full request address"),
        (f"http%3a%2f%2f{HOST}%2forders", "lower-case"),
        (quote("ftp://x", safe=""), ""),
    ],
)
def test_who_writes_tokens_this_way_is_told_by_the_resource(sr: str, writer: str) -> None:
    assert writer in recognise_writer({"sr": sr})
    assert bool(writer) == bool(recognise_writer({"sr": sr}))


# --- Rule, signature, audience, expiry ------------------------------------------------------------


def test_a_token_of_another_rule_says_whose_connection_string_is_needed() -> None:
    fault = only_fault(signed(key_name="listen", key="other"))

    assert (fault.part, fault.refusal) == (Part.RULE, Refusal.SIGNATURE)
    assert fault.problem == "it names rule 'listen', and the connection string is of rule 'send'"


def test_the_right_key_under_another_rules_name_is_told_apart() -> None:
    fault = only_fault(signed(key_name="listen"))

    assert "signed with the key of rule 'send'" in fault.problem
    assert fault.remedy == "write skn=send"


def test_a_key_in_the_place_of_the_rules_name_is_not_shown() -> None:
    inspection = look(signed(key_name=KEY, key="send"))

    assert "looks like a key" in inspection.faults[0].problem
    assert KEY not in str([fault.problem + fault.remedy for fault in inspection.faults])


def test_the_key_of_another_rule_says_what_to_take() -> None:
    fault = only_fault(signed(key="b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyMDE="))

    assert (fault.part, fault.refusal) == (Part.SIGNATURE, Refusal.SIGNATURE)
    assert "this key did not make it" in fault.problem


SR = quote(ORDERS, safe="")
SE = NOW + 3_600
RIGHT_DIGEST = hmac.digest(KEY.encode(), f"{SR}\n{SE}".encode(), "sha256")
RIGHT_SIG = base64.b64encode(RIGHT_DIGEST).decode()


def with_sig(sig: str) -> str:
    return f"SharedAccessSignature sr={SR}&sig={sig}&se={SE}&skn=send"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (signed_otherwise(base64.b64decode(KEY), f"{SR}\n{SE}", SR), "base64-decoded key"),
        (signed_otherwise(f"{KEY}\n".encode(), f"{SR}\n{SE}", SR), "line end behind it"),
        (signed_otherwise(f'"{KEY}"'.encode(), f"{SR}\n{SE}", SR), "quotation marks"),
        (signed_otherwise(KEY[:-1].encode(), f"{SR}\n{SE}", SR), "'=' at the end of the key"),
        (signed_otherwise(KEY.encode(), f"{SR}\n{SE}\n", SR), "behind 'se'"),
        (signed_otherwise(KEY.encode(), f"{SR}\r\n{SE}", SR), "carriage return"),
        (signed_otherwise(KEY.encode(), f"{SR}\\n{SE}", SR), "two characters"),
        (signed_otherwise(KEY.encode(), f"{SR}{SE}", SR), "no line feed"),
        (signed_otherwise(KEY.encode(), f"{SE}\n{SR}", SR), "in front of 'sr'"),
        (signed_otherwise(KEY.encode(), SR, SR), "without 'se'"),
        (signed_otherwise(KEY.encode(), f"{ORDERS}\n{SE}", SR), "before it was URL-encoded"),
        (signed_otherwise(KEY.encode(), f"{SR.lower()}\n{SE}", SR), "in another way"),
        (
            signed_otherwise(KEY.encode(), f"sb%3A%2F%2F{HOST}%2Forders\n{SE}", SR),
            f"made for 'sr' sb://{HOST}/orders",
        ),
        (
            signed_otherwise(base64.b64decode(KEY), f"{ORDERS}\n{SE}", SR),
            "base64-decoded key, and 'sr' was signed before",
        ),
        (with_sig(quote(quote(RIGHT_SIG, safe=""), safe="")), "URL-encoded twice"),
        (with_sig(RIGHT_DIGEST.hex()), "hexadecimal"),
        (with_sig(RIGHT_SIG.rstrip("=")), "no '=' at its end"),
        (with_sig(quote(RIGHT_SIG[:20], safe="")), "cut off after 20 of 44"),
        (with_sig(quote(base64.b64encode(hashlib.sha512(b"x").digest()), safe="")), "64 bytes"),
        (with_sig("AAAA"), "3 bytes in place of 32"),
        (with_sig("not-base64!"), "is no base64"),
    ],
)
def test_a_known_way_of_signing_wrongly_is_named(text: str, problem: str) -> None:
    fault = only_fault(text)

    assert (fault.part, fault.refusal) == (Part.SIGNATURE, Refusal.SIGNATURE)
    assert problem in fault.problem
    assert fault.remedy
    assert RIGHT_SIG not in fault.problem + fault.remedy


def test_a_signature_with_blanks_or_the_urls_letters_is_read_all_the_same() -> None:
    # A key whose signature has both letters that matter.
    key = next(k for k in map(str, range(1_000)) if {"+", "/"} <= set(_sig_of(k)))
    given = ConnectionString(host=HOST, path="orders", key_name="send", key=Secret(key))
    sig = _sig_of(key)

    blanks = only_fault(with_sig(sig.replace("+", "%20")), given)
    letters = only_fault(with_sig(sig.replace("+", "-").replace("/", "_")), given)

    assert "blanks in place of '+'" in blanks.problem
    assert "'-' and '_' in place of" in letters.problem


def _sig_of(key: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), f"{SR}\n{SE}".encode(), "sha256")).decode()


@pytest.mark.parametrize(
    ("resource", "problem"),
    [
        (
            "http://elsewhere.test/orders/",
            f"for elsewhere.test, and the connection string for {HOST}",
        ),
        (f"http://{HOST}/bills/", "it is for 'bills', and the connection string for 'orders'"),
        (f"http://{HOST}/orders10", "it is for 'orders10'"),
        (f"wss://{HOST}/$hc/orders", "'$hc'"),
        (f"http://user@{HOST}/orders", "user information"),
        (f"http://{HOST}/orders/../bills", "dot segment"),
        (f"http://{HOST}/orders//x", "empty segment"),
        (f"http://{HOST}/orders%2fx", "encoded slash"),
        (f"{HOST}/orders", "does not begin with http://"),
        (quote(ORDERS, safe=""), "URL-encoded twice"),
        ("http:///orders", "no host"),
        ("http://b\u00fccher.test/orders", "outside ASCII"),
        (f"http://{HOST}:https/orders", "port"),
        ("http://[::1/orders", "brackets"),
    ],
)
def test_a_token_for_something_else_says_what_to_sign(resource: str, problem: str) -> None:
    fault = only_fault(signed(resource))

    assert (fault.part, fault.refusal) == (Part.AUDIENCE, Refusal.AUDIENCE)
    assert problem in fault.problem
    assert f"sign {ORDERS}" in fault.remedy


def test_an_expired_token_says_since_when() -> None:
    fault = only_fault(signed(expires_at=NOW - 600))

    assert (fault.part, fault.refusal) == (Part.EXPIRY, Refusal.EXPIRED)
    assert fault.problem == "it ended 10 min ago, at 2025-12-31 23:50:00 UTC"


def test_a_token_ends_at_its_very_second() -> None:
    assert look(signed(expires_at=NOW + 1)).is_valid is True
    assert only_fault(signed(expires_at=NOW)).refusal is Refusal.EXPIRED


def test_a_lifetime_in_the_place_of_the_expiry_is_told() -> None:
    fault = only_fault(signed(expires_at=3_600))

    assert fault.refusal is Refusal.EXPIRED
    assert "1970-01-01 01:00:00 UTC" in fault.problem
    assert "not how long" in fault.remedy


def test_a_long_life_is_remarked_on_and_no_fault() -> None:
    says = {
        seconds: [
            check.says
            for check in look(signed(expires_at=NOW + seconds)).checks
            if check.part is Part.EXPIRY
        ]
        for seconds in (token_inspection.LONG_LIFE_SECONDS, token_inspection.LONG_LIFE_SECONDS + 1)
    }

    assert list(says.values()) == [[""], ["a long life: only a new key ends it early"]]


def test_all_faults_are_named_and_first_the_one_that_the_relay_would_name() -> None:
    inspection = look(f'"{signed("http://elsewhere.test/bills/", key="x", expires_at=NOW - 1)}"')

    assert [fault.refusal for fault in inspection.faults] == [
        Refusal.MALFORMED, Refusal.SIGNATURE, Refusal.AUDIENCE, Refusal.EXPIRED,
    ]  # fmt: skip


def test_faults_are_sorted_by_the_relays_order_and_each_is_there_once() -> None:
    faults = [
        Fault(part=Part.FORM, refusal=refusal, problem=refusal.value, remedy="")
        for refusal in (*reversed(Refusal), *Refusal)
    ]

    assert [fault.refusal for fault in in_order(faults)] == list(Refusal)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "in 1 s"),
        (-119, "119 s ago"),
        (120, "in 2 min"),
        (-7_200, "2 h ago"),
        (172_800, "in 2 days"),
        (-63_115_200, "2 years ago"),
    ],
)
def test_distances_are_in_the_unit_that_one_would_say(seconds: int, text: str) -> None:
    assert distance(NOW + seconds, NOW) == text


# --- Beside the relay -----------------------------------------------------------------------------

OWNERS = {"Root": ROOT[0], "listener": NOT_BASE64, "both": "both-1", "half": "second-key"}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=tokens(),
    rule=st.sampled_from(sorted(OWNERS)),
    path=st.sampled_from(["", "hc1", "team/hc1"]),
)
def test_the_workbench_agrees_with_the_relay(text: str, rule: str, path: str) -> None:
    # A text of several lines is put together, and said to be broken; no relay gets such a one.
    assume(len(text.strip().splitlines()) == 1)
    key = OWNERS[rule]
    given = ConnectionString(host=HOST, path=path or None, key_name=rule, key=Secret(key))

    inspection = look(text, given)

    asked = path
    opened = inspection.parts.opened if inspection.parts else None
    if opened is not None and opened.opens_only_below(path.split("/") if path else []):
        asked = quote("/".join(opened.segments), safe="/")
    relay = Served(hosts=(HOST,), namespace_rules={rule: ("Manage", (key, ""))})
    outcome = decide(relay, text.strip(), asked, right="Send", now=NOW)
    if outcome.startswith("+"):
        assert (inspection.faults, inspection.is_valid) == ((), True)
    else:
        assert inspection.faults[0].refusal.value == outcome
        assert inspection.is_valid is False
    assert all(check.state in State for check in inspection.checks)
    for fault in inspection.faults:
        assert key not in fault.problem + fault.remedy


@given(st.text() | st.text().map("SharedAccessSignature ".__add__))
def test_hostile_text_gets_an_answer(text: str) -> None:
    assert look(text).is_valid is False
