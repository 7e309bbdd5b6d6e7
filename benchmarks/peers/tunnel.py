"""What peers have in common that are a few processes around one server, with a certificate."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.load import Address
from benchmarks.meter import Meter, wait_until
from benchmarks.peers import PeerMissing, Running
from benchmarks.peers.ports import LOOPBACK, accepts, free_port
from devstack.processes import Process
from hybridge.transport.development_ca import DevelopmentCa

HOST = "localhost"
"""Whom the certificate is for."""

START_SECONDS = 20.0
BUILD_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one run of a peer happens."""

    folder: Path
    """Has ``ca.pem``, and ``server.pem`` with certificate and key."""

    target: Address
    server: int = field(default_factory=free_port)
    """Port of the server in the middle."""

    far: int = field(default_factory=free_port)
    """Port at the server that leads to the target, for peers that need one."""

    near: int = field(default_factory=free_port)
    """Port that the load generator connects to."""

    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def write(self, name: str, *lines: str) -> str:
        """Write a file of settings that only we can read; give its path."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text("\n".join((*lines, "")), encoding="utf-8")
        return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One process, and the port that it listens on when it is ready."""

    name: str
    command: Sequence[str]
    port: int | None = None
    ready: str = ""
    """A line of its output that says that it is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A program that is on ``PATH``, or was built into our cache, or can be."""

    program: str
    version: Sequence[str] = ("--version",)
    build: Sequence[str] = ()
    """Command that builds it; ``{into}`` is the folder."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Added for the build; ``{into}`` as well."""

    def find(self, cache: Path, *, may_build: bool) -> Path:
        """Find it, or build it, which takes minutes.

        Raises:
            PeerMissing: It is not here, and is not to be built, or cannot be.
        """
        if found := shutil.which(self.program):
            return Path(found)
        into = cache / self.program
        kept = next(iter(into.glob(f"**/{self.program}")), None)
        if kept is not None and kept.is_file():
            return kept
        if not self.build:
            raise PeerMissing(f"no {self.program} on PATH")
        if not may_build:
            raise PeerMissing(f"no {self.program} on PATH; --build builds it with {self.build[0]}")
        return self._build(into)

    def _build(self, into: Path) -> Path:
        command = [part.format(into=into) for part in self.build]
        print(f"Building {self.program}: {' '.join(self.build[:2])} ...")
        added = {name: text.format(into=into) for name, text in self.environment.items()}
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                timeout=BUILD_SECONDS,
                env={**os.environ, **added},
            )
            return next(path for path in into.glob(f"**/{self.program}") if path.is_file())
        except (OSError, subprocess.SubprocessError, StopIteration) as error:
            raise PeerMissing(
                f"no {self.program} on PATH, and {' '.join(self.build[:2])} could not build it"
            ) from error

    def describe(self, path: Path) -> str:
        """Give the version, as the first line or two of its own say it."""
        done = subprocess.run(
            [path, *self.version], capture_output=True, text=True, check=False, timeout=60
        )
        lines = [line.strip() for line in (done.stdout or done.stderr).splitlines()]
        told = [line for line in lines if any(sign.isdigit() for sign in line)]
        versions = [line for line in told if "version" in line.lower()] or told
        return f"{self.program} {' '.join(versions[0].split())}" if versions else self.program


class Tunnel(ABC):
    """A peer of a few processes.

    Args:
        cache: Where built programs are kept.
        may_build: Whether a program that is missing is built.
    """

    name: str
    label: str
    programs: Sequence[Built] = ()

    def __init__(self, *, cache: Path, may_build: bool = False) -> None:
        self._cache = cache
        self.may_build = may_build

    def prepare(self) -> str:
        found = [(each, self._find(each)) for each in self.programs]
        return ", ".join(each.describe(path) for each, path in found)

    def _find(self, program: Built) -> Path:
        return program.find(self._cache, may_build=self.may_build)

    def path(self, program: Built) -> str:
        """Where a program is that `prepare` found."""
        return str(self._find(program))

    @abstractmethod
    def steps(self, place: Place) -> Iterator[Step]:
        """Give the processes in the order of their start."""

    @contextmanager
    def run(self, target: Address) -> Iterator[Running]:
        """Start the processes one after another."""
        with ExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="hybridge-bench-"))
            folder = Path(name).resolve()
            DevelopmentCa.load_or_create(folder).certificate_for([HOST])
            place = Place(folder=folder, target=target)
            processes = [self._start(stack, step) for step in self.steps(place)]
            yield Running(
                address=(LOOPBACK, place.near),
                meter=Meter({each.name: each.pid for each in processes}),
                processes=processes,
            )

    def _start(self, stack: ExitStack, step: Step) -> Process:
        process = Process(step.name, step.command, environment=dict(os.environ))
        stack.enter_context(process)
        if step.ready:
            process.wait_for(
                "it was ready",
                lambda line: True if step.ready in line else None,
                timeout_seconds=START_SECONDS,
            )
        if step.port is not None and not wait_until(
            partial(accepts, step.port), seconds=START_SECONDS
        ):
            raise process.failure("does not listen")
        return process
