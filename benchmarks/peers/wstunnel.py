"""wstunnel: TCP inside a WebSocket inside TLS; a reverse port for the target, a forward to it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.ports import LOOPBACK
from benchmarks.peers.tunnel import HOST, Built, Place, Step, Tunnel

WSTUNNEL = Built(program="wstunnel")


class Wstunnel(Tunnel):
    """One server, one client beside the target, one beside the application: version 10's words."""

    name = "wstunnel"
    label = "wstunnel (TLS)"
    programs = (WSTUNNEL,)

    def steps(self, place: Place) -> Iterator[Step]:
        program, pem = self.path(WSTUNNEL), f"{place.folder}/server.pem"
        yield Step(
            name="wstunnel server",
            command=[
                program, "server", "--tls-certificate", pem, "--tls-private-key", pem,
                f"wss://{LOOPBACK}:{place.server}",
            ],
            port=place.server,
        )  # fmt: skip
        server = f"wss://{HOST}:{place.server}"
        far, near = f"{LOOPBACK}:{place.far}", f"{LOOPBACK}:{place.near}"
        yield Step(
            name="wstunnel client (far)",
            command=[
                program, "client", "-R", f"tcp://{far}:{place.target[0]}:{place.target[1]}", server,
            ],
            port=place.far,
        )  # fmt: skip
        yield Step(
            name="wstunnel client (near)",
            command=[program, "client", "-L", f"tcp://{near}:{far}", server],
            port=place.near,
        )
