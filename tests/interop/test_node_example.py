"""The cookbook's Node programs, with hyco-ws as published."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.secret import Secret
from tests.interop.install import HERE, NODE_FOLDER, node_program
from tests.interop.relay_on_443 import ENTITY_KEY, InteropRelay

FOLDER = Path(__file__).resolve().parent.parent.parent / "examples" / "node"
SECONDS = 20.0


def _connection_string(rule: str) -> str:
    return serialize(
        ConnectionString(host="localhost", path="node-ws", key_name=rule, key=Secret(ENTITY_KEY))
    )


@contextlib.asynccontextmanager
async def _node(relay: InteropRelay, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program of the example, with what its page sets, and the packages of the tests."""
    process = await asyncio.create_subprocess_exec(
        node_program(),
        *command,
        cwd=FOLDER,
        env={
            "PATH": os.environ["PATH"],
            "NODE_PATH": str(NODE_FOLDER / "node_modules"),
            "NODE_OPTIONS": "--no-deprecation",
            "NODE_EXTRA_CA_CERTS": str(relay.ca),
            "LISTEN": _connection_string("listen"),
            "SEND": _connection_string("send"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_the_sender_gets_the_listeners_answer(relay: InteropRelay) -> None:
    async with asyncio.timeout(SECONDS), _node(relay, "listener.js") as listener:
        assert listener.stdout is not None
        assert await listener.stdout.readline() == b"online\n"

        for number, article in (("1", b"pallet of bolts\n"), ("7", b"no such order\n")):
            async with _node(relay, "sender.js", number) as sender:
                said, _ = await sender.communicate()
                assert (sender.returncode, said) == (0, article)


async def test_without_a_listener_the_sender_says_so_and_fails(relay: InteropRelay) -> None:
    async with asyncio.timeout(SECONDS), _node(relay, "sender.js", "1") as sender:
        said, _ = await sender.communicate()

    assert sender.returncode == 1
    assert b"404" in said


def test_the_example_asks_for_the_packages_that_are_tested() -> None:
    example = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    tested = json.loads((HERE / "node" / "package.json").read_text(encoding="utf-8"))

    assert example["dependencies"].items() <= tested["dependencies"].items()
    assert example["overrides"] == tested["overrides"]
