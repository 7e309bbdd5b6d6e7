"""What is examined, and what the checks learn of it one after the other."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hybridge.protocol.claims import Claim
from hybridge.transport.timing import Timing

if TYPE_CHECKING:
    from hcm_agent.allow_list import AllowList
    from hybridge.management import RuntimeInformation
    from hybridge.protocol.connection_string import ConnectionString
    from hybridge.protocol.proxies import ProxyChoice
    from hybridge.protocol.secret import Secret
    from hybridge.protocol.token_questions import RelayVerdict

TIMEOUT_SECONDS = 10.0
"""How long each step may take, unless the user says otherwise."""

ACCEPT_SECONDS = 35.0
"""How long a sender waits beyond that for a listener: the relay itself gives up after 30 s."""


class Role(enum.Enum):
    """Which side of a hybrid connection stands here."""

    LISTENER = "listener"
    """The agent's side."""

    SENDER = "sender"
    """The client's side."""

    @property
    def claim(self) -> Claim:
        """What its rule must grant."""
        return Claim.LISTEN if self is Role.LISTENER else Claim.SEND


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One hybrid connection, seen from one side."""

    text: Secret
    """The connection string as it was given."""

    role: Role | None = None
    """None: found from what the rule grants."""

    targets: tuple[tuple[str, int], ...] = ()
    """Where the agent connects to; empty: the relay's metadata says."""

    takes_datagrams: bool = False
    """Whether the agent's targets are UDP: then none of them can be tried."""

    allow_list: AllowList | None = None
    """Where the agent may connect to; None: anywhere."""

    ca: Path | None = None
    """PEM file of further trusted authorities."""

    connect_to: tuple[str, int] | None = None
    """TCP address to dial instead of the namespace's."""

    proxy: ProxyChoice = None
    """The proxy on the way, ``"none"``, or None: as the environment says."""

    timeout_seconds: float = TIMEOUT_SECONDS

    clock: Callable[[], float] = time.time
    """This machine's clock, Unix time in seconds."""

    @property
    def timing(self) -> Timing:
        """The SDK's waits."""
        return Timing(
            open_timeout_seconds=self.timeout_seconds,
            connect_timeout_seconds=self.timeout_seconds + ACCEPT_SECONDS,
        )


@dataclass(slots=True, kw_only=True)
class Notes:
    """What the checks have learned so far."""

    role: Role | None
    given: ConnectionString | None = None
    """The connection string, once it can be read."""

    token: Secret | None = field(default=None, repr=False)
    """What the relay was asked about."""

    verdict: RelayVerdict | None = None
    """What the relay said of the token."""

    information: RuntimeInformation | None = None
    """What the relay said of the hybrid connection."""

    @property
    def connection_string(self) -> ConnectionString:
        """The connection string; a check that needs it comes after the one that reads it."""
        if self.given is None:
            raise AssertionError("the connection string was not read")
        return self.given

    @property
    def path(self) -> str:
        """The name of the hybrid connection."""
        return self.connection_string.required_path()
