"""The joined connections of one relay, by hybrid connection; and what may be done to them."""

from __future__ import annotations

from collections.abc import Iterator

from relay.leg import Pair


class Pairs:
    """Which pairs are joined now, and whose. Entities are in lower case: ``demo-ns/orders-db``."""

    def __init__(self) -> None:
        self._entities: dict[Pair, str] = {}

    def add(self, pair: Pair, entity: str) -> None:
        """Take in a pair that has just been joined."""
        self._entities[pair] = entity

    def remove(self, pair: Pair) -> None:
        """Forget a pair that is over."""
        del self._entities[pair]

    def of(self, entity: str) -> list[Pair]:
        """Give those of one hybrid connection."""
        return [pair for pair, each in self._entities.items() if each == entity]

    def live(self) -> Iterator[tuple[str, int]]:
        """Give the entity of each, and the payload that it has carried so far."""
        return ((entity, pair.payload_bytes) for pair, entity in self._entities.items())

    @property
    def held_bytes(self) -> int:
        """Bytes that are held back for peers that do not take them, of all pairs."""
        return sum(
            pair.sender.wire.held_bytes + pair.listener.wire.held_bytes for pair in self._entities
        )

    def abort(self, why: str) -> None:
        """Break all of them."""
        for pair in list(self._entities):
            pair.abort(why)

    def __iter__(self) -> Iterator[Pair]:
        return iter(list(self._entities))

    def __len__(self) -> int:
        return len(self._entities)
