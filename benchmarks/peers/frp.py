"""frp: a secret TCP proxy at the target's side, and a visitor at the application's."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.ports import LOOPBACK
from benchmarks.peers.tunnel import HOST, Built, Place, Step, Tunnel

# Not by "go install": its module replaces one of its dependencies, which that command refuses.
FRPS = Built(program="frps")
FRPC = Built(program="frpc")


class Frp(Tunnel):
    """frps in the middle, an frpc on either side; TLS to the server, as is its default."""

    name = "frp"
    label = "frp (stcp, TLS)"
    programs = (FRPS, FRPC)

    def steps(self, place: Place) -> Iterator[Step]:
        server = place.write(
            "frps.toml",
            f'bindAddr = "{LOOPBACK}"',
            f"bindPort = {place.server}",
            f'auth.token = "{place.secret}"',
            "transport.tls.force = true",
            f'transport.tls.certFile = "{place.folder}/server.pem"',
            f'transport.tls.keyFile = "{place.folder}/server.pem"',
        )
        yield Step(name="frps", command=[self.path(FRPS), "-c", server], port=place.server)
        client = (
            f'serverAddr = "{LOOPBACK}"',
            f"serverPort = {place.server}",
            f'auth.token = "{place.secret}"',
            f'transport.tls.trustedCaFile = "{place.folder}/ca.pem"',
            f'transport.tls.serverName = "{HOST}"',
        )
        far = place.write(
            "far.toml",
            *client,
            "[[proxies]]",
            'name = "bench"',
            'type = "stcp"',
            f'secretKey = "{place.secret}"',
            f'localIP = "{place.target[0]}"',
            f"localPort = {place.target[1]}",
        )
        yield Step(name="frpc (far)", command=[self.path(FRPC), "-c", far])
        near = place.write(
            "near.toml",
            *client,
            "[[visitors]]",
            'name = "visitor"',
            'type = "stcp"',
            'serverName = "bench"',
            f'secretKey = "{place.secret}"',
            f'bindAddr = "{LOOPBACK}"',
            f"bindPort = {place.near}",
        )
        yield Step(name="frpc (near)", command=[self.path(FRPC), "-c", near], port=place.near)
