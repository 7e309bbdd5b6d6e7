"""A client over real local sockets, and the relay that it sees, scripted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from app_client.client import Client
from app_client.forwarder import Connecting, Outside
from app_client.hosts import HostsKeeper
from app_client.hosts_file import HostsFile
from app_client.local_port import LocalPort
from app_client.settings import ClientSettings, Forward
from app_client.target_lookup import Metadata
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.errors import (
    RelayError,
)
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import TcpStream, dial_tcp
from hybridge.transport.timing import Timing
from hybridge.transport.unix_listening import UnixAddress
from tests.support import agent_ends
from tests.support.agent_ends import tcp_pair


@dataclass
class Information:
    target: tuple[str, int] | None


@dataclass
class Relay:
    """Answers each connect as the test says; keeps the far ends."""

    answer: RelayError | None = None
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    far_ends: asyncio.Queue[TcpStream] = field(default_factory=asyncio.Queue)
    metadata: Information | RelayError = field(default_factory=lambda: Information(None))
    grants_send: bool | RelayError | None = None
    metadata_of: dict[str, Information | RelayError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.may_answer.set()

    def outside(self) -> Outside:
        return Outside(open_sender=self.open, read_metadata=self.read, may_send=self.grants)

    async def grants(self, forward: Forward, settings: ClientSettings) -> bool | None:
        if isinstance(self.grants_send, RelayError):
            raise self.grants_send
        return self.grants_send

    def open(self, forward: Forward, settings: ClientSettings) -> Connecting:
        return ScriptedSender(self, forward.name)

    async def read(self, forward: Forward, settings: ClientSettings) -> Metadata:
        answer = self.metadata_of.get(forward.name, self.metadata)
        if isinstance(answer, RelayError):
            raise answer
        return answer


@dataclass
class ScriptedSender:
    relay: Relay
    name: str

    async def connect(self, *, connection_id: str | None = None) -> Stream:
        relay = self.relay
        relay.ids.append(connection_id or "")
        relay.names.append(self.name)
        relay.asked.release()
        try:
            await relay.may_answer.wait()
        except asyncio.CancelledError:
            relay.cancelled.set()
            raise
        if relay.answer is not None:
            raise relay.answer
        near, far = tcp_pair()
        relay.far_ends.put_nowait(far)
        return near


def to(
    name: str,
    listen: tuple[str, int] | UnixAddress | None = ("127.0.0.1", 0),
    *,
    target: tuple[str, int] | None = None,
    host: str = "ns1.example.test",
    rule: str = "rule",
    default_host: str | None = None,
) -> Forward:
    text = agent_ends.connection_string(name, host=host, rule=rule)
    return Forward(
        connection_string=connection_string.parse(text),
        listen=listen,
        target=target,
        default_host=default_host,
    )


@dataclass
class Running:
    lifetime: Lifetime
    addresses: asyncio.Queue[tuple[str, tuple[str, int]]]
    client: Client

    def hang_up(self) -> None:
        """Do what SIGHUP does."""
        assert self.lifetime.on_reload is not None
        self.lifetime.on_reload()


@contextlib.asynccontextmanager
async def running(
    relay: Relay,
    *forwards: Forward,
    timing: Timing | None = None,
    drain_seconds: float = 30,
    max_connections: int = 100,
    ready_file: Path | None = None,
    hosts: Path | None = None,
    reloads: Sequence[ClientSettings | RelayError] = (),
) -> AsyncIterator[Running]:
    """A client that serves; stopped at the end, when all that it started must be gone."""
    lifetime = Lifetime()
    addresses: asyncio.Queue[tuple[str, tuple[str, int]]] = asyncio.Queue()

    def announce(forwarder: LocalPort, address: tuple[str, int]) -> None:
        addresses.put_nowait((forwarder.name, address))

    client = Client(
        ClientSettings(forwards=forwards, timing=timing or Timing(), drain_seconds=drain_seconds),
        max_connections=max_connections,
        announce=announce,
        load=partial(_next, list(reloads)) if reloads else None,
        ready_file=ready_file,
        hosts=HostsKeeper(HostsFile(hosts)) if hosts is not None else None,
        outside=relay.outside(),
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(client.run(lifetime))
        yield Running(lifetime, addresses, client)
        lifetime.stop()
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


def _next(left: list[ClientSettings | RelayError]) -> ClientSettings:
    settings = left.pop(0)
    if isinstance(settings, RelayError):
        raise settings
    return settings


async def dial(running: Running) -> Stream:
    _, (host, port) = await running.addresses.get()
    running.addresses.put_nowait(("", (host, port)))
    return await dial_tcp(host, port)


def with_event(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.__dict__.get("event") == event]


def only(group: pytest.ExceptionInfo[BaseExceptionGroup[BaseException]]) -> BaseException:
    error: BaseException = group.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


async def outcome_of(stream: Stream) -> str:
    """How the peer ended it: an error's text, or nothing for an orderly end."""
    try:
        await stream.receive()
    except RelayError as error:
        return str(error)
    return ""


async def refused(address: tuple[str, int]) -> None:
    """Wait until nothing listens there any more."""
    while True:
        try:
            stream = await dial_tcp(*address)
        except RelayError:
            return
        stream.abort()
