"""Names are looked up, and one that gets no answer holds nothing up."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from hybridge.protocol.errors import TargetRefused
from hybridge.transport import names
from hybridge.transport.names import look_up, resolve

DEADLINE_SECONDS = 20.0
STREAM = socket.SOCK_STREAM


class Dns:
    """Answers `known.test`, and does not answer `silent.test` before it is released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_released = threading.Event()
        self._ask = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: int, **kinds: int) -> object:
        self.asked.append(host)
        if host == "silent.test":
            self.is_released.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if host == "unknown.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host.endswith("known.test") or host == "unwanted.test":
            return self._ask("127.0.0.1", port, **kinds)
        return self._ask(host, port, flags=socket.AI_NUMERICHOST, **kinds)


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dns]:
    dns = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", dns.getaddrinfo)
    monkeypatch.setattr(names, "_threads", names._Threads())
    yield dns
    dns.is_released.set()


async def test_a_name_leads_to_its_addresses(dns: Dns) -> None:
    (found,) = await resolve("known.test", 80, STREAM)

    assert found[4] == ("127.0.0.1", 80)


@pytest.mark.parametrize("name", ["unknown.test", "a" * 64 + ".test", "a\0b"])
async def test_a_name_that_is_unknown_or_none_is_an_error_with_a_next_step(
    dns: Dns, name: str
) -> None:
    with pytest.raises(TargetRefused, match="cannot be resolved") as caught:
        await resolve(name, 80, STREAM)

    assert "DNS" in caught.value.hint


async def test_many_names_without_an_answer_keep_no_other_waiting(dns: Dns) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(look_up("silent.test", 80, STREAM)) for _ in range(20)]

        assert await look_up("known.test", 80, STREAM)

        for task in waiting:
            task.cancel()


def test_a_name_without_an_answer_does_not_keep_the_program_from_ending(dns: Dns) -> None:
    async def give_up() -> None:
        async with asyncio.timeout(0.01):
            await look_up("silent.test", 80, STREAM)

    # If somebody waited for the answer, it would come in the end.
    late = threading.Timer(DEADLINE_SECONDS, dns.is_released.set)
    late.start()
    with asyncio.Runner() as runner, pytest.raises(TimeoutError):
        runner.run(give_up())
    late.cancel()
    late.join()

    assert not dns.is_released.is_set()


async def test_names_over_the_limit_wait_and_those_that_nobody_wants_any_more_are_left_out(
    dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_THREADS", 1)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(look_up("silent.test", 80, STREAM))
        given_up = tasks.create_task(look_up("unwanted.test", 80, STREAM))
        last = tasks.create_task(look_up("known.test", 80, STREAM))
        await asyncio.sleep(0)
        given_up.cancel()
        first.cancel()
        await asyncio.wait([given_up])
        assert not last.done()

        dns.is_released.set()
        assert await last

    assert dns.asked == ["silent.test", "known.test"]
