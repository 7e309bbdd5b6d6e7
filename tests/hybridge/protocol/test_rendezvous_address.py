"""Rendezvous addresses: made by the relay, dialled by the listener, rejected by query."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import address
from hybridge.protocol.address import Action, parse_target
from hybridge.protocol.errors import MalformedAddress

SECRET = "0123456789abcdef0123456789abcdef"
TRACKING_ID = "7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11_G5"

# RFC 2396 with RFC 2732, which java.net.URI follows: what may stand in a path and in a query.
JAVA_URI = re.compile(
    r"wss://[0-9A-Za-z.\-:\[\]]+"
    r"/(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9\-_.!~*'(),;:$&+=@/])*"
    r"(?:\?(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9\-_.!~*'(),;:$&+=@/?\[\]])*)?"
)

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"))


def accept_url(raw: str, authority: str = "ns1.example.test") -> str:
    """The address that a listener is told of for a sender's request target."""
    target = parse_target(raw)
    return address.rendezvous_url(
        authority,
        target.path,
        query=target.query,
        action=Action.ACCEPT,
        connection_id=TRACKING_ID,
        secret=SECRET,
    )


def accept_target(*appended: str, query: str = "") -> str:
    own = [f"sb-hc-action=accept&sb-hc-id={TRACKING_ID}&sb-hc-rendezvous={SECRET}", *appended]
    return "/$hc/hc1?" + "&".join([query, *own] if query else own)


# --- Rendezvous addresses ------------------------------------------------------------------------


def test_the_accept_address_is_what_the_listener_dials() -> None:
    assert accept_url("/$hc/hc1") == (
        f"wss://ns1.example.test/$hc/hc1?sb-hc-action=accept&sb-hc-id={TRACKING_ID}"
        f"&sb-hc-rendezvous={SECRET}"
    )


@pytest.mark.clause(9)
def test_the_suffix_is_in_the_accept_address() -> None:
    assert accept_url("/$hc/hc1/sub/x?sb-hc-action=connect").startswith(
        "wss://ns1.example.test/$hc/hc1/sub/x?sb-hc-action=accept&"
    )


@pytest.mark.clause(10, 13, 14)
@pytest.mark.parametrize(
    "query", ["color=red", "a=1&a=2&", "&&&", "+&%2B&%20&%2f", "a=b==&c[]=1", "sb-hc-undefined"]
)
def test_the_senders_own_query_comes_first_and_unchanged(query: str) -> None:
    url = accept_url(f"/$hc/hc1?{query}&sb-hc-action=connect&sb-hc-id=1")

    assert url.startswith(f"wss://ns1.example.test/$hc/hc1?{query}&sb-hc-action=accept&")


@pytest.mark.clause(11)
def test_a_sender_cannot_slip_in_parameters_of_its_own() -> None:
    url = accept_url(
        "/$hc/hc1?sb-hc-statusCode=403&SB-HC-rendezvous=x&sb-hc-x=&statusCode=403"
        "&sb-hc-action=connect&sb-hc-id=7"
    )
    target = parse_target(url.removeprefix("wss://ns1.example.test"))

    assert target.query == "statusCode=403"
    assert target.rejection is None
    assert target.parameters == {
        "sb-hc-action": "accept",
        "sb-hc-id": TRACKING_ID,
        "sb-hc-rendezvous": SECRET,
    }


@pytest.mark.clause(17)
@pytest.mark.parametrize(
    "raw",
    [
        '/$hc/hc1/a|b"c?x="1"&y={2}',
        "/$hc/hc1/100%?y=100%&%zz",
        "/$hc/hc1/my%20file?%C3%b8",
        "/$hc/^`",
    ],
)
def test_the_address_is_a_uri_that_java_reads(raw: str) -> None:
    assert JAVA_URI.fullmatch(accept_url(raw))


@pytest.mark.clause(17)
@given(visible, visible)
def test_any_path_and_query_make_an_address_that_both_sides_read(path: str, query: str) -> None:
    raw = f"/$hc/hc1/{path}?{query}"
    try:
        sender = parse_target(raw)
    except MalformedAddress:
        return  # Such a sender is refused, so no listener is told of it.

    url = accept_url(raw, "ns1.example.test:8443")
    listener = parse_target(address.parse_url(url).target)

    assert JAVA_URI.fullmatch(url)
    assert listener.segments == sender.segments
    assert unquote_plus(listener.query) == unquote_plus(sender.query)
    assert (listener.action, listener.rejection) == (Action.ACCEPT, None)
    assert listener.parameters["sb-hc-rendezvous"] == SECRET


def test_an_address_for_the_longest_target_can_be_dialled() -> None:
    raw = "/$hc/hc1?".ljust(address.MAX_TARGET_BYTES, "|")

    target = parse_target(address.parse_url(accept_url(raw)).target)

    assert target.action is Action.ACCEPT


@pytest.mark.parametrize("authority", ["localhost:8443", "ns1.example.test", "[::1]:8443"])
def test_the_address_names_the_host_and_port_it_is_given(authority: str) -> None:
    url = accept_url("/$hc/hc1", authority)

    assert url.startswith(f"wss://{authority}/$hc/hc1?")
    assert address.parse_url(url).authority == authority


# --- Rejecting -----------------------------------------------------------------------------------


@pytest.mark.clause(68)
def test_a_rejection_carries_status_and_description() -> None:
    url = address.reject_url(accept_url("/$hc/hc1?x=1"), 403, "Not today")

    assert url.endswith("&sb-hc-statusCode=403&sb-hc-statusDescription=Not+today")
    assert parse_target(address.parse_url(url).target).rejection == address.Rejection(
        status=403, description="Not today"
    )


@pytest.mark.clause(69)
@pytest.mark.parametrize(
    "quoted", ["Gr%C3%BCn+ist+zu", "Gr%c3%bcn%20ist%20zu", "Gr%C3%BCn%20ist+zu"]
)
def test_a_description_is_decoded(quoted: str) -> None:
    target = parse_target(
        accept_target("sb-hc-statusCode=450", f"sb-hc-statusDescription={quoted}")
    )

    assert target.rejection == address.Rejection(status=450, description="Grün ist zu")


def test_rejection_parameters_compare_without_case() -> None:
    target = parse_target(accept_target("SB-HC-STATUSCODE=403", "sb-hc-statusdescription=no"))

    assert target.rejection == address.Rejection(status=403, description="no")


def test_the_node_sdk_leaves_the_prefix_out() -> None:
    target = parse_target(accept_target("statusCode=403", "statusDescription=Not%20today"))

    assert target.rejection == address.Rejection(status=403, description="Not today")


def test_a_sender_cannot_reject_itself_by_its_own_query() -> None:
    target = parse_target(accept_target(query="statusCode=403&statusDescription=no"))

    assert target.rejection is None


@pytest.mark.clause(70)
@pytest.mark.parametrize(
    "status",
    ["no", "", "40", "4030", "-403", "%2B403", "403.0", "99", "100", "204", "299", "1000",
     "4%EF%BC%903", "403%0d%0aX:y"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["sb-hc-", ""])
def test_a_status_out_of_range_or_not_a_number_is_refused_with_400(
    status: str, prefix: str
) -> None:
    with pytest.raises(MalformedAddress) as refused:
        parse_target(accept_target(f"{prefix}statusCode={status}", "sb-hc-statusDescription=x"))

    assert refused.value.status == 400


def test_a_description_without_a_status_is_no_accept() -> None:
    with pytest.raises(MalformedAddress):
        parse_target(accept_target("sb-hc-statusDescription=no"))


def test_two_statuses_are_refused() -> None:
    with pytest.raises(MalformedAddress):
        parse_target(accept_target("statusCode=403", "statusCode=404"))


@pytest.mark.parametrize(("status", "phrase"), [(404, "Not Found"), (450, "Rejected")])
def test_a_rejection_without_a_description_gets_the_usual_phrase(status: int, phrase: str) -> None:
    target = parse_target(accept_target(f"sb-hc-statusCode={status}"))

    assert target.rejection == address.Rejection(status=status, description=phrase)


@given(st.text())
def test_a_description_arrives_on_one_line(description: str) -> None:
    url = address.reject_url("wss://h/$hc/hc1?sb-hc-action=accept&sb-hc-id=1", 502, description)

    rejection = parse_target(address.parse_url(url).target).rejection

    assert rejection is not None
    assert rejection.description
    assert not re.search(r"[\x00-\x1f\x7f]", rejection.description)
    if description.isprintable() and description.strip():
        assert rejection.description == description.strip()
