from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import messages
from hybridge.protocol.errors import MalformedMessage
from hybridge.protocol.messages import (
    Accept,
    RemoteEndpoint,
    RenewToken,
    Request,
    Response,
    Unknown,
    UnusableResponse,
)
from hybridge.protocol.secret import Secret
from tests.support.vectors import load_vectors

VECTORS = load_vectors("messages")
ID = "2d6c8e0e-58d0-4b0f-9c3f-51a5e2b1a001_G3"


# --- Known messages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["accept", "request", "request_address_only", "response", "renewToken"]
)
def test_known_messages_are_read_and_written_alike(name: str) -> None:
    text = str(VECTORS[name])
    message = messages.parse(text)

    assert not isinstance(message, Unknown | UnusableResponse)
    assert messages.serialize(message) == text


@pytest.mark.clause(61)
def test_an_accept_says_where_who_and_with_which_headers() -> None:
    message = Accept(
        address="wss://h/$hc/hc1?sb-hc-action=accept&sb-hc-id=x",
        id=ID,
        connect_headers={"Host": "h", "X-Mine": "1"},
        remote_endpoint=RemoteEndpoint(address="192.0.2.7", port=51515),
    )

    assert json.loads(messages.serialize(message)) == {
        "accept": {
            "address": "wss://h/$hc/hc1?sb-hc-action=accept&sb-hc-id=x",
            "id": ID,
            "connectHeaders": {"Host": "h", "X-Mine": "1"},
            "remoteEndpoint": {"address": "192.0.2.7", "port": 51515},
        }
    }


def test_a_request_that_waits_at_its_address_has_nothing_else() -> None:
    message = messages.parse('{"request":{"address":"wss://h/$hc/hc1","method":null}}')

    assert message == Request(address="wss://h/$hc/hc1")
    assert not message.is_complete
    assert messages.serialize(message) == '{"request":{"address":"wss://h/$hc/hc1"}}'


def test_a_request_without_a_body_flag_has_no_body() -> None:
    message = messages.parse(
        '{"request":{"address":"a","id":"i","requestTarget":"/hc1","method":"GET"}}'
    )

    assert isinstance(message, Request)
    assert message.is_complete
    assert not message.body


def test_escaped_slashes_and_members_we_do_not_know_are_fine() -> None:
    message = messages.parse(
        '{"accept":{"address":"wss:\\/\\/h\\/$hc\\/hc1","id":"i","connectHeaders":{},"new":[1,{}]}}'
    )

    assert message == Accept(address="wss://h/$hc/hc1", id="i", connect_headers={})


# --- Responses -----------------------------------------------------------------------------------


def test_a_status_may_come_as_text() -> None:
    message = messages.parse('{"response":{"requestId":"i","statusCode":"404"}}')

    assert message == Response(request_id="i", status_code=404)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"statusCode": 99},
        {"statusCode": 101},
        {"statusCode": 1000},
        {"statusCode": 200.5},
        {"statusCode": True},
        {"statusCode": "200\r\nX: y"},
        {"statusCode": "20"},
        {"statusCode": "२००"},
        {"statusCode": 200, "statusDescription": "OK\r\nX: y"},
        {"statusCode": 200, "statusDescription": 7},
        {"statusCode": 200, "responseHeaders": {"X": "a\r\nY: b"}},
        {"statusCode": 200, "responseHeaders": {"X Y": "a"}},
        {"statusCode": 200, "responseHeaders": {"X\n": "a"}},
        {"statusCode": 200, "responseHeaders": {"": "a"}},
        {"statusCode": 200, "responseHeaders": {"X": 1}},
        {"statusCode": 200, "responseHeaders": {"X": "\ud800"}},
        {"statusCode": 200, "responseHeaders": []},
        {"statusCode": 200, "body": "yes"},
    ],
)
def test_a_response_that_cannot_be_sent_on_spoils_its_own_request_only(
    fields: dict[str, object],
) -> None:
    message = messages.parse(json.dumps({"response": {"requestId": "i", **fields}}))

    assert isinstance(message, UnusableResponse)
    assert message.request_id == "i"
    assert message.problem


def test_an_unusable_response_says_whether_a_body_follows() -> None:
    message = messages.parse('{"response":{"requestId":"i","statusCode":0,"body":true}}')

    assert isinstance(message, UnusableResponse)
    assert message.body


# --- Renewals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"renewToken":{}}',
        '{"renewToken":{"token":7}}',
        '{"renewToken":"x"}',
        '{"renewToken":null}',
    ],
)
def test_a_renewal_without_a_token_holds_an_empty_one(text: str) -> None:
    assert messages.parse(text) == RenewToken(token=Secret(""))


def test_a_renewal_does_not_show_its_token() -> None:
    assert "SharedAccess" not in repr(messages.parse(str(VECTORS["renewToken"])))


def test_an_accept_does_not_show_its_address() -> None:
    assert "wss://" not in repr(messages.parse(str(VECTORS["accept"])))


# --- Everything else -----------------------------------------------------------------------------


@pytest.mark.clause(55)
@pytest.mark.parametrize("value", ["{}", "null", '"x"', '{"a":[1]}'])
def test_a_command_that_we_do_not_know_is_named_and_not_an_error(value: str) -> None:
    assert messages.parse(f'{{"injectFault":{value}}}') == Unknown("injectFault")


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "1", "null", "[]", '"accept"', "{}", '{"accept":{}', '{"a":1,"b":2}',
        '{"accept":{"address":"a","id":"i"},"accept":{"address":"b","id":"i"}}',
        '{"accept":{"address":"a","address":"b","id":"i"}}',
        '{"a":NaN}', '{"a":Infinity}', "\ufeff{}", '{"a":' + "9" * 5_000 + "}",
        '{"accept":null}', '{"accept":[]}', '{"accept":{"address":"a"}}',
        '{"accept":{"address":7,"id":"i"}}', '{"accept":{"address":"a","id":null}}',
        '{"accept":{"address":"a","id":"\\ud800"}}',
        '{"accept":{"address":"a","id":"i","connectHeaders":[]}}',
        '{"accept":{"address":"a","id":"i","connectHeaders":{"X":null}}}',
        '{"accept":{"address":"a","id":"i","remoteEndpoint":"x"}}',
        '{"accept":{"address":"a","id":"i","remoteEndpoint":{"address":"x"}}}',
        '{"accept":{"address":"a","id":"i","remoteEndpoint":{"address":"x","port":true}}}',
        '{"accept":{"address":"a","id":"i","remoteEndpoint":{"address":"x","port":65536}}}',
        '{"request":{}}', '{"request":{"address":"a","method":"GET"}}',
        '{"request":{"address":"a","method":"GET","id":"i","requestTarget":"/","body":1}}',
        '{"response":{}}', '{"response":{"requestId":7,"statusCode":200}}', '{"response":7}',
        "[" * 60_000, '{"a":' * 10_000 + "1" + "}" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_message_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        messages.parse(text)


def test_depth_ends_at_sixteen() -> None:
    def nested(levels: int) -> str:
        return '{"x":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"

    assert messages.parse(nested(messages.MAX_DEPTH)) == Unknown("x")
    with pytest.raises(MalformedMessage, match="deeper"):
        messages.parse(nested(messages.MAX_DEPTH + 1))


@pytest.mark.parametrize("filler", ["x", "ø"])
def test_size_ends_at_64_kib_of_utf_8(filler: str) -> None:
    frame = '{"x":""}'
    count = (messages.MAX_MESSAGE_BYTES - len(frame)) // len(filler.encode())
    fitting = frame.replace('""', f'"{filler * count}"')

    assert len(fitting.encode()) == messages.MAX_MESSAGE_BYTES
    assert messages.parse(fitting) == Unknown("x")
    with pytest.raises(MalformedMessage, match="larger"):
        messages.parse(fitting + " ")


def test_a_message_that_no_peer_takes_is_not_written() -> None:
    with pytest.raises(MalformedMessage, match="larger"):
        messages.serialize(Accept(address="a", id="i", connect_headers={"X": "x" * 65_536}))


names = st.text(st.characters(codec="utf-8"), max_size=30)
headers = st.dictionaries(names, names, max_size=5)
header_names = st.text("ABCxyz019!#$%&'*+-.^_`|~", min_size=1, max_size=20)
endpoints = st.none() | st.builds(RemoteEndpoint, address=names, port=st.integers(0, 65_535))
anything = st.one_of(
    st.builds(Accept, address=names, id=names, connect_headers=headers, remote_endpoint=endpoints),
    st.builds(Request, address=names),
    st.builds(
        Request, address=names, id=names, request_target=names, method=names,
        remote_endpoint=endpoints, request_headers=headers, body=st.booleans(),
    ),
    st.builds(
        Response, request_id=names, status_code=st.integers(200, 999),
        status_description=st.none() | st.text("abc ø\"'`\\{}|", max_size=20),
        response_headers=st.dictionaries(header_names, st.text("a ø\t,\"'"), max_size=4),
        body=st.booleans(),
    ),
    st.builds(RenewToken, token=names.map(Secret)),
)  # fmt: skip


@given(anything)
def test_what_is_written_is_read_back(message: messages.Message) -> None:
    text = messages.serialize(message)

    assert messages.parse(text) == message
    assert len(json.loads(text)) == 1
    assert text.isascii()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
members = st.sampled_from(
    ["address", "id", "connectHeaders", "remoteEndpoint", "port", "method", "requestTarget",
     "requestId", "statusCode", "statusDescription", "responseHeaders", "body", "token"]
)  # fmt: skip
commands = st.sampled_from(["accept", "request", "response", "renewToken", "x"])


@given(st.text())
def test_hostile_text_is_malformed_and_nothing_else(text: str) -> None:
    with contextlib.suppress(MalformedMessage):
        messages.parse(text)


@given(commands, st.dictionaries(members, json_values) | json_values)
def test_hostile_commands_are_read_or_malformed(command: str, value: object) -> None:
    with contextlib.suppress(MalformedMessage):
        messages.parse(json.dumps({command: value}))
