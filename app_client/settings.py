"""Everything the client can be told from outside, read once and checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from hybridge.program.connection_strings import (
    GivenConnectionStrings,
    parse_for_one,
    warn_if_others_can_read,
)
from hybridge.program.documents import load, validated
from hybridge.program.host_port import format_host_port, parse_host_port
from hybridge.program.proxy_setting import check_proxy, choose_proxy
from hybridge.program.timing_settings import DATAGRAM_IDLE_SECONDS, Document, TimingSettings
from hybridge.protocol.azbridge import Mode, check_port_name
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.proxies import ProxyChoice
from hybridge.protocol.secret import Secret
from hybridge.transport.timing import Timing
from hybridge.transport.unix_listening import UNIX_SCHEME, UnixAddress, parse_unix_address

UDP_SCHEME = "udp://"
"""Stands in front of a local address that takes datagrams."""

DEFAULT_LISTEN_HOST = "127.0.0.1"
"""Where ``forward`` opens a port that nobody placed: for programs of this machine only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One local port and the hybrid connection it leads to."""

    connection_string: ConnectionString
    """From a rule with Send; names the hybrid connection."""

    listen: tuple[str, int] | UnixAddress | None = None
    """Local address; port 0 takes a free one. None: loopback, and the target's own port."""

    default_host: str | None = None
    """Loopback address for a port that nobody placed. None: one that `Placement` gives."""

    target: tuple[str, int] | None = None
    """Host and port behind the agent. None: the relay's metadata says."""

    listen_setting: str = field(default="--listen", compare=False)
    """The flag or key that moves the local address, for errors."""

    mode: Mode = Mode.STREAM
    """What the local port takes: TCP connections, or UDP datagrams with azbridge's preamble."""

    is_azbridge: bool = False
    """Whether the other end speaks azbridge's preamble."""

    port_name: str | None = None
    """The port to ask azbridge for. None: the local port's number, with ``U`` for UDP."""

    @property
    def namespace(self) -> str:
        """Host name of the namespace."""
        return self.connection_string.host

    @property
    def name(self) -> str:
        """Name of the hybrid connection."""
        return self.connection_string.path or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Everything that `Client` needs to know."""

    forwards: tuple[Forward, ...]
    """At least one; no local address twice."""

    ca: Path | None = None
    """Certificates to trust besides the system's."""

    connect_to: tuple[str, int] | None = None
    """TCP peer for every address that names the namespace host."""

    proxy: ProxyChoice = None
    """The proxy on the way to the relay, ``"none"``, or None: as the environment says."""

    timing: Timing = field(default_factory=Timing)
    """How long the SDK waits for what."""

    drain_seconds: float = 30.0
    """How long running connections may go on after SIGTERM."""

    datagram_idle_seconds: float = DATAGRAM_IDLE_SECONDS
    """How long datagrams may be silent before their connection is closed."""

    is_multiplexing: bool = True
    """Whether connections share a rendezvous where the agent is ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSources:
    """Where the settings come from."""

    config: Path | None = None
    connection_strings: GivenConnectionStrings = field(default_factory=GivenConnectionStrings)
    """Given on the command line or in the environment; they take the place of the file's."""

    default_host: str | None = None
    """Loopback address for a port that nobody placed; None: each has one of its own."""

    listen: str | None = None
    azbridge: bool = False
    port_name: str | None = None
    ca: Path | None = None
    connect_to: tuple[str, int] | None = None
    proxy: Secret | None = None
    """The value of ``--proxy``, not yet read."""

    def load(self) -> ClientSettings:
        """Read and check everything.

        Raises:
            InvalidSetting: Something cannot be used; the message names it.
        """
        document = self._document()
        if self.connection_strings:
            forwards = [
                _forward(
                    given,
                    self.listen,
                    is_azbridge=self.azbridge,
                    port_name=self.port_name,
                    names=self._names,
                    default_host=self.default_host,
                )
                for given in self.connection_strings.parse()
            ]
        else:
            forwards = [
                entry.forward(f"{self.config}: HybridConnections[{index}]")
                for index, entry in enumerate(document.hybrid_connections)
            ]
        _check_each(forwards)
        proxy = choose_proxy(self.proxy, document.proxy, key=f"{self.config}: Proxy")
        check_proxy(proxy, (each.connection_string for each in forwards), self.connect_to)
        return ClientSettings(
            forwards=tuple(forwards),
            ca=self.ca,
            connect_to=self.connect_to,
            proxy=proxy,
            timing=document.settings.timing,
            drain_seconds=document.settings.drain_seconds,
            datagram_idle_seconds=document.settings.datagram_idle_seconds,
            is_multiplexing=document.settings.multiplex,
        )

    @property
    def _names(self) -> tuple[str, str, str]:
        """What moves the local address, and what belongs to azbridge, for errors."""
        if self.default_host is None:
            return "Listen in the file", "AzBridge", "PortName"
        return "--listen", "--azbridge", "--port-name"

    def _document(self) -> _ClientDocument:
        if self.config is None:
            return _ClientDocument()
        document = validated(_ClientDocument, load(self.config), str(self.config))
        if document.hybrid_connections or document.proxy:
            warn_if_others_can_read(self.config)
        return document


class _Entry(Document):
    """One member of ``HybridConnections``."""

    connection_string: str = Field(repr=False)
    endpoint: str | None = None
    listen: str | None = None
    az_bridge: bool = False
    port_name: str | None = None

    def forward(self, source: str) -> Forward:
        target = None
        if self.endpoint is not None:
            target = parse_host_port(self.endpoint, setting=f"{source}.Endpoint", lowest_port=1)
        return _forward(
            parse_for_one(self.connection_string, source=f"{source}.ConnectionString"),
            self.listen,
            is_azbridge=self.az_bridge,
            port_name=self.port_name,
            names=(f"{source}.Listen", f"{source}.AzBridge", f"{source}.PortName"),
            target=target,
        )


def _forward(
    connection_string: ConnectionString,
    listen: str | None,
    *,
    is_azbridge: bool,
    port_name: str | None,
    names: tuple[str, str, str],
    default_host: str | None = None,
    target: tuple[str, int] | None = None,
) -> Forward:
    """Check what belongs together; ``names`` are the flags or keys of the last three."""
    listen_name, azbridge_name, port_name_name = names
    mode = Mode.STREAM
    address: tuple[str, int] | UnixAddress | None = None
    if listen is not None and listen.strip().startswith(UNIX_SCHEME):
        address = parse_unix_address(listen, setting=listen_name)
    elif listen is not None:
        text = listen.strip().removeprefix(UDP_SCHEME)
        if text != listen.strip():
            mode = Mode.DATAGRAM
        address = parse_host_port(text, setting=listen_name)
    if port_name is not None:
        check_port_name(port_name, setting=port_name_name)
    if not is_azbridge:
        if mode is Mode.DATAGRAM:
            raise InvalidSetting(
                listen_name,
                "datagrams need azbridge's preamble at both ends",
                hint=f"add {azbridge_name}, here and at the agent",
            )
        if port_name is not None:
            raise InvalidSetting(
                port_name_name, "only azbridge has port names", hint=f"add {azbridge_name}"
            )
    elif isinstance(address, UnixAddress) and port_name is None:
        raise InvalidSetting(
            listen_name,
            "a Unix socket has no port to ask azbridge for",
            hint=f"say which: {port_name_name}",
        )
    return Forward(
        connection_string=connection_string,
        listen=address,
        default_host=default_host,
        target=target,
        listen_setting=listen_name,
        mode=mode,
        is_azbridge=is_azbridge,
        port_name=port_name,
    )


class _ClientDocument(Document):
    """The configuration file."""

    hybrid_connections: list[_Entry] = Field(default_factory=list)
    proxy: str | None = Field(default=None, repr=False)
    settings: TimingSettings = TimingSettings()


def _check_each(forwards: list[Forward]) -> None:
    if not forwards:
        raise InvalidSetting(
            "hybrid connections",
            "none is configured",
            hint="give a connection string, with APP_CLIENT_CONNECTION_STRING or in a file",
        )
    seen: dict[tuple[Mode, str], Forward] = {}
    unplaced: set[tuple[str, str]] = set()
    for forward in forwards:
        if forward.listen is None:
            key = (forward.namespace.lower(), forward.name.lower())
            if key in unplaced:
                raise InvalidSetting(
                    f"hybrid connection {forward.name!r}",
                    f"is configured twice in {forward.namespace}",
                    hint="remove one, or say where each listens",
                )
            unplaced.add(key)
            if forward.connection_string.is_anonymous and forward.target is None:
                raise InvalidSetting(
                    f"hybrid connection {forward.name!r}",
                    "without a key its port cannot be read from the relay",
                    hint="say where to listen: --listen HOST:PORT, or Listen or Endpoint in the "
                    "file",
                )
            continue
        if isinstance(forward.listen, UnixAddress):
            where = str(forward.listen)
        elif forward.listen[1] == 0:
            continue
        else:
            where = format_host_port(*forward.listen)
        other = seen.setdefault((forward.mode, where), forward)
        if other is not forward:
            raise InvalidSetting(
                f"hybrid connection {forward.name!r}",
                f"listens on {where}, and so does {other.name!r}",
                hint="give each a local address of its own",
            )
