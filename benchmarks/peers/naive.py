"""The naive relay of `benchmarks.naive`: the high-level API of `websockets`, three processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version

from benchmarks.peers.tunnel import Place, Step, Tunnel


class Naive(Tunnel):
    """Needs nothing that Hybridge does not."""

    name = "naive"
    label = "naive relay (websockets)"

    def prepare(self) -> str:
        return f"websockets {version('websockets')}, asyncio"

    def steps(self, place: Place) -> Iterator[Step]:
        server, ca = str(place.server), str(place.folder / "ca.pem")
        for role, arguments in (
            ("relay", (str(place.folder / "server.pem"), server)),
            ("agent", (ca, server, str(place.target[1]))),
            ("client", (ca, server, str(place.near))),
        ):
            command = [sys.executable, "-m", "benchmarks.naive", role, *arguments]
            yield Step(name=f"naive {role}", command=command, ready="ready")
