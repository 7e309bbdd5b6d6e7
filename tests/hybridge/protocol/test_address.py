from __future__ import annotations

import contextlib
import re
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import address
from hybridge.protocol.address import Action, Target, parse_target
from hybridge.protocol.errors import MalformedAddress
from tests.support.vectors import load_vectors, rows

SECRET = "0123456789abcdef0123456789abcdef"
TRACKING_ID = "7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11_G5"
NAMES = {"hc1", "team", "team/hc1", "vendor/machines/0f/7/v2"}

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


# --- The query filter ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=pytest.mark.clause(*row["clauses"]))  # type: ignore[misc]  # ints
        for row in rows(load_vectors("query_filter")["rows"])
    ],
    ids=lambda row: str(row["query"]),
)
def test_the_query_filter_gives_the_known_answers(row: dict[str, object]) -> None:
    query, seen = str(row["query"]), str(row["seen"])

    assert address.filter_query(query) == seen
    assert parse_target(f"/$hc/hc1?{query}").query == seen


@given(st.text("sbhc-SBHC=&%3dx+"))
def test_the_filter_drops_parameters_and_keeps_the_rest_in_order(query: str) -> None:
    kept = iter(query.split("&"))
    filtered = address.filter_query(query)

    assert address.filter_query(filtered) == filtered
    if filtered:
        assert all(piece in kept for piece in filtered.split("&"))
    for piece in filtered.split("&"):
        assert not (piece.lower().startswith("sb-hc-") and "=" in piece)


# --- Request targets -----------------------------------------------------------------------------


def test_a_listen_target_is_taken_apart() -> None:
    target = parse_target("/$hc/team/hc1?sb-hc-action=listen&sb-hc-id=abc&sb-hc-token=a%20b%3D")

    assert target == Target(
        is_websocket_path=True,
        path="team/hc1",
        segments=("team", "hc1"),
        query="",
        action=Action.LISTEN,
        parameters={"sb-hc-action": "listen", "sb-hc-id": "abc", "sb-hc-token": "a b="},
    )


@pytest.mark.clause(3)
@pytest.mark.parametrize("raw", ["/$hc/hc1", "/$hc/hc1?", "/$hc/hc1?a=1", "/$hc/hc1?sb-hc-action"])
def test_without_an_action_a_websocket_target_means_connect(raw: str) -> None:
    assert parse_target(raw).action is Action.CONNECT


@pytest.mark.clause(4)
@pytest.mark.parametrize("action", ["dance", "", "listen%20", "listen,connect"])
def test_an_unknown_action_is_refused_with_400(action: str) -> None:
    with pytest.raises(MalformedAddress) as refused:
        parse_target(f"/$hc/hc1?sb-hc-action={action}")

    assert refused.value.status == 400


@pytest.mark.clause(6)
def test_parameter_names_in_other_case_work() -> None:
    target = parse_target("/$HC/hc1?SB-HC-Action=Listen&Sb-Hc-ID=Abc&SB-hc-TOKEN=t")

    assert target.action is Action.LISTEN
    assert target.parameters["sb-hc-id"] == "Abc"
    assert target.parameters["sb-hc-token"] == "t"
    assert target.query == ""


def test_an_http_target_has_no_hc_and_no_action() -> None:
    target = parse_target("/hc1/my%20file?x=%20&sb-hc-token=t&sb-hc-action=dance")

    assert not target.is_websocket_path
    assert target.segments == ("hc1", "my file")
    assert (target.path, target.query) == ("hc1/my%20file", "x=%20")


@pytest.mark.parametrize("raw", ["/$hc", "/$hc/", "/%24hc/", "/$HC?x=1"])
def test_the_websocket_path_alone_names_nothing(raw: str) -> None:
    target = parse_target(raw)

    assert target.is_websocket_path
    assert target.segments == ()


def test_a_trailing_slash_stays_in_the_path_and_adds_no_segment() -> None:
    target = parse_target("/$hc/hc1/sub/")

    assert (target.path, target.segments) == ("hc1/sub/", ("hc1", "sub"))


def test_a_quoted_question_mark_before_a_parameter_separates() -> None:
    target = parse_target("/$hc/hc1%3Fsb-hc-action=listen&sb-hc-id=7?x=1")

    assert (target.action, target.path, target.query) == (Action.LISTEN, "hc1", "x=1")
    assert target.parameters["sb-hc-id"] == "7"


def test_another_quoted_question_mark_belongs_to_the_path() -> None:
    assert parse_target("/hc1/why%3F").segments == ("hc1", "why?")


@pytest.mark.parametrize(
    "raw",
    [
        "", "*", "hc1", "http://ns1.example.test/hc1", "ns1.example.test:443",
        "/$hc/hc1?q=ø", "/$hc/hc1 x", "/$hc/hc1\r\nX: y", "/$hc/hc1\0", "/$hc/hc1#part",
        "/$hc/hc1/../hc2", "/$hc/./hc1", "/hc1/%2e%2e/hc2", "/hc1/%2E",
        "/$hc/hc1?sb-hc-id=1&sb-hc-id=1", "/$hc/hc1?sb-hc-token=1&SB-HC-TOKEN=2",
        "/$hc/hc1?" + "x" * 8_192, "/hc1?" + "x" * 31_000,
    ],
)  # fmt: skip
def test_what_is_no_request_target_is_refused_with_400(raw: str) -> None:
    with pytest.raises(MalformedAddress) as refused:
        parse_target(raw)

    assert refused.value.status == 400


def test_a_target_may_be_8_kib_long() -> None:
    raw = "/$hc/hc1?".ljust(address.MAX_TARGET_BYTES, "x")

    assert len(parse_target(raw).query) == address.MAX_TARGET_BYTES - 9


@given(st.text() | visible.map("/$hc/".__add__) | visible.map("/$hc/hc1?sb-hc-action=".__add__))
def test_hostile_targets_are_read_or_refused(raw: str) -> None:
    with contextlib.suppress(MalformedAddress):
        target = parse_target(raw)
        assert not {".", ".."} & set(target.segments)
        assert target.path in raw


def test_a_target_does_not_show_its_token() -> None:
    assert "SECRET" not in repr(parse_target("/$hc/hc1?sb-hc-token=SECRET"))


# --- Finding the hybrid connection ---------------------------------------------------------------


@pytest.mark.clause(7)
def test_a_hybrid_connection_is_found_in_any_case() -> None:
    assert address.find_entity(("HC1",), NAMES) == ("hc1", ())


@pytest.mark.clause(8)
@pytest.mark.parametrize(
    ("path", "name", "suffix"),
    [
        ("team", "team", ()),
        ("team/hc1", "team/hc1", ()),
        ("team/hc1/x", "team/hc1", ("x",)),
        ("team/hc2", "team", ("hc2",)),
        ("Vendor/Machines/0F/7/V2", "vendor/machines/0f/7/v2", ()),
    ],
)
def test_the_longest_registered_name_wins(path: str, name: str, suffix: tuple[str, ...]) -> None:
    assert address.find_entity(tuple(path.split("/")), NAMES) == (name, suffix)


@pytest.mark.parametrize(
    "segments",
    [(), ("hc",), ("hc10",), ("", "hc1"), ("team/hc1",), ("hc1/x",), ("vendor", "machines"),
     ("\u212ac1",), ("x" * 300,)],
)  # fmt: skip
def test_only_whole_segments_count(segments: tuple[str, ...]) -> None:
    assert address.find_entity(segments, NAMES | {"kc1"}) is None


def test_an_empty_segment_ends_the_name_and_belongs_to_the_suffix() -> None:
    assert address.find_entity(("team", "", "hc1"), NAMES) == ("team", ("", "hc1"))


@given(st.lists(st.sampled_from(["hc1", "team", "x", "", "a/b"]), max_size=6))
def test_name_and_suffix_make_up_the_path(segments: list[str]) -> None:
    found = address.find_entity(segments, NAMES)

    if found is not None:
        assert [*found[0].split("/"), *found[1]] == segments


@pytest.mark.parametrize("name", ["orders", "a.b-c_d", "vendor/machines/0f/7/v2", "..x", "A" * 260])
def test_names_that_a_hybrid_connection_may_have(name: str) -> None:
    assert address.is_entity_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a b", "a%20", "ø", "$hc", "a\n", "A" * 261],
)
def test_names_that_no_hybrid_connection_may_have(name: str) -> None:
    assert not address.is_entity_name(name)


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


# --- URLs of our own ends ------------------------------------------------------------------------


def test_the_listen_url_leaves_out_port_443() -> None:
    assert address.listen_url("ns1.example.test", 443, "team/hc1", listener_id="7") == (
        "wss://ns1.example.test/$hc/team/hc1?sb-hc-action=listen&sb-hc-id=7"
    )
    assert address.listen_url("::1", 8443, "hc1", listener_id="7") == (
        "wss://[::1]:8443/$hc/hc1?sb-hc-action=listen&sb-hc-id=7"
    )


def test_the_connect_url_has_the_own_query_first() -> None:
    url = address.connect_url(
        "localhost", 8443, "hc1", connection_id="7", suffix="/my file", query="a=1&a=%20"
    )

    assert url == (
        "wss://localhost:8443/$hc/hc1/my%20file?a=1&a=%20&sb-hc-action=connect&sb-hc-id=7"
    )


@given(suffix=st.text(st.characters(codec="utf-8"), min_size=1), query=visible)
def test_a_connect_url_is_read_back_by_the_relay(suffix: str, query: str) -> None:
    url = address.connect_url("h", 443, "hc1", connection_id="7", suffix=suffix, query=query)

    with contextlib.suppress(MalformedAddress):
        target = parse_target(address.parse_url(url).target)
        assert target.segments[0] == "hc1"
        assert target.action is Action.CONNECT


def test_a_url_says_where_to_dial() -> None:
    dial = address.parse_url("wss://G12-Prod.servicebus.windows.net/$hc/hc1?x=1")

    assert (dial.host, dial.port, dial.target) == (
        "g12-prod.servicebus.windows.net",
        443,
        "/$hc/hc1?x=1",
    )
    assert "x=1" not in repr(dial)
    assert address.parse_url("https://[::1]:8443").target == "/"
    assert address.parse_url("https://h?x=1").target == "/?x=1"


@pytest.mark.parametrize(
    "url",
    [
        "", "ws://h/", "http://h/", "h/", "wss://", "wss:///$hc/hc1", "wss://user@h/", "wss://h:x/",
        "wss://h:65536/", "wss://h/#x", "wss://h/ x", "wss://h/\r\nX: y", "wss://ø/", "wss://[::1/",
        "wss://[1.2]/", "wss://h\\@evil/",
    ],
)  # fmt: skip
def test_a_url_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(MalformedAddress):
        address.parse_url(url)


@given(st.text() | visible.map("wss://".__add__))
def test_hostile_urls_are_read_or_refused(url: str) -> None:
    with contextlib.suppress(MalformedAddress):
        dial = address.parse_url(url)
        assert dial.host
        assert 0 <= dial.port <= 65_535
        assert dial.target.startswith("/")


# --- Hosts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Localhost", "localhost", None),
        ("ns1.example.test:8443", "ns1.example.test", 8443),
        ("127.0.0.1:443", "127.0.0.1", 443),
        ("[::1]", "::1", None),
        ("[FD00::1]:8443", "fd00::1", 8443),
        ("h:", "h", None),
    ],
)
def test_a_host_header_is_read(text: str, host: str, port: int | None) -> None:
    assert address.split_authority(text) == (host, port)


@pytest.mark.parametrize("text", ["", ":443", "a b", "h:1:2", "::1", "[]", "[x]", "h:-1", "h/x"])
def test_what_is_no_host_header_is_refused(text: str) -> None:
    with pytest.raises(MalformedAddress):
        address.split_authority(text)


@pytest.mark.parametrize(
    ("address_host", "namespace_host"),
    [
        ("ns1.example.test", "NS1.example.test"),
        ("g12-prod-xx-010-sb.servicebus.windows.net", "ns1.servicebus.windows.net"),
        ("a.b.servicebus.windows.net", "ns1.servicebus.windows.net"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_address_of_the_namespace_or_beside_it_is_followed(
    address_host: str, namespace_host: str
) -> None:
    assert address.may_follow(address_host, namespace_host)


@pytest.mark.parametrize(
    ("address_host", "namespace_host"),
    [
        ("evil.test", "ns1.servicebus.windows.net"),
        ("servicebus.windows.net", "ns1.servicebus.windows.net"),
        ("evilservicebus.windows.net", "ns1.servicebus.windows.net"),
        ("ns1.servicebus.windows.net.evil.test", "ns1.servicebus.windows.net"),
        ("other.test", "ns1.test"),
        ("db.localhost", "localhost"),
        ("10.0.0.5", "10.0.0.4"),
        ("169.254.169.254", "ns1.servicebus.windows.net"),
        ("::1", "fd00::1"),
        ("", "ns1.servicebus.windows.net"),
    ],
)
def test_an_address_elsewhere_is_not_followed(address_host: str, namespace_host: str) -> None:
    assert not address.may_follow(address_host, namespace_host)
