"""Everything the agent can be told from outside, read once and checked once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hcm_agent.allow_list import AllowList, parse_allow_list
from hcm_agent.http_target import HttpTarget, is_http_target, parse_http_target
from hcm_agent.port_names import NamedTarget, check_ports, parse_target
from hybridge.program.connection_strings import (
    GivenConnectionStrings,
    parse_for_one,
    warn_if_others_can_read,
)
from hybridge.program.documents import load, validated
from hybridge.program.host_port import format_host_port, parse_host_port
from hybridge.program.proxy_setting import check_proxy, choose_proxy
from hybridge.program.timing_settings import (
    DATAGRAM_IDLE_SECONDS,
    Document,
    Seconds,
    TimingSettings,
)
from hybridge.protocol.azbridge import Mode
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.proxies import ProxyChoice
from hybridge.protocol.secret import Secret
from hybridge.transport.timing import Timing

ENDPOINT_CHECK_SECONDS = 30.0
"""How often a target is checked that is not known to be reachable."""

Key = tuple[str, str]
"""Namespace and name of a hybrid connection, in lower case."""


@dataclass(frozen=True, slots=True)
class Target:
    """The TCP ``host:port`` behind the agent."""

    host: str
    port: int

    def __str__(self) -> str:
        return format_host_port(self.host, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConnectionSettings:
    """One hybrid connection to serve."""

    connection_string: ConnectionString
    """From a rule with Listen; names the hybrid connection."""

    target: Target | HttpTarget | None = None
    """Where accepted connections go, or relayed HTTP requests. None: the relay's metadata says."""

    azbridge: tuple[NamedTarget, ...] = ()
    """Where senders that speak azbridge's preamble go, instead of `target`; empty: they are raw."""

    ca: Path | None = None
    """Certificates to trust besides the system's."""

    connect_to: tuple[str, int] | None = None
    """TCP peer for every address that names the namespace host."""

    proxy: ProxyChoice = None
    """The proxy on the way to the relay, ``"none"``, or None: as the environment says."""

    timing: Timing = field(default_factory=Timing)
    """How long the SDK waits for what."""

    target_timeout_seconds: float = 10.0
    """How long the target may take to answer before the sender is refused with 504."""

    endpoint_check_seconds: float = ENDPOINT_CHECK_SECONDS
    """How often a target is checked that is not known to be reachable; 0: never."""

    datagram_idle_seconds: float = DATAGRAM_IDLE_SECONDS
    """How long datagrams may be silent before their connection is closed."""

    is_multiplexing: bool = True
    """Whether clients of ours may send several connections over one rendezvous."""

    source: str = field(default="", compare=False)
    """Where it is configured, for people: a file and a key, or the flags."""

    @property
    def key(self) -> Key:
        """What tells it from the others of one agent: namespace and name, in lower case."""
        return self.namespace.lower(), self.name.lower()

    @property
    def endpoints(self) -> tuple[Target | HttpTarget, ...]:
        """The targets that can be checked: all but those of datagrams."""
        if self.target is not None:
            return (self.target,)
        streams = (each for each in self.azbridge if each.mode is Mode.STREAM)
        return tuple(dict.fromkeys(Target(each.host, each.port) for each in streams))

    @property
    def namespace(self) -> str:
        """Host name of the namespace."""
        return self.connection_string.host

    @property
    def name(self) -> str:
        """Name of the hybrid connection."""
        return self.connection_string.path or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where the connections of one hybrid connection go; without either, as the relay says."""

    target: Target | HttpTarget | None = None
    azbridge: tuple[NamedTarget, ...] = ()


NOT_SAID = Destination()


def _without_extras(
    connection_string: ConnectionString, to: Destination, source: str
) -> HybridConnectionSettings:
    return HybridConnectionSettings(
        connection_string=connection_string, target=to.target, azbridge=to.azbridge, source=source
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Everything that `Agent` needs to know."""

    hybrid_connections: tuple[HybridConnectionSettings, ...]
    """All different."""

    allow_list: AllowList | None = None
    """Where connections may lead, of all hybrid connections; None: anywhere."""

    drain_seconds: float = 30.0
    """How long running connections may go on after SIGTERM."""

    proxy: ProxyChoice = None
    """The proxy on the way to the relay, of all hybrid connections."""

    settings_for: Callable[[ConnectionString, Destination, str], HybridConnectionSettings] = field(
        default=_without_extras, compare=False, repr=False
    )
    """Makes the settings of one more: its connection string, its destination, its source."""


_FLAGS = "the flags or the environment of 'hcm run'"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSources:
    """Where the settings come from: kept so that a reload reads the files again."""

    config: Path | None = None
    connection_strings: GivenConnectionStrings = field(default_factory=GivenConnectionStrings)
    """Given on the command line or in the environment; they take the place of the file's."""

    targets: tuple[str, ...] = ()
    azbridge: bool = False
    allow_targets: tuple[str, ...] = ()
    """They take the place of the file's."""
    ca: Path | None = None
    connect_to: tuple[str, int] | None = None
    proxy: Secret | None = None
    """The value of ``--proxy``, not yet read."""

    def load(self) -> AgentSettings:
        """Read and check everything.

        Raises:
            InvalidSetting: Something cannot be used; the message names it.
        """
        document = self._document()
        common = document.settings
        proxy = choose_proxy(self.proxy, document.proxy, key=f"{self.config}: Proxy")

        def settings(
            connection_string: ConnectionString, to: Destination, source: str
        ) -> HybridConnectionSettings:
            return HybridConnectionSettings(
                connection_string=connection_string,
                target=to.target,
                azbridge=to.azbridge,
                ca=self.ca,
                connect_to=self.connect_to,
                proxy=proxy,
                timing=common.timing,
                target_timeout_seconds=common.target_timeout_seconds,
                endpoint_check_seconds=common.endpoint_check_seconds,
                datagram_idle_seconds=common.datagram_idle_seconds,
                source=source,
                is_multiplexing=common.multiplex and not to.azbridge,
            )

        if self.connection_strings:
            found = [settings(given, NOT_SAID, _FLAGS) for given in self.connection_strings.parse()]
        else:
            found = [
                settings(entry.parse(source), entry.destination(source), source)
                for source, entry in self._entries(document)
            ]
        _check_each(found)
        check_proxy(proxy, (each.connection_string for each in found), self.connect_to)
        given = given_destination(self.targets, azbridge=self.azbridge, setting="--target")
        if given is not NOT_SAID:
            if not found:
                raise InvalidSetting(
                    "--target",
                    "is given without a connection string",
                    hint="give the connection string too, or each its own with 'hcm add --target'",
                )
            if len(found) > 1:
                raise InvalidSetting(
                    "--target",
                    f"one target does not fit {len(found)} hybrid connections",
                    hint="give each its own Target in a file, with --config",
                )
            found = [settings(found[0].connection_string, given, found[0].source)]
        return AgentSettings(
            hybrid_connections=tuple(found),
            allow_list=self._allow_list(document),
            drain_seconds=common.drain_seconds,
            proxy=proxy,
            settings_for=settings,
        )

    def _allow_list(self, document: _AgentDocument) -> AllowList | None:
        if self.allow_targets:
            return parse_allow_list(self.allow_targets, setting="--allow-target")
        if document.allow_targets is None:
            return None
        return parse_allow_list(document.allow_targets, setting=f"{self.config}: AllowTargets")

    def _document(self) -> _AgentDocument:
        if self.config is None:
            return _AgentDocument()
        document = validated(_AgentDocument, load(self.config), str(self.config))
        if document.hybrid_connections or document.proxy:
            warn_if_others_can_read(self.config)
        return document

    def _entries(self, document: _AgentDocument) -> list[tuple[str, Entry]]:
        return [
            (f"{self.config}: HybridConnections[{index}]", entry)
            for index, entry in enumerate(document.hybrid_connections)
        ]


class Entry(Document):
    """One member of ``HybridConnections``."""

    connection_string: str = Field(repr=False)
    target: str | None = None
    az_bridge: dict[str, str] | None = None

    def parse(self, source: str) -> ConnectionString:
        return parse_for_one(self.connection_string, source=f"{source}.ConnectionString")

    def destination(self, source: str) -> Destination:
        if self.az_bridge is not None:
            setting = f"{source}.AzBridge"
            if self.target is not None:
                raise InvalidSetting(
                    setting, "stands beside Target", hint="keep one: AzBridge names its own targets"
                )
            ports = [
                parse_target(text, setting=f"{setting}.{name}", port_name=name)
                for name, text in self.az_bridge.items()
            ]
            return Destination(azbridge=check_ports(ports, setting=setting))
        if self.target is None:
            return NOT_SAID
        return Destination(target=parse_one_target(self.target, setting=f"{source}.Target"))


def given_destination(targets: Sequence[str], *, azbridge: bool, setting: str) -> Destination:
    """Read the targets of one hybrid connection, as ``--target`` and ``--azbridge`` have them.

    Args:
        targets: One, or with ``azbridge`` any number with their port names.
        azbridge: Whether senders choose one of them.
        setting: What they were written for, for the error.

    Raises:
        InvalidSetting: They cannot be used.
    """
    if azbridge:
        ports = [parse_target(text, setting=setting) for text in targets]
        if not ports:
            raise InvalidSetting(
                "--azbridge", "has no target", hint="give --target [NAME/][udp://]HOST:PORT"
            )
        return Destination(azbridge=check_ports(ports, setting=setting))
    if len(targets) > 1:
        raise InvalidSetting(
            setting,
            f"{len(targets)} are given, and a sender can choose only with --azbridge",
            hint="give one, or --azbridge and a name for each",
        )
    for text in targets:
        return Destination(target=parse_one_target(text, setting=setting))
    return NOT_SAID


def parse_one_target(text: str, *, setting: str) -> Target | HttpTarget:
    """Read a target: ``host:port``, or ``http://`` or ``https://`` in front.

    Raises:
        InvalidSetting: It is neither.
    """
    if is_http_target(text):
        return parse_http_target(text, setting=setting)
    if "://" in text:
        raise InvalidSetting(
            setting,
            f"{text!r} is an address with a scheme",
            hint="write HOST:PORT, or http:// or https:// in front; udp:// needs azbridge",
        )
    return Target(*parse_host_port(text, setting=setting, lowest_port=1))


class _Settings(TimingSettings):
    """``Settings``: the timings, and the agent's own."""

    target_timeout_seconds: Seconds = 10.0
    endpoint_check_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = (
        ENDPOINT_CHECK_SECONDS
    )


class _AgentDocument(Document):
    """The configuration file."""

    hybrid_connections: list[Entry] = Field(default_factory=list)
    proxy: str | None = Field(default=None, repr=False)
    allow_targets: list[str] | None = None
    settings: _Settings = _Settings()


def require_some(settings: AgentSettings) -> AgentSettings:
    """Check that there is something to serve, for an agent to which nothing can be added.

    Raises:
        InvalidSetting: There is nothing.
    """
    if not settings.hybrid_connections:
        raise InvalidSetting(
            "hybrid connections",
            "none is configured",
            hint="give a connection string, with HCM_CONNECTION_STRING or in a file",
        )
    return settings


def check_has_key(connection_string: ConnectionString) -> None:
    """Check that a listener can use a connection string.

    Raises:
        InvalidSetting: It has neither key nor token.
    """
    if connection_string.is_anonymous:
        raise InvalidSetting(
            f"hybrid connection {connection_string.path!r}",
            "the connection string has no key, and a listener needs one",
            hint="use the connection string of a rule with Listen",
        )


def _check_each(found: list[HybridConnectionSettings]) -> None:
    seen: set[Key] = set()
    for entry in found:
        check_has_key(entry.connection_string)
        if entry.key in seen:
            raise InvalidSetting(
                f"hybrid connection {entry.name!r}",
                f"is configured twice in {entry.namespace}",
                hint="remove one: several agents may serve it, but each process once",
            )
        seen.add(entry.key)
