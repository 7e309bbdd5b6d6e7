"""Listeners that answer what cannot be passed on: that request fails, and nothing else does.

Each row is answered on the control channel and on a rendezvous socket. Whatever a listener writes,
the sender reads one whole response of the relay's, and the control channel serves the next request.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from relay.settings import RelaySettings
from tests.support.http import HttpPeers, binary, error_code, heard, http_peers, response
from tests.support.raw import BINARY, PING, TEXT, RawPeer, frame
from tests.support.relay import running_relay
from tests.support.wire import is_alive

SHORT_SECONDS = 0.2
INJECTED = "X-Injected"
THIEF = "2d6c8e0e-58d0-4b0f-9c3f-51a5e2b1a001"
NOT_THE_THIEF = ("Microsoft-Relay-DisallowedListeners", THIEF)


@pytest.fixture
async def http() -> AsyncIterator[HttpPeers]:
    settings = RelaySettings(
        body_gap_seconds=SHORT_SECONDS, response_timeout_seconds=SHORT_SECONDS, drain_seconds=0
    )
    async with running_relay(settings=settings) as relay, http_peers(relay) as peers:
        yield peers


@pytest.fixture(autouse=True)
def _no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("DEBUG")
    yield
    records = caplog.get_records("call")
    assert not [each for each in records if each.levelno >= logging.ERROR or each.exc_info]
    assert not [each for each in records if "\r" in each.getMessage() or "\n" in each.getMessage()]


def message(request_id: str, fields: dict[str, object]) -> bytes:
    """Write a response that is good but for these fields, and a body of five bytes."""
    good: dict[str, object] = {
        "requestId": request_id,
        "statusCode": 200,
        "statusDescription": "OK",
        "responseHeaders": {},
        "body": True,
    }
    kept = {name: value for name, value in (good | fields).items() if value is not ...}
    return frame(TEXT, json.dumps({"response": kept}).encode()) + frame(BINARY, b"hello")


async def is_well(http: HttpPeers) -> bool:
    """Whether the same control channel serves the next request."""
    async with http.sending("/hc1/next") as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, b"well", status=201))
        answer = await sender.answer()
    return (answer.status, answer.body) == (201, b"well")


async def raw_answer(sender: RawPeer) -> str:
    """Read all that comes on a connection that the sender wished to be closed."""
    return (await sender.reader.read()).decode("latin-1")


# --- What a response says ------------------------------------------------------------------------

UNUSABLE: dict[str, dict[str, object]] = {
    "description with CR LF": {"statusDescription": f"OK\r\n{INJECTED}: y"},
    "description with CR LF CR LF": {"statusDescription": f"OK\r\n\r\n{INJECTED}"},
    "description with LF": {"statusDescription": f"OK\n{INJECTED}: y"},
    "description with CR": {"statusDescription": f"OK\r{INJECTED}: y"},
    "description with NUL": {"statusDescription": "O\x00K"},
    "description with half a character": {"statusDescription": "\ud800"},
    "description that is a number": {"statusDescription": 200},
    "name with CR LF": {"responseHeaders": {f"X: y\r\n{INJECTED}": "z"}},
    "name with LF": {"responseHeaders": {f"X\n{INJECTED}": "z"}},
    "name with a colon": {"responseHeaders": {"X:": "z"}},
    "name with a blank": {"responseHeaders": {"Transfer-Encoding ": "chunked"}},
    "name with NUL": {"responseHeaders": {"X\x00": "z"}},
    "name that is empty": {"responseHeaders": {"": "z"}},
    "name that is not ASCII": {"responseHeaders": {"\xe4": "z"}},
    "value with CR LF": {"responseHeaders": {"X": f"y\r\n{INJECTED}: z"}},
    "value with CR LF CR LF": {"responseHeaders": {"X": f"y\r\n\r\n{INJECTED}"}},
    "value with LF": {"responseHeaders": {"X": f"y\n{INJECTED}: z"}},
    "value with CR": {"responseHeaders": {"X": f"y\r{INJECTED}: z"}},
    "value with NUL": {"responseHeaders": {"X": "y\x00"}},
    "value that is a number": {"responseHeaders": {"X": 1}},
    "value that is a list": {"responseHeaders": {"X": ["y"]}},
    "headers that are a list": {"responseHeaders": [["X", "y"]]},
    "status 99": {"statusCode": 99},
    "status 100": {"statusCode": 100},
    "status 101": {"statusCode": 101},
    "status 1000": {"statusCode": 1_000},
    "status 0": {"statusCode": 0},
    "status -200": {"statusCode": -200},
    "status of 40 digits": {"statusCode": 10**39},
    "status 200.0": {"statusCode": 200.0},
    "status 200.5": {"statusCode": 200.5},
    "status true": {"statusCode": True},
    "status null": {"statusCode": None},
    "no status": {"statusCode": ...},
    "status in a list": {"statusCode": [200]},
    "status in words": {"statusCode": "OK"},
    "status with CR LF": {"statusCode": f"200\r\n{INJECTED}: y"},
    "status with a blank": {"statusCode": " 200"},
    "status with a sign": {"statusCode": "+200"},
    "status '1000'": {"statusCode": "1000"},
    "status '99'": {"statusCode": "99"},
    "status in Arabic digits": {"statusCode": "\u0662\u0660\u0660"},
    "body 'true'": {"body": "true"},
    "body 1": {"body": 1},
}


async def test_on_the_control_channel_that_request_alone_fails_as_502(http: HttpPeers) -> None:
    for name, fields in UNUSABLE.items():
        async with http.sending("/hc1", ("Connection", "close")) as sender:
            request = await heard(http.control)
            await http.control.send(message(request.id, fields))
            text = await raw_answer(sender)

        head, _, body = text.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 502 "), (name, text)
        assert INJECTED not in text, name
        assert "\nVia:" not in head, name
        assert json.loads(body)["error"]["code"] == "BadGateway", name
    assert await is_well(http)


async def test_on_a_rendezvous_socket_that_request_alone_fails_as_502(http: HttpPeers) -> None:
    for name, fields in UNUSABLE.items():
        async with http.sending("/hc1", ("Connection", "close")) as sender:
            request = await heard(http.control)
            async with await http.visit(request.address) as socket:
                await socket.send(message(request.id, fields))
                text = await raw_answer(sender)
                code, _ = await socket.close()

        assert text.startswith("HTTP/1.1 502 "), (name, text)
        assert INJECTED not in text, name
        assert code == 1002, name
    assert await is_well(http)


@pytest.mark.parametrize("by_rendezvous", [False, True], ids=["control channel", "rendezvous"])
async def test_what_a_listener_says_of_framing_is_not_believed(
    http: HttpPeers, by_rendezvous: bool
) -> None:
    headers = {
        "Content-Length": "100000",
        "transfer-encoding": "gzip, chunked",
        "CONNECTION": "keep-alive, X-Mine",
        "Upgrade": "websocket",
        "TE": "trailers",
        "Trailer": "X",
        "Close": "x",
        "X-Mine": "y",
    }
    async with http.sending("/hc1", ("Connection", "close")) as sender:
        request = await heard(http.control)
        written = response(request.id, b"0\r\n\r\n" + INJECTED.encode(), headers=headers)
        if by_rendezvous:
            async with await http.visit(request.address) as socket:
                await socket.send(written)
                text = await raw_answer(sender)
        else:
            await http.control.send(written)
            text = await raw_answer(sender)

    head, _, body = text.partition("\r\n\r\n")
    names = [line.partition(":")[0].lower() for line in head.split("\r\n")[1:]]
    framing = {"content-length", "transfer-encoding"} & set(names)
    assert len(framing) == 1, text
    assert len(names) == len(set(names))
    assert not {"upgrade", "te", "trailer", "close"} & set(names)
    assert "100000" not in head
    assert "gzip" not in head
    assert body in (f"0\r\n\r\n{INJECTED}", f"f\r\n0\r\n\r\n{INJECTED}\r\n0\r\n\r\n")


# --- Which request it answers --------------------------------------------------------------------


async def test_a_foreign_id_is_ignored_with_its_body(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        for foreign in ("", "x", request.id[:-1], request.id + "1", request.id.upper() + " "):
            await http.control.send(response(foreign, b"foreign"))
        await http.control.send(response(request.id, b"own"))
        answer = await sender.answer()

    assert (answer.status, answer.body) == (200, b"own")
    assert await is_well(http)


async def test_a_listener_cannot_answer_what_another_was_asked(http: HttpPeers) -> None:
    token = http.relay.token("hc1", key_name="listenrule")
    async with (
        await http.peers.listener("hc1", token, listener_id=THIEF) as thief,
        http.sending("/hc1", NOT_THE_THIEF) as sender,
    ):
        request = await heard(http.control)
        await thief.send(response(request.id, b"stolen"))
        assert await is_alive(thief), "it has been read"
        await http.control.send(response(request.id, b"own"))

        assert (await sender.answer()).body == b"own"
    assert await is_well(http)


async def test_a_second_answer_is_ignored_with_its_body(http: HttpPeers) -> None:
    async with http.sending("/hc1/1") as first, http.sending("/hc1/2") as second:
        one, two = await heard(http.control), await heard(http.control)
        if one.fields["requestTarget"] == "/hc1/2":
            one, two = two, one
        await http.control.send(response(one.id, b"first") + response(one.id, b"again"))
        await http.control.send(response(two.id, b"second") + response(one.id, None, status=404))

        assert (await first.answer()).body == b"first"
        assert (await second.answer()).body == b"second"
        await first.send(http.request("/hc1/3"))
        third = await heard(http.control)
        await http.control.send(response(one.id, b"late") + response(third.id, b"third"))
        assert (await first.answer()).body == b"third"
    assert await is_well(http)


async def test_a_foreign_id_on_a_rendezvous_socket_is_502(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as socket:
            await socket.send(response("foreign", b"x"))

            assert error_code(await sender.answer()) == "BadGateway"
            assert (await socket.close())[0] == 1002
    assert await is_well(http)


# --- Bodies that are not what was announced ------------------------------------------------------


async def test_a_promised_body_that_never_comes_fails_that_request_alone(http: HttpPeers) -> None:
    # On the control channel the error can still be told (7.7).
    async with http.sending() as sender:
        request = await heard(http.control)
        promise = response(request.id, b"").partition(binary([b""]))[0]
        await http.control.send(promise)
        answer = await sender.answer()

        assert answer.status == 504
        assert error_code(answer) == "GatewayTimeout"
        # Should it come yet, it belongs to nobody.
        await http.control.send(binary([b"late"]))
    assert await is_well(http)


async def test_a_body_that_stops_on_a_rendezvous_socket_ends_broken(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as socket:
            promise = response(request.id, b"").partition(binary([b""]))[0]
            await socket.send(promise + binary([b"half"], is_whole=False))
            head = await sender.reader.readuntil(b"\r\n\r\n")

            assert head.startswith(b"HTTP/1.1 200 ")
            assert await sender.receive_exactly(9) == b"4\r\nhalf\r\n"
            assert not await sender.ended(), "an orderly end would look complete"
    assert await is_well(http)


async def test_text_where_a_body_is_due_fails_that_request_alone(http: HttpPeers) -> None:
    async with http.sending() as one:
        first = await heard(http.control)
        promise = response(first.id, b"").partition(binary([b""]))[0]
        async with http.sending() as other:
            second = await heard(http.control)
            await http.control.send(promise + response(second.id, b"second"))

            assert error_code(await one.answer()) == "BadGateway"
            assert (await other.answer()).body == b"second"
    assert await is_well(http)


async def test_text_where_a_body_is_due_on_a_rendezvous_socket_ends_broken(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as socket:
            promise = response(request.id, b"").partition(binary([b""]))[0]
            await socket.send(promise + frame(TEXT, b"hello"))

            assert (await socket.close())[0] == 1002
        assert not await sender.ended()
    assert await is_well(http)


@pytest.mark.parametrize(
    "strays",
    [
        frame(BINARY, b"stray"),
        frame(BINARY, b""),
        binary([b"stray", b"in", b"pieces"]),
        frame(TEXT, b'{"unknown":{}}') + frame(BINARY, b"stray"),
        frame(PING, b"x") * 3 + frame(10, b"unasked"),
        frame(TEXT, b'{"response":{"requestId":"x","statusCode":99,"body":true}}')
        + frame(BINARY, b"x"),
    ],
    ids=["binary", "empty", "fragments", "unknown command", "pings", "an unusable foreign answer"],
)
async def test_stray_frames_are_ignored(http: HttpPeers, strays: bytes) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        await http.control.send(strays + response(request.id, b"own") + strays)

        assert (await sender.answer()).body == b"own"
    assert await is_well(http)


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        (frame(BINARY, b"x"), "Command messages must be MessageType=Text."),
        (frame(TEXT, b'{"renewToken":{"token":"x"}}'), "'response' command was expected."),
        (frame(TEXT, b"not JSON"), ""),
        (frame(TEXT, b'{"response":{"statusCode":200}}'), "'response.requestId' is required."),
    ],
    ids=["binary", "another command", "no JSON", "no id"],
)
async def test_what_is_no_response_on_a_rendezvous_socket_is_502(
    http: HttpPeers, first: bytes, problem: str
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as socket:
            await socket.send(first)

            assert error_code(await sender.answer()) == "BadGateway"
            code, reason = await socket.close()
            assert code == 1002
            assert problem in reason
    assert await is_well(http)
