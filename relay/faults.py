"""What goes wrong on purpose, by hybrid connection: the seam for tests of what users build.

Nothing does unless somebody says so. What is asked for here looks on the wire as it does when it
happens by itself.
"""

from __future__ import annotations

from hybridge.protocol.close_codes import CloseCode
from hybridge.protocol.errors import InvalidSetting, RelayError
from relay.control_channel import EXPIRED
from relay.core.listeners import Listeners
from relay.core.operations import Operation
from relay.diagnostics import report
from relay.pairs import Pairs

SEVERED = "The connection was severed."


class Refused(RelayError):
    """A sender is refused because somebody asked for it."""


class Faults:
    """Refuses senders, stalls and severs connections, expires tokens.

    An entity is named by its namespace and hybrid connection in lower case: ``demo-ns/orders-db``.

    Args:
        listeners: Whose control channels can be closed.
        pairs: The connections that can be stalled and severed.
    """

    def __init__(self, listeners: Listeners, pairs: Pairs) -> None:
        self._listeners = listeners
        self._pairs = pairs
        self._refusals: dict[str, tuple[int, str]] = {}
        self._stalled: set[str] = set()

    def refuse(self, entity: str, status: int, reason: str) -> None:
        """Answer new senders with this status, until `admit`. Their tokens are checked before.

        Raises:
            InvalidSetting: ``status`` is no HTTP error.
        """
        if not 400 <= status <= 599:
            problem = f"{status} is not an HTTP error status"
            raise InvalidSetting("status", problem, hint="give a number from 400 to 599")
        self._refusals[entity] = status, reason

    def admit(self, entity: str) -> None:
        """Refuse nobody any more."""
        self._refusals.pop(entity, None)

    def check(self, entity: str) -> None:
        """Let a sender pass.

        Raises:
            Refused: It shall not.
        """
        if entity in self._refusals:
            status, reason = self._refusals[entity]
            raise Refused(reason, status=status)

    def stall(self, entity: str) -> None:
        """Read nothing from connections, those to come included, until `resume`."""
        self._stalled.add(entity)
        for pair in self._pairs.of(entity):
            pair.hold()

    def resume(self, entity: str) -> None:
        """Carry on where `stall` had stopped."""
        self._stalled.discard(entity)
        for pair in self._pairs.of(entity):
            pair.go_on()

    def is_stalled(self, entity: str) -> bool:
        """Whether nothing is read from connections."""
        return entity in self._stalled

    def sever(self, entity: str, *, close: bool) -> int:
        """End all joined connections.

        Args:
            entity: Of this hybrid connection.
            close: Whether both sides are told by a WebSocket Close; else TCP is reset under them.

        Returns:
            How many there were.
        """
        pairs = self._pairs.of(entity)
        for pair in pairs:
            if close:
                pair.close(CloseCode.GOING_AWAY, SEVERED)
            else:
                pair.abort(SEVERED)
        return len(pairs)

    def expire_tokens(self, entity: str) -> int:
        """Close all control channels as if their tokens, and the grace after them, were over.

        Returns:
            How many there were.
        """
        channels = list(self._listeners.channels(entity))
        for channel in channels:
            expired = Operation.LISTENER_CLOSING_FROM_EXPIRED_TOKEN
            labels = {"hybrid_connection": entity}
            report(expired, "a listener's token is taken for expired", labels=labels)
            channel.close(CloseCode.POLICY_VIOLATION, EXPIRED)
        return len(channels)
