"""One sender, at most one listener, one deadline; and the table of those that wait.

Knows the protocol, touches no socket and no clock (sections 5.2 to 5.4).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from hybridge.protocol.errors import ServerBusy


class State(enum.Enum):
    """Where a rendezvous stands."""

    WAITING = "waiting"
    JOINED = "joined"
    ENDED = "ended"


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListenerAccepted:
    """A listener opened the address."""

    subprotocol: str | None = None


@dataclass(frozen=True, slots=True)
class ListenerRejected:
    """A listener opened the address with a refusal for the sender."""

    status: int
    description: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """Nobody came in time."""


@dataclass(frozen=True, slots=True)
class SenderLeft:
    """The sender's connection ended."""


@dataclass(frozen=True, slots=True)
class ServiceStopping:
    """The relay takes no new work."""


@dataclass(frozen=True, slots=True)
class PairEnded:
    """The joined connection is over."""


Event = (
    ListenerAccepted | ListenerRejected | DeadlinePassed | SenderLeft | ServiceStopping | PairEnded
)

# --- actions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Join:
    """Answer 101 to the listener, then to the sender, both with this sub-protocol."""

    subprotocol: str | None


@dataclass(frozen=True, slots=True)
class RefuseSender:
    """Answer the sender's handshake with a status. `is_verbatim`: the listener's own words."""

    status: int
    reason: str
    is_verbatim: bool = False


@dataclass(frozen=True, slots=True)
class DismissListener:
    """Answer the listener's visit with a status, instead of 101."""

    status: int
    reason: str


Action = Join | RefuseSender | DismissListener

NOT_ACCEPTED = "None of the connected listeners accepted the connection within the allowed timeout."
STOPPING = "The service is shutting down."
REJECTED = "The connection was rejected."
UNKNOWN = "The rendezvous address is unknown, used or expired."

SECRET_BYTES = 16
"""Random bytes of a rendezvous address (128 bits)."""

Entry = TypeVar("Entry")


class Rendezvous:
    """One sender waiting for a listener.

    Tell it what happened; carry out the actions it answers, in order.

        WAITING ── listener accepts ──▶ JOINED ── the pair ends ──▶ ENDED
           └── listener rejects, deadline passes, sender leaves ──────▲
    """

    __slots__ = ("_unknown_status", "state")

    def __init__(self, *, unknown_status: int = 403) -> None:
        self.state = State.WAITING
        self._unknown_status = unknown_status

    def handle(self, event: Event) -> list[Action]:
        """Move on, and say what to do."""
        match self.state, event:
            case State.WAITING, ListenerAccepted(subprotocol):
                self.state = State.JOINED
                return [Join(subprotocol)]
            case State.WAITING, ListenerRejected(status, description):
                self.state = State.ENDED
                return [
                    RefuseSender(status, description, is_verbatim=True),
                    DismissListener(410, REJECTED),
                ]
            case State.WAITING, DeadlinePassed():
                self.state = State.ENDED
                return [RefuseSender(404, NOT_ACCEPTED)]
            case State.WAITING, ServiceStopping():
                self.state = State.ENDED
                return [RefuseSender(503, STOPPING)]
            case (State.WAITING, SenderLeft()) | (State.JOINED, PairEnded()):
                self.state = State.ENDED
                return []
            case _, ListenerAccepted() | ListenerRejected():
                # Clause 71: an address is good once. The late visitor is turned away; the
                # connection already made is left alone.
                return [DismissListener(self._unknown_status, UNKNOWN)]
            case _:
                return []  # News that came too late to matter.


class WaitingRoom(Generic[Entry]):
    """Those that wait for a listener, each known by the secret of its address alone.

    The ``sb-hc-id`` is the sender's choice and never a key: 500 senders may share one.

    Args:
        limit: Most that may wait at once.
        make_secret: Gives that many random bytes, as `secrets.token_bytes` does.
    """

    def __init__(self, *, limit: int, make_secret: Callable[[int], bytes]) -> None:
        self._limit = limit
        self._make_secret = make_secret
        self._entries: dict[str, Entry] = {}

    def add(self, entry: Entry) -> str:
        """Let ``entry`` wait; give the secret of its address, 32 hexadecimal digits.

        Raises:
            ServerBusy: Too many wait already.
        """
        if len(self._entries) >= self._limit:
            raise ServerBusy(
                f"{self._limit} connections wait for their listener, which is the limit",
                hint="try again, and check why the listeners do not accept",
            )
        secret = self._make_secret(SECRET_BYTES).hex()
        self._entries[secret] = entry
        return secret

    def find(self, secret: str) -> Entry | None:
        """Give what waits under this secret, or None."""
        return self._entries.get(secret)

    def remove(self, secret: str) -> None:
        """Forget a secret: its address is used or over."""
        self._entries.pop(secret, None)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))
