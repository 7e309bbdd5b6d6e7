"""What the agent can be told, and what it says to what it cannot use."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from hcm_agent.allow_list import parse_allow_list
from hcm_agent.settings import AgentSources, Target, require_some
from hybridge.program.connection_strings import GivenConnectionStrings
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.secret import Secret
from tests.support.agent_ends import KEY, connection_string

ORDERS = connection_string("orders")
BILLS = connection_string("bills")


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(0o600)
    return path


def from_file(path: Path, document: object) -> AgentSources:
    return AgentSources(config=write(path, document))


def given(*texts: str) -> GivenConnectionStrings:
    return GivenConnectionStrings(texts=texts)


def test_a_file_names_several_hybrid_connections_and_their_targets(tmp_path: Path) -> None:
    sources = from_file(
        tmp_path / "hcm.json",
        {
            "HybridConnections": [
                {"ConnectionString": ORDERS, "Target": "db.corp.local:5432"},
                {"ConnectionString": BILLS, "Target": "[::1]:1433"},
                {"ConnectionString": connection_string("mail")},
            ]
        },
    )

    found = sources.load().hybrid_connections

    assert [(entry.name, entry.target) for entry in found] == [
        ("orders", Target("db.corp.local", 5432)),
        ("bills", Target("::1", 1433)),
        ("mail", None),
    ]
    assert str(found[1].target) == "[::1]:1433"


def test_a_file_may_be_json_with_comments(tmp_path: Path) -> None:
    text = f'{{ // ours\n "HybridConnections": [ {{"ConnectionString": "{ORDERS}"}}, ] }}'

    assert from_file(tmp_path / "hcm.json", text).load().hybrid_connections[0].name == "orders"


def test_a_file_may_be_yaml(tmp_path: Path) -> None:
    text = f'HybridConnections:\n- ConnectionString: "{ORDERS}"\n  Target: db:5432\n'

    assert from_file(tmp_path / "hcm.yaml", text).load().hybrid_connections[0].target == Target(
        "db", 5432
    )


def test_connection_strings_from_outside_take_the_place_of_those_in_the_file(
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path / "hcm.json",
        {
            "HybridConnections": [{"ConnectionString": ORDERS, "Target": "db:5432"}],
            "Settings": {"DrainSeconds": 3, "TargetTimeoutSeconds": 0.5},
        },
    )

    settings = AgentSources(config=path, connection_strings=given(BILLS)).load()

    assert [(entry.name, entry.target) for entry in settings.hybrid_connections] == [
        ("bills", None)
    ]
    assert settings.drain_seconds == 3
    assert settings.hybrid_connections[0].target_timeout_seconds == 0.5


def test_the_flag_target_wins_over_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hcm.json",
        {"HybridConnections": [{"ConnectionString": ORDERS, "Target": "db:5432"}]},
    )

    settings = AgentSources(config=path, targets=("other:99",)).load()

    assert settings.hybrid_connections[0].target == Target("other", 99)


def test_defaults_are_those_of_the_protocol() -> None:
    settings = AgentSources(connection_strings=given(ORDERS)).load()

    (entry,) = settings.hybrid_connections
    assert settings.drain_seconds == 30
    assert entry.target_timeout_seconds == 10
    assert entry.timing.ping_interval_seconds == 15
    assert entry.timing.pong_timeout_seconds == 10


def test_timings_come_from_the_file(tmp_path: Path) -> None:
    sources = from_file(
        tmp_path / "hcm.json",
        {
            "HybridConnections": [{"ConnectionString": ORDERS}],
            "Settings": {"PingIntervalSeconds": 1, "OpenTimeoutSeconds": 2.5},
        },
    )

    (entry,) = sources.load().hybrid_connections

    assert entry.timing.ping_interval_seconds == 1
    assert entry.timing.open_timeout_seconds == 2.5


def test_an_allow_list_comes_from_the_file_and_the_flag_takes_its_place(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hcm.json",
        {
            "HybridConnections": [{"ConnectionString": ORDERS}],
            "AllowTargets": ["db.corp.local:5432", "[fd00::/8]:*"],
        },
    )

    of_file = AgentSources(config=path).load().allow_list
    of_flag = AgentSources(config=path, allow_targets=("other:99",)).load().allow_list

    assert of_file == parse_allow_list(["db.corp.local:5432", "[fd00::/8]:*"], setting="")
    assert of_flag == parse_allow_list(["other:99"], setting="")


def test_without_an_allow_list_every_target_is_allowed_and_with_an_empty_one_none(
    tmp_path: Path,
) -> None:
    entries = [{"ConnectionString": ORDERS}]
    none = from_file(tmp_path / "none.json", {"HybridConnections": entries})
    empty = from_file(tmp_path / "no.json", {"HybridConnections": entries, "AllowTargets": []})

    assert none.load().allow_list is None
    assert empty.load().allow_list == parse_allow_list([], setting="")


def test_a_wrong_entry_of_an_allow_list_names_its_key(tmp_path: Path) -> None:
    sources = from_file(
        tmp_path / "hcm.json",
        {"HybridConnections": [{"ConnectionString": ORDERS}], "AllowTargets": ["db"]},
    )

    with pytest.raises(InvalidSetting, match=r"hcm\.json: AllowTargets: 'db' has no port"):
        sources.load()


@pytest.mark.parametrize(("seconds", "is_good"), [(0, True), (2.5, True), (-1, False)])
def test_the_checks_of_targets_have_a_period(
    tmp_path: Path, seconds: float, *, is_good: bool
) -> None:
    sources = from_file(
        tmp_path / "hcm.json",
        {
            "HybridConnections": [{"ConnectionString": ORDERS}],
            "Settings": {"EndpointCheckSeconds": seconds},
        },
    )

    if is_good:
        assert sources.load().hybrid_connections[0].endpoint_check_seconds == seconds
    else:
        with pytest.raises(InvalidSetting, match="EndpointCheckSeconds"):
            sources.load()


def test_a_target_may_be_an_http_service(tmp_path: Path) -> None:
    document = {
        "HybridConnections": [
            {"ConnectionString": ORDERS, "Target": "https://web.corp.local/base/"},
            {"ConnectionString": BILLS, "Target": "http://[::1]:8080"},
        ]
    }
    found = from_file(tmp_path / "hcm.json", document).load().hybrid_connections

    assert [str(each.target) for each in found] == [
        "https://web.corp.local:443/base",
        "http://[::1]:8080",
    ]


def test_one_target_does_not_fit_several_connection_strings() -> None:
    sources = AgentSources(connection_strings=given(ORDERS, BILLS), targets=("db:5432",))

    with pytest.raises(InvalidSetting, match="--target: one target does not fit 2") as caught:
        sources.load()

    assert "--config" in caught.value.hint


def test_a_target_without_a_connection_string_is_an_error() -> None:
    with pytest.raises(InvalidSetting, match="--target: is given without a connection string"):
        AgentSources(targets=("db:5432",)).load()


def test_without_a_hybrid_connection_the_error_says_how_to_give_one() -> None:
    with pytest.raises(InvalidSetting, match="none is configured") as caught:
        require_some(AgentSources().load())

    assert "HCM_CONNECTION_STRING" in caught.value.hint


@pytest.mark.parametrize(
    ("document", "message", "hint"),
    [
        ({"HybridConections": []}, "HybridConections: unknown key", "HybridConnections"),
        (
            {"HybridConnections": [{"ConectionString": ORDERS}]},
            r"HybridConnections\[0\].ConectionString: unknown key",
            "ConnectionString",
        ),
        ({"HybridConnections": [{}]}, "ConnectionString: is missing", "ConnectionString"),
        ({"HybridConnections": {}}, "HybridConnections: must be a list", ""),
        ([], "must be an object", ""),
        ("{", "hcm.json", ""),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Target": 5432}]},
            r"\[0\].Target: must be a text",
            "quotes",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Target": "db"}]},
            r"\[0\].Target: 'db' has no port",
            "HOST:PORT",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Target": "db:0"}]},
            r"\[0\].Target: port 0 is not between",
            "HOST:PORT",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Target": "http://web/?x"}]},
            r"\[0\].Target: 'http://web/\?x' has a query",
            "http://HOST:PORT",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS}, {"ConnectionString": ORDERS}]},
            "hybrid connection 'orders': is configured twice",
            "remove one",
        ),
        (
            {"HybridConnections": [{"ConnectionString": f"Endpoint=ns;SharedAccessKey={KEY}"}]},
            r"HybridConnections\[0\].ConnectionString: ",
            "",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS.rpartition(";")[0]}]},
            r"\[0\].ConnectionString: names no hybrid connection",
            "EntityPath",
        ),
        (
            {
                "HybridConnections": [
                    {"ConnectionString": "Endpoint=sb://ns1.example.test/;EntityPath=orders"}
                ]
            },
            "has no key, and a listener needs one",
            "Listen",
        ),
        (
            {
                "HybridConnections": [{"ConnectionString": ORDERS}],
                "Settings": {"PingIntervalSeconds": "15"},
            },
            "Settings.PingIntervalSeconds: must be a number",
            "",
        ),
        (
            {
                "HybridConnections": [{"ConnectionString": ORDERS}],
                "Settings": {"TargetTimeoutSeconds": 0},
            },
            "Settings.TargetTimeoutSeconds: ",
            "",
        ),
        (
            {
                "HybridConnections": [{"ConnectionString": ORDERS}],
                "Settings": {"DrainSecond": 1},
            },
            "Settings.DrainSecond: unknown key",
            "DrainSeconds",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_a_next_step_and_without_the_key(
    tmp_path: Path, document: object, message: str, hint: str
) -> None:
    sources = from_file(tmp_path / "hcm.json", document)

    with pytest.raises(InvalidSetting, match=message) as caught:
        sources.load()

    assert caught.value.hint
    assert hint in caught.value.hint
    assert KEY not in f"{caught.value} {caught.value.hint}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"nowhere\.json: no such file"):
        AgentSources(config=tmp_path / "nowhere.json").load()


def test_a_file_with_keys_that_others_can_read_gets_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "hcm.json", {"HybridConnections": [{"ConnectionString": ORDERS}]})
    with caplog.at_level(logging.WARNING):
        AgentSources(config=path).load()
    assert not caplog.records

    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        AgentSources(config=path).load()

    assert "other users can read it" in caplog.text
    assert "chmod 600" in caplog.text
    assert KEY not in caplog.text


def test_no_repr_shows_a_key() -> None:
    sources = AgentSources(connection_strings=given(ORDERS))

    assert KEY not in repr(sources)
    assert KEY not in repr(sources.load())


def test_a_proxy_comes_from_the_file_and_the_flag_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://a:s3cr3t@proxy.corp")
    entry = {"ConnectionString": ORDERS}
    sources = from_file(
        tmp_path / "hcm.json", {"HybridConnections": [entry], "Proxy": "http://a:s3cr3t@p:3128"}
    )

    found = sources.load().hybrid_connections[0]
    assert str(found.proxy) == "http://***@p:3128"
    assert "s3cr3t" not in f"{found!r} {sources!r}"
    flag = replace(sources, proxy=Secret("none")).load().hybrid_connections[0]
    assert flag.proxy == "none"

    # Nobody said anything: the environment's is used, and is none.
    nothing = from_file(tmp_path / "hcm.json", {"HybridConnections": [entry]})
    with pytest.raises(InvalidSetting, match="HTTPS_PROXY: ftp: no such kind") as caught:
        nothing.load()
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"
    assert (
        replace(nothing, connect_to=("127.0.0.1", 8443)).load().hybrid_connections[0].proxy is None
    )


def test_a_proxy_in_the_file_that_cannot_be_used_names_its_key(tmp_path: Path) -> None:
    sources = from_file(tmp_path / "hcm.json", {"Proxy": "https://a:s3cr3t@p"})

    with pytest.raises(InvalidSetting, match=r"hcm\.json: Proxy: names a proxy") as caught:
        sources.load()
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"
