"""A host and a port, as people write them."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import click

from hybridge.protocol.errors import InvalidSetting

_HOST_NAME = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]{0,251}[0-9A-Za-z_.])?")


def parse_host_port(text: str, *, setting: str, lowest_port: int = 0) -> tuple[str, int]:
    """Read ``host:port``; an IPv6 address stands in brackets, ``[::1]:5432``.

    Args:
        text: What was written.
        setting: The flag or key that it was written for, for the error.
        lowest_port: 0 where the system may choose a free port, 1 where something is dialled.

    Returns:
        The host without brackets, and the port.

    Raises:
        InvalidSetting: It is not that.
    """
    example = "db.corp.local" if lowest_port else "127.0.0.1"
    hint = f"write HOST:PORT, such as {example}:5432 or [::1]:5432"
    if "://" in text:
        raise InvalidSetting(setting, f"{text!r} is an address with a scheme", hint=hint)
    host_text, colon, port_text = text.strip().rpartition(":")
    if not colon:
        problem = f"{text!r} has no port"
        if text.strip().isascii() and text.strip().isdigit():
            problem = f"{text!r} has no host"
            hint = f"write HOST:PORT, such as {example}:{text.strip()}"
        raise InvalidSetting(setting, problem, hint=hint)
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
        raise InvalidSetting(setting, f"{text!r} does not end with a port number", hint=hint)
    port = int(port_text)
    if not lowest_port <= port <= 65_535:
        problem = f"port {port} is not between {lowest_port} and 65535"
        raise InvalidSetting(setting, problem, hint=hint)
    return parse_host(host_text, setting=setting, hint=hint), port


def parse_host(text: str, *, setting: str, hint: str = "") -> str:
    """Read a host name or an IP address, without a port.

    Returns:
        The host without brackets; an IPv6 address in its shortest form.

    Raises:
        InvalidSetting: It is neither.
    """
    hint = hint or "write a host name or an IP address, such as localhost or 127.0.0.1"
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        if bare is text and not hint.startswith("write a host name"):
            raise InvalidSetting(setting, f"{text!r}: put the IPv6 address in brackets", hint=hint)
        if bare.count(":") == 1:
            why = "it has a port" if bare[-1].isdecimal() else "it has a colon"
            raise InvalidSetting(setting, f"{bare!r} is not a host name: {why}", hint=hint)
        try:
            return ipaddress.IPv6Address(bare).compressed
        except ValueError:
            raise InvalidSetting(setting, f"{bare!r} is not an IPv6 address", hint=hint) from None
    if not _HOST_NAME.fullmatch(bare):
        problem = f"{bare!r} is not a host name" if bare else "the host is missing"
        raise InvalidSetting(setting, problem, hint=hint)
    return bare


def format_host_port(host: str, port: int) -> str:
    """Write a host and a port so that `parse_host_port` reads them again."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HostPort(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4
    """The type of an option whose value is ``HOST:PORT``; gives a host and a port."""

    name = "host:port"

    def __init__(self, *, lowest_port: int = 0) -> None:
        self.lowest_port = lowest_port

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        setting = param.opts[0] if param is not None else "HOST:PORT"
        return parse_host_port(str(value), setting=setting, lowest_port=self.lowest_port)


class Port(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4
    """The type of an option whose value is a port; 0 where the system may choose a free one."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535:
            return int(text)
        setting = param.opts[0] if param is not None else "PORT"
        raise InvalidSetting(
            setting, f"{text!r} is not a port", hint="write a number from 0 to 65535"
        )


PORT = Port()

HOST_PORT = HostPort()
"""Where to listen: port 0 takes a free one."""

TARGET = HostPort(lowest_port=1)
"""Where to dial."""
