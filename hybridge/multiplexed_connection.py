"""`MultiplexedConnection`: a sender that waits for its listener's answer on a shared rendezvous."""

from __future__ import annotations

from hybridge.incoming_connection import IncomingConnection
from hybridge.transport.multiplexed_stream import MultiplexedStream


class MultiplexedConnection(IncomingConnection):
    """One of several connections over one rendezvous, for its listener to accept or reject.

    Its address, headers and remote endpoint are those of the rendezvous.

    Args:
        stream: The connection, not answered yet.
        connection_id: Names it in everybody's logs.
        rendezvous: What it came by.
    """

    def __init__(
        self, stream: MultiplexedStream, *, connection_id: str, rendezvous: IncomingConnection
    ) -> None:
        self.id = connection_id
        self.address = rendezvous.address
        self.connect_headers = rendezvous.connect_headers
        self.remote_endpoint = rendezvous.remote_endpoint
        self._stream = stream

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """None: what was offered for the rendezvous is not the connection's."""
        return ()

    @property
    def has_left(self) -> bool:
        """Whether the sender has given up, or its rendezvous is lost."""
        return self._stream.is_gone

    async def prepare(self) -> None:
        """Do nothing: the rendezvous stands already."""

    async def accept(self, subprotocol: str | None = None) -> MultiplexedStream:
        """Join the sender.

        Args:
            subprotocol: None: a sender that wants one has a rendezvous of its own.

        Raises:
            ConnectionLost: The sender has gone.
        """
        if subprotocol is not None:
            raise AssertionError("no sub-protocol was offered")
        self._stream.accept()
        return self._stream

    async def reject(self, status: int, description: str) -> None:
        """Refuse the sender, which gets this status and description."""
        self._stream.refuse(status, description)

    def abandon(self) -> None:
        """Leave the sender without an answer: its connection fails."""
        self._stream.abort()
