"""rathole: its server opens the near port itself, so only the target's leg has TLS."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificate

from benchmarks.peers.ports import LOOPBACK
from benchmarks.peers.tunnel import HOST, Built, Place, Step, Tunnel

RATHOLE = Built(
    program="rathole",
    build=(
        "cargo", "install", "--root", "{into}", "--no-default-features",
        "--features", "server,client,tls", "rathole",
    ),
)  # fmt: skip


class Rathole(Tunnel):
    """One encrypted leg less than the others: read its figures with that in mind."""

    name = "rathole"
    label = "rathole (TLS on one leg only)"
    programs = (RATHOLE,)

    def steps(self, place: Place) -> Iterator[Step]:
        pem = (place.folder / "server.pem").read_bytes()
        identity = place.folder / "server.p12"
        identity.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"bench",
                load_pem_private_key(pem, None),  # type: ignore[arg-type] # EC, as we made it
                load_pem_x509_certificate(pem),
                None,
                BestAvailableEncryption(place.secret.encode()),
            )
        )
        server = place.write(
            "server.toml",
            "[server]",
            f'bind_addr = "{LOOPBACK}:{place.server}"',
            f'default_token = "{place.secret}"',
            "[server.transport]",
            'type = "tls"',
            "[server.transport.tls]",
            f'pkcs12 = "{identity}"',
            f'pkcs12_password = "{place.secret}"',
            "[server.services.bench]",
            f'bind_addr = "{LOOPBACK}:{place.near}"',
        )
        client = place.write(
            "client.toml",
            "[client]",
            f'remote_addr = "{HOST}:{place.server}"',
            f'default_token = "{place.secret}"',
            "[client.transport]",
            'type = "tls"',
            "[client.transport.tls]",
            f'trusted_root = "{place.folder}/ca.pem"',
            f'hostname = "{HOST}"',
            "[client.services.bench]",
            f'local_addr = "{place.target[0]}:{place.target[1]}"',
        )
        program = self.path(RATHOLE)
        yield Step(
            name="rathole --server", command=[program, "--server", server], port=place.server
        )
        yield Step(name="rathole --client", command=[program, "--client", client])
