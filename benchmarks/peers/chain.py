"""The C chain: stunnel, haproxy, stunnel. Two TLS hops in C, with no WebSocket.

The nearest thing to a physical limit for this topology: what two hops of TLS 1.2 cost at least.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.load import Address
from benchmarks.meter import Meter, wait_until
from benchmarks.peers import Running, debian
from benchmarks.peers.debian import DebianProgram
from benchmarks.peers.ports import LOOPBACK, accepts, free_port
from devstack.processes import Process
from hybridge.transport.development_ca import DevelopmentCa

CIPHER = "ECDHE-ECDSA-AES128-GCM-SHA256"
START_SECONDS = 20.0
HOST = "localhost"
"""Whom both certificates are for."""

STUNNEL = DebianProgram(program="stunnel4", package="stunnel4")
HAPROXY = DebianProgram(program="haproxy", package="haproxy")


def stunnel_settings(*, accept: str, connect: str, tls: tuple[str, ...]) -> str:
    """Write the settings of one stunnel."""
    lines = (
        "foreground = yes",
        "pid =",
        "syslog = no",
        "debug = err",
        "socket = l:TCP_NODELAY=1",
        "socket = r:TCP_NODELAY=1",
        "[bench]",
        f"accept = {accept}",
        f"connect = {connect}",
        "sslVersion = TLSv1.2",
        f"ciphers = {CIPHER}",
        *tls,
        "",
    )
    return "\n".join(lines)


def haproxy_settings(*, accept: str, connect: str, folder: Path) -> str:
    """Write the settings of a haproxy that ends one TLS connection and begins another."""
    version = f"ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2 ciphers {CIPHER}"
    checks = f"verify required ca-file {folder}/ca.pem verifyhost {HOST} sni str({HOST})"
    lines = (
        "global",
        "  maxconn 8000",
        "defaults",
        "  mode tcp",
        "  timeout connect 10s",
        "  timeout client 1h",
        "  timeout server 1h",
        "frontend near",
        f"  bind {accept} ssl crt {folder}/server.pem {version}",
        "  default_backend far",
        "backend far",
        f"  server far {connect} ssl {checks} {version}",
        "",
    )
    return "\n".join(lines)


class CChain:
    """An stunnel that dials TLS, a haproxy that ends it and dials TLS, an stunnel that ends that.

    Args:
        cache: Where fetched programs are kept.
    """

    name = "c-chain"
    label = "C chain (stunnel, haproxy, stunnel)"

    def __init__(self, *, cache: Path) -> None:
        self._cache = cache

    def prepare(self) -> str:
        stunnel = _run(STUNNEL.find(self._cache), "-version").stderr
        version = next(line for line in stunnel.splitlines() if line.startswith("stunnel "))
        haproxy = _run(HAPROXY.find(self._cache), "-v").stdout
        return f"{version.split(' on ')[0]}, {' '.join(haproxy.split()[:3])}, {CIPHER}"

    @contextmanager
    def run(self, target: Address) -> Iterator[Running]:
        """Start the three, from the target's side on."""
        with ExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="hybridge-bench-"))
            folder = Path(name).resolve()
            DevelopmentCa.load_or_create(folder).certificate_for([HOST])
            near, middle, far = (free_port() for _ in range(3))
            listens = {
                "far": stunnel_settings(
                    accept=f"{LOOPBACK}:{far}",
                    connect=f"{target[0]}:{target[1]}",
                    tls=(f"cert = {folder}/server.pem",),
                ),
                "haproxy": haproxy_settings(
                    accept=f"{LOOPBACK}:{middle}", connect=f"{LOOPBACK}:{far}", folder=folder
                ),
                "near": stunnel_settings(
                    accept=f"{LOOPBACK}:{near}",
                    connect=f"{LOOPBACK}:{middle}",
                    tls=(
                        "client = yes",
                        f"CAfile = {folder}/ca.pem",
                        "verifyChain = yes",
                        f"checkHost = {HOST}",
                    ),
                ),
            }
            ports = {"far": far, "haproxy": middle, "near": near}
            processes = []
            for each, settings in listens.items():
                path = folder / f"{each}.conf"
                path.write_text(settings, encoding="utf-8")
                process = stack.enter_context(self._process(each, path))
                if not wait_until(partial(accepts, ports[each]), seconds=START_SECONDS):
                    raise process.failure("does not listen")
                processes.append(process)
            yield Running(
                address=(LOOPBACK, near),
                meter=Meter({each.name: each.pid for each in processes}),
                processes=processes,
            )

    def _process(self, name: str, settings: Path) -> Process:
        if name == "haproxy":
            program = HAPROXY.find(self._cache)
            command = [str(program), "-db", "-q", "-f", str(settings)]
        else:
            program = STUNNEL.find(self._cache)
            command = [str(program), str(settings)]
            name = f"stunnel ({name})"
        return Process(name, command, environment=debian.environment(program))


def _run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=debian.environment(program),
    )
