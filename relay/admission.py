"""May this request do what it asks for, and is there room? Sections 3, 4.1 and 11.1."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import EndpointNotFound, QuotaExceeded, ServerBusy
from relay.core.authorization import Grant, authorize
from relay.namespace import HybridConnection, Namespace
from relay.settings import RelaySettings
from relay.visit import Visit

NOT_FOUND = "Endpoint does not exist."
STOPPING = "The service is shutting down."


class Admission:
    """Decides who comes in.

    Args:
        settings: Limits, and the allowance for clocks that differ.
    """

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._connections: Counter[str] = Counter()
        self.is_stopping = False
        """Whether nobody comes in any more."""

    def admit(
        self, visit: Visit, claim: Claim, token: str | None, *, any_claim: bool = False
    ) -> tuple[HybridConnection, Grant]:
        """Check the token, then that there is something to use it on (in this order, 4.1).

        Raises:
            AuthorizationFailed: The token does not open this.
            EndpointNotFound: There is no such hybrid connection.
            ServerBusy: The relay is being stopped.
        """
        found = visit.namespace.find(visit.target.segments)
        grant = self.grant(visit, visit.namespace, claim, token, any_claim=any_claim)
        if found is None:
            raise EndpointNotFound(NOT_FOUND, hint="check the name of the hybrid connection")
        if self.is_stopping:
            raise ServerBusy(STOPPING, hint="try again")
        return found[0], grant

    def grant(
        self,
        visit: Visit,
        namespace: Namespace,
        claim: Claim,
        token: str | None,
        *,
        any_claim: bool = False,
    ) -> Grant:
        """Check a token against a namespace as it is now.

        Raises:
            AuthorizationFailed: The token does not open the path of this visit.
        """
        found = namespace.find(visit.target.segments)
        return authorize(
            namespace,
            found[0] if found else None,
            token,
            claim=claim,
            path_segments=visit.target.segments,
            now=time.time() - self._settings.clock_skew_seconds,
            any_claim=any_claim,
        )

    @contextmanager
    def counted(self, namespace: str) -> Iterator[None]:
        """Count one connection of a namespace while the block runs.

        Raises:
            QuotaExceeded: It has as many as it may.
        """
        limit = self._settings.max_connections
        if self._connections[namespace] >= limit:
            raise QuotaExceeded(
                f"QuotaExceeded: The maximum number of connections ({limit}) is open.",
                hint="close connections, or raise MaxConnections",
            )
        self._connections[namespace] += 1
        try:
            yield
        finally:
            self._connections[namespace] -= 1
