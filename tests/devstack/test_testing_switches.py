"""What goes wrong on purpose in `devstack.testing`, as an application sees it."""

from __future__ import annotations

import pytest

import hybridge
from devstack.testing import (
    Absent,
    BackgroundRelay,
    HybridConnectionFactory,
    NotConnected,
)
from hybridge.protocol.errors import HandshakeRefused
from tests.support.ways import SECONDS, assert_echo, assert_refused, assert_works, connected

# --- the switches --------------------------------------------------------------------------------


def test_a_stopped_agent_refuses_and_a_started_one_serves_again(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    orders = hybrid_connection(target)
    with connected(orders) as sock:
        assert_echo(sock)

        orders.agent.stop()

        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert not orders.agent.is_connected
    assert_refused(orders)
    with pytest.raises(NotConnected, match="does not run"):
        orders.agent.wait_connected()

    orders.agent.start()
    assert_works(orders)


def test_an_agent_may_be_started_later(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    orders = hybrid_connection(target, agent=False)
    assert_refused(orders)

    orders.agent.start()

    assert orders.agent.is_connected
    assert_works(orders)


def test_a_restarted_relay_cuts_what_lived_and_the_agent_comes_back(
    hybrid_connection: HybridConnectionFactory,
    hybridge_relay: BackgroundRelay,
    target: tuple[str, int],
) -> None:
    orders = hybrid_connection(target)
    before = hybridge_relay.connect_to
    with connected(orders) as sock:
        assert_echo(sock)

        hybridge_relay.restart()

        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert hybridge_relay.connect_to == before
    orders.agent.wait_connected()
    assert_works(orders)


def test_an_agent_that_has_found_out_by_itself_counts_as_connected_again(
    hybrid_connection: HybridConnectionFactory,
    hybridge_relay: BackgroundRelay,
    target: tuple[str, int],
) -> None:
    orders = hybrid_connection(target)
    agent = orders._made.agent
    hybridge_relay.stop()
    with pytest.raises(NotConnected):
        orders.agent.wait_connected(0.2)  # By now it has.
    hybridge_relay.loop.call(agent.lost)  # As at the end of a stop that it was quicker than.

    hybridge_relay.start()

    orders.agent.wait_connected()


def test_while_the_relay_is_stopped_nobody_gets_through(
    hybrid_connection: HybridConnectionFactory,
    hybridge_relay: BackgroundRelay,
    target: tuple[str, int],
) -> None:
    orders = hybrid_connection(target)

    hybridge_relay.stop()

    assert not hybridge_relay.is_running
    assert not orders.agent.is_connected
    assert_refused(orders)
    with pytest.raises(Absent, match="the relay is stopped"):
        hybrid_connection(target)
    with pytest.raises(Absent, match="the relay is stopped"):
        orders.sever()
    with pytest.raises(NotConnected, match=r"did not connect within 0\.2 s"):
        orders.agent.wait_connected(0.2)


def test_the_next_test_has_a_relay_that_runs(
    hybrid_connection: HybridConnectionFactory,
    hybridge_relay: BackgroundRelay,
    target: tuple[str, int],
) -> None:
    hybridge_relay.stop()
    with hybridge_relay.namespace():
        pass  # As the test before this one ends.

    assert_works(hybrid_connection(target))


@pytest.mark.parametrize("close", [True, False])
def test_severed_connections_end_in_order_or_by_reset(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int], close: bool
) -> None:
    orders = hybrid_connection(target)
    with connected(orders) as sock:
        assert_echo(sock)
        assert orders.open_connections == 1

        assert orders.sever(close=close) == 1

        if close:
            assert sock.recv(1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    assert_works(orders)


@pytest.mark.parametrize("close", [True, False])
async def test_severed_connections_look_so_to_a_sender_of_ones_own(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int], close: bool
) -> None:
    orders = hybrid_connection(target)
    async with hybridge.connect(
        orders.send_connection_string, ca=orders.ca, connect_to=orders.connect_to
    ) as stream:
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"

        orders.sever(close=close)

        if close:
            assert await stream.receive() == b""
        else:
            with pytest.raises(hybridge.RelayError):
                await stream.receive()


async def test_new_senders_are_refused_with_the_status_and_reason_that_were_given(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    orders = hybrid_connection(target)
    with connected(orders) as sock:
        assert_echo(sock)
        with orders.refuse(429, "Too many."):
            with pytest.raises(HandshakeRefused) as caught:
                await hybridge.connect(
                    orders.send_connection_string, ca=orders.ca, connect_to=orders.connect_to
                )
            assert_refused(orders)
            assert_echo(sock, b"who is in stays in")

    assert caught.value.status == 429
    assert caught.value.reason.startswith("Too many. TrackingId:")
    assert_works(orders)


def test_what_is_stalled_goes_on_where_it_stopped(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    orders = hybrid_connection(target)
    with connected(orders) as before:
        assert_echo(before)
        orders.stall()
        with connected(orders) as after:
            for sock in (before, after):
                sock.sendall(b"late")
                sock.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    sock.recv(1)

            orders.resume()

            for sock in (before, after):
                sock.settimeout(SECONDS)
                assert sock.recv(4) == b"late"


def test_what_is_stalled_can_be_severed(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    orders = hybrid_connection(target)
    with connected(orders) as sock:
        assert_echo(sock)
        with orders.stall():
            sock.sendall(b"lost")
            orders.sever(close=False)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    assert_works(orders)


def test_expired_tokens_cost_the_agent_its_control_channel_and_nobody_his_connection(
    hybrid_connection: HybridConnectionFactory,
    target: tuple[str, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    orders = hybrid_connection(target)
    with connected(orders) as sock:
        assert_echo(sock)

        assert orders.expire_tokens() == 1

        orders.agent.wait_connected()
        assert_echo(sock, b"still here")
    assert_works(orders)
    assert "ExpiredToken: The token is expired." in str(
        [record.__dict__.get("error") for record in caplog.records]
    )
