"""Which loopback address a hybrid connection gets, so that its port can be the target's own.

An address of 127.64.0.0/10 follows from the namespace and the target's host name. So it is the same
after a restart, on every machine, and for every order in a file; and two ports of one host share
its address, as one line of a hosts file needs it. Where the target is named by an IP address or as
``localhost``, the hybrid connection's own name takes its place.

What others use lies outside: 127.0.0.1, Debian's 127.0.1.1, the resolvers at 127.0.0.11 and
127.0.0.53.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator

from app_client.settings import Forward
from hybridge.transport.listening import LOCALHOST

NETWORK = ipaddress.IPv4Network("127.64.0.0/10")
"""Where the addresses lie. Their last number is 1 to 254: some programs dislike 0 and 255."""

_LAST = 254

Target = tuple[str, int]
"""Host and port behind the agent."""


class Placement:
    """Gives each hybrid connection of a process its local address, no address and port twice."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], Forward] = {}

    def place(self, forward: Forward, target: Target) -> tuple[str, int]:
        """Give the local host and port for a hybrid connection whose address nobody chose.

        The same again for the same; the next free one where another has it.
        """
        for host in _candidates(forward, target[0]):
            address = (host, target[1])
            if self._held.setdefault(address, forward) == forward:
                return address
        raise AssertionError("there are endless candidates")

    def release(self, forward: Forward) -> None:
        """Let others have the address of a hybrid connection that is served no more."""
        self._held = {address: held for address, held in self._held.items() if held != forward}


def is_name(host: str) -> bool:
    """Whether a hosts file can lead a target's host elsewhere: no IP address, no ``localhost``."""
    return not is_ip_address(host) and host.lower().rstrip(".") != LOCALHOST


def is_ip_address(host: str) -> bool:
    """Whether a host is an IP address, so that nobody looks it up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _candidates(forward: Forward, host: str) -> Iterator[str]:
    if forward.default_host is not None:
        yield forward.default_host
    if is_name(host):
        yield _address(f"{forward.namespace}/host/{host.rstrip('.')}")
    # Here begins what is left to two that lead to the same port of the same host.
    own = f"{forward.namespace}/name/{forward.name}"
    yield _address(own)
    number = 1
    while True:
        yield _address(f"{own}/{number}")
        number += 1


def _address(key: str) -> str:
    drawn = int.from_bytes(hashlib.sha256(key.lower().encode()).digest()[:8], "big")
    number, last = divmod(drawn % (NETWORK.num_addresses // 256 * _LAST), _LAST)
    return str(NETWORK.network_address + number * 256 + last + 1)
