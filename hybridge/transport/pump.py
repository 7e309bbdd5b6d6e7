"""Carry bytes both ways between two streams."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hybridge.protocol.errors import RelayError
from hybridge.transport.stream import Stream


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that were carried."""

    forward: int
    """From near to far."""

    backward: int
    """From far to near."""


class Carrier:
    """The two directions between two streams, without an await between a read and its write.

    After `run`, or after its error, `traffic` says how much was carried.
    """

    def __init__(self, near: Stream, far: Stream) -> None:
        self._outcome = _Outcome()
        self._near = _Side(self._outcome, near, far)
        self._far = _Side(self._outcome, far, near)

    @property
    def traffic(self) -> Traffic:
        """Bytes carried so far."""
        return Traffic(self._near.count, self._far.count)

    async def run(self) -> None:
        """Carry until both streams have finished sending.

        The end of one direction does not cut the other: many protocols send a request, finish, and
        then wait for the answer. The caller owns both streams and closes them.

        Raises:
            ConnectionLost: One stream broke. Both have been aborted, so that the other peer sees a
                broken connection too.
        """
        try:
            self._near.start()
            self._far.start()
            await self._outcome.wait()
        except BaseException:
            self._near.stream.abort()
            self._far.stream.abort()
            raise


async def pump(near: Stream, far: Stream) -> Traffic:
    """Carry bytes both ways until both streams have finished sending; see `Carrier.run`."""
    carrier = Carrier(near, far)
    await carrier.run()
    return carrier.traffic


class _Outcome:
    """How it ends. The sides know it and not the carrier: in a circle nothing is freed at once."""

    def __init__(self) -> None:
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._still_sending = 2
        self._errors: list[RelayError] = []
        """What broke, until it is raised: an error holds the frames that it passes, and they us."""

    async def wait(self) -> None:
        await self._done
        if self._errors:
            raise self._errors.pop()

    def ended(self) -> None:
        self._still_sending -= 1
        if not self._still_sending and not self._done.done():
            self._done.set_result(None)

    def broken(self, error: RelayError) -> None:
        if not self._done.done():
            self._errors.append(error)
            self._done.set_result(None)


class _Side:
    """One stream of the two: what it receives goes to the other."""

    __slots__ = ("_is_over", "_other", "_outcome", "count", "stream")

    def __init__(self, outcome: _Outcome, stream: Stream, other: Stream) -> None:
        self._outcome = outcome
        self.stream = stream
        self._other = other
        self.count = 0
        self._is_over = False

    def start(self) -> None:
        self.stream.attach(self)

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        self.count += end - start
        if not self._other.write(buffer, start, end):
            # The backpressure: nothing more is read until this has been written.
            self.stream.pause()

    def drained(self) -> None:
        self._other.resume()

    def ended(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._other.write_eof()
        self._outcome.ended()

    def broken(self, error: RelayError) -> None:
        self._outcome.broken(error)
