"""What shall be examined: from the command line, or from an agent's or a client's file."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.doctor import shape
from devstack.doctor.case import Case, Role
from devstack.doctor.finding import Verdict
from hybridge.program.documents import load
from hybridge.program.proxy_setting import check_proxy
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hcm_agent.allow_list import AllowList
    from hybridge.protocol.proxies import ProxyChoice

_CLIENT_KEYS = ("Listen", "Endpoint", "PortName")
_AGENT_KEYS = ("Target",)


@dataclass(frozen=True, slots=True)
class Way:
    """What a file says of one hybrid connection, besides its connection string."""

    targets: tuple[tuple[str, int], ...]
    proxy: ProxyChoice
    takes_datagrams: bool = False
    allow_list: AllowList | None = None


def read_config(path: Path, way: Case) -> list[Case]:
    """Give the cases of a configuration file of ``hcm`` or ``app-client``.

    Args:
        path: The file.
        way: How to reach the relay, and which side it is, if that was said.

    Raises:
        InvalidSetting: The file cannot be used, for another reason than its connection strings.
    """
    texts, keys = _entries(path)
    role = way.role or _role(keys)
    cases = [dataclasses.replace(way, text=Secret(text), role=role) for text in texts]
    if any(shape.read(text, role)[0].verdict is Verdict.FAIL for text in texts):
        return cases  # The examination says better what is wrong.
    ways = _client(path) if role is Role.SENDER else _agent(path)
    return [
        dataclasses.replace(
            case,
            targets=case.targets or each.targets,
            proxy=case.proxy or each.proxy,
            takes_datagrams=each.takes_datagrams and not case.targets,
            allow_list=case.allow_list or each.allow_list,
        )
        for case, each in zip(cases, ways, strict=True)
    ]


def read_state(path: Path | None, way: Case) -> list[Case]:
    """Give the cases that ``hcm add`` stored.

    Args:
        path: The service's state directory; None: where the service looks too, if it is there.
        way: How to reach the relay.

    Raises:
        RelayError: It cannot be read.
    """
    from hcm_agent.key_storage import KeyStorage
    from hcm_agent.state_directory import find_state_directory
    from hcm_agent.store import Store
    from hybridge.protocol.connection_string import serialize

    if path is None and (from_service := os.environ.get("HCM_STATE")):
        path = Path(from_service)
    state = find_state_directory(path, environment=os.environ)
    if state is None or (path is None and not state.connections.exists()):
        return []
    return [
        dataclasses.replace(
            way,
            text=Secret(serialize(added.connection_string)),
            role=way.role or Role.LISTENER,
            targets=way.targets or read_targets(added.targets),
            takes_datagrams=not way.targets and is_udp_only(added.targets),
        )
        for added in Store(state.connections, KeyStorage(state.path)).read()
    ]


def _entries(path: Path) -> tuple[list[str], set[str]]:
    document = load(path)
    entries = document.get("HybridConnections") if isinstance(document, dict) else None
    found = [each for each in entries or () if isinstance(each, dict)]
    texts = [each.get("ConnectionString") for each in found]
    given = [text for text in texts if isinstance(text, str)]
    if not given:
        raise InvalidSetting(
            str(path),
            "names no hybrid connection",
            hint="give the file of hcm or app-client, with HybridConnections in it",
        )
    return given, {str(key) for each in found for key in each}


def _role(keys: set[str]) -> Role | None:
    if keys.intersection(_CLIENT_KEYS):
        return Role.SENDER
    return Role.LISTENER if keys.intersection(_AGENT_KEYS) else None


def _agent(path: Path) -> list[Way]:
    from hcm_agent.http_target import HttpTarget
    from hcm_agent.settings import AgentSources, Target
    from hybridge.protocol.azbridge import Mode

    found = []
    agent = AgentSources(config=path).load()
    for settings in agent.hybrid_connections:
        to = [(each.host, each.port) for each in settings.azbridge if each.mode is Mode.STREAM]
        if isinstance(settings.target, Target | HttpTarget):
            to.append((settings.target.host, settings.target.port))
        found.append(
            Way(
                tuple(to),
                settings.proxy,
                takes_datagrams=bool(settings.azbridge) and not to,
                allow_list=agent.allow_list,
            )
        )
    return found


def _client(path: Path) -> list[Way]:
    from app_client.settings import ClientSources

    settings = ClientSources(config=path).load()
    return [Way((), settings.proxy) for _ in settings.forwards]


def read_targets(texts: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Read targets as ``hcm run --target`` takes them; UDP ones, which say nothing, are left out.

    Raises:
        InvalidSetting: One is no target.
    """
    from hcm_agent.http_target import is_http_target, parse_http_target
    from hcm_agent.port_names import parse_target
    from hybridge.protocol.azbridge import Mode

    found = []
    for text in texts:
        if is_http_target(text):
            to = parse_http_target(text, setting="--target")
            found.append((to.host, to.port))
            continue
        named = parse_target(text, setting="--target")
        if named.mode is Mode.STREAM:
            found.append((named.host, named.port))
    return tuple(found)


def read_allow_list(texts: Sequence[str]) -> AllowList | None:
    """Read what ``hcm run --allow-target`` takes; None where nothing was given.

    Raises:
        InvalidSetting: An entry cannot be used.
    """
    if not texts:
        return None
    from hcm_agent.allow_list import parse_allow_list

    return parse_allow_list(texts, setting="--allow-target")


def is_udp_only(texts: Sequence[str]) -> bool:
    """Whether there are targets, and all of them take datagrams."""
    return bool(texts) and not read_targets(texts)


def check_proxies(cases: Sequence[Case]) -> None:
    """Check that the proxy of each case can be used, also where the environment names it.

    Raises:
        InvalidSetting: It is no address of a proxy.
    """
    for case in cases:
        _, given = shape.read(case.text.reveal(), case.role)
        if given is not None:
            check_proxy(case.proxy, [given], case.connect_to)
