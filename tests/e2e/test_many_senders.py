"""Many local connections at once: each gets what is meant for it."""

from __future__ import annotations

import asyncio
import hashlib
import random

from tests.support.chain import DEADLINE_SECONDS, Chain, is_full_length

SENDERS = 500 if is_full_length() else 200
"""500 at once at the relay alone: tests/relay/test_many_connections.py."""
NONCE_BYTES = 32
ANSWER_BYTES = 5_000


def answer_to(nonce: bytes) -> bytes:
    return hashlib.shake_128(nonce).digest(ANSWER_BYTES)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as the target, then end."""
    try:
        nonce = await reader.readexactly(NONCE_BYTES)
        writer.write(answer_to(nonce))
        await writer.drain()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_hundreds_of_connections_at_once_each_get_their_own_bytes(chain: Chain) -> None:
    together = asyncio.Barrier(SENDERS)

    async def ask(nonce: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*chain.address)
        try:
            # All stand before any of them says a word.
            await together.wait()
            writer.write(nonce)
            writer.write_eof()
            return await reader.read(-1)
        finally:
            writer.close()
            await writer.wait_closed()

    nonces = [random.randbytes(NONCE_BYTES) for _ in range(SENDERS)]  # noqa: S311 - no secret
    async with (
        asyncio.timeout(2 * DEADLINE_SECONDS),
        await asyncio.start_server(serve, sock=chain.target.dup()),
        asyncio.TaskGroup() as tasks,
    ):
        answers = [tasks.create_task(ask(nonce), name="ask") for nonce in nonces]
        await asyncio.wait(answers)

    assert [each.result() for each in answers] == [answer_to(nonce) for nonce in nonces]
