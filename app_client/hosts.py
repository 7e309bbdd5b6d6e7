"""The lines of a hosts file with which an application keeps its host name, port and TLS name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app_client.hosts_file import HostsFile, HostsFileUnusable
from app_client.hybrid_connection import HybridConnection
from app_client.local_port import LocalAddress
from app_client.placement import is_ip_address, is_name
from app_client.settings import Forward
from hybridge.program.host_port import format_host_port
from hybridge.protocol.redaction import one_line

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?!-)[0-9A-Za-z_-]{1,63}(?:\.[0-9A-Za-z_-]{1,63})*")
MAX_NAME_CHARACTERS = 253

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}  # noqa: S104
"""Where an application of this machine finds what listens there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsEntry:
    """What a hosts file can do for one hybrid connection."""

    hybrid_connection: str
    namespace: str

    target: tuple[str, int]
    """Host and port behind the agent, as the application knows them."""

    address: LocalAddress
    """Where the local port is."""

    problem: str = ""
    """Why there is no line for it; empty where there is one."""

    next_step: str = ""
    """What the application can do instead."""

    @property
    def name(self) -> str:
        """The host name of the line."""
        return self.target[0].rstrip(".")

    def to_fields(self) -> dict[str, object]:
        """Give it as a program reads it."""
        host, port = self.address
        return {
            "hybrid_connection": self.hybrid_connection,
            "namespace": self.namespace,
            "endpoint": format_host_port(*self.target),
            "name": None if self.problem else self.name,
            "address": None if host.startswith("/") else host,
            "port": None if host.startswith("/") else port,
            "problem": self.problem or None,
            "next_step": self.next_step or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One hybrid connection whose target and local address are known."""

    forward: Forward
    target: tuple[str, int]
    address: LocalAddress


def entries(found: Iterable[Found]) -> list[HostsEntry]:
    """Say for each hybrid connection whether a line of a hosts file can lead to it, or why not."""
    addresses: dict[str, tuple[str, str]] = {}
    return [_entry(each, addresses) for each in found]


def lines(given: Iterable[HostsEntry]) -> list[str]:
    """Write the lines of a hosts file: one for each address and name."""
    told: dict[tuple[str, str], list[HostsEntry]] = {}
    for entry in given:
        if not entry.problem:
            told.setdefault((entry.address[0], entry.name), []).append(entry)
    return [
        f"{address}  {name}  # {', '.join(_comment(each) for each in alike)}"
        for (address, name), alike in told.items()
    ]


def count_lines(given: Sequence[str]) -> str:
    """Say how many lines of a hosts file there are."""
    return "1 line" if len(given) == 1 else f"{len(given)} lines"


def _comment(entry: HostsEntry) -> str:
    text = f"hybrid connection {entry.hybrid_connection} in {entry.namespace}"
    port = entry.address[1]
    if port != entry.target[1]:
        text += f", at port {port} instead of {entry.target[1]}" if port else ", at a free port"
    return one_line(text)


def _entry(found: Found, addresses: dict[str, tuple[str, str]]) -> HostsEntry:
    host, port = found.address
    host = _EVERYWHERE.get(host.lower(), host)
    forward = found.forward
    problem, next_step = _problem(forward, found.target[0], (host, port))
    if not problem:
        name = found.target[0].rstrip(".").lower()
        other_host, other = addresses.setdefault(name, (host, forward.name))
        if other_host != host:
            problem = f"{name} leads to {other_host} already, for the hybrid connection {other}"
            next_step = f"let both listen on one address, with Listen {other_host}:PORT"
    return HostsEntry(
        hybrid_connection=forward.name,
        namespace=forward.namespace,
        target=found.target,
        address=(host, port),
        problem=problem,
        next_step=next_step,
    )


def _problem(forward: Forward, name: str, address: LocalAddress) -> tuple[str, str]:
    """Say why a name cannot lead to a local address, and what to do; nothing where it can."""
    host, port = address
    if host.startswith("/"):
        return f"it listens on the Unix socket {host}", "let the application connect to that path"
    where = format_host_port(host, port) if port else f"the port that it announces on {host}"
    instead = f"let the application connect to {where}"
    if is_ip_address(name):
        return (
            f"its endpoint {name} is an IP address, which no hosts file can redirect, and App "
            "Service would bypass the hybrid connection too",
            f"give the endpoint a host name; until then {instead}",
        )
    if not is_name(name):
        return (
            "its endpoint localhost is this machine for every program, and App Service on Linux "
            "refuses it",
            f"give the endpoint a host name; until then {instead}",
        )
    bare = name.rstrip(".")
    if len(bare) > MAX_NAME_CHARACTERS or not _NAME.fullmatch(bare):
        return one_line(f"its endpoint {name!r} is no host name"), "correct the endpoint"
    if bare.lower() == forward.namespace.lower():
        return (
            f"its endpoint {bare} is the relay itself, which must still be found",
            "correct the endpoint",
        )
    if not is_ip_address(host):
        return f"it listens on {host}, which is no IP address", "give an IP address in Listen"
    return "", ""


def warn_of_others(file: HostsFile, given: Iterable[HostsEntry]) -> list[str]:
    """Say which other lines of a hosts file give one of the names another address.

    Raises:
        HostsFileUnusable: The file cannot be read.
    """
    return [
        f"{file.path}, line {other.number}, gives {entry.name} the address {other.address} too: "
        "remove it, or some programs take that one"
        for entry in given
        if not entry.problem
        for other in file.others(entry.name)
        if other.address != entry.address[0]
    ]


class HostsKeeper:
    """Keeps our block of a hosts file in step with the local ports that are open.

    Trouble with it later on is a warning in the log: it must not end what works.

    Args:
        file: The hosts file.

    Raises:
        HostsFileUnusable: It cannot be read or written.
    """

    def __init__(self, file: HostsFile) -> None:
        self._file = file
        self._written: list[str] = []
        self._warned: set[str] = set()
        file.check_writable()
        stale = file.lines()
        if stale:
            logger.warning(
                "%s: %s replaced, of a client that did not end in order or still runs",
                file.path,
                count_lines(stale),
                extra={"event": "hosts_replaced", "path": str(file.path)},
            )
            file.write([])

    def update(self, served: Iterable[HybridConnection]) -> None:
        """Write the lines for what is open and whose target is known."""
        found = [
            Found(forward=each.forward, target=each.port.target, address=each.address)
            for each in served
            if each.port.target is not None and each.address is not None
        ]
        told = entries(found)
        for entry in told:
            if entry.problem:
                self._warn(
                    f"{entry.hybrid_connection} has no hosts line: {entry.problem}",
                    hint=entry.next_step,
                )
        wanted = lines(told)
        if wanted == self._written:
            return
        try:
            for text in warn_of_others(self._file, told):
                self._warn(text)
            self._file.write(wanted)
        except HostsFileUnusable as error:
            self._warn(str(error), hint=error.hint)
            return
        self._written = wanted
        logger.info(
            "%s: %s written",
            self._file.path,
            count_lines(wanted),
            extra={"event": "hosts_written", "path": str(self._file.path)},
        )

    def remove(self) -> None:
        """Take our lines away, unless somebody else has put others in their place."""
        if not self._written:
            return
        try:
            if self._file.lines() == self._written:
                self._file.write([])
        except HostsFileUnusable as error:
            self._warn(str(error), hint=error.hint)
        self._written = []

    def _warn(self, text: str, *, hint: str = "") -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning("%s", text, extra={"event": "hosts", **({"hint": hint} if hint else {})})
