"""Where the agent may connect to, whatever the relay's metadata or a configuration says."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hybridge.program.host_port import format_host_port, parse_host
from hybridge.protocol.errors import InvalidSetting, RelayError
from hybridge.transport.names import Admit

MAX_RULES = 1_000
"""Most entries of an allow-list."""

ANY = "*"

_HINT = "write HOST:PORT, such as db.corp.local:5432, *.corp.local:*, 10.0.0.0/8:1433 or [::1]:80"
_BRACKETED = re.compile(r"\[([^\[\]]*)\](/[0-9]+)?")
_PORTS = range(1, 65_536)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TargetNotAllowed(RelayError):
    """The agent's allow-list does not have the target."""

    status = 403

    def __init__(self, host: str, port: int, *, addresses: Iterable[str] = ()) -> None:
        target = format_host_port(host, port)
        leads_to = ", ".join(addresses)
        why = f": it leads to {leads_to}" if leads_to else ""
        super().__init__(
            f"The agent's allow-list does not have the target {target}{why}.",
            hint=f"where that is right, add {target} to --allow-target, or to AllowTargets",
        )


@dataclass(frozen=True, slots=True)
class AllowRule:
    """One entry: a host and the ports there."""

    host: str
    """A name in lower case, ``*.`` and the end of one, or `ANY`; empty where `network` says it."""

    network: Network | None
    """Addresses, however the target is written."""

    ports: range

    def __str__(self) -> str:
        """Write it as `parse_allow_list` reads it."""
        host = self.host if self.network is None else str(self.network)
        first, last = self.ports[0], self.ports[-1]
        ports = ANY if self.ports == _PORTS else f"{first}-{last}" if first != last else f"{first}"
        return f"[{host}]:{ports}" if ":" in host else f"{host}:{ports}"

    def has_name(self, name: str) -> bool:
        """Whether a host is allowed by the way it is written."""
        if self.host.startswith("*."):
            return name.endswith(self.host[1:])
        return self.host in (ANY, name)

    def has_address(self, address: Address) -> bool:
        """Whether an address is allowed."""
        return self.network is not None and address in self.network


@dataclass(frozen=True, slots=True)
class AllowList:
    """All entries: a target needs one of them. Without any, nothing is allowed.

    A name in the list allows that name wherever it leads: whoever lists it trusts this network's
    DNS. An address or a network allows addresses: a target's name is resolved first, and only what
    is allowed of the answer is dialled, so that a second answer of DNS changes nothing.
    """

    rules: tuple[AllowRule, ...]

    def check(self, host: str, port: int) -> Admit | None:
        """Decide on a target before it is resolved.

        Returns:
            None where it is allowed as it is written; else what must choose from its addresses.

        Raises:
            TargetNotAllowed: No entry can allow it.
        """
        name = host.lower().removesuffix(".")
        rules = [rule for rule in self.rules if port in rule.ports]
        if any(rule.has_name(name) for rule in rules):
            return None
        address = _address(host)
        if address is not None:
            if any(rule.has_address(address) for rule in rules):
                return None
            raise TargetNotAllowed(host, port)
        networks = [rule for rule in rules if rule.network is not None]
        if not networks:
            raise TargetNotAllowed(host, port)
        return functools.partial(_choose, networks, host, port)


def _choose(
    rules: list[AllowRule], host: str, port: int, addresses: Collection[str]
) -> Collection[str]:
    allowed = {
        text
        for text in addresses
        if (address := _address(text)) and any(rule.has_address(address) for rule in rules)
    }
    if not allowed:
        raise TargetNotAllowed(host, port, addresses=addresses)
    return allowed


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # What is dialled is the IPv4 address in it.
        return address.ipv4_mapped or address
    return address


def parse_allow_list(texts: Iterable[str], *, setting: str) -> AllowList:
    """Read the entries of an allow-list.

    Args:
        texts: Each ``HOST:PORT``. The host is a name, ``*.`` and the end of names, an address, a
            network as ``10.0.0.0/8`` or ``[fd00::/8]``, or ``*``; the port is a number, two with a
            ``-`` between, or ``*``.
        setting: The flag or key that they were written for, for the error.

    Raises:
        InvalidSetting: An entry is not that, or there are more than `MAX_RULES`.
    """
    rules = tuple(_parse_rule(text, setting) for text in texts)
    if len(rules) > MAX_RULES:
        raise InvalidSetting(
            setting,
            f"has {len(rules)} entries, and at most {MAX_RULES} are taken",
            hint="write networks or *.names instead of single hosts",
        )
    return AllowList(rules)


def _parse_rule(text: str, setting: str) -> AllowRule:
    host, colon, port = text.strip().rpartition(":")
    if "://" in text:
        raise InvalidSetting(setting, f"{text!r} is an address with a scheme", hint=_HINT)
    if not colon or host.endswith(":"):
        raise InvalidSetting(setting, f"{text!r} has no port", hint=_HINT)
    return _rule_for(host, _ports(port, text, setting), text, setting)


def _ports(text: str, whole: str, setting: str) -> range:
    if text == ANY:
        return _PORTS
    first, dash, last = text.partition("-")
    numbers = [int(each) for each in (first, last if dash else first) if _is_number(each)]
    if len(numbers) != 2 or not all(number in _PORTS for number in numbers):
        raise InvalidSetting(
            setting, f"{whole!r} does not end with a port, a range of ports or *", hint=_HINT
        )
    if numbers[0] > numbers[1]:
        raise InvalidSetting(setting, f"the range of ports in {whole!r} is empty", hint=_HINT)
    return range(numbers[0], numbers[1] + 1)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


def _rule_for(host: str, ports: range, whole: str, setting: str) -> AllowRule:
    if host == ANY:
        return AllowRule(ANY, None, ports)
    bracketed = _BRACKETED.fullmatch(host)
    bare = "".join(bracketed.groups("")) if bracketed else host
    if ":" in bare and not bracketed:
        raise InvalidSetting(setting, f"{whole!r}: put IPv6 in brackets", hint=_HINT)
    if "/" in bare or _address(bare) is not None:
        return AllowRule("", _network(bare, setting), ports)
    if bracketed:
        raise InvalidSetting(setting, f"{bare!r} is not an IPv6 address or network", hint=_HINT)
    name = parse_host(bare.removeprefix("*."), setting=setting, hint=_HINT).lower()
    wildcard = "*." if bare.startswith("*.") else ""
    return AllowRule(wildcard + name.removesuffix("."), None, ports)


def _network(text: str, setting: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidSetting(setting, f"{error}", hint=_HINT) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise InvalidSetting(
            setting, f"{text!r} holds IPv4 addresses", hint="write them as IPv4: 10.0.0.0/8"
        )
    return network
