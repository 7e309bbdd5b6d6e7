"""What stands between the two ends of the load generator: each module is one peer, or a family."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.load import Address
from benchmarks.meter import Meter
from devstack.processes import Process


class PeerMissing(Exception):
    """A peer cannot be had here. The message says what is missing, and how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A peer that carries connections."""

    address: Address
    """Where the load generator connects."""

    meter: Meter = field(default_factory=lambda: Meter({}))
    """What its processes cost; there are none on the direct way."""

    processes: Sequence[Process] = ()
    """The same processes, for what they said last when something fails."""


class Peer(Protocol):
    """One way from the near end to the target."""

    name: str
    """Short, as ``--peer`` takes it."""

    label: str
    """As the report writes it."""

    def prepare(self) -> str:
        """Find or fetch what it needs; give the versions for the header of the report.

        Raises:
            PeerMissing: It cannot be had.
        """

    def run(self, target: Address) -> AbstractContextManager[Running]:
        """Start it in front of ``target``; the end of the block ends all its processes."""
