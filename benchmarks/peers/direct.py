"""No peer at all: what the load generator can do by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.load import Address
from benchmarks.peers import Running


class Direct:
    """Shows that the load generator is not the limit."""

    name = "direct"
    label = "direct"

    def prepare(self) -> str:
        return ""

    @contextmanager
    def run(self, target: Address) -> Iterator[Running]:
        yield Running(address=target)
