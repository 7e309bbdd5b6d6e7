"""The proxy that a program is given: as a flag or variable, or in its configuration file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hybridge.program.connection_strings import warn_if_others_can_read
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.proxies import Proxy, ProxyChoice, parse_proxy
from hybridge.protocol.secret import Secret
from hybridge.transport.proxy_route import ProxyRoute

FILE_SIGN = "@"
"""Stands in front of the name of a file that holds a proxy's address, and with it a password."""


def choose_proxy(given: Secret | None, configured: str | None, *, key: str) -> ProxyChoice:
    """Read what was said of a proxy: on the command line, else in the configuration file.

    Args:
        given: The value of ``--proxy`` or of its environment twin.
        configured: That of ``Proxy`` in the file.
        key: Where that stands, for errors.

    Returns:
        A proxy, ``"none"``, or None: nobody said anything.

    Raises:
        InvalidSetting: It is no address of a proxy, or the file that it names cannot be used.
    """
    if given is not None:
        return _choose(given.reveal(), setting="--proxy")
    if configured is not None:
        return _choose(configured, setting=key)
    return None


def given_proxy(text: str | None) -> Secret | None:
    """Hide what the command line or the environment says until it is read."""
    return Secret(text) if text else None


def check_proxy(
    choice: ProxyChoice, relays: Iterable[ConnectionString], connect_to: tuple[str, int] | None
) -> None:
    """Check that the proxy of each relay can be used, also where the environment names it.

    Raises:
        InvalidSetting: ``HTTPS_PROXY`` or ``ALL_PROXY`` is needed, and is no address of a proxy.
    """
    route = ProxyRoute(choice)
    for relay in relays:
        meant = (relay.host, relay.port)
        route.proxy_for(meant, connect_to or meant)


def _choose(text: str, *, setting: str) -> ProxyChoice:
    text = text.strip()
    if text.startswith(FILE_SIGN):
        return _read(Path(text.removeprefix(FILE_SIGN)), setting=setting)
    return parse_proxy(text, setting=setting)


def _read(path: Path, *, setting: str) -> ProxyChoice:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidSetting(
            setting, f"{path} cannot be read: {problem}", hint="name a file with a proxy's address"
        ) from None
    found = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if len(found) != 1:
        raise InvalidSetting(
            setting,
            f"{path} holds {len(found) or 'no'} addresses of proxies",
            hint="write one line: http://USER:PASSWORD@HOST:PORT",
        )
    choice = parse_proxy(found[0], setting=str(path))
    if isinstance(choice, Proxy) and choice.credentials is not None:
        warn_if_others_can_read(path)
    return choice
