"""What the relay counts, under the names and dimensions of Azure Monitor; and for whom.

Plain numbers: the Prometheus library is not needed to count, only to show (`relay.exposition`).
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.core.tracking import error_code

if TYPE_CHECKING:
    from relay.namespace import Namespace

NAMESPACE_ONLY: Final = "-NamespaceOnlyMetric-"
"""``EntityName`` of what belongs to no hybrid connection that is configured, as Azure Monitor shows
it. So strangers, who ask for any name, make one label value and not many."""

SUCCESS: Final = "Success"
"""``OperationResult`` of what was let in."""

ACCEPT_TIMEOUT: Final = "AcceptTimeout"
"""``OperationResult`` of a sender that no listener accepted in time."""

LISTENER_REJECTED: Final = "ListenerRejected"
"""``OperationResult`` of a sender that a listener refused, whatever the status."""

SENDER_LEFT: Final = "SenderLeft"
"""``OperationResult`` of a sender that left before it was joined."""


class Side(enum.Enum):
    """Who connects."""

    LISTENER = "Listener"
    SENDER = "Sender"


class Kind(enum.Enum):
    """How a request to connect came out."""

    SUCCESS = "Success"
    CLIENT_ERROR = "ClientError"
    SERVER_ERROR = "ServerError"


class Labels(NamedTuple):
    """For whom something is counted."""

    namespace: str
    entity_name: str


class Attempt(NamedTuple):
    """Requests to connect of one sort."""

    side: Side
    labels: Labels
    kind: Kind
    result: str
    """``OperationResult``: `SUCCESS`, the code of an error as in its JSON body, or one of the other
    names above. A fixed, small set."""


class Tally:
    """Counts from the start of the relay on, for the hybrid connections that are configured.

    An entity is named by its namespace and hybrid connection in lower case: ``demo-ns/orders-db``.
    Memory is bounded by what is configured: all else is counted under `NAMESPACE_ONLY`.
    """

    def __init__(self) -> None:
        self._labels: dict[str, Labels] = {}
        self._namespaces: dict[str, Labels] = {}
        self.attempts: Counter[Attempt] = Counter()
        self.disconnects: Counter[tuple[Side, Labels]] = Counter()
        self.bytes_transferred: Counter[Labels] = Counter()
        """Payload of both directions, of connections that are over."""

    @property
    def configured(self) -> Iterable[tuple[str, Labels]]:
        """The hybrid connections that are served: entity and labels."""
        return self._labels.items()

    def serve(self, namespaces: Iterable[Namespace]) -> None:
        """Count for these from now on. What was counted for them stays, the rest is forgotten."""
        self._labels.clear()
        self._namespaces.clear()
        for each in namespaces:
            self._namespaces[each.name.lower()] = Labels(each.name, NAMESPACE_ONLY)
            for key, connection in each.hybrid_connections.items():
                self._labels[f"{each.name}/{key}".lower()] = Labels(each.name, connection.name)
        served = {*self._labels.values(), *self._namespaces.values(), _NOWHERE}
        for attempt in [each for each in self.attempts if each.labels not in served]:
            del self.attempts[attempt]
        for side, labels in list(self.disconnects):
            if labels not in served:
                del self.disconnects[side, labels]
        for labels in [each for each in self.bytes_transferred if each not in served]:
            del self.bytes_transferred[labels]

    def labels(self, entity: str) -> Labels:
        """Say for whom something is counted that concerns an entity, configured or not."""
        known = self._labels.get(entity)
        if known is not None:
            return known
        return self._namespaces.get(entity.partition("/")[0], _NOWHERE)

    def accepted(self, side: Side, entity: str) -> None:
        """Count a listener that registered, or a sender that was joined or answered."""
        self.attempts[Attempt(side, self.labels(entity), Kind.SUCCESS, SUCCESS)] += 1

    def refused(self, side: Side, entity: str, status: int, result: str | None = None) -> None:
        """Count one that was refused.

        Args:
            side: Who.
            entity: Which hybrid connection it asked for, there or not.
            status: HTTP status of the answer: from 500 on it is a server's error.
            result: ``OperationResult``; None for the code that stands for the status.
        """
        kind = Kind.SERVER_ERROR if status >= 500 else Kind.CLIENT_ERROR
        result = error_code(status) if result is None else result
        self.attempts[Attempt(side, self.labels(entity), kind, result)] += 1

    def disconnected(self, side: Side, entity: str, *, payload_bytes: int = 0) -> None:
        """Count the end of a control channel or of a joined connection, and what it carried."""
        self.disconnects[side, self.labels(entity)] += 1
        self.transferred(entity, payload_bytes)

    def transferred(self, entity: str, payload_bytes: int) -> None:
        """Count what a connection or request has carried, now that it is over."""
        self.bytes_transferred[self.labels(entity)] += payload_bytes


_NOWHERE: Final = Labels("", NAMESPACE_ONLY)
"""For connections that outlive their namespace."""
