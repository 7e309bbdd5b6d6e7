"""What a `hybridge.protocol.multiplex.Multiplexer` tells of the other side."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ready:
    """The other side said hello: streams may be opened."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The opener wants a stream: `Multiplexer.accept` or `Multiplexer.refuse` it."""

    stream: int
    name: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A stream that was asked for is open."""

    stream: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A stream that was asked for is not opened."""

    stream: int
    status: int
    reason: str


@dataclass(slots=True)  # Not frozen, for speed: there is one a message.
class Arrived:
    """Data: ``buffer[start:end]`` of the buffer that was fed. Tell `Multiplexer.consumed`."""

    stream: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Granted:
    """More may be sent on a stream on which nothing more could be."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The other side sends no more on this stream; it may still read."""

    stream: int


@dataclass(frozen=True, slots=True)
class Aborted:
    """The stream broke at the other side: what arrived may be incomplete."""

    stream: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What the other side still sends on this stream comes on its own rendezvous."""

    stream: int


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The other side takes no new streams; those that are open go on."""


StreamEvent = Accepted | Refused | Arrived | Granted | Ended | Aborted | Moved
"""Of a stream that there is already."""

Event = Ready | Asked | GoingAway | StreamEvent
