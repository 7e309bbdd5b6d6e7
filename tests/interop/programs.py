"""Node programs that are told what to do, one JSON object a line, and tell what happened."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.interop.install import HERE, NODE_FOLDER, node_program
from tests.interop.relay_on_443 import HOST, KEY, RULE, InteropRelay

EVENT_SECONDS = 20.0
"""How long anything may take that a program was told to do."""

LEAVE_SECONDS = 5.0
"""How long a program may take to end after its standard input has."""


def pattern(size: int) -> bytes:
    """``size`` bytes that differ from place to place; the same as `pattern` in node/lines.js."""
    return bytes((i * 31 + (i >> 8)) & 0xFF for i in range(size))


def summary(data: bytes) -> dict[str, object]:
    """What the programs tell of a body or message instead of its bytes."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def node_environment(relay: InteropRelay, path: str, *, host: str = HOST) -> dict[str, str]:
    """What leads an unmodified Node program to the relay: names, trust, and the variables that
    Microsoft's samples and tests read."""
    return {
        **os.environ,
        "NODE_PATH": str(NODE_FOLDER / "node_modules"),
        "NODE_OPTIONS": f"--require={HERE / 'node' / 'names.js'} --no-deprecation",
        "NODE_EXTRA_CA_CERTS": str(relay.ca),
        "RELAY_ADDRESS": "127.0.0.1",
        "SB_HC_NAMESPACE": host,
        "SB_HC_PATH": path,
        "SB_HC_KEYRULE": RULE,
        "SB_HC_KEY": KEY,
    }


class NodeProgram:
    """One script of ``tests/interop/node``, from start to end of the ``async with``."""

    def __init__(self, script: str, relay: InteropRelay, path: str, *, host: str = HOST) -> None:
        self._script = script
        self._environment = node_environment(relay, path, host=host)
        self._process: asyncio.subprocess.Process | None = None
        self._said: list[str] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            node_program(),
            str(HERE / "node" / self._script),
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()
        if error is not None and self._said:
            print(f"--- {self._script} said:", *self._said, sep="\n")

    async def tell(self, do: str, **fields: object) -> None:
        """Have it do something."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        await self._process.stdin.drain()

    async def event(self, name: str) -> Mapping[str, object]:
        """Wait for what it tells next, which must be this event; give its fields."""
        event = await self.next_event()
        assert event.get("event") == name, event
        return event

    async def next_event(self) -> Mapping[str, object]:
        """Wait for what it tells next, whatever it is."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(EVENT_SECONDS):
            while line := await self._process.stdout.readline():
                self._said.append(line.decode(errors="replace").rstrip())
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        return event
        raise AssertionError(f"{self._script} ended: {self._said}")
