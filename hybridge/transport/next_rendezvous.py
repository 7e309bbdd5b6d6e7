"""The rendezvous that a multiplexed stream moves to, until the stream reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridge.protocol.errors import RelayError
from hybridge.transport.stream import RelayedStream

if TYPE_CHECKING:
    from hybridge.transport.multiplexed_stream import MultiplexedStream


class NextRendezvous:
    """Receives on a stream's own rendezvous until the stream has read what came before.

    Holds one read at most, and stops reading then.

    Args:
        stream: Is told what concerns its writing.
        own: The rendezvous.
    """

    def __init__(self, stream: MultiplexedStream, own: RelayedStream) -> None:
        self.own = own
        self.held = bytearray()
        self.has_ended = False
        self.error: RelayError | None = None
        self._stream = stream

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Hold what the other side sent behind its MOVE."""
        if not self._stream.has_peer_ended:
            self.held += buffer[start:end]
            self.own.pause()

    def ended(self) -> None:
        """Note that this was all."""
        self.has_ended = True

    def drained(self) -> None:
        """Hear that it takes more."""
        self._stream.own_drained()

    def broken(self, error: RelayError) -> None:
        """Hear that it broke."""
        self.error = error
        is_to_be_given = (self.held or self.has_ended) and not self._stream.has_peer_ended
        if not is_to_be_given:
            # Otherwise that comes first: what is held, or the end of all that was sent.
            self._stream.own_broke(error)
