"""From what a user wrote to the relay's namespaces, all or nothing.

`load` reads the file, the command line's part and the generated keys, and checks names, quotas
(sections 1.2 and 11.1) and duplicates. It is called at the start and again on SIGHUP.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from hybridge.program.documents import closest
from hybridge.program.host_port import parse_host, parse_host_port
from hybridge.protocol import user_metadata
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.secret import Secret
from relay import configuration_file
from relay.configuration_file import (
    ConfigurationFile,
    HybridConnectionSection,
    NamespaceSection,
    RuleSection,
    UserConfigSection,
)
from relay.namespace import MAX_RULES, AuthorizationRule, HybridConnection, Namespace
from relay.settings import LOCALHOST, RelaySettings, is_loopback, public_name
from relay.state import KeyFile, RuleKeys, RuleName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import SecretStr

DEVELOPMENT_KEY = base64.b64encode(b"hybridge-development-key-32bytes").decode()
"""Both keys of every rule when there is no configuration file. Public: README prints it."""

DEMO_NAMESPACE = "demo-ns"
"""The namespace when there is no configuration file."""

AZURE_DOMAIN = "servicebus.windows.net"

MAX_NAMESPACES = 100
"""Namespaces of one relay."""

MAX_HYBRID_CONNECTIONS = 10_000
"""Hybrid connections per namespace (11.1)."""

MAX_HOSTS = 50
"""Host names of a namespace: they all stand in one certificate."""

MAX_PATH_CHARS = 260
"""Length of a hybrid connection's name (1.2)."""

MAX_KEY_CHARS = 256
"""Length of a key, and of a rule's name (11.1)."""

_NAMESPACE = re.compile(r"[A-Za-z][0-9A-Za-z-]{4,48}[0-9A-Za-z]")
_PATH = re.compile(r"[0-9A-Za-z_.-]+(?:/[0-9A-Za-z_.-]+)*")
_RULE = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_])?")
_KEY = re.compile(r"[!-:<-~]+")
_RIGHTS = ("Listen", "Send", "Manage")
_NAMESPACE_RULES = (("RootManageSharedAccessKey", Claim.LISTEN | Claim.SEND | Claim.MANAGE),)
_HYBRID_CONNECTION_RULES = (("defaultListener", Claim.LISTEN), ("defaultSender", Claim.SEND))

T = TypeVar("T")


class KeySource(Protocol):
    """Where keys come from that the file does not name."""

    def keys_of(self, name: RuleName) -> RuleKeys:
        """Give the keys of a rule, the same each time."""


class DevelopmentKeys:
    """Gives every rule the well-known key."""

    def keys_of(self, name: RuleName) -> RuleKeys:
        return RuleKeys(Secret(DEVELOPMENT_KEY), Secret(DEVELOPMENT_KEY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the configuration comes from. The same for the whole life of a process."""

    config: Path | None = None
    """The file, or None for the namespace ``demo-ns`` with the well-known key."""

    hybrid_connections: tuple[tuple[str, str], ...] = ()
    """Further ones, as name and ``host:port``. With a file they go to its only namespace."""

    flags: Mapping[str, object] = field(default_factory=dict)
    """Settings by name that win over the file's: command line and environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Settings and namespaces, checked."""

    settings: RelaySettings
    namespaces: tuple[Namespace, ...]

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Every name that clients may connect to."""
        names = [host for namespace in self.namespaces for host in namespace.hosts]
        if self.settings.public_host is not None:
            names.append(public_name(self.settings.public_host))
        return (*dict.fromkeys(names), f"*.{AZURE_DOMAIN}")


def load(sources: Sources, *, now: float, previous: Sequence[Namespace] = ()) -> Configuration:
    """Read and check everything; keys that are generated are in the state directory afterwards.

    Args:
        sources: The file and the command line's part.
        now: Unix time, for hybrid connections that are new or changed.
        previous: The namespaces of before a reload: what did not change keeps its times.

    Raises:
        InvalidSetting: Something is wrong; nothing was changed.
        UnusableFile: The state directory or the keys in it cannot be used.
    """
    file = _load_file(sources)
    settings = _settings(sources, file)
    if file is None:
        user_config = UserConfigSection.model_validate({"Namespaces": [{"Name": DEMO_NAMESPACE}]})
        reader = _Reader("", DevelopmentKeys(), now, previous)
        namespaces = reader.namespaces(user_config, sources.hybrid_connections)
        _refuse_open_door(settings, namespaces)
    else:
        with KeyFile.open(settings.state_dir) as keys:
            reader = _Reader(f"{sources.config}: ", keys, now, previous)
            namespaces = reader.namespaces(file.user_config, sources.hybrid_connections)
            _refuse_open_door(settings, namespaces)
            keys.save()
    return Configuration(settings=settings, namespaces=namespaces)


def check_namespace_name(name: str, *, setting: str) -> str:
    """Give the name of a namespace back.

    Raises:
        InvalidSetting: It is none.
    """
    if not _NAMESPACE.fullmatch(name):
        raise InvalidSetting(
            setting,
            f"{name!r} is not a namespace name",
            hint="6 to 50 letters, digits and hyphens; a letter first, no hyphen last",
        )
    return name


def check_path(name: str, *, setting: str) -> str:
    """Give the name of a hybrid connection back.

    Raises:
        InvalidSetting: It is none.
    """
    is_dotted = any(segment.strip(".") == "" for segment in name.split("/"))
    if not _PATH.fullmatch(name) or len(name) > MAX_PATH_CHARS or is_dotted:
        raise InvalidSetting(
            setting,
            f"{name!r} is not a name for a hybrid connection",
            hint=f"letters, digits and . - _ in parts divided by single /, at most "
            f"{MAX_PATH_CHARS}",
        )
    return name


def load_settings(sources: Sources) -> RelaySettings:
    """Read only the settings; no key is made.

    Raises:
        InvalidSetting: The file or a setting is wrong.
    """
    return _settings(sources, _load_file(sources))


def _load_file(sources: Sources) -> ConfigurationFile | None:
    return None if sources.config is None else configuration_file.load(sources.config)


def _settings(sources: Sources, file: ConfigurationFile | None) -> RelaySettings:
    from_file: dict[str, object] = {}
    if file is not None and sources.config is not None:
        from_file = {name: value for name, value in file.settings.items() if value is not None}
        for name in ("state_dir", "share_dir"):
            if name in from_file:
                from_file[name] = sources.config.parent / str(from_file[name])
        try:
            RelaySettings(**from_file)  # type: ignore[arg-type] # types were checked by pydantic
        except InvalidSetting as error:
            place = f"{sources.config}: UserConfig.Settings.{error.setting}"
            problem = str(error).removeprefix(f"{error.setting}: ")
            raise InvalidSetting(place, problem, hint=error.hint) from None
    return RelaySettings(**{**from_file, **sources.flags})  # type: ignore[arg-type] # same


def _refuse_open_door(settings: RelaySettings, namespaces: Iterable[Namespace]) -> None:
    if settings.is_loopback_only or not any(_is_well_known(each) for each in namespaces):
        return
    flag, host = (
        ("--admin-host", settings.admin_host)
        if is_loopback(settings.host)
        else ("--host", settings.host)
    )
    raise InvalidSetting(
        flag,
        f"{host} is open to other machines, and everybody knows the development key",
        hint=f"give --config FILE with rules of your own (keys are generated), or leave {flag} out",
    )


def _is_well_known(namespace: Namespace) -> bool:
    levels = [namespace.rules, *(each.rules for each in namespace.hybrid_connections.values())]
    return any(
        DEVELOPMENT_KEY in (rule.primary_key.reveal(), rule.secondary_key.reveal())
        for rules in levels
        for rule in rules.values()
    )


class _Reader:
    """Turns the sections of a file into namespaces, and says where something is wrong."""

    def __init__(
        self, source: str, keys: KeySource, now: float, previous: Sequence[Namespace]
    ) -> None:
        self._source = source
        self._keys = keys
        self._now = now
        self._previous = {
            (namespace.name.lower(), path): hybrid_connection
            for namespace in previous
            for path, hybrid_connection in namespace.hybrid_connections.items()
        }

    def namespaces(
        self, section: UserConfigSection, added: Sequence[tuple[str, str]]
    ) -> tuple[Namespace, ...]:
        place = f"{self._source}UserConfig.Namespaces"
        if not section.namespaces:
            raise InvalidSetting(place, "is empty", hint="name one namespace at least")
        self._check_count(place, section.namespaces, MAX_NAMESPACES)
        if added and len(section.namespaces) > 1:
            raise InvalidSetting(
                "--hybrid-connection",
                f"the file has {len(section.namespaces)} namespaces, and it is not said which",
                hint="write the hybrid connection into the file",
            )
        is_only = len(section.namespaces) == 1
        found: dict[str, Namespace] = {}
        for index, each in enumerate(section.namespaces):
            at = f"{place}[{index}]"
            namespace = self._namespace(at, each, added, is_only=is_only)
            self._add(found, namespace.name, namespace, f"{at}.Name")
        owners: dict[str, str] = {}
        for index, namespace in enumerate(found.values()):
            for host in namespace.hosts:
                if host in owners:
                    raise InvalidSetting(
                        f"{place}[{index}].Hosts",
                        f"{host!r} belongs to namespace {owners[host]!r} already",
                        hint="a request's host name decides which namespace it is for: give each "
                        "its own",
                    )
                owners[host] = namespace.name
        return tuple(found.values())

    def _namespace(
        self,
        at: str,
        section: NamespaceSection,
        added: Sequence[tuple[str, str]],
        *,
        is_only: bool,
    ) -> Namespace:
        name = check_namespace_name(section.name, setting=f"{at}.Name")
        found: dict[str, HybridConnection] = {}
        written = [
            (f"{at}.HybridConnections[{index}]", each)
            for index, each in enumerate(section.hybrid_connections)
        ] + [
            (
                f"--hybrid-connection {path}",
                HybridConnectionSection.model_validate({"Name": path, "Endpoint": endpoint}),
            )
            for path, endpoint in added
        ]
        self._check_count(f"{at}.HybridConnections", written, MAX_HYBRID_CONNECTIONS)
        for place, each in written:
            self._add(found, each.name, self._hybrid_connection(place, name, each), place)
        return Namespace(
            name=name,
            hosts=self._hosts(at, section, is_only=is_only),
            rules=self._rules(at, section.authorization_rules, (name, None), _NAMESPACE_RULES),
            hybrid_connections=found,
        )

    def _hosts(self, at: str, section: NamespaceSection, *, is_only: bool) -> tuple[str, ...]:
        written = section.hosts
        if written is None:
            written = [LOCALHOST, "127.0.0.1", "::1"] if is_only else []
        self._check_count(f"{at}.Hosts", written, MAX_HOSTS)
        hosts = [
            parse_host(host, setting=f"{at}.Hosts[{index}]").lower().rstrip(".")
            for index, host in enumerate(written)
        ]
        return tuple(dict.fromkeys([*hosts, f"{section.name.lower()}.{AZURE_DOMAIN}"]))

    def _hybrid_connection(
        self, at: str, namespace: str, section: HybridConnectionSection
    ) -> HybridConnection:
        name = check_path(section.name, setting=f"{at}.Name")
        made = HybridConnection(
            name=name,
            requires_client_authorization=section.requires_client_authorization,
            user_metadata=_metadata(at, section),
            rules=self._rules(
                at, section.authorization_rules, (namespace, name), _HYBRID_CONNECTION_RULES
            ),
            created_at=self._now,
            updated_at=self._now,
        )
        return self._with_times(namespace, made)

    def _with_times(self, namespace: str, made: HybridConnection) -> HybridConnection:
        old = self._previous.get((namespace.lower(), made.name.lower()))
        if old is None:
            return made
        same = replace(made, created_at=old.created_at, updated_at=old.updated_at)
        return old if same == old else replace(made, created_at=old.created_at)

    def _rules(
        self,
        at: str,
        sections: Sequence[RuleSection] | None,
        owner: tuple[str, str | None],
        default: Sequence[tuple[str, Claim]],
    ) -> dict[str, AuthorizationRule]:
        if not sections:
            return {
                name.lower(): self._rule(RuleName(*owner, name), claims, None, None)
                for name, claims in default
            }
        place = f"{at}.AuthorizationRules"
        self._check_count(place, sections, MAX_RULES)
        found: dict[str, AuthorizationRule] = {}
        for index, section in enumerate(sections):
            here = f"{place}[{index}]"
            if not _RULE.fullmatch(section.name) or len(section.name) > MAX_KEY_CHARS:
                raise InvalidSetting(
                    f"{here}.Name",
                    f"{section.name!r} is not a rule name",
                    hint=f"letters, digits and . - _, at most {MAX_KEY_CHARS}",
                )
            rule = self._rule(
                RuleName(*owner, section.name),
                _claims(f"{here}.Rights", section.rights),
                _key(f"{here}.PrimaryKey", section.primary_key),
                _key(f"{here}.SecondaryKey", section.secondary_key),
            )
            self._add(found, section.name, rule, f"{here}.Name")
        return found

    def _rule(
        self, name: RuleName, claims: Claim, primary: Secret | None, secondary: Secret | None
    ) -> AuthorizationRule:
        if primary is None or secondary is None:
            generated = self._keys.keys_of(name)
            primary = primary or generated.primary
            secondary = secondary or generated.secondary
        return AuthorizationRule(
            name=name.rule, claims=claims, primary_key=primary, secondary_key=secondary
        )

    def _add(self, found: dict[str, T], name: str, item: T, place: str) -> None:
        if name.lower() in found:
            raise InvalidSetting(
                place,
                f"the name {name!r} is taken",
                hint="names compare without upper and lower case: give each its own",
            )
        found[name.lower()] = item

    def _check_count(self, place: str, items: Sequence[object], most: int) -> None:
        if len(items) > most:
            problem = f"has {len(items)} entries, and {most} are allowed"
            raise InvalidSetting(place, problem, hint="remove some")


def _claims(place: str, rights: Sequence[str]) -> Claim:
    if not rights:
        raise InvalidSetting(place, "is empty", hint=f"choose from {', '.join(_RIGHTS)}")
    for right in rights:
        if right.lower() not in [known.lower() for known in _RIGHTS]:
            raise InvalidSetting(place, f"{right!r} is not a right", hint=closest(right, _RIGHTS))
    return Claim.parse(rights)


def _key(place: str, written: SecretStr | None) -> Secret | None:
    if written is None:
        return None
    text = written.get_secret_value()
    if not _KEY.fullmatch(text) or len(text) > MAX_KEY_CHARS:
        raise InvalidSetting(
            place,
            "is not a key",
            hint=f"1 to {MAX_KEY_CHARS} visible ASCII characters without a semicolon, usually the "
            "base64 of 32 bytes; leave it out and one is generated",
        )
    return Secret(text)


def _metadata(at: str, section: HybridConnectionSection) -> str:
    target = ""
    if section.endpoint is not None:
        host, port = parse_host_port(section.endpoint, setting=f"{at}.Endpoint", lowest_port=1)
        target = user_metadata.serialize_target(host, port)
    if section.user_metadata is None:
        return target
    most = user_metadata.MAX_USER_METADATA_CHARACTERS
    if len(section.user_metadata) > most:
        problem = f"has {len(section.user_metadata)} characters, and {most} fit"
        raise InvalidSetting(f"{at}.UserMetadata", problem, hint="shorten it")
    return section.user_metadata
