"""A chain that many tests may break: what has ended is started anew, the rest goes on running."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.programs import Program
from tests.support.chain import (
    HYBRID_CONNECTION,
    Chain,
    RelayProcess,
    Settings,
    running_agent,
    running_client,
    running_relay_process,
    target_socket,
    wait_for,
)


class MendingChain:
    """Relay, agent and client, from one test to the next.

    A program costs half a second of a core to start, and most tests end only one.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._stacks = {name: ExitStack() for name in ("target", "relay", "agent", "client")}
        self._target: socket.socket | None = None
        self._relay: RelayProcess | None = None
        self._agent: Program | None = None
        self._client: Program | None = None

    def mend(self) -> Chain:
        """Start what does not run, and wait until the chain carries."""
        target = self._target = self._target or self._stacks["target"].enter_context(
            target_socket()
        )
        host, port = target.getsockname()
        seen = 0 if self._agent is None else self._agent.process.line_count
        relay, agent, client = self._relay, self._agent, self._client
        must_come_online = False
        if relay is None or self._has_ended("relay", relay.program):
            must_come_online = True
            relay = self._relay = self._stacks["relay"].enter_context(
                running_relay_process(
                    self._folder,
                    {HYBRID_CONNECTION: f"{host}:{port}"},
                    settings=self._settings,
                    port=0 if relay is None else relay.port,
                )
            )
        if agent is None or self._has_ended("agent", agent):
            agent = self._agent = self._start("agent", running_agent(relay, self._settings))
            seen, must_come_online = 0, True
        if client is None or self._has_ended("client", client):
            client = self._client = self._start("client", running_client(relay, self._settings))
        if must_come_online:
            wait_for(agent, "online", since=seen)
        listening = wait_for(client, "listening")
        return Chain(
            relay=relay,
            agent=agent,
            client=client,
            address=(listening.text("host"), int(listening.text("port"))),
            target=target,
        )

    def _start(self, name: str, program: AbstractContextManager[Program]) -> Program:
        return self._stacks[name].enter_context(program)

    def _has_ended(self, name: str, program: Program) -> bool:
        """Whether it has; what it wrote has then been looked at."""
        if program.process.exit_code is None:
            return False
        self._stacks[name].close()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as every_one:
            for stack in self._stacks.values():
                every_one.push(stack)
