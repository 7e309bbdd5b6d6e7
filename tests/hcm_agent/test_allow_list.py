"""Where the agent may connect to: entries, names, addresses, and what DNS may say."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcm_agent import allow_list
from hcm_agent.allow_list import MAX_RULES, TargetNotAllowed, parse_allow_list
from hybridge.protocol.errors import InvalidSetting


def allows(entries: list[str], host: str, port: int, *, leads_to: str = "") -> bool:
    """Whether a target is allowed; ``leads_to`` are the addresses that its name has."""
    try:
        choose = parse_allow_list(entries, setting="AllowTargets").check(host, port)
        if choose is not None:
            choose(leads_to.split())
    except TargetNotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("entry", "host", "port", "expected"),
    [
        ("db.corp.local:5432", "db.corp.local", 5432, True),
        ("db.corp.local:5432", "DB.Corp.Local.", 5432, True),
        ("DB.corp.local.:5432", "db.corp.local", 5432, True),
        ("db.corp.local:5432", "db.corp.local", 22, False),
        ("db.corp.local:5432", "db", 5432, False),
        ("db.corp.local:5432", "xdb.corp.local", 5432, False),
        ("db.corp.local:5432", "db.corp.local.evil.test", 5432, False),
        ("*.corp.local:*", "db.corp.local", 1, True),
        ("*.corp.local:*", "a.b.corp.local", 65_535, True),
        ("*.corp.local:*", "corp.local", 1, False),
        ("*.corp.local:*", "evilcorp.local", 1, False),
        ("db:1000-1002", "db", 1000, True),
        ("db:1000-1002", "db", 1002, True),
        ("db:1000-1002", "db", 1003, False),
        ("*:5432", "anything", 5432, True),
        ("*:5432", "10.0.0.5", 5432, True),
        ("*:5432", "::1", 5432, True),
        ("*:5432", "anything", 5433, False),
        ("10.0.0.5:5432", "10.0.0.5", 5432, True),
        ("10.0.0.5:5432", "::ffff:10.0.0.5", 5432, True),
        ("10.0.0.5:5432", "10.0.0.6", 5432, False),
        ("10.0.0.0/8:5432", "10.255.1.2", 5432, True),
        ("10.0.0.0/8:5432", "11.0.0.1", 5432, False),
        ("10.0.0.0/8:5432", "::1", 5432, False),
        ("[::1]:5432", "::1", 5432, True),
        ("[::1]:5432", "::2", 5432, False),
        ("[fd00::/8]:*", "fd00::17", 5432, True),
        ("[fd00::]/8:*", "fd00::17", 5432, True),
        ("[::/0]:*", "::ffff:10.0.0.5", 5432, False),
        ("localhost:5432", "127.0.0.1", 5432, False),
    ],
)
def test_a_target_needs_an_entry_for_its_host_and_its_port(
    entry: str, host: str, port: int, *, expected: bool
) -> None:
    assert allows([entry], host, port) is expected


def test_one_entry_of_several_is_enough_and_without_any_nothing_is_allowed() -> None:
    assert allows(["a:1", "b:2"], "b", 2)
    assert not allows(["a:1", "b:2"], "a", 2)
    assert not allows([], "a", 1)


@pytest.mark.parametrize(
    ("leads_to", "expected"),
    [
        ("10.0.0.5", True),
        ("::ffff:10.0.0.5", True),
        ("10.0.0.5 192.0.2.1", True),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("", False),
    ],
)
def test_an_entry_with_addresses_allows_a_name_that_leads_there(
    leads_to: str, *, expected: bool
) -> None:
    assert allows(["10.0.0.0/8:5432"], "db", 5432, leads_to=leads_to) is expected


def test_of_a_names_addresses_only_the_allowed_ones_are_left() -> None:
    choose = parse_allow_list(["10.0.0.0/8:*"], setting="").check("db", 5432)

    assert choose is not None
    assert set(choose(["192.0.2.1", "10.0.0.5", "127.0.0.1"])) == {"10.0.0.5"}


def test_an_address_that_is_spelled_as_a_name_is_judged_by_what_it_leads_to() -> None:
    assert not allows(["10.0.0.0/8:*"], "127.1", 22, leads_to="127.0.0.1")
    assert not allows(["10.0.0.0/8:*"], "2130706433", 22, leads_to="127.0.0.1")


def test_an_entry_with_a_name_allows_it_wherever_it_leads() -> None:
    assert parse_allow_list(["db:5432"], setting="").check("db", 5432) is None


def test_the_refusal_names_the_target_where_it_leads_and_what_would_allow_it() -> None:
    choose = parse_allow_list(["10.0.0.0/8:*"], setting="").check("db", 5432)
    assert choose is not None

    with pytest.raises(TargetNotAllowed) as caught:
        choose(["192.0.2.1", "::1"])

    assert caught.value.status == 403
    assert str(caught.value) == (
        "The agent's allow-list does not have the target db:5432: it leads to 192.0.2.1, ::1."
    )
    assert "add db:5432 to --allow-target" in caught.value.hint


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("", "has no port"),
        ("db", "has no port"),
        ("db:", "does not end with a port"),
        (":5432", "the host is missing"),
        ("db:0", "does not end with a port"),
        ("db:65536", "does not end with a port"),
        ("db:9-1", "range of ports"),
        ("db:1-", "does not end with a port"),
        ("db:1-2-3", "does not end with a port"),
        ("db:²", "does not end with a port"),
        ("tcp://db:1", "scheme"),
        ("::1:5432", "brackets"),
        ("fd00::/8:5432", "brackets"),
        ("[db]:5432", "not an IPv6 address"),
        ("10.0.0.5/8:5432", "has host bits set"),
        ("10.0.0.0/33:5432", "10.0.0.0/33"),
        ("db/8:5432", "db/8"),
        ("[::ffff:10.0.0.0/104]:1", "IPv4"),
        ("*.:1", "the host is missing"),
        ("d*.local:1", "is not a host name"),
        ("*.*.local:1", "is not a host name"),
    ],
)
def test_an_entry_that_is_none_is_an_error_with_a_next_step(entry: str, problem: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse_allow_list([entry], setting="--allow-target")

    assert str(caught.value).startswith("--allow-target: ")
    assert problem in str(caught.value)
    assert caught.value.hint


def test_there_is_a_limit_to_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allow_list, "MAX_RULES", 2)
    with pytest.raises(InvalidSetting, match="has 3 entries, and at most 2"):
        parse_allow_list(["a:1", "b:1", "c:1"], setting="AllowTargets")
    assert MAX_RULES == 1_000


@given(st.text(max_size=30))
def test_whatever_is_written_is_a_rule_or_one_error(text: str) -> None:
    with contextlib.suppress(InvalidSetting):
        assert len(parse_allow_list([text], setting="AllowTargets").rules) == 1


@pytest.mark.parametrize(
    "entry",
    ["*:*", "db.corp.local:5432", "*.corp.local:5432-5440", "10.0.0.0/8:*", "[fd00::/8]:1433"],
)
def test_a_rule_is_written_as_it_is_read(entry: str) -> None:
    (rule,) = parse_allow_list([entry], setting="--allow-target").rules

    assert str(rule) == entry
