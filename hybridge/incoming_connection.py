"""`IncomingConnection`: a sender that waits for its listener's answer."""

from __future__ import annotations

from hybridge.protocol import address, messages
from hybridge.protocol.errors import HandshakeRefused
from hybridge.rendezvous import dial_rendezvous, join_rendezvous
from hybridge.transport.dialer import Dialer
from hybridge.transport.stream import RelayedStream, Wire
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import WebSocketStream, open_websocket


class IncomingConnection:
    """A sender that waits at a rendezvous address, for this listener to accept or reject it."""

    def __init__(self, accept: messages.Accept, dialer: Dialer, timing: Timing) -> None:
        self.id = accept.id
        """Names the connection in everybody's logs."""
        self.address = accept.address
        self.connect_headers = accept.connect_headers
        """The sender's HTTP headers, spelled as they came."""
        self.remote_endpoint = accept.remote_endpoint
        """The sender's address as the relay saw it, or None."""
        self._dialer = dialer
        self._timing = timing
        self._wire: Wire | None = None

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """WebSocket sub-protocols that the sender offered, best first."""
        for name, value in self.connect_headers.items():
            if name.lower() == "sec-websocket-protocol":
                return tuple(part.strip() for part in value.split(",") if part.strip())
        return ()

    @property
    def has_left(self) -> bool:
        """Whether the sender is known to have given up, so that nobody waits for an answer."""
        return False

    async def prepare(self) -> None:
        """Open TCP and TLS to the rendezvous, to save its time later. May be left out.

        Raises:
            MalformedAddress: The address leads outside the namespace, and is not followed.
            UntrustedCertificate: See `accept`.
            Unreachable: See `accept`.
        """
        self.abandon()
        self._wire = await dial_rendezvous(self._dialer, self.address, self._timing)

    async def accept(self, subprotocol: str | None = None) -> RelayedStream:
        """Join the sender.

        Args:
            subprotocol: The offered sub-protocol to speak, or None.

        Raises:
            HandshakeRefused: The relay refused: the sender has gone, or it was too late.
            MalformedAddress: The address leads outside the namespace.
            UntrustedCertificate: The certificate there is not trusted.
            Unreachable: The rendezvous cannot be reached, or did not answer in time.
        """
        return await self._visit(self.address, () if subprotocol is None else (subprotocol,))

    async def reject(self, status: int, description: str) -> None:
        """Refuse the sender, whose handshake then fails with this status and description.

        Raises:
            HandshakeRefused: The relay answered something else than 410.
            MalformedAddress: See `accept`.
            UntrustedCertificate: See `accept`.
            Unreachable: See `accept`.
        """
        url = address.reject_url(self.address, status, description)
        try:
            stream = await self._visit(url, ())
        except HandshakeRefused as answer:
            if answer.status != 410:
                raise
        else:
            stream.abort()
            raise HandshakeRefused(101, "the relay took a rejection for an acceptance")

    async def _visit(self, url: str, subprotocols: tuple[str, ...]) -> WebSocketStream:
        wire, self._wire = self._wire, None
        if wire is None or not _is_usable(wire):
            if wire is not None:
                wire.abort()
            wire = await dial_rendezvous(self._dialer, self.address, self._timing)
        opening = open_websocket(wire, url, subprotocols=subprotocols, timing=self._timing)
        return await join_rendezvous(wire, opening, self._timing)

    def abandon(self) -> None:
        """Drop what `prepare` opened."""
        if self._wire is not None:
            self._wire.abort()
            self._wire = None


def _is_usable(wire: Wire) -> bool:
    """Whether nothing came on a connection on which nothing was asked: then it has not ended."""
    return wire.is_open and not wire.has_input()
