"""`devstack.testing` in the caller's own event loop, without pytest's fixtures."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import devstack.testing
from devstack.testing import Ended, LeaksFound, ends
from devstack.testing.hybrid_connection import HybridConnection
from tests.support.echo import echo_target


@pytest.fixture
def target() -> Iterator[tuple[str, int]]:
    with echo_target() as address:
        yield address


async def assert_echo(hybrid_connection: HybridConnection) -> None:
    reader, writer = await asyncio.open_connection(*hybrid_connection.local_address)
    writer.write(b"select 1")
    assert await reader.readexactly(8) == b"select 1"
    writer.close()
    await writer.wait_closed()


async def test_one_block_is_enough(target: tuple[str, int]) -> None:
    async with devstack.testing.relay() as relay:
        orders = await relay.hybrid_connection(target)
        await assert_echo(orders)

        await relay.restart()
        await orders.agent.wait_connected()
        await assert_echo(orders)

    with pytest.raises(Ended, match="the relay was used after its end"):
        await relay.start()


async def test_an_error_of_the_block_comes_out_as_it_is(target: tuple[str, int]) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - the block is what is tested
        async with devstack.testing.relay() as relay:
            orders = await relay.hybrid_connection(target)
            _, writer = await asyncio.open_connection(*orders.local_address)
            raise KeyError("mine")

    writer.close()


async def test_what_was_left_open_is_raised_at_the_end_of_the_block(
    target: tuple[str, int],
) -> None:
    with pytest.raises(LeaksFound) as caught:  # noqa: PT012 - the block is what is tested
        async with devstack.testing.relay(leak_seconds=0.1) as relay:
            orders = await relay.hybrid_connection(target, name="orders")
            reader, writer = await asyncio.open_connection(*orders.local_address)
            writer.write(b"x")
            await reader.readexactly(1)
            [live] = orders.leaks()

    writer.close()
    [leak] = caught.value.leaks
    assert leak.kind == live.kind == "connection"
    assert re.search(r"'orders' from 127\.0\.0\.1:\d+: neither end has closed it", leak.text)


async def test_a_namespace_that_nobody_has_ended_does_not_keep_the_relay(
    target: tuple[str, int],
) -> None:
    async with devstack.testing.relay() as relay:
        namespace = await relay.namespace().__aenter__()
        orders = await namespace.hybrid_connection(target)

    assert not orders.agent.is_connected


async def test_a_cancelled_block_ends_in_order(target: tuple[str, int]) -> None:
    inside = asyncio.Event()

    async def block() -> None:
        async with devstack.testing.relay() as relay:
            await relay.hybrid_connection(target)
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(block())
        await inside.wait()
        task.cancel()

    assert task.cancelled()


async def test_a_task_that_does_not_end_is_cancelled_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "END_SECONDS", 0.01)
    async with asyncio.TaskGroup() as tasks:
        stubborn = tasks.create_task(asyncio.Event().wait(), name="agent of orders")

        with pytest.raises(TimeoutError, match="the agent of orders did not end within"):
            await ends.end(stubborn)  # type: ignore[arg-type] # it never gives its True

    assert stubborn.cancelled()


async def test_agents_and_clients_that_do_not_end_are_leaks(
    monkeypatch: pytest.MonkeyPatch, target: tuple[str, int]
) -> None:
    async with devstack.testing.relay() as relay:
        namespace = await relay.namespace().__aenter__()
        await namespace.hybrid_connection(target, name="orders")
        monkeypatch.setattr(ends, "END_SECONDS", 0.0)

        leaks = await namespace.end()

        monkeypatch.undo()
    assert [str(leak) for leak in leaks] == [
        "task the client of orders did not end within 0 s",
        "task the agent of orders did not end within 0 s",
    ]


async def test_a_certificate_authority_of_ones_own_is_kept(tmp_path: Path) -> None:
    async with devstack.testing.relay(ca_dir=tmp_path / "ca") as relay:
        assert relay.ca == tmp_path / "ca" / "ca.pem"

    assert relay.ca.exists()


async def test_a_certificate_authority_of_nobodys_goes_with_the_block() -> None:
    async with devstack.testing.relay() as relay:
        assert relay.ca.exists()

    assert not relay.ca.parent.exists()


def test_only_names_that_there_are_can_be_imported() -> None:
    assert {"relay", "Leak"} <= set(dir(devstack.testing))
    for name in devstack.testing.__all__:
        assert getattr(devstack.testing, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        devstack.testing.nothing  # noqa: B018
