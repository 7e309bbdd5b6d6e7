"""chisel: SSH inside a WebSocket inside TLS; a reverse port for the target, a forward to it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.ports import LOOPBACK
from benchmarks.peers.tunnel import HOST, Built, Place, Step, Tunnel

CHISEL = Built(
    program="chisel",
    build=("go", "install", "github.com/jpillora/chisel@latest"),
    environment={"GOBIN": "{into}"},
)


class Chisel(Tunnel):
    """One server, one client beside the target, one beside the application."""

    name = "chisel"
    label = "chisel (TLS)"
    programs = (CHISEL,)

    def steps(self, place: Place) -> Iterator[Step]:
        program, pem = self.path(CHISEL), f"{place.folder}/server.pem"
        yield Step(
            name="chisel server",
            command=[
                program, "server", "--host", LOOPBACK, "--port", str(place.server), "--reverse",
                "--tls-cert", pem, "--tls-key", pem,
            ],
            port=place.server,
        )  # fmt: skip
        client = [program, "client", "--tls-ca", f"{place.folder}/ca.pem"]
        server = f"https://{HOST}:{place.server}"
        far, near = f"{LOOPBACK}:{place.far}", f"{LOOPBACK}:{place.near}"
        yield Step(
            name="chisel client (far)",
            command=[*client, server, f"R:{far}:{place.target[0]}:{place.target[1]}"],
            port=place.far,
        )
        yield Step(
            name="chisel client (near)",
            command=[*client, server, f"{near}:{far}"],
            port=place.near,
        )
