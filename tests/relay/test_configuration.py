from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.secret import Secret
from relay import configuration
from relay.configuration import DEVELOPMENT_KEY, Configuration, Sources, load
from relay.namespace import Namespace

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
NOW = 1_767_225_600.0


class Files:
    """Configuration files in a folder, and what the relay makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "relay.json"

    def load(
        self,
        *namespaces: object,
        settings: object = None,
        document: object = None,
        hybrid_connections: tuple[tuple[str, str], ...] = (),
        previous: tuple[Namespace, ...] = (),
        now: float = NOW,
        **flags: object,
    ) -> Configuration:
        if document is None:
            user_config: dict[str, object] = {"Namespaces": list(namespaces)}
            if settings is not None:
                user_config["Settings"] = settings
            document = {"UserConfig": user_config}
        self.path.write_text(json.dumps(document))
        sources = Sources(
            config=self.path,
            hybrid_connections=hybrid_connections,
            flags={"state_dir": self.folder / "state", **flags},
        )
        return load(sources, now=now, previous=previous)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def demo(**more: object) -> dict[str, object]:
    return {"Name": "demo-ns", **more}


def test_the_shape_of_microsofts_emulators_is_read(files: Files) -> None:
    section = demo(
        Hosts=["LocalHost", "relay.example.test."],
        AuthorizationRules=[
            {
                "Name": "RootManageSharedAccessKey",
                "Rights": ["Listen", "send", "MANAGE"],
                "PrimaryKey": KEY,
                "SecondaryKey": KEY[::-1].strip("=") + "=",
            }
        ],
        HybridConnections=[
            {
                "Name": "Vendor/Machines/1.2",
                "Endpoint": "db.corp.local:5432",
                "RequiresClientAuthorization": False,
                "UserMetadata": "free text",
                "AuthorizationRules": [{"Name": "app-send", "Rights": ["Send"]}],
            }
        ],
    )

    (namespace,) = files.load(section).namespaces

    assert namespace.name == "demo-ns"
    assert namespace.hosts == (
        "localhost",
        "relay.example.test",
        "demo-ns.servicebus.windows.net",
    )
    rule = namespace.rules["rootmanagesharedaccesskey"]
    assert rule.claims == Claim.LISTEN | Claim.SEND | Claim.MANAGE
    assert rule.primary_key == Secret(KEY)
    connection = namespace.hybrid_connections["vendor/machines/1.2"]
    assert connection.name == "Vendor/Machines/1.2"
    assert not connection.requires_client_authorization
    assert connection.user_metadata == "free text"
    assert list(connection.rules) == ["app-send"]
    assert connection.rules["app-send"].claims == Claim.SEND


def test_what_is_left_out_has_the_defaults_of_the_contract(files: Files) -> None:
    section = demo(HybridConnections=[{"Name": "orders-db", "Endpoint": "db:5432"}])

    (namespace,) = files.load(section).namespaces

    assert namespace.hosts == ("localhost", "127.0.0.1", "::1", "demo-ns.servicebus.windows.net")
    assert [rule.name for rule in namespace.rules.values()] == ["RootManageSharedAccessKey"]
    connection = namespace.hybrid_connections["orders-db"]
    assert connection.requires_client_authorization
    assert connection.user_metadata == '[{"key":"endpoint","value":"db:5432"}]'
    assert {rule.name: rule.claims for rule in connection.rules.values()} == {
        "defaultListener": Claim.LISTEN,
        "defaultSender": Claim.SEND,
    }
    assert (connection.created_at, connection.updated_at) == (NOW, NOW)


def test_an_empty_list_of_rules_means_the_default_rules(files: Files) -> None:
    section = demo(HybridConnections=[{"Name": "orders-db", "AuthorizationRules": []}])

    (namespace,) = files.load(section).namespaces

    assert list(namespace.hybrid_connections["orders-db"].rules) == [
        "defaultlistener",
        "defaultsender",
    ]
    assert namespace.hybrid_connections["orders-db"].user_metadata == ""


def test_several_namespaces_have_only_the_hosts_they_name(files: Files) -> None:
    first, second = files.load(
        {"Name": "first-ns"}, {"Name": "second-ns", "Hosts": ["localhost", "localhost"]}
    ).namespaces

    assert first.hosts == ("first-ns.servicebus.windows.net",)
    assert second.hosts == ("localhost", "second-ns.servicebus.windows.net")


def test_generated_keys_stay_and_named_keys_win(files: Files) -> None:
    def rules(*rules: object) -> dict[str, object]:
        return demo(HybridConnections=[{"Name": "a", "AuthorizationRules": list(rules)}])

    def keys(loaded: Configuration) -> tuple[Secret, Secret]:
        return loaded.namespaces[0].hybrid_connections["a"].rules["r"].keys

    generated = keys(files.load(rules({"Name": "r", "Rights": ["Send"]})))
    again = keys(files.load(rules({"Name": "R", "Rights": ["Send"]})))
    half = keys(files.load(rules({"Name": "r", "Rights": ["Send"], "PrimaryKey": KEY})))

    assert generated == again
    assert half == (Secret(KEY), generated[1])
    assert generated[0] != Secret(DEVELOPMENT_KEY)


def test_a_file_that_is_refused_makes_no_keys(files: Files) -> None:
    with pytest.raises(InvalidSetting):
        files.load(demo(), demo())

    assert not (files.folder / "state" / "keys.json").exists()


def test_yaml_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("UserConfig:\n  Namespaces:\n    - Name: demo-ns\n      Hosts: [localhost]\n")

    loaded = load(Sources(config=path, flags={"state_dir": tmp_path / "state"}), now=NOW)

    assert loaded.namespaces[0].hosts == ("localhost", "demo-ns.servicebus.windows.net")


RULE = {"Name": "r", "Rights": ["Send"]}
AT = "UserConfig.Namespaces[0]"


def with_rules(*rules: object) -> dict[str, object]:
    return demo(AuthorizationRules=list(rules))


def with_connections(*connections: object) -> dict[str, object]:
    return demo(HybridConnections=list(connections))


@pytest.mark.parametrize(
    ("section", "place", "problem", "hint"),
    [
        (demo(Nmae="x"), f"{AT}.Nmae", "unknown key", "did you mean 'Name'?"),
        (demo(hosts=[]), f"{AT}.hosts", "unknown key", "did you mean 'Hosts'?"),
        ({}, f"{AT}.Name", "is missing", "add the key"),
        (demo(Hosts="localhost"), f"{AT}.Hosts", "must be a list, not a text", "[ ]"),
        (demo(Hosts=["https://x"]), f"{AT}.Hosts[0]", "'https://x' is not", "host name"),
        (demo(Hosts=["x:443"]), f"{AT}.Hosts[0]", "'x:443' is not", "host name"),
        (demo(Hosts=["*.x"]), f"{AT}.Hosts[0]", "'*.x' is not a host name", "host name"),
        (demo(Hosts=["bücher.test"]), f"{AT}.Hosts[0]", "is not a host name", "host name"),
        (demo(Hosts=[f"h{n}" for n in range(51)]), f"{AT}.Hosts", "has 51 entries", "remove"),
        ({"Name": "short"}, f"{AT}.Name", "'short' is not a namespace name", "6 to 50"),
        ({"Name": "1namespace"}, f"{AT}.Name", "is not a namespace name", "a letter first"),
        ({"Name": "namespace-"}, f"{AT}.Name", "is not a namespace name", "no hyphen last"),
        ({"Name": "name.space"}, f"{AT}.Name", "is not a namespace name", "letters"),
        ({"Name": "n" * 51}, f"{AT}.Name", "is not a namespace name", "50"),
        (with_connections({"Name": ""}), f"{AT}.HybridConnections[0].Name", "is not a", "letters"),
        (with_connections({"Name": "/a"}), f"{AT}.HybridConnections[0].Name", "is not", "single /"),
        (with_connections({"Name": "a//b"}), f"{AT}.HybridConnections[0].Name", "not", "single /"),
        (with_connections({"Name": "a/../b"}), f"{AT}.HybridConnections[0].Name", "is not", ""),
        (with_connections({"Name": "a b"}), f"{AT}.HybridConnections[0].Name", "is not", "digits"),
        (with_connections({"Name": "$hc"}), f"{AT}.HybridConnections[0].Name", "is not", "digits"),
        (with_connections({"Name": "a" * 261}), f"{AT}.HybridConnections[0].Name", "not", "260"),
        (
            with_connections({"Name": "Orders"}, {"Name": "orders"}),
            f"{AT}.HybridConnections[1]",
            "the name 'orders' is taken",
            "without upper and lower case",
        ),
        (
            with_connections({"Name": "a", "Endpoint": "db"}),
            f"{AT}.HybridConnections[0].Endpoint",
            "'db' has no port",
            "HOST:PORT",
        ),
        (
            with_connections({"Name": "a", "Endpoint": "db:0"}),
            f"{AT}.HybridConnections[0].Endpoint",
            "not between 1 and 65535",
            "HOST:PORT",
        ),
        (
            with_connections({"Name": "a", "UserMetadata": "x" * 1_025}),
            f"{AT}.HybridConnections[0].UserMetadata",
            "has 1025 characters, and 1024 fit",
            "shorten",
        ),
        (
            with_connections({"Name": "a", "RequiresClientAuthorization": "no"}),
            f"{AT}.HybridConnections[0].RequiresClientAuthorization",
            "must be true or false, not a text",
            "write true or false",
        ),
        (with_rules({"Name": "r"}), f"{AT}.AuthorizationRules[0].Rights", "is missing", "add"),
        (with_rules(RULE, {"Name": "R", "Rights": ["Send"]}), f"{AT}.AuthorizationRules[1].Name",
         "the name 'R' is taken", "without upper"),
        (with_rules(RULE | {"Rights": []}), f"{AT}.AuthorizationRules[0].Rights", "is empty", ""),
        (
            with_rules(RULE | {"Rights": ["Lisen"]}),
            f"{AT}.AuthorizationRules[0].Rights",
            "'Lisen' is not a right",
            "did you mean 'Listen'?",
        ),
        (with_rules(RULE | {"Name": "a;b"}), f"{AT}.AuthorizationRules[0].Name", "not", "digits"),
        (with_rules(RULE | {"Name": "r" * 257}), f"{AT}.AuthorizationRules[0].Name", "not", "256"),
        (
            with_rules(*(RULE | {"Name": f"r{n}"} for n in range(13))),
            f"{AT}.AuthorizationRules",
            "has 13 entries, and 12 are allowed",
            "remove",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_place_and_next_step(
    files: Files, section: object, place: str, problem: str, hint: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        files.load(section)

    assert str(caught.value).startswith(f"{files.path}: {place}: ")
    assert problem in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "UserConfig: is missing"),
        ({"UserConfig": {}}, "UserConfig.Namespaces: is missing"),
        ({"UserConfig": {"Namespaces": []}}, "UserConfig.Namespaces: is empty"),
        ({"UserConfig": {"Namespaces": {}}}, "UserConfig.Namespaces: must be a list"),
        ({"UserConfig": {"Namespaces": [], "Logging": {}}}, "UserConfig.Logging: unknown key"),
        ([], "must be an object, not a list"),
        ("x", "must be an object, not a text"),
    ],
)
def test_a_document_of_another_shape_is_refused(
    files: Files, document: object, problem: str
) -> None:
    with pytest.raises(InvalidSetting, match=problem):
        files.load(document=document)


@pytest.mark.parametrize("key", ["", "geheim;x", "geheim x", "geheim\n", "geheimö", "geheim" * 50])
def test_a_text_that_is_no_key_is_refused_and_never_shown(files: Files, key: str) -> None:
    for name in ("PrimaryKey", "SecondaryKey"):
        with pytest.raises(InvalidSetting, match=f"{name}: is not a key") as caught:
            files.load(with_rules(RULE | {name: key}))
        assert "geheim" not in f"{caught.value!r}{caught.value.hint}"


def test_a_key_of_the_wrong_type_is_never_shown(files: Files) -> None:
    with pytest.raises(InvalidSetting, match="PrimaryKey: must be a text, not a list") as caught:
        files.load(with_rules(RULE | {"PrimaryKey": ["geheim"]}))

    assert "geheim" not in repr(caught.value)


def test_namespaces_have_names_of_their_own(files: Files) -> None:
    with pytest.raises(InvalidSetting, match=r"Namespaces\[1\].Name: the name 'Demo-NS' is taken"):
        files.load(demo(), {"Name": "Demo-NS"})


@pytest.mark.parametrize("host", ["localhost", "FIRST-NS.servicebus.windows.net"])
def test_namespaces_have_hosts_of_their_own(files: Files, host: str) -> None:
    first = {"Name": "first-ns", "Hosts": ["localhost"]}

    with pytest.raises(InvalidSetting, match=r"Namespaces\[1\]\.Hosts: .* belongs to namespace"):
        files.load(first, {"Name": "second-ns", "Hosts": [host]})


def test_a_quota_of_hybrid_connections_holds(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "MAX_HYBRID_CONNECTIONS", 2)
    connections = [{"Name": f"hc{number}"} for number in range(3)]

    files.load(with_connections(*connections[:2]))
    with pytest.raises(InvalidSetting, match="has 3 entries, and 2 are allowed"):
        files.load(with_connections(*connections))


# --- Settings -----------------------------------------------------------------------------------


def test_settings_stand_in_the_file_and_flags_win(files: Files) -> None:
    loaded = files.load(
        demo(),
        settings={"Port": 443, "AdminPort": 5301, "AcceptTimeoutSeconds": 2, "ShareDir": "share"},
        admin_port=0,
    )

    assert loaded.settings.port == 443
    assert loaded.settings.admin_port == 0
    assert loaded.settings.accept_timeout_seconds == 2
    assert loaded.settings.share_dir == files.folder / "share"
    assert loaded.settings.state_dir == files.folder / "state"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"Prot": 1}, "UserConfig.Settings.Prot: unknown key"),
        ({"port": 1}, "UserConfig.Settings.port: unknown key"),
        ({"Port": "1"}, "UserConfig.Settings.Port: must be a whole number, not a text"),
        ({"Port": True}, "UserConfig.Settings.Port: must be a whole number, not true"),
        ({"Port": 70_000}, "UserConfig.Settings.Port: 70000 is not a port"),
        ({"PingIntervalSeconds": 0}, "UserConfig.Settings.PingIntervalSeconds: 0.0 is not more"),
        ({"LogFormat": "xml"}, "UserConfig.Settings.LogFormat: "),
        ({"ListenerLimitStatus": 99}, "UserConfig.Settings.ListenerLimitStatus: 99 is not an HTTP"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(
    files: Files, written: object, problem: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        files.load(demo(), settings=written)

    assert str(caught.value).startswith(f"{files.path}: {problem}")


def test_settings_can_be_read_without_making_keys(files: Files) -> None:
    files.path.write_text(json.dumps({"UserConfig": {"Namespaces": [demo()]}}))
    sources = Sources(config=files.path, flags={"state_dir": files.folder / "state", "port": 1})

    assert configuration.load_settings(sources).port == 1
    assert not (files.folder / "state").exists()


def test_the_certificate_is_for_every_name(files: Files) -> None:
    loaded = files.load(
        {"Name": "first-ns"},
        {"Name": "second-ns", "Hosts": ["relay"]},
        settings={"PublicHost": "edge.example.test:8443"},
    )

    assert loaded.certificate_names == (
        "first-ns.servicebus.windows.net",
        "relay",
        "second-ns.servicebus.windows.net",
        "edge.example.test",
        "*.servicebus.windows.net",
    )


# --- Without a file ------------------------------------------------------------------------------


def test_the_development_key_is_the_base64_of_32_bytes() -> None:
    assert len(DEVELOPMENT_KEY) == 44
    assert len(base64.b64decode(DEVELOPMENT_KEY, validate=True)) == 32


def test_without_a_file_every_rule_has_the_development_key(tmp_path: Path) -> None:
    sources = Sources(
        hybrid_connections=(("orders-db", "db:5432"), ("stock", "[::1]:1433")),
        flags={"state_dir": tmp_path / "state"},
    )

    (namespace,) = load(sources, now=NOW).namespaces

    assert namespace.name == "demo-ns"
    assert namespace.hosts[0] == "localhost"
    assert namespace.hybrid_connections["stock"].target_from_metadata == ("::1", 1433)
    rules = [
        *namespace.rules.values(),
        *(rule for each in namespace.hybrid_connections.values() for rule in each.rules.values()),
    ]
    assert len(rules) == 5
    assert {key.reveal() for rule in rules for key in rule.keys} == {DEVELOPMENT_KEY}
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        ({"host": "0.0.0.0"}, "--host"),  # noqa: S104
        ({"host": "::"}, "--host"),
        ({"host": "192.0.2.1", "admin_host": "192.0.2.1"}, "--host"),
        ({"admin_host": "0.0.0.0"}, "--admin-host"),  # noqa: S104
    ],
)
def test_the_development_key_opens_no_door_to_others(
    files: Files, flags: dict[str, Any], flag: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"^{flag}: .*open to other machines") as caught:
        load(Sources(flags={"state_dir": files.folder, **flags}), now=NOW)
    assert "--config" in caught.value.hint

    own = {"Name": "r", "Rights": ["Send"], "SecondaryKey": DEVELOPMENT_KEY}
    with pytest.raises(InvalidSetting, match=f"^{flag}: "):
        files.load(with_connections({"Name": "a", "AuthorizationRules": [own]}), **flags)
    files.load(demo(), **flags)


# --- --hybrid-connection with a file -------------------------------------------------------------


def test_a_further_hybrid_connection_goes_to_the_only_namespace(files: Files) -> None:
    (namespace,) = files.load(
        with_connections({"Name": "a"}), hybrid_connections=(("b", "db:1"),)
    ).namespaces

    assert list(namespace.hybrid_connections) == ["a", "b"]
    assert namespace.hybrid_connections["b"].target_from_metadata == ("db", 1)


def test_among_several_namespaces_it_has_no_place(files: Files) -> None:
    with pytest.raises(InvalidSetting, match="--hybrid-connection: the file has 2 namespaces"):
        files.load(demo(), {"Name": "other-ns"}, hybrid_connections=(("b", "db:1"),))


@pytest.mark.parametrize("name", ["A", "a b"])
def test_a_further_hybrid_connection_is_checked_like_the_others(files: Files, name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^.*--hybrid-connection {name}"):
        files.load(with_connections({"Name": "a"}), hybrid_connections=((name, "db:1"),))


# --- Reload --------------------------------------------------------------------------------------


def test_a_reload_keeps_the_times_of_what_did_not_change(files: Files) -> None:
    before = files.load(with_connections({"Name": "a"}, {"Name": "b"})).namespaces

    after = (
        files.load(
            with_connections({"Name": "a"}, {"Name": "b", "Endpoint": "db:1"}, {"Name": "c"}),
            previous=before,
            now=NOW + 60,
        )
        .namespaces[0]
        .hybrid_connections
    )

    assert after["a"] is before[0].hybrid_connections["a"]
    assert (after["b"].created_at, after["b"].updated_at) == (NOW, NOW + 60)
    assert (after["c"].created_at, after["c"].updated_at) == (NOW + 60, NOW + 60)
    assert (
        replace(after["b"], user_metadata="", updated_at=NOW) == (before[0].hybrid_connections["b"])
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["UserConfig", "Namespaces", "Name", "Hosts", "Settings", "Port", "HybridConnections",
             "AuthorizationRules", "Rights", "PrimaryKey", "Endpoint", "x"]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_document_raises_anything_but_the_error_for_it(files: Files, value: object) -> None:
    for document in (value, {"UserConfig": {"Namespaces": [value]}}, {"UserConfig": value}):
        with pytest.raises(InvalidSetting):
            files.load(document=document if document is not None else [])
