"""The one way to a target: allow-list, deadline, IPv6, and what is remembered of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import pytest

from hcm_agent.allow_list import TargetNotAllowed, parse_allow_list
from hcm_agent.endpoint_watch import EndpointWatch
from hcm_agent.http_forward import HttpDialer
from hcm_agent.http_target import HttpTarget
from hcm_agent.settings import Target as TargetAddress
from hcm_agent.target_dialer import DialTcp, TargetDialer
from hybridge.protocol.errors import RelayError, TargetRefused, TargetTimedOut
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import dial_tcp
from tests.support.agent_ends import Target, free_port
from tests.support.relay import certificate

Resolve = Callable[[dict[str, list[str]]], None]


class Dialing:
    """A dialer, and what it learnt."""

    def __init__(
        self, target: TargetAddress, *allowed: str, dial: DialTcp = dial_tcp, seconds: float = 20
    ) -> None:
        self.target = target
        self.watch = EndpointWatch(labels={}, on_change=lambda: None, check_seconds=0)
        self.watch.follow([target])
        self.dialer = TargetDialer(
            dial=dial,
            dial_http=HttpDialer().dial,
            timeout_seconds=seconds,
            observer=self.watch,
            allow_list=parse_allow_list(allowed, setting="") if allowed else None,
        )

    async def dial(self) -> Stream:
        return await self.dialer.dial(self.target)


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """A DNS with these names; each look takes the next answer, the last one stays."""

    def install(answers: dict[str, list[str]]) -> None:
        async def look_up(host: str, port: int, kind: int) -> list[object]:
            found = answers.get(host, [""])
            text = found.pop(0) if len(found) > 1 else found[0]
            if not text:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return [
                found
                for address in text.split()
                for found in socket.getaddrinfo(address, port, type=kind)
            ]

        monkeypatch.setattr("hybridge.transport.names.look_up", look_up)

    return install


async def test_a_target_with_an_ipv6_address_is_reached() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        dialing = Dialing(TargetAddress("::1", listening.getsockname()[1]), "[::1]:*")

        stream = await dialing.dial()

        assert dialing.watch.health.is_reachable is True
        stream.abort()


async def test_what_comes_of_a_try_is_remembered() -> None:
    dialing = Dialing(TargetAddress("127.0.0.1", free_port()))

    with pytest.raises(TargetRefused):
        await dialing.dial()

    assert dialing.watch.health.is_reachable is False
    assert "refused the connection" in dialing.watch.health.last_error


async def test_of_a_web_service_the_same_is_remembered_its_certificate_included() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate()[:2])
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        web = HttpTarget(scheme="https", host="127.0.0.1", port=port)
        dialing = Dialing(TargetAddress("127.0.0.1", port))
        dialing.watch.follow([web])
        with pytest.raises(RelayError):
            await dialing.dialer.dial_http(web)

        assert dialing.watch.health.is_reachable is False
        assert "certificate" in dialing.watch.health.last_error

        plain = HttpTarget(scheme="http", host="127.0.0.1", port=port)
        (await dialing.dialer.dial_http(plain)).abort()

        assert dialing.watch.health.is_reachable


async def test_a_target_that_hangs_is_given_up_at_the_deadline_and_that_is_remembered() -> None:
    async def hang(host: str, port: int, **_: object) -> Stream:
        await asyncio.Event().wait()
        raise AssertionError

    dialing = Dialing(TargetAddress("db", 5432), dial=hang, seconds=0.01)

    with pytest.raises(TargetTimedOut) as caught:
        await dialing.dial()

    assert caught.value.status == 504
    assert dialing.watch.health.last_error == "db:5432 did not answer within 0.01 s"


async def test_a_try_that_is_cancelled_says_nothing_of_the_target() -> None:
    dialled = asyncio.Event()

    async def hang(host: str, port: int, **_: object) -> Stream:
        dialled.set()
        await asyncio.Event().wait()
        raise AssertionError

    dialing = Dialing(TargetAddress("db", 5432), dial=hang)
    async with asyncio.TaskGroup() as tasks:
        trying = tasks.create_task(dialing.dial())
        await dialled.wait()
        trying.cancel()

    assert dialing.watch.health.is_reachable is None


async def test_dns_that_fails_and_heals_is_told_and_tried_again(resolve: Resolve) -> None:
    with Target() as target:
        resolve({"db.corp.example": ["", "127.0.0.1"]})
        dialing = Dialing(TargetAddress("db.corp.example", target.port))
        with pytest.raises(TargetRefused, match=r"'db\.corp\.example' cannot be resolved"):
            await dialing.dial()
        assert dialing.watch.health.is_reachable is False

        (await dialing.dial()).abort()

        assert dialing.watch.health.is_reachable is True


async def test_an_address_needs_no_dns_so_one_that_hangs_holds_nothing_up(
    resolve: Resolve,
) -> None:
    with Target() as target:
        resolve({})

        (await Dialing(TargetAddress("127.0.0.1", target.port)).dial()).abort()


async def test_a_target_that_is_not_on_the_list_is_neither_resolved_nor_dialled(
    resolve: Resolve,
) -> None:
    resolve({})

    with pytest.raises(TargetNotAllowed):
        await Dialing(TargetAddress("evil.corp.example", 5432), "db.corp.example:5432").dial()


async def test_a_name_is_dialled_only_at_the_addresses_that_the_list_has(
    resolve: Resolve,
) -> None:
    with Target() as target:
        # The first is another service of this machine; the list does not have it.
        resolve({"db.corp.example": ["127.0.0.2 127.0.0.1"]})
        address = TargetAddress("db.corp.example", target.port)
        with socket.create_server(("127.0.0.2", target.port)) as other:
            other.setblocking(False)

            (await Dialing(address, "127.0.0.1:*").dial()).abort()

            with pytest.raises(BlockingIOError):
                other.accept()


async def test_dns_that_changes_its_mind_leads_nowhere(resolve: Resolve) -> None:
    with Target() as target:
        resolve({"db.corp.example": ["127.0.0.1", "127.0.0.2"]})
        dialing = Dialing(TargetAddress("db.corp.example", target.port), "127.0.0.1/32:*")
        (await dialing.dial()).abort()

        with pytest.raises(TargetNotAllowed, match=r"it leads to 127\.0\.0\.2"):
            await dialing.dial()


async def test_the_list_holds_for_web_services_and_for_datagrams_too(resolve: Resolve) -> None:
    resolve({"web": ["127.0.0.1"]})
    dialer = Dialing(TargetAddress("db", 5432), "10.0.0.0/8:*").dialer

    with pytest.raises(TargetNotAllowed):
        await dialer.dial_http(HttpTarget(scheme="http", host="web", port=80))
    with pytest.raises(TargetNotAllowed):
        await dialer.dial_udp("web", 161)
    with pytest.raises(TargetNotAllowed):
        await dialer.dial_udp("127.0.0.1", 161)


async def test_a_list_that_is_exchanged_holds_from_then_on() -> None:
    with Target() as target:
        dialing = Dialing(TargetAddress("127.0.0.1", target.port))
        (await dialing.dial()).abort()

        dialing.dialer.allow_list = parse_allow_list(["db:5432"], setting="")

        with pytest.raises(TargetNotAllowed):
            await dialing.dial()
