"""All that one run has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.figures import BY_KEY


@dataclass(kw_only=True)
class Results:
    """All that one run has measured."""

    machine: Mapping[str, str]
    """What it ran on: cores, versions, load. No names of hosts, users or folders."""

    labels: Mapping[str, str]
    """Peers that ran, in order: name and label."""

    skipped: Mapping[str, str] = field(default_factory=dict)
    """Peers that did not run, and why."""

    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    """For each round, peer and figure: the value."""

    failures: list[str] = field(default_factory=list)
    """What did not work."""

    def values(self, peer: str, key: str) -> list[float]:
        """One figure of one peer, from each round that has it."""
        return [each[peer][key] for each in self.rounds if key in each.get(peer, {})]

    def ratios(self, peer: str, key: str, baselines: Sequence[str]) -> list[float]:
        """The same against the best of the baselines that the same round has."""
        best = max if BY_KEY[key].is_better_high else min
        found = []
        for each in self.rounds:
            others = [
                each[name][key]
                for name in baselines
                if name != peer and each.get(name, {}).get(key)
            ]
            if key in each.get(peer, {}) and others:
                found.append(each[peer][key] / best(others))
        return found

    def sizes(self, peer: str, key: str) -> list[int]:
        """At which sizes a series of one peer has values."""
        found = {
            int(each.removeprefix(f"{key}@"))
            for values in self.rounds
            for each in values.get(peer, {})
            if each.startswith(f"{key}@")
        }
        return sorted(found)

    def to_fields(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {
            "machine": dict(self.machine),
            "peers": dict(self.labels),
            "skipped": dict(self.skipped),
            "failures": self.failures,
            "rounds": self.rounds,
        }
