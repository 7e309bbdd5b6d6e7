"""How each hybrid connection of an agent fares, in Hybrid Connection Manager's words."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from hcm_agent.endpoint_health import EndpointHealth
from hcm_agent.settings import HybridConnectionSettings
from hybridge.program.advice import advice
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import RelayError

logger = logging.getLogger(__name__)

REMIND_SECONDS = 300.0
"""An outage that goes on for the same cause is logged as a warning once in this time."""


def _now() -> datetime:
    return datetime.now(UTC)


class State(enum.Enum):
    """Whether senders can reach this agent."""

    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"
    NOT_FOUND = "NotFound"


class Status:
    """One hybrid connection: its state, why, and how many connections are open.

    Each change is one line in the log. An outage's repeated tries are not: they are at DEBUG level,
    but for one warning every `REMIND_SECONDS`.

    Args:
        settings: The hybrid connection.
        clock: Gives monotonic seconds.
        now: Gives the time, in UTC.
    """

    def __init__(
        self,
        settings: HybridConnectionSettings,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._clock = clock
        self._now = now
        self._warned: tuple[object, ...] | None = None
        self._warned_at = 0.0
        self.hybrid_connection = settings.name
        self.namespace = settings.namespace
        self.state = State.DISCONNECTED
        self.since = now()
        self.last_error: RelayError | None = None
        self.endpoint = EndpointHealth()
        self.target = str(settings.target or ", ".join(map(str, settings.azbridge)))
        self.open_connections = 0

    @property
    def is_connected(self) -> bool:
        """Whether the control channel stands."""
        return self.state is State.CONNECTED

    @property
    def labels(self) -> dict[str, object]:
        """What every log line about this hybrid connection carries."""
        return {"hybrid_connection": self.hybrid_connection, "namespace": self.namespace}

    def went_online(self) -> None:
        """The control channel is up: senders reach this agent."""
        self._warned = None
        self.last_error = None
        self._become(State.CONNECTED)
        logger.info("online", extra={"event": "online", **self.labels})

    def went_offline(self, error: RelayError | None) -> None:
        """The control channel is down, or another try to open it failed."""
        self.last_error = error
        self._become(State.NOT_FOUND if error and error.status == 404 else State.DISCONNECTED)
        fields: dict[str, object] = {"event": "offline", **self.labels}
        if error is None:
            logger.info("offline", extra=fields)
            return
        fields["error"] = str(error)
        fields["hint"] = advice(error, claim=Claim.LISTEN)
        logger.log(self._level_for(error), "offline, trying again", extra=fields)

    def to_fields(self) -> dict[str, object]:
        """Give what a person asks first, for JSON."""
        return {
            **self.labels,
            "status": self.state.value,
            "target": self.target,
            "endpoint": self.endpoint.to_fields(),
            "open_connections": self.open_connections,
            "error": str(self.last_error or ""),
        }

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.since = self._now()

    def _level_for(self, error: RelayError) -> int:
        # Not the message: it has a new TrackingId and time with each try.
        cause = (type(error), error.status)
        now = self._clock()
        if cause == self._warned and now - self._warned_at < REMIND_SECONDS:
            return logging.DEBUG
        self._warned, self._warned_at = cause, now
        return logging.WARNING
