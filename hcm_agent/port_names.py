"""The named targets of a hybrid connection that speaks azbridge: ``[NAME/][udp://]HOST:PORT``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hybridge.program.host_port import format_host_port, parse_host_port
from hybridge.protocol.azbridge import Mode, check_port_name, default_port_name
from hybridge.protocol.errors import InvalidSetting

MAX_PORTS = 1_000
"""Most named targets of one hybrid connection."""

UDP_SCHEME = "udp://"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTarget:
    """A target that senders ask for by a port name."""

    port_name: str
    host: str
    port: int
    mode: Mode = Mode.STREAM

    def __str__(self) -> str:
        scheme = UDP_SCHEME if self.mode is Mode.DATAGRAM else ""
        return f"{self.port_name}/{scheme}{format_host_port(self.host, self.port)}"


def parse_target(text: str, *, setting: str, port_name: str | None = None) -> NamedTarget:
    """Read a target with the port name that leads to it.

    It is a UDP target where it has ``udp://``, where the port is followed by ``U``, as azbridge
    writes it, and where its name is a number followed by ``U``.

    Args:
        text: ``NAME/HOST:PORT``, or ``HOST:PORT`` where the name is the port; ``udp://`` may stand
            in front of the host.
        setting: The flag or key that it was written for, for the error.
        port_name: The name, where it stands elsewhere; then the text has none.

    Raises:
        InvalidSetting: It is not that.
    """
    rest = text.strip()
    name = port_name
    if name is None:
        before, scheme, after = rest.partition(UDP_SCHEME)
        if scheme:
            name, rest = before.removesuffix("/") if before else None, scheme + after
        elif "/" in rest and "://" not in rest:
            name, _, rest = rest.partition("/")
    if name is not None:
        check_port_name(name, setting=setting)
    is_udp = rest.startswith(UDP_SCHEME) or _is_udp_name(name or "")
    rest = rest.removeprefix(UDP_SCHEME)
    if _is_udp_name(rest.rpartition(":")[2]):
        is_udp, rest = True, rest[:-1]
    host, port = parse_host_port(rest, setting=setting, lowest_port=1)
    mode = Mode.DATAGRAM if is_udp else Mode.STREAM
    return NamedTarget(
        port_name=name or default_port_name(port, mode), host=host, port=port, mode=mode
    )


def _is_udp_name(name: str) -> bool:
    digits = name.removesuffix("U")
    return digits != name and digits.isascii() and digits.isdigit()


def check_ports(found: Iterable[NamedTarget], *, setting: str) -> tuple[NamedTarget, ...]:
    """Check that the port names of one hybrid connection are all different.

    Raises:
        InvalidSetting: There is none, one stands twice, or there are more than `MAX_PORTS`.
    """
    ports = tuple(found)
    if not ports:
        raise InvalidSetting(setting, "names no target", hint="give at least one: [NAME/]HOST:PORT")
    if len(ports) > MAX_PORTS:
        raise InvalidSetting(
            setting,
            f"has {len(ports)} targets, and at most {MAX_PORTS} are served",
            hint="divide them among several hybrid connections",
        )
    seen: set[str] = set()
    for each in ports:
        if each.port_name in seen:
            raise InvalidSetting(
                setting,
                f"two targets have the port name {each.port_name!r}",
                hint="give each its own, as NAME/HOST:PORT",
            )
        seen.add(each.port_name)
    return ports
