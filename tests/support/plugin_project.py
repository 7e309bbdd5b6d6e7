"""Projects that use the pytest plugin, run by a pytest of their own in this process."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """
import asyncio, socket, threading
import pytest
import hybridge
from tests.support.echo import echo_target

@pytest.fixture(scope="session")
def target():
    with echo_target() as address:
        yield address

@pytest.fixture(scope="session")
def left():
    sockets = []
    yield sockets
    for each in sockets:
        each.close()

def connected(made):
    return socket.create_connection(made.local_address, timeout=30)

class Listening:
    # A listener in a loop of its own, which accepts nobody and answers nothing.

    def __init__(self, made):
        self.made, self.online, self.over = made, threading.Event(), asyncio.Event()
        self.thread = threading.Thread(target=asyncio.run, args=(self.main(),))
        self.thread.start()
        assert self.online.wait(30)

    async def never(self, request):
        await self.over.wait()
        await request.respond(200, b"")

    async def main(self):
        self.loop, made = asyncio.get_running_loop(), self.made
        async with hybridge.Listener(
            made.listen_connection_string, ca=made.ca, connect_to=made.connect_to,
            request_handler=self.never,
        ) as listener:
            await listener.wait_online()
            self.online.set()
            await self.over.wait()

    def close(self):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()
"""


def make_project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Write what all projects have: a target, and what may be left open until the session ends."""
    pytester.makeini(
        """
        [pytest]
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
        filterwarnings = error
        hybridge_leak_seconds = 0.2
        """
    )
    pytester.makeconftest(CONFTEST)
    return pytester


def run(project: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    imports = "from conftest import Listening, connected\nimport pytest, socket\n"
    project.makepyfile(imports + textwrap.dedent(test))
    return project.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
