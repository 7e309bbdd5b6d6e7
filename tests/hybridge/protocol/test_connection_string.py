from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import connection_string, sas
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import MalformedConnectionString
from hybridge.protocol.secret import Secret

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
FULL = (
    "Endpoint=sb://ns1.servicebus.windows.net/;SharedAccessKeyName=rule;"
    f"SharedAccessKey={KEY};EntityPath=hc1"
)
TOKEN = "SharedAccessSignature sr=http%3A%2F%2Fh%2F&sig=c2ln&se=1767225600&skn=rule"


def test_the_portals_string_is_read() -> None:
    assert connection_string.parse(FULL) == ConnectionString(
        host="ns1.servicebus.windows.net", path="hc1", key_name="rule", key=Secret(KEY)
    )


def test_names_order_blanks_and_empty_parts_do_not_matter() -> None:
    text = (
        f" ;entitypath=team/hc1; SHAREDACCESSKEY={KEY};;sharedAccessKeyName=rule;"
        "ENDPOINT=SB://LocalHost:8443;UseDevelopmentEmulator=true; \n"
    )

    assert connection_string.parse(text) == ConnectionString(
        host="localhost", port=8443, path="team/hc1", key_name="rule", key=Secret(KEY)
    )


def test_a_ready_token_takes_the_place_of_the_key() -> None:
    text = f"Endpoint=sb://h/;SharedAccessSignature={TOKEN};EntityPath=hc1"
    read = connection_string.parse(text)

    assert read.token == Secret(TOKEN)
    assert connection_string.serialize(read) == text
    assert not read.is_anonymous
    assert connection_string.token_for(read, expires_at=7) == TOKEN


def test_a_string_without_credentials_is_anonymous() -> None:
    read = connection_string.parse("Endpoint=sb://h/;EntityPath=hc1")

    assert read.is_anonymous
    assert connection_string.token_for(read, expires_at=7) is None


def test_a_key_signs_for_the_hybrid_connection_or_the_namespace() -> None:
    for text, resource in (
        (FULL, "http://ns1.servicebus.windows.net/hc1/"),
        (FULL.removesuffix(";EntityPath=hc1"), "http://ns1.servicebus.windows.net/"),
    ):
        token = connection_string.token_for(connection_string.parse(text), expires_at=7)

        assert token is not None
        assert sas.parse(token).resource == resource
        assert sas.has_valid_signature(sas.parse(token), [KEY])


@pytest.mark.parametrize(
    ("endpoint", "host", "port", "shown"),
    [
        ("sb://ns1.example.test", "ns1.example.test", 443, "sb://ns1.example.test/"),
        ("sb://ns1.example.test:443/", "ns1.example.test", 443, "sb://ns1.example.test/"),
        ("sb://127.0.0.1:5300/", "127.0.0.1", 5300, "sb://127.0.0.1:5300/"),
        ("sb://[::1]:8443/", "::1", 8443, "sb://[::1]:8443/"),
    ],
)
def test_the_endpoint_names_host_and_port(endpoint: str, host: str, port: int, shown: str) -> None:
    read = connection_string.parse(f"Endpoint={endpoint}")

    assert (read.host, read.port, read.endpoint) == (host, port, shown)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:00:30", 30.0), ("01:02:03", 3723.0), ("1.00:00:00", 86_400.0), ("00:01", 60.0),
     ("00:00:00.5", 0.5), ("90", 90.0)],
)  # fmt: skip
def test_the_operation_timeout_is_a_time_span_or_seconds(text: str, seconds: float) -> None:
    read = connection_string.parse(f"{FULL};OperationTimeout={text}")

    assert read.operation_timeout_seconds == seconds


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("", "empty", "Endpoint="),
        (" \n", "empty", "Endpoint="),
        ("x" * 20_000, "too long", "Endpoint="),
        ("EntityPath=hc1", "no Endpoint", "Endpoint="),
        ("Endpoint", "part 1 has no '='", "Endpoint="),
        (f"{FULL};garbage", "part 5 has no '='", "Endpoint="),
        (f"{FULL};Foo=1", "part 5 is not a known property", "the properties are"),
        (FULL.replace("KeyName", "KeyNmae"), "part 2", "did you mean SharedAccessKeyName?"),
        (f'"{FULL}"', "quotation mark", "remove"),
        (FULL.replace("rule", ""), "SharedAccessKeyName is empty", "Endpoint="),
        (f"{FULL};EntityPath=hc2", "EntityPath is there twice", "one of them"),
        (FULL.replace("sb://", "https://"), "does not begin with sb://", "sb://HOST"),
        (FULL.replace("sb://", ""), "does not begin with sb://", "sb://HOST"),
        (FULL.replace("windows.net/", "windows.net/hc1"), "has a path", "EntityPath"),
        ("Endpoint=sb:///", "no host", "sb://HOST"),
        ("Endpoint=sb://user@h/", "no host", "sb://HOST"),
        ("Endpoint=sb://a..b/", "no host", "sb://HOST"),
        (f"Endpoint=sb://{'x' * 64}.example/", "no host", "sb://HOST"),
        ("Endpoint=sb://h:0/", "port 0", "sb://HOST"),
        ("Endpoint=sb://h:99999/", "no host", "sb://HOST"),
        ("Endpoint=sb://h?x=1", "no host", "sb://HOST"),
        (FULL.replace("EntityPath=hc1", "EntityPath=hc 1"), "not the name", "letters"),
        (FULL.replace("EntityPath=hc1", "EntityPath=a/../b"), "not the name", "letters"),
        (FULL.replace("EntityPath=hc1", "EntityPath=" + "x" * 261), "not the name", "letters"),
        (f"{FULL};SharedAccessSignature={TOKEN}", "beside a key", "one of them"),
        (f"Endpoint=sb://h/;SharedAccessKey={KEY}", "SharedAccessKeyName is not", "whole"),
        ("Endpoint=sb://h/;SharedAccessKeyName=rule", "SharedAccessKey is not", "whole"),
        (FULL.replace("rule", "r" * 257), "longer than 256", "again"),
        (FULL.replace(KEY, "k" * 257), "longer than 256", "again"),
        (FULL.replace(KEY, "k\x00"), "cannot be printed", "again"),
        ("Endpoint=sb://h/;Authentication=Managed Identity", "not supported", "rule's"),
        ("Endpoint=sb://h/;Authentication=managedidentity", "not supported", "rule's"),
        (f"{FULL};Authentication=Managed Identity", "beside a key", "remove"),
        (f"{FULL};Authentication=Password", "can only be", "rule's"),
        (f"{FULL};OperationTimeout=soon", "not a time span", "00:01:00"),
        (f"{FULL};OperationTimeout=00:61:00", "not a time span", "00:01:00"),
        (f"{FULL};OperationTimeout=00:00:00", "more than zero", "00:01:00"),
        (f"{FULL};OperationTimeout=0", "more than zero", "00:01:00"),
        (f"{FULL};OperationTimeout=-00:00:01", "not a time span", "00:01:00"),
        (f"{FULL};UseDevelopmentEmulator=maybe", "neither true nor false", "true"),
        ("hc://x.biztalk.windows.net/hc;key", "BizTalk", "Azure Relay"),
        ("Endpoint=sb://h/;SharedSecretIssuer=owner", "retired", "SharedAccessKeyName"),
    ],
)  # fmt: skip
def test_a_malformed_string_is_explained(text: str, problem: str, hint: str) -> None:
    with pytest.raises(MalformedConnectionString) as refused:
        connection_string.parse(text)

    assert problem in str(refused.value)
    assert hint in refused.value.hint
    assert "\n" not in str(refused.value) + refused.value.hint
    assert KEY not in str(refused.value) + refused.value.hint


def test_a_key_that_is_torn_apart_is_not_shown() -> None:
    torn = f"Endpoint=sb://h/;SharedAccessKeyName=rule;SharedAccessKey={KEY[:20]};{KEY[20:]}"

    with pytest.raises(MalformedConnectionString) as refused:
        connection_string.parse(torn)

    assert KEY[20:30] not in str(refused.value) + refused.value.hint


def test_a_hybrid_connection_is_asked_for_where_one_is_needed() -> None:
    assert connection_string.parse(FULL).required_path() == "hc1"
    with pytest.raises(MalformedConnectionString) as refused:
        connection_string.parse("Endpoint=sb://h/").required_path()
    assert "EntityPath" in refused.value.hint


def test_the_order_of_writing_is_azures() -> None:
    assert connection_string.serialize(connection_string.parse(FULL)) == FULL
    with_port = FULL.replace(".net/", ".net:8443/")
    assert connection_string.serialize(connection_string.parse(with_port)) == with_port


def test_a_connection_string_does_not_show_its_key() -> None:
    with_token = f"Endpoint=sb://h/;SharedAccessSignature={TOKEN}"

    assert KEY not in repr(connection_string.parse(FULL))
    assert "c2ln" not in repr(connection_string.parse(with_token))


hosts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{1,8}){0,3}", fullmatch=True)
values = st.text("abcXYZ019+/=-_. ", min_size=1, max_size=60).filter(lambda t: t == t.strip())
paths = st.lists(st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True), min_size=1, max_size=4)


@given(
    host=hosts | st.sampled_from(["127.0.0.1", "::1", "fd00::1"]),
    port=st.integers(1, 65_535),
    path=st.none() | paths.map("/".join),
    key=st.none() | st.tuples(values, values),
    seconds=st.just(60.0) | st.integers(1, 10_000_000).map(float),
)
def test_what_is_written_is_read_back(
    host: str, port: int, path: str | None, key: tuple[str, str] | None, seconds: float
) -> None:
    written = ConnectionString(
        host=host,
        port=port,
        path=path,
        key_name=key[0] if key else None,
        key=Secret(key[1]) if key else None,
        operation_timeout_seconds=seconds,
    )

    assert connection_string.parse(connection_string.serialize(written)) == written


@given(
    st.text()
    | st.lists(
        st.tuples(st.sampled_from(["Endpoint", "EntityPath", "OperationTimeout", "x"]), st.text())
    ).map(lambda pairs: ";".join(f"{name}={value}" for name, value in pairs))
)
def test_hostile_text_is_malformed_and_nothing_else(text: str) -> None:
    with contextlib.suppress(MalformedConnectionString):
        connection_string.parse(text)
