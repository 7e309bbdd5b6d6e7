"""OpenSSH: ``ssh -R`` from the target's side and ``ssh -L`` from the application's, at one sshd.

The sshd is our own: a free port of the loopback, keys made for this run, no PAM, no root.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.load import Address
from benchmarks.meter import Meter, wait_until
from benchmarks.peers import PeerMissing, Running, debian
from benchmarks.peers.debian import DebianProgram
from benchmarks.peers.ports import accepts, free_port
from devstack.processes import Process

AES128_GCM = "aes128-gcm@openssh.com"
START_SECONDS = 20.0
SSHD = DebianProgram(program="sshd", package="openssh-server")

_ALLOCATED = re.compile(r"Allocated port (\d+) for remote forward")

# Whom sshd and ssh run as where we are root. Not nobody: systemd reports that account as locked.
_OTHER_USER = "daemon"


def server_settings(folder: Path, port: int, cipher: str | None) -> str:
    """Write an sshd_config for one user, one key and forwarding only."""
    return "\n".join(
        (
            "ListenAddress 127.0.0.1",
            f"Port {port}",
            f"HostKey {folder}/host_key",
            f"AuthorizedKeysFile {folder}/user_key.pub",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "AllowTcpForwarding yes",
            "UseDNS no",
            "LogLevel ERROR",
            f"Ciphers {cipher}" if cipher else "",
            "",
        )
    )


class OpenSsh:
    """Two ssh processes that meet at one sshd.

    Args:
        cipher: The only one that both ends may use; None leaves them the one that they choose.
        cache: Where a fetched sshd is kept.
    """

    def __init__(self, *, cache: Path, cipher: str | None = AES128_GCM) -> None:
        self.name = "openssh" if cipher else "openssh-default"
        self.label = f"OpenSSH -L/-R ({cipher.partition('@')[0] if cipher else 'default cipher'})"
        self._cipher = cipher
        self._cache = cache
        self._sshd: Path | None = None
        # Root's sshd would need a user and a folder of the system; another user's needs nothing.
        self._user = pwd.getpwnam(_OTHER_USER) if os.getuid() == 0 else None

    def prepare(self) -> str:
        for program in ("ssh", "ssh-keygen"):
            if not shutil.which(program):
                raise PeerMissing(f"no {program} was found: install OpenSSH's client")
        self._sshd = SSHD.find(self._cache)
        answer = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True)
        return answer.stderr.strip().replace(",", " with")

    @contextmanager
    def run(self, target: Address) -> Iterator[Running]:
        """Start sshd, the far ssh and the near ssh, and wait until a connection gets through."""
        if self._sshd is None:
            raise PeerMissing("prepare() finds the sshd")
        with ExitStack() as stack:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="hybridge-bench-"))
            )
            port, near_port = free_port(), free_port()
            sshd_path = self._make_files(folder, port, self._sshd)
            sshd = stack.enter_context(
                self._process(
                    "sshd",
                    str(sshd_path), "-D", "-e", "-f", str(folder / "sshd_config"),
                    environment=debian.environment(sshd_path),
                )
            )  # fmt: skip
            if not wait_until(lambda: accepts(port), seconds=START_SECONDS):
                raise sshd.failure("does not listen")
            far = stack.enter_context(
                self._ssh(folder, port, "-R", f"127.0.0.1:0:{target[0]}:{target[1]}")
            )
            far_port = far.wait_for(
                "the port of its remote forward",
                lambda line: found[1] if (found := _ALLOCATED.search(line)) else None,
                timeout_seconds=START_SECONDS,
            )
            near = stack.enter_context(
                self._ssh(folder, port, "-L", f"127.0.0.1:{near_port}:127.0.0.1:{far_port}")
            )
            if not wait_until(lambda: accepts(near_port), seconds=START_SECONDS):
                raise near.failure("does not forward")
            address = ("127.0.0.1", near_port)
            pids = {"sshd": sshd.pid, "ssh -R": far.pid, "ssh -L": near.pid}
            yield Running(address=address, meter=Meter(pids), processes=(sshd, far, near))

    def _make_files(self, folder: Path, port: int, sshd: Path) -> Path:
        """Make keys and settings in ``folder``; give an sshd that its user can start."""
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name],
                check=True,
                timeout=60,
            )
        settings = server_settings(folder, port, self._cipher)
        (folder / "sshd_config").write_text(settings, encoding="utf-8")
        if sshd.is_relative_to(self._cache):
            # The other user may not be allowed to look into our cache.
            sshd = Path(shutil.copytree(sshd.parent, folder / "openssh")) / sshd.name
        if self._user is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return sshd

    def _ssh(self, folder: Path, port: int, *forward: str) -> Process:
        user = self._user.pw_name if self._user is not None else getpass.getuser()
        options = (
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "ExitOnForwardFailure=yes",
            "Compression=no",
            *([f"Ciphers={self._cipher}"] if self._cipher else []),
        )
        return self._process(
            f"ssh {forward[0]}",
            "ssh", "-F", "/dev/null", "-N", "-p", str(port), "-i", str(folder / "user_key"),
            *(part for option in options for part in ("-o", option)),
            *forward, f"{user}@127.0.0.1",
        )  # fmt: skip

    def _process(
        self, name: str, *command: str, environment: Mapping[str, str] | None = None
    ) -> Process:
        user = self._user
        return Process(
            name,
            command,
            environment={"PATH": os.environ.get("PATH", os.defpath), **(environment or {})},
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
        )
