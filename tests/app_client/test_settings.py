"""What the client can be told, and what it says to what it cannot use."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from app_client.settings import ClientSources
from hybridge.program.connection_strings import GivenConnectionStrings
from hybridge.protocol.azbridge import Mode
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.secret import Secret
from hybridge.transport.unix_listening import UnixAddress
from tests.support.agent_ends import KEY, connection_string

ORDERS = connection_string("orders")
BILLS = connection_string("bills")
ANONYMOUS = "Endpoint=sb://ns1.example.test/;EntityPath=open"


def from_file(path: Path, document: object) -> ClientSources:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(0o600)
    return ClientSources(config=path)


def given(*texts: str) -> GivenConnectionStrings:
    return GivenConnectionStrings(texts=texts)


def test_a_file_names_several_hybrid_connections_and_where_to_listen(tmp_path: Path) -> None:
    sources = from_file(
        tmp_path / "client.json",
        {
            "HybridConnections": [
                {"ConnectionString": ORDERS, "Listen": "127.0.0.1:5432"},
                {"ConnectionString": BILLS, "Listen": "[::1]:0"},
                {"ConnectionString": connection_string("mail")},
                {"ConnectionString": ANONYMOUS, "Listen": "127.0.0.1:0"},
            ],
            "Settings": {"ConnectTimeoutSeconds": 7, "DrainSeconds": 0},
        },
    )

    settings = sources.load()

    assert [(forward.name, forward.listen) for forward in settings.forwards] == [
        ("orders", ("127.0.0.1", 5432)),
        ("bills", ("::1", 0)),
        ("mail", None),
        ("open", ("127.0.0.1", 0)),
    ]
    assert settings.timing.connect_timeout_seconds == 7
    assert settings.drain_seconds == 0


def test_connection_strings_from_outside_take_the_place_of_those_in_the_file(
    tmp_path: Path,
) -> None:
    path = from_file(
        tmp_path / "client.json",
        {"HybridConnections": [{"ConnectionString": ORDERS, "Listen": "127.0.0.1:5432"}]},
    ).config

    settings = ClientSources(config=path, connection_strings=given(BILLS)).load()

    assert [(forward.name, forward.listen) for forward in settings.forwards] == [("bills", None)]


def test_the_flag_listen_places_the_port() -> None:
    sources = ClientSources(connection_strings=given(ORDERS), listen="127.0.0.2:9")

    assert sources.load().forwards[0].listen == ("127.0.0.2", 9)


def test_a_file_may_name_the_target_and_a_unix_socket(tmp_path: Path) -> None:
    named = {"ConnectionString": ORDERS, "Endpoint": "db.corp.local:5432"}
    anonymous = {"ConnectionString": ANONYMOUS, "Endpoint": "[::1]:5432"}
    unix = {"ConnectionString": BILLS, "Listen": "unix:/run/db,mode=0660"}
    document = {"HybridConnections": [named, anonymous, unix]}

    first, second, third = from_file(tmp_path / "client.json", document).load().forwards

    assert (first.listen, first.target) == (None, ("db.corp.local", 5432))
    assert (second.listen, second.target) == (None, ("::1", 5432))
    assert (third.listen, third.target) == (
        UnixAddress(path=Path("/run/db"), mode=0o660),
        None,
    )


def test_another_place_in_the_file_is_the_same_local_port(tmp_path: Path) -> None:
    orders, bills = {"ConnectionString": ORDERS}, {"ConnectionString": BILLS}
    before = from_file(tmp_path / "a", {"HybridConnections": [orders, bills]}).load().forwards
    after = from_file(tmp_path / "b", {"HybridConnections": [bills, orders]}).load().forwards

    assert set(before) == set(after)
    assert before[0].listen_setting.endswith("HybridConnections[0].Listen")


def test_a_file_may_ask_azbridge_for_a_port_and_listen_for_datagrams(tmp_path: Path) -> None:
    tcp = {"ConnectionString": ORDERS, "Listen": "127.0.0.1:161", "AzBridge": True}
    udp = {**tcp, "Listen": "udp://127.0.0.1:161", "PortName": "snmp"}
    document = {"HybridConnections": [tcp, udp], "Settings": {"DatagramIdleSeconds": 60}}

    settings = from_file(tmp_path / "client.json", document).load()

    first, second = settings.forwards
    assert (first.is_azbridge, first.mode, first.port_name) == (True, Mode.STREAM, None)
    assert (second.is_azbridge, second.mode, second.port_name) == (True, Mode.DATAGRAM, "snmp")
    assert first.listen == second.listen == ("127.0.0.1", 161)
    assert settings.datagram_idle_seconds == 60


@pytest.mark.parametrize(
    ("document", "message", "hint"),
    [
        ({"HybridConections": []}, "HybridConections: unknown key", "HybridConnections"),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Target": "db:5432"}]},
            r"\[0\].Target: unknown key",
            "Listen",
        ),
        ({"HybridConnections": []}, "none is configured", "APP_CLIENT_CONNECTION_STRING"),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Listen": 5432}]},
            r"\[0\].Listen: must be a text",
            "quotes",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Listen": "5432"}]},
            r"\[0\].Listen: '5432' has no host",
            "127.0.0.1:5432",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Listen": "h:65536"}]},
            r"\[0\].Listen: port 65536",
            "HOST:PORT",
        ),
        (
            {
                "HybridConnections": [
                    {"ConnectionString": ORDERS, "Listen": "127.0.0.1:5432"},
                    {"ConnectionString": BILLS, "Listen": "127.0.0.1:5432"},
                ]
            },
            "'bills': listens on 127.0.0.1:5432, and so does 'orders'",
            "of its own",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Listen": "udp://[::1]:161"}]},
            r"\[0\].Listen: datagrams need azbridge's preamble at both ends",
            "AzBridge",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "PortName": "test"}]},
            r"\[0\].PortName: only azbridge has port names",
            "AzBridge",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Endpoint": "db.corp.local"}]},
            r"\[0\].Endpoint: 'db.corp.local' has no port",
            "db.corp.local:5432",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Listen": "unix:db"}]},
            r"\[0\].Listen: 'unix:db' has no absolute path",
            "unix:/PATH",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS, "Listen": "unix:/db,mode=rw"}]},
            r"\[0\].Listen: the mode 'rw' is not three or four octal digits",
            "mode=0660",
        ),
        (
            {
                "HybridConnections": [
                    {"ConnectionString": ORDERS, "Listen": "unix:/run/db"},
                    {"ConnectionString": BILLS, "Listen": "unix:/run/db,mode=0660"},
                ]
            },
            "'bills': listens on unix:/run/db, and so does 'orders'",
            "of its own",
        ),
        (
            {
                "HybridConnections": [
                    {"ConnectionString": ORDERS, "Listen": "unix:/run/db", "AzBridge": True}
                ]
            },
            r"\[0\].Listen: a Unix socket has no port to ask azbridge for",
            "PortName",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS}, {"ConnectionString": ORDERS}]},
            "'orders': is configured twice in ns1.example.test",
            "where each listens",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ANONYMOUS}]},
            "without a key its port cannot be read",
            "--listen",
        ),
        (
            {"HybridConnections": [{"ConnectionString": ORDERS.replace("sb:", "http:")}]},
            r"HybridConnections\[0\].ConnectionString: Endpoint",
            "sb://",
        ),
        (
            {
                "HybridConnections": [{"ConnectionString": ORDERS}],
                "Settings": {"ConnectTimeoutSeconds": float("1e999")},
            },
            "Settings.ConnectTimeoutSeconds",
            "",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_a_next_step_and_without_the_key(
    tmp_path: Path, document: object, message: str, hint: str
) -> None:
    sources = from_file(tmp_path / "client.json", document)

    with pytest.raises(InvalidSetting, match=message) as caught:
        sources.load()

    assert caught.value.hint
    assert hint in caught.value.hint
    assert KEY not in f"{caught.value} {caught.value.hint}"


def test_port_0_may_stand_several_times(tmp_path: Path) -> None:
    entry = {"ConnectionString": ORDERS, "Listen": "127.0.0.1:0"}

    settings = from_file(tmp_path / "c.json", {"HybridConnections": [entry, entry]}).load()

    assert len(settings.forwards) == 2


def test_a_file_with_keys_that_others_can_read_gets_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = from_file(
        tmp_path / "client.yaml", f'HybridConnections: [{{ConnectionString: "{ORDERS}"}}]'
    )
    (tmp_path / "client.yaml").chmod(0o640)

    with caplog.at_level(logging.WARNING):
        sources.load()

    assert "other users can read it" in caplog.text
    assert KEY not in caplog.text


def test_a_proxy_comes_from_the_file_and_the_flag_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://a:s3cr3t@proxy.corp")
    entry = {"ConnectionString": ORDERS, "Listen": "127.0.0.1:0"}
    sources = from_file(
        tmp_path / "client.json", {"HybridConnections": [entry], "Proxy": "http://a:s3cr3t@p:3128"}
    )

    found = sources.load()
    assert str(found.proxy) == "http://***@p:3128"
    assert "s3cr3t" not in f"{found!r} {sources!r}"
    flag = replace(sources, proxy=Secret("none")).load()
    assert flag.proxy == "none"

    # Nobody said anything: the environment's is used, and is none.
    nothing = from_file(tmp_path / "client.json", {"HybridConnections": [entry]})
    with pytest.raises(InvalidSetting, match="HTTPS_PROXY: ftp: no such kind") as caught:
        nothing.load()
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"
    assert replace(nothing, connect_to=("127.0.0.1", 8443)).load().proxy is None


def test_a_proxy_in_the_file_that_cannot_be_used_names_its_key(tmp_path: Path) -> None:
    entry = {"ConnectionString": ORDERS, "Listen": "127.0.0.1:0"}
    sources = from_file(
        tmp_path / "client.json", {"HybridConnections": [entry], "Proxy": "https://a:s3cr3t@p"}
    )

    with pytest.raises(InvalidSetting, match=r"client\.json: Proxy: names a proxy") as caught:
        sources.load()
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"
