"""What the .NET library does, done by raw peers: WebSockets, renewal, runtime information."""

from __future__ import annotations

import random
import uuid

import pytest

from tests.interop.dotnet_peer import (
    ALLOWED,
    DISALLOWED,
    DotnetListener,
    check_101,
    connect,
    joined,
    resource,
)
from tests.interop.relay_on_443 import ANONYMOUS, HOST, InteropRelay
from tests.support.raw import PONG, TEXT, RelayPeers, close_frame, frame

PATH = "dotnet"


@pytest.mark.clause(83, 84)
async def test_shutdown_ends_one_direction_and_the_answer_still_comes(relay: InteropRelay) -> None:
    async with DotnetListener(relay, PATH) as listener:
        sender, near = await joined(relay, listener)
        async with sender.peer, near.peer:
            await sender.write(b"question")
            await sender.shutdown()
            assert await near.read_to_end() == b"question"

            for part in (b"an", b"swer"):
                await near.write(part)
            await near.start_closing()

            assert await sender.read_to_end() == b"answer"


@pytest.mark.clause(82)
async def test_close_async_of_both_sides_carries_its_reason(relay: InteropRelay) -> None:
    async with DotnetListener(relay, PATH) as listener:
        sender, near = await joined(relay, listener)
        async with sender.peer, near.peer:
            await sender.start_closing()
            assert await near.peer.close() == (1000, "CloseAsync")
            await near.start_closing()
            assert await sender.peer.close() == (1000, "CloseAsync")
            assert await sender.peer.ended()
            assert await near.peer.ended()


@pytest.mark.clause(78)
async def test_no_read_is_empty_before_the_end(relay: InteropRelay) -> None:
    """A `Read` of nothing is the end to the library, so the relay must not make empty messages."""
    data = random.Random(7).randbytes(1 << 20)  # noqa: S311 - no secret
    async with DotnetListener(relay, PATH) as listener:
        sender, near = await joined(relay, listener)
        async with sender.peer, near.peer:
            await near.write(data)
            await near.write(b"!")
            await near.shutdown()

            assert await sender.read_to_end() == data + b"!"


@pytest.mark.clause(66, 67)
@pytest.mark.parametrize(
    ("offered", "chosen", "agreed"),
    [
        (("a", "b"), None, "a"),
        (("a", "b"), "b", "b"),
        (("a", "b"), "", None),
        ((), None, None),
    ],
)
async def test_the_sub_protocol_is_one_that_was_offered_or_none(
    relay: InteropRelay, offered: tuple[str, ...], chosen: str | None, agreed: str | None
) -> None:
    async with DotnetListener(relay, PATH) as listener:
        sender, _ = await connect(relay, PATH, protocols=offered)
        near = await listener.accept(protocol=chosen)
        async with sender, near.peer:
            assert check_101(await sender.answer(), offered=offered) == agreed


@pytest.mark.clause(59, 60)
async def test_allowed_and_disallowed_listeners_choose_among_three(relay: InteropRelay) -> None:
    async with (
        DotnetListener(relay, PATH) as first,
        DotnetListener(relay, PATH) as second,
        DotnetListener(relay, PATH) as third,
    ):
        for listener in (first, second, third):
            others = [each.id for each in (first, second, third) if each is not listener]
            for header in (
                (ALLOWED, listener.id.upper()),
                (DISALLOWED, ", ".join(others)),
            ):
                sender, near = await joined(relay, listener, header)
                async with sender.peer, near.peer:
                    pass

        stranger, _ = await connect(relay, PATH, (ALLOWED, str(uuid.uuid4())))
        async with stranger:
            answer = await stranger.answer()
        assert answer.status == 404
        assert "AllowedListeners/DisallowedListeners" in answer.reason


@pytest.mark.clause(46, 51)
async def test_a_renewal_with_escaped_slashes_and_unsolicited_pongs_are_taken(
    relay: InteropRelay,
) -> None:
    async with DotnetListener(relay, PATH) as listener:
        await listener.control.send(frame(PONG, b""))
        await listener.renew()
        await listener.control.send(frame(PONG, b"keep-alive"))
        await listener.control.send(frame(TEXT, b'{"unknown\\/command":{}}'))

        sender, near = await joined(relay, listener)
        async with sender.peer, near.peer:
            await sender.write(b"still there")
            assert await near.read() == b"still there"


@pytest.mark.clause(41)
async def test_a_listen_at_a_path_that_is_not_there_gets_the_404_that_makes_the_library_stop(
    relay: InteropRelay, peers: RelayPeers
) -> None:
    token = relay.token(resource("nowhere"))
    peer, answer = await peers.upgrade(
        f"/$hc/nowhere?sb-hc-action=listen&sb-hc-id={uuid.uuid4()}",
        ("ServiceBusAuthorization", token),
    )
    async with peer:
        assert answer.status == 404
        assert "nowhere" in answer.reason
        assert "TrackingId:" in answer.reason
        assert await peer.ended()


@pytest.mark.clause(30)
async def test_a_wrong_key_gets_the_text_that_the_librarys_tests_look_for(
    relay: InteropRelay, peers: RelayPeers
) -> None:
    token = relay.token(resource(PATH), key="d3Jvbmc=")
    peer, answer = await peers.upgrade(
        f"/$hc/{PATH}?sb-hc-action=listen", ("ServiceBusAuthorization", token)
    )
    async with peer:
        assert answer.status == 401
        assert "token has an invalid signature" in answer.reason
        assert PATH in answer.reason
        assert "TrackingId:" in answer.reason


@pytest.mark.clause(68)
async def test_an_accept_handler_that_says_no_is_what_the_sender_hears(
    relay: InteropRelay,
) -> None:
    async with DotnetListener(relay, PATH) as listener:
        sender, _ = await connect(relay, PATH)
        async with sender:
            assert (await listener.reject(400, "Rejected+by+user+code")).status == 410
            answer = await sender.answer()
    assert (answer.status, answer.reason) == (400, "Rejected by user code")


@pytest.mark.clause(82)
async def test_a_raw_sender_that_goes_away_with_1001_tells_the_listener_so(
    relay: InteropRelay, peers: RelayPeers
) -> None:
    async with DotnetListener(relay, PATH) as listener:
        sender, near = await joined(relay, listener)
        async with sender.peer, near.peer:
            await sender.peer.send(close_frame(1001, "going away, says the test"))
            assert await near.peer.close() == (1001, "going away, says the test")


@pytest.mark.clause(3)
async def test_an_upgrade_without_a_query_is_a_sender_at_an_anonymous_path(
    relay: InteropRelay, peers: RelayPeers
) -> None:
    async with (
        DotnetListener(relay, ANONYMOUS) as listener,
        await peers.start_sender(f"/$hc/{ANONYMOUS}") as sender,
    ):
        near = await listener.accept()
        async with near.peer:
            check_101(await sender.answer())


@pytest.mark.clause(124, 126)
async def test_runtime_information_counts_listeners(relay: InteropRelay, peers: RelayPeers) -> None:
    async def listener_count() -> int:
        token = relay.token(resource("team/dotnet"))
        peer, answer = await peers.request(
            (
                f"GET /team/dotnet?api-version=2016-07 HTTP/1.1\r\nHost: {HOST}\r\n"
                f"X-PROCESS-AT: ServiceBus\r\nAuthorization: {token}\r\n\r\n"
            ).encode()
        )
        async with peer:
            assert answer.status == 200
            assert answer.all("Content-Type") == ["application/atom+xml;type=entry;charset=utf-8"]
            return int(answer.body.partition(b"<ListenerCount>")[2].partition(b"<")[0])

    assert await listener_count() == 0
    async with DotnetListener(relay, "team/dotnet"), DotnetListener(relay, "team/dotnet"):
        assert await listener_count() == 2
