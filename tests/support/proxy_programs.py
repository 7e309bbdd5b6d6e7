"""tinyproxy and microsocks, as Debian has them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.support.agent_ends import free_port
from tests.support.debian import require
from tests.support.until import until

LOGIN = ("alice", "s3cr3t")


@contextlib.asynccontextmanager
async def tinyproxy(
    folder: Path, *, login: tuple[str, str] | None = None, idle_seconds: int = 60
) -> AsyncIterator[str]:
    """Run an HTTP proxy that cuts tunnels which are idle; give its address."""
    port = free_port()
    lines = [f"Port {port}", "Listen 127.0.0.1", f"Timeout {idle_seconds}", "MaxClients 100"]
    if login is not None:
        lines.append("BasicAuth {} {}".format(*login))
    config = folder / "tinyproxy.conf"
    config.write_text("\n".join([*lines, ""]))
    async with _running([require("tinyproxy"), "-d", "-c", str(config)], port, folder):
        yield _address("http", port, login)


@contextlib.asynccontextmanager
async def microsocks(folder: Path, *, login: tuple[str, str] | None = None) -> AsyncIterator[str]:
    """Run a SOCKS5 proxy; give its address."""
    port = free_port()
    command = [require("microsocks"), "-i", "127.0.0.1", "-p", str(port)]
    if login is not None:
        command += ["-u", login[0], "-P", login[1]]
    async with _running(command, port, folder):
        yield _address("socks5", port, login)


def _address(scheme: str, port: int, login: tuple[str, str] | None) -> str:
    credentials = "" if login is None else "{}:{}@".format(*login)
    return f"{scheme}://{credentials}127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def _running(command: Sequence[str], port: int, folder: Path) -> AsyncIterator[None]:
    told = folder / "proxy.log"
    with told.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        await until(lambda: process.returncode is not None or _listens(port), within=20)
        assert process.returncode is None, told.read_text()
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
