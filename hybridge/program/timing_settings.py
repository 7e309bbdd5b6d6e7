"""The timings that a configuration file of an agent or a client may set, under ``Settings``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from hybridge.transport.timing import Timing

_DEFAULT = Timing()

DATAGRAM_IDLE_SECONDS = 240.0
"""How long a conversation of datagrams may be silent, as azbridge has it (section 10.3)."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A duration that must be positive."""


def pascal_case(name: str) -> str:
    """Spell ``ping_interval_seconds`` as ``PingIntervalSeconds``, as Microsoft's emulators do."""
    return "".join(word.capitalize() for word in name.split("_"))


class Document(BaseModel):
    """Part of a configuration file: PascalCase keys, strict types, no key that we do not know."""

    model_config = ConfigDict(
        alias_generator=pascal_case,
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
    )


class TimingSettings(Document):
    """How long our own ends wait; each is explained at `Timing`."""

    open_timeout_seconds: Seconds = _DEFAULT.open_timeout_seconds
    connect_timeout_seconds: Seconds = _DEFAULT.connect_timeout_seconds
    ping_interval_seconds: Seconds = _DEFAULT.ping_interval_seconds
    pong_timeout_seconds: Seconds = _DEFAULT.pong_timeout_seconds
    stalled_peer_timeout_seconds: Seconds = _DEFAULT.stalled_peer_timeout_seconds
    close_timeout_seconds: Seconds = _DEFAULT.close_timeout_seconds
    datagram_idle_seconds: Seconds = DATAGRAM_IDLE_SECONDS
    multiplex: bool = True
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0

    @property
    def timing(self) -> Timing:
        """The part that the library needs."""
        return Timing(
            open_timeout_seconds=self.open_timeout_seconds,
            connect_timeout_seconds=self.connect_timeout_seconds,
            ping_interval_seconds=self.ping_interval_seconds,
            pong_timeout_seconds=self.pong_timeout_seconds,
            stalled_peer_timeout_seconds=self.stalled_peer_timeout_seconds,
            close_timeout_seconds=self.close_timeout_seconds,
        )
