from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import address
from hybridge.protocol.address import Action, Target, parse_target
from hybridge.protocol.errors import MalformedAddress
from tests.support.vectors import load_vectors, rows

NAMES = {"hc1", "team", "team/hc1", "vendor/machines/0f/7/v2"}


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"))


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
