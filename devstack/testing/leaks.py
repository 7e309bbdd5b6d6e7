"""What a test left open, in words that lead to the line that opened it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from hybridge.program.host_port import format_host_port
from relay.gateway import Gateway
from relay.leg import Pair


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing that is still open."""

    kind: Literal["connection", "sender", "request", "listener", "task"]
    """A joined connection; a sender that still waits for a listener (a pending rendezvous); a
    relayed HTTP request; a listener's control channel; a task of the kit's own."""

    text: str
    """Which, and in what state."""

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


def leaks_of(
    gateway: Gateway,
    entity: str,
    *,
    name: str,
    local: Mapping[str, tuple[str, int]],
    agents: int,
) -> Iterator[Leak]:
    """Look at one hybrid connection.

    Args:
        gateway: The relay's.
        entity: Its name in the whole relay.
        name: Its name for people.
        local: Where the connections to its local port come from, by id.
        agents: Control channels that belong to the kit.
    """
    unseen = dict(local)
    for pair in gateway.websockets.pairs.of(entity):
        source = unseen.pop(pair.tracking_id.partition("_G")[0], None)
        yield Leak("connection", f"through {name!r}{_source(source)}: {_state(pair)}")
    for sender in gateway.websockets.waiting(entity):
        source = unseen.pop(sender.visit.tracking_id.partition("_G")[0], None)
        yield Leak("sender", f"of {name!r}{_source(source)}: no listener has accepted it")
    for request in gateway.http.requests(entity):
        head = request.visit.head
        yield Leak("request", f"{head.method} {head.target.partition('?')[0]}: not over yet")
    for source in unseen.values():
        yield Leak("connection", f"to the local port of {name!r}{_source(source)}: not closed")
    others = gateway.listeners.count(entity) - agents
    if others > 0:
        yield Leak("listener", f"of {name!r}: {others} online besides the agent")


def _source(address: tuple[str, int] | None) -> str:
    return "" if address is None else f" from {format_host_port(*address)}"


def _state(pair: Pair) -> str:
    match pair.sender.has_closed, pair.listener.has_closed:
        case True, _:
            state = "the application has closed it, the target has not"
        case False, True:
            state = "the target has closed it, the application has not"
        case _:
            state = "neither end has closed it"
    seconds = pair.loop.time() - pair.joined_at
    sent, received = pair.sender.frames.payload_bytes, pair.listener.frames.payload_bytes
    return f"{state}; open for {seconds:.1f} s, {sent} bytes sent, {received} received"
