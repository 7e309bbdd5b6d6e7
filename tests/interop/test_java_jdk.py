"""A Java program on the JDK alone: the name, the trust store, the URI and HTTP classes are real.

The library itself cannot be had; `java_peer` plays it. Here is what a peer in Python cannot show:
that a Java virtual machine takes the certificate, the addresses and the responses.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hybridge import Listener, connect
from tests.interop.dotnet_peer import DotnetListener, answer, answer_by_rendezvous
from tests.interop.install import HERE
from tests.interop.java_peer import listener_resource, sender_resource
from tests.interop.relay_on_443 import HOST, InteropRelay
from tests.support.raw import BINARY

PATH = "java"

RUN_SECONDS = 45.0
"""How long a program may take, compilation included."""

TRUST_PASSWORD = "changeit"
"""Java's own default: the store holds certificates only."""


@pytest.fixture(scope="module")
def flags(relay: InteropRelay, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What leads a Java virtual machine to the relay: a file of hosts and a trust store."""
    return java_flags(relay, tmp_path_factory.mktemp("java"))


def java_flags(relay: InteropRelay, folder: Path) -> list[str]:
    keytool = shutil.which("keytool")
    if keytool is None or shutil.which("javac") is None:
        pytest.skip("no JDK (java, javac and keytool)")
    trust, hosts = folder / "trust.p12", folder / "hosts"
    hosts.write_text(f"127.0.0.1 {HOST}\n", encoding="utf-8")
    command = [keytool, "-importcert", "-noprompt", "-alias", "hybridge", "-file", str(relay.ca)]
    command += ["-keystore", str(trust), "-storetype", "PKCS12", "-storepass", TRUST_PASSWORD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [
        f"-Djdk.net.hosts.file={hosts}",
        f"-Djavax.net.ssl.trustStore={trust}",
        f"-Djavax.net.ssl.trustStorePassword={TRUST_PASSWORD}",
    ]


class JavaProgram:
    """One role of `Peers.java`, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(RUN_SECONDS):
            return (await self._process.stdout.readline()).decode().rstrip()

    async def lines(self) -> list[str]:
        """All lines up to its end."""
        found = []
        while line := await self.line():
            found.append(line)
        return found


@asynccontextmanager
async def java(relay: InteropRelay, flags: list[str], role: str) -> AsyncIterator[JavaProgram]:
    process = await asyncio.create_subprocess_exec(
        "java",
        "-XX:TieredStopAtLevel=1",
        *flags,
        str(HERE / "java" / "Peers.java"),
        role,
        env={
            **os.environ,
            "SB_HC_NAMESPACE": HOST,
            "SB_HC_PATH": PATH,
            "LISTEN_TOKEN": relay.token(listener_resource(PATH)),
            "SEND_TOKEN": relay.token(sender_resource()),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield JavaProgram(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.clause(17)
async def test_a_java_listener_takes_the_accept_address_and_serves_our_sender(
    relay: InteropRelay, flags: list[str]
) -> None:
    async with java(relay, flags, "listen") as listener:
        assert await listener.line() == "listening"
        async with connect(
            relay.connection_string(PATH), ca=relay.ca, connect_to=relay.connect_to
        ) as stream:
            assert (await listener.line()).startswith("accept ")
            await stream.send(b"hello")
            assert await stream.receive() == b"you sent binary 5"
            assert await stream.receive() == b""
            await stream.send_eof()
            assert await listener.lines() == ["close 1000 Shutdown", "close 1000"]


async def test_a_java_sender_and_our_listener(relay: InteropRelay, flags: list[str]) -> None:
    async with Listener(
        relay.connection_string(PATH), ca=relay.ca, connect_to=relay.connect_to
    ) as listener:
        await listener.wait_online()
        async with java(relay, flags, "connect") as sender:
            async for connection in listener:
                stream = await connection.accept()
                break
            async with stream:
                assert await sender.line() == "open"
                received = 0
                while received < 100_000:
                    received += len(await stream.receive())
                await stream.send(b"thanks")
                await stream.send_eof()
                assert await sender.lines() == ["binary 6", "close 1000 Shutdown"]
                assert await stream.receive() == b""


async def test_http_url_connection_sends_chunks_and_reads_the_answer(
    relay: InteropRelay, flags: list[str]
) -> None:
    async with (
        DotnetListener(relay, PATH) as listener,
        java(relay, flags, "request") as sender,
    ):
        command = await listener.command("request")
        peer, _ = await relay.peers.visit(str(command["address"]))
        async with peer:
            request = (await peer.command())["request"]
            assert isinstance(request, dict)
            assert await peer.message() == (BINARY, bytes(100_000))
            await answer_by_rendezvous(peer, request, b"posted")
            assert await sender.line() == f"POST 200 OK 6 1.1 {HOST}"
        request = await listener.command("request")
        assert request["requestTarget"] == f"/{PATH}/items?color=red"
        await answer(listener, request, body=bytes(65_000))
        assert await sender.lines() == [f"GET 200 OK 65000 1.1 {HOST}"]
