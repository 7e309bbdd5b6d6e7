"""A stream behind a preamble: nothing that came is lost, whenever somebody attaches."""

from __future__ import annotations

import pytest

from hybridge.protocol.azbridge import Mode, SenderPreamble
from hybridge.protocol.errors import ConnectionLost, RelayError
from hybridge.transport.prefaced import PrefacedStream
from tests.support.scripted import ScriptedStream

REPLY = b"\x01\x00\x00"


class Hearing:
    """Notes what a receiver is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        self.heard.append(bytes(buffer[start:end]))

    def ended(self) -> None:
        self.heard.append("ended")

    def broken(self, error: RelayError) -> None:
        self.heard.append("broken")

    def drained(self) -> None:
        self.heard.append("drained")


def prefaced() -> tuple[ScriptedStream, PrefacedStream[SenderPreamble]]:
    below = ScriptedStream()
    above = PrefacedStream(below, SenderPreamble("test", Mode.STREAM))
    below.attach(above)
    return below, above


async def test_what_follows_the_preamble_is_held_until_somebody_attaches() -> None:
    below, above = prefaced()
    reading = []
    for piece in (REPLY[:2], REPLY[2:] + b"one", b"two"):  # The last was read at the same time.
        below.arrive(piece)
        reading.append(below.is_reading)
    hearing = Hearing()

    above.attach(hearing)

    assert hearing.heard == [b"onetwo"]
    assert [*reading, below.is_reading] == [True, False, False, True]
    below.arrive(b"three")
    below.end()
    assert hearing.heard == [b"onetwo", b"three", "ended"]


@pytest.mark.parametrize(
    ("broken", "told"), [(False, [b"one", "ended"]), (True, [b"one", "ended", "broken"])]
)
async def test_an_end_in_the_meantime_is_told_after_the_bytes(
    broken: bool, told: list[object]
) -> None:
    below, above = prefaced()
    below.arrive(REPLY + b"one")
    below.end()
    if broken:
        below.break_off()
    hearing = Hearing()

    above.attach(hearing)

    assert hearing.heard == told


async def test_a_receiver_that_is_full_at_once_is_not_fed_on() -> None:
    below, above = prefaced()
    below.arrive(REPLY + b"one")

    class Full(Hearing):
        def data(self, buffer: memoryview, start: int, end: int) -> None:
            above.pause()

    above.attach(Full())

    assert not below.is_reading
    above.resume()
    assert below.is_reading


async def test_a_break_within_the_preamble_is_an_error_and_an_end_is_none() -> None:
    below, above = prefaced()
    below.end()
    await above.read_preamble()
    assert not above.preamble.is_complete

    below, above = prefaced()
    below.break_off()
    with pytest.raises(ConnectionLost):
        await above.read_preamble()
