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
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._near = _Side(self, near, far)
        self._far = _Side(self, far, near)

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
            await self._done
        except BaseException:
            self._near.stream.abort()
            self._far.stream.abort()
            raise

    def ended(self) -> None:
        if self._near.is_over and self._far.is_over and not self._done.done():
            self._done.set_result(None)

    def broken(self, error: RelayError) -> None:
        if not self._done.done():
            self._done.set_exception(error)


async def pump(near: Stream, far: Stream) -> Traffic:
    """Carry bytes both ways until both streams have finished sending; see `Carrier.run`."""
    carrier = Carrier(near, far)
    await carrier.run()
    return carrier.traffic


class _Side:
    """One stream of the two: what it receives goes to the other."""

    __slots__ = ("_carrier", "_other", "count", "is_over", "stream")

    def __init__(self, carrier: Carrier, stream: Stream, other: Stream) -> None:
        self._carrier = carrier
        self.stream = stream
        self._other = other
        self.count = 0
        self.is_over = False

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
        self.is_over = True
        self._other.write_eof()
        self._carrier.ended()

    def broken(self, error: RelayError) -> None:
        self._carrier.broken(error)
