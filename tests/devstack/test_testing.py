"""`devstack.testing` with our own fixtures: a target behind the real three; and used wrongly."""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

import hybridge
from devstack.testing import (
    Absent,
    BackgroundNamespace,
    BackgroundRelay,
    Ended,
    HybridConnectionFactory,
    background_relay,
)
from hybridge.protocol.connection_string import parse
from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.private_files import UnusableFile
from tests.support.agent_ends import free_port
from tests.support.echo import echo_target
from tests.support.ways import SECONDS, assert_refused, assert_works, connected

# --- what one gets -------------------------------------------------------------------------------


def test_bytes_go_to_the_target_and_back(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    orders = hybrid_connection(target)

    assert orders.host == "127.0.0.1"
    assert "SharedAccessKey" not in f"{orders!r} {orders.coordinates!r}"
    assert orders.name == "hc1"
    assert_works(orders)


def test_a_target_may_be_written_as_host_and_port(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    assert_works(hybrid_connection(f"127.0.0.1:{target[1]}", name="orders/eu"))


async def test_a_sender_of_ones_own_gets_through_with_the_connection_string(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    orders = hybrid_connection(target, client=False)

    async with hybridge.connect(
        orders.send_connection_string, ca=orders.ca, connect_to=orders.connect_to
    ) as stream:
        await stream.send(b"hello")
        await stream.send_eof()
        assert await stream.receive() == b"hello"
        assert await stream.receive() == b""


async def test_a_listener_of_ones_own_takes_the_place_of_the_agent(
    hybrid_connection: HybridConnectionFactory,
) -> None:
    async def hello(request: hybridge.IncomingRequest) -> None:
        await request.respond(200, b"hello")

    orders = hybrid_connection()
    async with hybridge.Listener(
        orders.listen_connection_string,
        ca=orders.ca,
        connect_to=orders.connect_to,
        request_handler=hello,
    ) as listener:
        await listener.wait_online()
        found = await hybridge.runtime_information(
            orders.listen_connection_string, ca=orders.ca, connect_to=orders.connect_to
        )
        await listener.stop_accepting()

    assert found.listener_count == 1


def test_a_port_without_authorization_is_reached_without_a_key(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    assert_works(hybrid_connection(target, requires_client_authorization=False))


def test_several_hybrid_connections_lead_to_several_targets(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    with echo_target() as other:
        made = [hybrid_connection(target), hybrid_connection(other)]

        assert [each.name for each in made] == ["hc1", "hc2"]
        for each in made:
            assert_works(each)


def test_two_namespaces_know_nothing_of_each_other(
    hybridge_relay: BackgroundRelay, target: tuple[str, int]
) -> None:
    with hybridge_relay.namespace() as one, hybridge_relay.namespace() as other:
        orders = one.hybrid_connection(target, name="orders")
        stopped = other.hybrid_connection(target, name="orders", agent=False)

        assert one.host != other.host
        assert_works(orders)
        assert_refused(stopped)


def test_a_target_that_refuses_is_told_to_the_application_as_a_reset(
    hybrid_connection: HybridConnectionFactory,
) -> None:
    assert_refused(hybrid_connection(("127.0.0.1", free_port())))


def test_http_targets_are_reached_by_relayed_http(
    hybrid_connection: HybridConnectionFactory, target: tuple[str, int]
) -> None:
    api = hybrid_connection(f"http://127.0.0.1:{target[1]}", requires_client_authorization=False)

    assert api.url == f"https://{api.namespace}/hc1"
    with pytest.raises(Absent, match="no local port"):
        api.host  # noqa: B018
    with api.refuse(418, "No coffee."):
        request = urllib.request.Request(
            f"https://localhost:{api.connect_to[1]}/hc1", headers={"Host": api.namespace}
        )
        context = ssl.create_default_context(cafile=api.ca)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, context=context, timeout=SECONDS)  # noqa: S310
        with caught.value as answer:
            assert answer.status == 418
            assert answer.reason.startswith("No coffee.")


# --- used wrongly --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "problem", "hint"),
    [
        ("localhost", "target: 'localhost' has no port", "write HOST:PORT"),
        ("tcp://db:1", "target: 'tcp://db:1' is an address with a scheme", "write HOST:PORT"),
        (("127.0.0.1", 0), "target: port 0 is not between 1 and 65535", "write HOST:PORT"),
    ],
)
def test_a_target_that_is_none_is_said_with_a_hint(
    hybrid_connection: HybridConnectionFactory, target: object, problem: str, hint: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        hybrid_connection(target)

    assert str(caught.value) == problem
    assert caught.value.__notes__[0].startswith(f"hint: {hint}")


def test_a_folder_that_cannot_be_used_is_said_where_the_relay_is_started(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    folder.write_text("a file")

    with pytest.raises(UnusableFile, match="ca") as caught, background_relay(ca_dir=folder):
        pass

    assert caught.value.__notes__[0].startswith("hint: ")


def test_a_relay_that_has_ended_says_so() -> None:
    with background_relay() as relay:
        pass

    with pytest.raises(Ended, match="the relay was used after its end"):
        relay.restart()


def test_the_namespaces_own_connection_string_may_do_everything_in_it(
    hybrid_connection: HybridConnectionFactory,
    hybridge_namespace: BackgroundNamespace,
    target: tuple[str, int],
) -> None:
    root = parse(hybridge_namespace.connection_string)
    orders = hybrid_connection(target, name="orders")

    found = asyncio.run(
        hybridge.runtime_information(
            replace(root, path="orders"), ca=orders.ca, connect_to=orders.connect_to
        )
    )

    assert (root.host, root.path) == (hybridge_namespace.host, None)
    assert found.listener_count == 1
    assert hybridge_namespace.leaks() == []


def test_what_waits_in_the_backlog_is_left_open_too(
    hybridge_relay: BackgroundRelay, target: tuple[str, int]
) -> None:
    namespace = hybridge_relay.namespace().__enter__()
    orders = namespace.hybrid_connection(target)
    with connected(orders):
        [leak] = namespace.end(leak_seconds=0.0)

    assert leak.kind in ("connection", "sender")  # Joined, or on its way.


@pytest.mark.parametrize("wrong", [5432, ("127.0.0.1",)])
def test_what_is_no_host_and_port_is_refused(
    hybrid_connection: HybridConnectionFactory, wrong: object
) -> None:
    with pytest.raises(InvalidSetting, match=r"target: .* is not a host and a port"):
        hybrid_connection(wrong)


def test_the_same_name_twice_is_refused(hybrid_connection: HybridConnectionFactory) -> None:
    hybrid_connection(name="orders")

    with pytest.raises(InvalidSetting, match="name: 'Orders' is taken in namespace t-the-same"):
        hybrid_connection(name="Orders")


def test_names_that_azure_has_not_are_refused(
    hybrid_connection: HybridConnectionFactory, hybridge_relay: BackgroundRelay
) -> None:
    with pytest.raises(InvalidSetting, match="is not a name for a hybrid connection"):
        hybrid_connection(name="a b")
    with pytest.raises(InvalidSetting, match="is not a namespace name"):
        hybridge_relay.namespace("x")


def test_a_namespace_of_the_same_name_is_refused(
    hybridge_relay: BackgroundRelay, hybridge_namespace: BackgroundNamespace
) -> None:
    with (
        pytest.raises(InvalidSetting, match="is taken in this relay"),
        hybridge_relay.namespace(hybridge_namespace.name.upper()),
    ):
        pass


def test_what_is_not_there_is_said(hybrid_connection: HybridConnectionFactory) -> None:
    bare = hybrid_connection()

    with pytest.raises(Absent, match="no client"):
        bare.port  # noqa: B018
    with pytest.raises(Absent, match="no agent"):
        bare.agent.stop()
    with pytest.raises(InvalidSetting, match="200 is not an HTTP error status"):
        bare.refuse(200, "fine")


def test_used_after_its_end_it_says_so(
    hybridge_relay: BackgroundRelay, target: tuple[str, int]
) -> None:
    with hybridge_relay.namespace() as namespace:
        orders = namespace.hybrid_connection(target)

    with pytest.raises(Ended, match="'hc1' was used after its end"):
        orders.sever()
    with pytest.raises(Ended, match="the agent of 'hc1' was used after its end"):
        orders.agent.start()  # It would have nobody to stop it, and the relay would wait for it.
    with pytest.raises(Ended, match="was used after its end"):
        namespace.hybrid_connection(target)
    with pytest.raises(ConnectionRefusedError):
        connected(orders)
