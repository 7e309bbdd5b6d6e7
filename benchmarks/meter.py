"""What a peer's processes cost: CPU time, resident memory, descriptors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psutil

SETTLE_SECONDS = 10.0
"""How long closed connections may take to be gone."""


class Meter:
    """The processes of one peer, with all their children.

    Args:
        pids: Process ids by the name that the report gives them.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in pids.items()}

    @property
    def is_empty(self) -> bool:
        """Whether there is no process."""
        return not self._roots

    def _family(self, name: str) -> list[psutil.Process]:
        root = self._roots[name]
        return [root, *root.children(recursive=True)]

    def pids(self) -> dict[str, list[int]]:
        """Ids of all processes that there are now, by name."""
        return {name: [each.pid for each in self._family(name)] for name in self._roots}

    def cpu_seconds(self) -> float:
        """User and system time of all processes so far."""
        total = 0.0
        for name in self._roots:
            for process in self._family(name):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def resident_bytes(self) -> dict[str, int]:
        """Resident memory by name."""
        return {
            name: sum(process.memory_info().rss for process in self._family(name))
            for name in self._roots
        }

    def descriptors(self) -> int:
        """Open descriptors of all processes that we may look at."""
        total = 0
        for name in self._roots:
            for process in self._family(name):
                try:
                    total += process.num_fds()
                except psutil.AccessDenied:
                    continue
        return total

    def settled_descriptors(self, expected: int) -> int:
        """Wait until no more than ``expected`` descriptors are open; give how many are."""
        wait_until(lambda: self.descriptors() <= expected)
        return self.descriptors()


def wait_until(condition: Callable[[], bool], *, seconds: float = SETTLE_SECONDS) -> bool:
    """Look every 50 ms whether a condition has come true; tell whether it has."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
