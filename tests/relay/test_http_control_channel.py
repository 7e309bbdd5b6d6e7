"""HTTP requests that the control channel carries whole, and their answers (7.2 to 7.6)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.support.http import HttpPeers, binary, heard, http_peers, response
from tests.support.raw import BINARY, TEXT, RelayPeers, frame
from tests.support.relay import HOST, RunningRelay, hybrid_connection, namespace, running_relay
from tests.support.wire import http_request, is_alive

STUCK_SECONDS = 0.25
EVERY_TOKEN_CHARACTER = "!#$%&'*+-.^_`|~09AZaz"
EVERY_VISIBLE_CHARACTER = bytes(range(0x21, 0x7F)).decode()


@pytest.mark.clause(91, 96, 99, 111)
async def test_a_get_reaches_the_listener_whole_and_its_answer_comes_back(http: HttpPeers) -> None:
    async with http.sending("/hc1/sub?x=1") as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, b"hello", headers={"X-Y": "z"}))
        answer = await sender.answer()

    assert request.body is None
    assert request.fields["method"] == "GET"
    assert request.fields["requestTarget"] == "/hc1/sub?x=1"
    assert request.fields["body"] is False
    assert isinstance(request.fields["remoteEndpoint"], dict)
    assert "sb-hc-action=request" in request.address
    assert f"sb-hc-id={request.id}" in request.address
    assert request.headers["Host"] == HOST
    assert request.headers["Via"] == f"1.1 {HOST}"
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.all("Via") == [f"1.1 {HOST}"]
    assert answer.all("X-Y") == ["z"]
    assert await is_alive(http.control), "and no binary message came after the request"


@pytest.mark.clause(92)
@pytest.mark.parametrize("size", [1, 65_535, 65_536])
async def test_a_post_of_up_to_65536_bytes_is_carried_inline(http: HttpPeers, size: int) -> None:
    body = (bytes(range(256)) * 256)[:size]
    async with http.sending(method="POST", body=body) as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, None, status=202))
        answer = await sender.answer()

    assert request.body == body
    assert (answer.status, answer.reason, answer.body) == (202, "Accepted", b"")


@pytest.mark.clause(96, 97)
async def test_what_concerns_the_hop_stays_here_and_repeated_headers_are_joined(
    http: HttpPeers,
) -> None:
    headers = [
        ("Connection", "keep-alive, X-Hop"),
        ("Upgrade", "h2c"),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
        ("Close", "x"),
        ("X-Hop", "1"),
        ("Via", "1.0 before"),
        ("X-Twice", "a"),
        ("x-twice", "b"),
    ]
    async with http.sending("/hc1", *headers, method="POST", body=b"x"):
        request = await heard(http.control)

    assert request.headers == {
        "Host": HOST,
        "Via": f"1.0 before, 1.1 {HOST}",
        "X-Twice": "a, b",
    }


@pytest.mark.clause(98, 107)
async def test_odd_characters_survive_in_headers_both_ways_and_in_the_reason(
    http: HttpPeers,
) -> None:
    name, value = EVERY_TOKEN_CHARACTER, EVERY_VISIBLE_CHARACTER
    async with http.sending("/hc1", (name, value)) as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, reason=value, headers={name: value}))
        answer = await sender.answer()

    assert request.headers[name] == value
    assert answer.all(name) == [value]
    assert answer.reason == value


@pytest.mark.clause(16)
@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/hc1/my%20file?x=%20", "/hc1/my file?x=%20"),
        ("/HC1/a%2Fb%3Fc%23d%25e", "/HC1/a/b%3Fc%23d%25e"),
        ("/hc1/%0d%0A%7f%00x", "/hc1/%0d%0A%7f%00x"),
        ("/hc1/%C3%B8%E2%82%ac/%ff%C3", "/hc1/ø€/%ff%C3"),
        ("/hc1/?a=1&sb-hc-token=&a=2&", "/hc1/?a=1&a=2&"),
    ],
)
async def test_the_listener_sees_the_path_decoded_and_the_query_raw(
    http: HttpPeers, sent: str, seen: str
) -> None:
    async with http.sending(sent):
        request = await heard(http.control)

    assert request.fields["requestTarget"] == seen


@pytest.mark.clause(110)
async def test_every_method_reaches_the_listener(http: HttpPeers) -> None:
    for method in ("OPTIONS", "PUT", "DELETE", "TRACE", "PATCH", "get"):
        async with http.sending(method=method):
            assert (await heard(http.control)).fields["method"] == method


# --- Tokens --------------------------------------------------------------------------------------


@pytest.mark.clause(37)
async def test_authorization_that_is_the_token_is_not_passed_on(
    relay: RunningRelay, http: HttpPeers
) -> None:
    async with await http.peers.dial() as sender:
        await sender.send(http_request("/hc1", HOST, ("Authorization", relay.token())))
        request = await heard(http.control)

    assert "Authorization" not in request.headers


@pytest.mark.clause(38, 39)
async def test_authorization_beside_the_token_is_the_listeners(http: HttpPeers) -> None:
    async with http.sending("/hc1", ("Authorization", "Bearer of-the-application")):
        request = await heard(http.control)

    assert request.headers["Authorization"] == "Bearer of-the-application"
    assert "ServiceBusAuthorization" not in request.headers


@pytest.mark.clause(119)
async def test_an_anonymous_hybrid_connection_needs_no_token_and_passes_authorization_on() -> None:
    connection = hybrid_connection(requires_client_authorization=False)
    authorization = ("Authorization", "SharedAccessSignature of-the-application")
    async with (
        running_relay(namespace(connection)) as relay,
        http_peers(relay) as http,
        await http.peers.dial() as sender,
    ):
        await sender.send(http_request("/hc1", HOST, authorization))
        request = await heard(http.control)

    assert request.headers["Authorization"] == "SharedAccessSignature of-the-application"


@pytest.mark.clause(125)
async def test_a_get_with_an_api_version_alone_is_relayed(http: HttpPeers) -> None:
    async with http.sending("/hc1?api-version=2016-07"):
        assert (await heard(http.control)).fields["method"] == "GET"


# --- Responses -----------------------------------------------------------------------------------


@pytest.mark.clause(106, 108)
async def test_statuses_pass_with_their_standard_phrases(http: HttpPeers) -> None:
    phrases = {
        201: "Created",
        300: "Multiple Choices",
        305: "Use Proxy",
        306: "",
        407: "Proxy Authentication Required",
        418: "I'm a Teapot",
        426: "Upgrade Required",
        450: "",
        502: "Bad Gateway",
        504: "Gateway Timeout",
    }
    async with await http.peers.dial() as sender:
        for status, phrase in phrases.items():
            await sender.send(http.request())
            request = await heard(http.control)
            await http.control.send(response(request.id, b"x", status=str(status)))
            answer = await sender.answer()
            assert (answer.status, answer.reason, answer.body) == (status, phrase, b"x")
            assert answer.all("Via") == [f"1.1 {HOST}"]


@pytest.mark.clause(109)
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("body", [None, b"", b"not for the sender"])
async def test_head_204_and_304_have_no_body(
    http: HttpPeers, method: str, status: int, body: bytes | None
) -> None:
    async with http.sending(method=method) as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, body, status=status))
        answer = await sender.answer(has_body=False)
        await sender.send(http.request("/hc1/next"))
        following = await heard(http.control)
        await http.control.send(response(following.id, b"next"))

        assert answer.status == status
        assert (await sender.answer()).body == b"next"


@pytest.mark.clause(103, 104, 122)
async def test_an_empty_body_is_empty_and_a_stray_one_is_ignored(http: HttpPeers) -> None:
    async with await http.peers.dial() as sender:
        for answered in (b"", None):
            await sender.send(http.request())
            request = await heard(http.control)
            await http.control.send(response(request.id, answered) + frame(BINARY))
            answer = await sender.answer()
            assert (answer.status, answer.body) == (200, b"")


@pytest.mark.clause(122)
@pytest.mark.parametrize(
    ("headers", "content_type"),
    [({}, "application/octet-stream"), ({"content-TYPE": "text/plain"}, "text/plain")],
)
async def test_a_body_without_content_type_gets_one(
    http: HttpPeers, headers: dict[str, str], content_type: str
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, b"x", headers=headers))

        assert (await sender.answer()).all("Content-Type") == [content_type]


@pytest.mark.clause(111)
async def test_what_concerns_the_listeners_hop_does_not_reach_the_sender(http: HttpPeers) -> None:
    headers = {
        "Connection": "close, X-Hop",
        "Content-Length": "999",
        "Transfer-Encoding": "gzip",
        "TE": "x",
        "Trailer": "x",
        "Upgrade": "x",
        "Close": "x",
        "X-Hop": "1",
        "Via": "1.1 inner",
        "Date": "yesterday",
    }
    async with http.sending() as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, b"body", headers=headers))
        answer = await sender.answer()

    assert answer.body == b"body"
    assert sorted(answer.headers) == [
        ("Content-Length", "4"),
        ("Content-Type", "application/octet-stream"),
        ("Date", "yesterday"),
        ("Via", f"1.1 inner, 1.1 {HOST}"),
    ]


async def test_a_body_in_fragments_is_passed_on_as_it_comes(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, b"", pieces=[b"a", b"b"], is_whole=False))
        answer = await sender.answer(has_body=False)
        first = await sender.chunk()
        await http.control.send(frame(0, b"c", fin=False) + frame(0))

        assert answer.all("Transfer-Encoding") == ["chunked"]
        assert first == b"ab"
        assert await sender.chunks() == b"c"


# --- Several requests ----------------------------------------------------------------------------


@pytest.mark.clause(116, 117)
async def test_ten_requests_at_once_are_answered_independently_in_any_order(
    http: HttpPeers,
) -> None:
    async def send(number: int) -> bytes:
        body = b"%d" % number * 1_000
        async with http.sending(f"/hc1/{number}", method="POST", body=body) as sender:
            return (await sender.answer()).body

    async with asyncio.TaskGroup() as senders:
        sent = [senders.create_task(send(number)) for number in range(10)]
        # Each JSON is followed by its own body: `heard` reads the two as one.
        requests = [await heard(http.control) for _ in range(10)]
        for request in reversed(requests):
            target = str(request.fields["requestTarget"]).encode()
            await http.control.send(response(request.id, target + b" " + (request.body or b"")))

    for number, task in enumerate(sent):
        assert task.result() == b"/hc1/%d " % number + b"%d" % number * 1_000


@pytest.mark.clause(118, 104)
async def test_strange_answers_and_messages_are_ignored(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        await http.control.send(
            frame(BINARY, b"stray")
            + response("somebody-else", b"not for you")
            + frame(TEXT, b'{"unknown":{}}')
            + frame(BINARY, b"stray again")
            + response(request.id, b"right")
            + response(request.id, b"again")
        )

        assert (await sender.answer()).body == b"right"
    assert await is_alive(http.control)


async def test_an_answer_of_another_listener_is_ignored(
    relay: RunningRelay, peers: RelayPeers, listen_token: str
) -> None:
    ids = [f"0000000{number}-0000-0000-0000-000000000000" for number in (1, 2)]
    async with (
        await peers.listener("hc1", listen_token, listener_id=ids[0]) as one,
        await peers.listener("hc1", listen_token, listener_id=ids[1]) as other,
    ):
        http = HttpPeers(relay, peers, one)
        async with http.sending("/hc1", ("Microsoft-Relay-AllowedListeners", ids[0])) as sender:
            request = await heard(one)
            await other.send(response(request.id, b"forged"))
            assert await is_alive(other)
            await one.send(response(request.id, b"true"))

            assert (await sender.answer()).body == b"true"


@pytest.mark.clause(120)
async def test_a_sender_that_aborts_does_not_disturb_the_control_channel(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        sender.reset()
    await http.control.send(response(request.id, b"too late"))
    assert await is_alive(http.control)

    async with http.sending() as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, b"in time"))
        assert (await sender.answer()).body == b"in time"


async def test_a_sender_that_does_not_read_is_asked_no_more_and_holds_up_nobody(
    http: HttpPeers,
) -> None:
    count, body = 300, bytes(65_536)
    frames = binary([body])
    answered = 0
    moved = asyncio.Event()

    async def answer() -> None:
        nonlocal answered
        while True:
            request = await heard(http.control)
            announced = response(request.id, b"", pieces=[], is_whole=False)
            await http.control.send(announced + frames)
            answered += 1
            moved.set()

    async with (
        await http.peers.dial() as slow,
        await http.peers.dial() as quick,
        asyncio.TaskGroup() as tasks,
    ):
        answering = tasks.create_task(answer())
        await slow.send(http.request() * count)
        with suppress(TimeoutError):
            while answered < count:
                moved.clear()
                async with asyncio.timeout(STUCK_SECONDS):
                    await moved.wait()
        assert answered < count, "19 MB are held by nobody"
        await quick.send(http.request())
        assert (await quick.answer()).body == body

        for _ in range(count):
            assert (await slow.answer()).body == body
        answering.cancel()


async def test_binary_frames_that_interrupt_nothing_do_not_grow(http: HttpPeers) -> None:
    await http.control.send(binary([b"x" * 1_000] * 10))

    assert await is_alive(http.control)
