from __future__ import annotations

import contextlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import sas
from hybridge.protocol.errors import MalformedToken
from hybridge.protocol.secret import Secret
from tests.support.vectors import load_vectors, rows, texts

VECTORS = load_vectors("sas")
KEY = str(VECTORS["key"])
HOSTS = ("ns1.example.test", "localhost", "::1")
EXPIRES_AT = 1767225600
node = VECTORS["node"]
assert isinstance(node, dict)


def token_text(sr: str, sig: str = "c2ln", se: str = "1767225600", skn: str = "sendrule") -> str:
    return f"SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn={skn}"


def token_for(resource: str) -> sas.Token:
    return sas.parse(token_text(quote(resource, safe="")))


def covers(resource: str, *path: str) -> bool:
    return sas.covers(token_for(resource), HOSTS, path or ("hc1",))


# --- Known answers -------------------------------------------------------------------------------


@pytest.mark.clause(20)
@pytest.mark.parametrize("row", [texts(row) for row in rows(VECTORS["signatures"])])
def test_known_signatures_are_valid(row: dict[str, str]) -> None:
    token = sas.parse(token_text(row["sr"], quote(row["sig"], safe="")))

    assert token.signature == row["sig"]
    assert sas.has_valid_signature(token, [KEY])


@pytest.mark.clause(20)
def test_signing_gives_the_known_answer() -> None:
    text = sas.sign(
        "http://ns1.example.test/hc1/", key_name="sendrule", key=KEY, expires_at=EXPIRES_AT
    )

    assert text == (
        "SharedAccessSignature sr=http%3A%2F%2Fns1.example.test%2Fhc1%2F"
        "&sig=FRYoQunipDL45SQnzLoY9HNY08H2lJ%2BMbV46cguNy%2Fc%3D&se=1767225600&skn=sendrule"
    )


@pytest.mark.clause(21)
def test_a_resource_is_verified_in_the_hex_case_it_came_in() -> None:
    lower = rows(VECTORS["signatures"])[1]
    upper = rows(VECTORS["signatures"])[0]
    signature = quote(str(lower["sig"]), safe="")

    as_signed = sas.parse(token_text(str(lower["sr"]), signature))
    quoted_again = sas.parse(token_text(str(upper["sr"]), signature))

    assert sas.has_valid_signature(as_signed, [KEY])
    assert not sas.has_valid_signature(quoted_again, [KEY])


@pytest.mark.clause(20, 24)
@pytest.mark.parametrize("row", rows(node["tokens"]), ids=lambda row: str(row["uri"]))
def test_tokens_of_microsofts_node_libraries_are_valid(row: dict[str, object]) -> None:
    uri, key_name, key, text = (str(row[name]) for name in ("uri", "key_name", "key", "token"))

    token = sas.parse(text)

    assert (token.key_name, token.expires_at) == (key_name, EXPIRES_AT)
    assert sas.has_valid_signature(token, [key])
    path = uri.partition("://")[2].partition("?")[0].replace("/$hc/", "/").split("/")[1:]
    assert sas.covers(token, HOSTS, path)


# --- Signing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("expires_at", [0, -1])
def test_a_token_cannot_be_signed_for_a_time_before_1970(expires_at: int) -> None:
    with pytest.raises(ValueError, match="expires_at"):
        sas.sign("http://ns1.example.test/", key_name="r", key=KEY, expires_at=expires_at)


def test_the_resource_is_what_the_net_sdk_signs() -> None:
    assert sas.resource_of("NS1.example.test", "Team/hc1") == "http://ns1.example.test/Team/hc1/"
    assert sas.resource_of("ns1.example.test") == "http://ns1.example.test/"
    assert sas.resource_of("::1", "hc1") == "http://[::1]/hc1/"


@given(
    path=st.text(st.characters(codec="utf-8"), max_size=40),
    key_name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=80),
    expires_at=st.integers(1, sas.LAST_EXPIRY),
)
def test_what_is_signed_is_read_back_and_valid(
    path: str, key_name: str, key: str, expires_at: int
) -> None:
    resource = sas.resource_of("ns1.example.test", path)

    token = sas.parse(sas.sign(resource, key_name=key_name, key=key, expires_at=expires_at))

    assert (token.resource, token.key_name, token.expires_at) == (resource, key_name, expires_at)
    assert sas.has_valid_signature(token, [Secret(key)])
    assert not sas.has_valid_signature(token, [Secret(key + "x")])


# --- Reading -------------------------------------------------------------------------------------


def test_fields_come_in_any_order_and_case() -> None:
    token = sas.parse("sharedaccesssignature SKN=r&se=7&SIG=c2ln&Sr=http%3A%2F%2Fh%2F")

    assert (token.key_name, token.expires_at, token.resource) == ("r", 7, "http://h/")


def test_empty_fields_and_fields_that_we_do_not_know_are_passed_over() -> None:
    text = token_text("http%3A%2F%2Fh%2F")

    assert sas.parse(f"{text}&&new=1&") == sas.parse(text)


def test_a_plus_in_the_signature_may_stand_unquoted() -> None:
    assert sas.parse(token_text("sb%3A%2F%2Fh", sig="a+b/c=")).signature == "a+b/c="


def test_a_key_name_may_be_quoted_or_not() -> None:
    assert sas.parse(token_text("sb%3A%2F%2Fh", skn="my%20rule")).key_name == "my rule"
    assert sas.parse(token_text("sb%3A%2F%2Fh", skn="my rule")).key_name == "my rule"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SharedAccessSignature",
        "SharedAccessSignature ",
        "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
        "com.microsoft.azure.relay.SharedAccessSignatureTokenProvider@1a2b3c",
        "SharedAccessSignature sr",
        token_text("http%3A%2F%2Fh%2F").replace("&skn=sendrule", ""),
        token_text("http%3A%2F%2Fh%2F").replace("&se=1767225600", ""),
        token_text("http%3A%2F%2Fh%2F").replace("&sig=c2ln", ""),
        token_text("http%3A%2F%2Fh%2F").replace("sr=http%3A%2F%2Fh%2F&", ""),
        token_text(""),
        token_text("http%3A%2F%2Fh%2F", sig=""),
        token_text("http%3A%2F%2Fh%2F", skn=""),
        token_text("http%3A%2F%2Fh%2F", skn="r" * 257),
        token_text("http%3A%2F%2Fh%2Fø"),
        token_text("a" * 1_048_576),
    ],
)
def test_what_is_no_token_is_malformed(text: str) -> None:
    with pytest.raises(MalformedToken):
        sas.parse(text)


@pytest.mark.parametrize("again", ["sr=x", "sig=x", "se=7", "skn=x", "SE=7", "foo=1&foo=2"])
def test_a_field_that_is_there_twice_is_malformed(again: str) -> None:
    with pytest.raises(MalformedToken, match="twice"):
        sas.parse(f"{token_text('http%3A%2F%2Fh%2F')}&{again}")


@pytest.mark.parametrize(
    "expiry",
    [
        "", " 7", "7 ", "-7", "+7", "7.0", "7e9", "0x7", "1_000", "\uff17", "%37", "never",
        "9" * 400, str(sas.LAST_EXPIRY + 1),
    ],
)  # fmt: skip
def test_an_expiry_that_is_no_plain_number_is_malformed(expiry: str) -> None:
    with pytest.raises(MalformedToken):
        sas.parse(token_text("http%3A%2F%2Fh%2F", se=expiry))


@given(st.text() | st.text().map(lambda text: f"SharedAccessSignature {text}"))
def test_hostile_text_is_malformed_and_nothing_else(text: str) -> None:
    with contextlib.suppress(MalformedToken):
        sas.parse(text)


@given(
    st.lists(
        st.tuples(st.sampled_from(["sr", "sig", "se", "skn", "x"]), st.text("%2f5c:/.+0A ø\0=")),
        max_size=6,
    )
)
def test_hostile_fields_are_read_or_malformed(fields: list[tuple[str, str]]) -> None:
    text = "&".join(f"{name}={value}" for name, value in fields)
    try:
        token = sas.parse(f"SharedAccessSignature {text}")
    except MalformedToken:
        return
    assert not sas.has_valid_signature(token, [KEY])
    assert not sas.covers(token, HOSTS, ("hc1",))


def test_a_token_does_not_show_its_signature() -> None:
    text = sas.sign("http://h/", key_name="r", key=KEY, expires_at=EXPIRES_AT)
    token = sas.parse(text)

    assert token.signature not in repr(token)
    assert "sig" not in repr(token)


# --- Signatures ----------------------------------------------------------------------------------


@pytest.mark.clause(32)
def test_either_key_of_a_rule_signs() -> None:
    keys = [Secret("primary"), Secret("secondary")]

    for key in ("primary", "secondary"):
        token = sas.parse(sas.sign("http://h/", key_name="r", key=key, expires_at=EXPIRES_AT))
        assert sas.has_valid_signature(token, keys)

    third = sas.parse(sas.sign("http://h/", key_name="r", key="third", expires_at=EXPIRES_AT))
    assert not sas.has_valid_signature(third, keys)


def test_a_key_is_its_text_and_not_its_base64_decoding() -> None:
    token = sas.parse(sas.sign("http://h/", key_name="r", key="not base64 ø!", expires_at=1))

    assert sas.has_valid_signature(token, ["not base64 ø!"])


def test_an_empty_key_never_signs() -> None:
    token = sas.parse(sas.sign("http://h/", key_name="r", key="", expires_at=EXPIRES_AT))

    assert not sas.has_valid_signature(token, ["", Secret("")])


@pytest.mark.parametrize("part", ["sr=http%3A%2F%2Fh%2F", "se=1767225600"])
def test_a_changed_resource_or_expiry_breaks_the_signature(part: str) -> None:
    text = sas.sign("http://h/", key_name="r", key=KEY, expires_at=EXPIRES_AT)

    changed = text.replace(part, part + "0")

    assert changed != text
    assert not sas.has_valid_signature(sas.parse(changed), [KEY])


# --- Scope ---------------------------------------------------------------------------------------


@pytest.mark.clause(22)
@pytest.mark.parametrize("scheme", ["http", "https", "sb", "ws", "wss", "HTTP"])
def test_the_scheme_is_not_compared(scheme: str) -> None:
    assert covers(f"{scheme}://ns1.example.test/hc1")


@pytest.mark.clause(23)
def test_a_trailing_slash_does_not_matter() -> None:
    assert covers("http://ns1.example.test/hc1")
    assert covers("http://ns1.example.test/hc1/")


@pytest.mark.clause(24, 19)
@pytest.mark.parametrize("port", [":443", ":8443", ":"])
def test_the_port_is_ignored(port: str) -> None:
    assert covers(f"http://ns1.example.test{port}/hc1")


@pytest.mark.clause(25)
@pytest.mark.parametrize("end", ["", "/", ":8443", ":8443/"])
def test_the_namespaces_root_covers_every_path(end: str) -> None:
    assert covers(f"sb://ns1.example.test{end}", "hc1")
    assert covers(f"sb://ns1.example.test{end}", "team", "hc2", "sub")


@pytest.mark.clause(26)
def test_the_address_of_one_request_covers_it_and_no_other() -> None:
    resource = "https://ns1.example.test:8443/hc1/extra%20Path?key=value;"

    assert covers(resource, "hc1", "extra Path")
    assert covers(resource, "hc1", "EXTRA path", "below")
    assert not covers(resource, "hc1")
    assert not covers(resource, "hc1", "other")


@pytest.mark.clause(27)
def test_another_hybrid_connection_is_not_covered() -> None:
    assert not covers("http://ns1.example.test/hc2", "hc1")
    assert not covers("http://ns1.example.test/hc1/sub", "hc1")


@pytest.mark.clause(28)
def test_a_name_that_begins_alike_is_not_covered() -> None:
    assert not covers("http://ns1.example.test/hc1", "hc10")
    assert not covers("http://ns1.example.test/hc10", "hc1")


@pytest.mark.clause(29)
@pytest.mark.parametrize(
    "host",
    [
        "ns2.example.test", "ns1.example.test.evil.test", "evil.test:80@ns1.example.test",
        "ns1.example.test@evil.test", "user@ns1.example.test", "", "ns1.example.test.", "[::2]",
        "ns1.example.test:x", "ns1.example.test\\", "[::1", "[::1]x", "ns1.example.test:\uff18",
    ],
)  # fmt: skip
def test_another_host_is_not_covered(host: str) -> None:
    assert not covers(f"http://{host}/hc1")


def test_host_and_path_compare_without_case() -> None:
    assert covers("http://NS1.Example.TEST/HC1/", "hc1")
    assert covers("http://[::1]:8443/hc1/", "HC1")


def test_letters_that_only_look_alike_are_not_equal() -> None:
    assert not covers("http://ns1.example.test/\u212a1", "k1")
    assert not covers("http://\u212a.example.test/hc1")
    assert covers("http://ns1.example.test/hc1/caf\u00e9", "hc1", "caf\u00e9")


@pytest.mark.parametrize(
    "path",
    [
        "hc1/..", "hc1/../hc1", "./hc1", "hc1/.", "%2e%2e/hc1", "hc1/%2E", "..", ".",
        "hc1//sub", "hc1%2fsub", "hc1%2Fsub", "hc1%5csub", "hc1\\sub", "hc1%00", "hc1\0",
    ],
)  # fmt: skip
def test_a_resource_with_two_readings_covers_nothing(path: str) -> None:
    assert not covers(f"http://ns1.example.test/{path}", "hc1", "sub", "x", "y")


@pytest.mark.parametrize(
    "resource", ["ns1.example.test/hc1", "ftp://ns1.example.test/hc1", "http:/ns1", "://", "hc1"]
)
def test_a_resource_that_is_no_address_covers_nothing(resource: str) -> None:
    assert not covers(resource)


@given(st.text(), st.lists(st.text(), max_size=4))
def test_a_covered_path_begins_with_the_resources_segments(resource: str, asked: list[str]) -> None:
    token = sas.Token(
        resource_quoted="", resource=f"http://ns1.example.test/{resource}", signature="",
        expires_at=1, key_name="r", signed_text="",
    )  # fmt: skip

    if sas.covers(token, HOSTS, asked):
        path = resource.partition("#")[0].partition("?")[0].strip("/")
        assert not path or len(path.split("/")) <= len(asked)


@given(st.text("/.%2fFeE5cC0\\hc1?#:@[]"), st.lists(st.sampled_from(["hc1", "h", ""]), max_size=3))
def test_hostile_resources_get_an_answer(resource: str, asked: list[str]) -> None:
    token = sas.parse(token_text(quote(f"http://ns1.example.test{resource}", safe="")))

    assert sas.covers(token, HOSTS, asked) in (True, False)
