"""What the relay serves: namespaces, hybrid connections and authorization rules, in memory.

All of it is frozen. A reload makes new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybridge.protocol import address, user_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hybridge.protocol.claims import Claim
    from hybridge.protocol.secret import Secret

MAX_RULES = 12
"""Most rules of a namespace, and of a hybrid connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRule:
    """A name, two keys and the claims they carry."""

    name: str
    """As it is shown; it compares without case."""

    claims: Claim

    primary_key: Secret

    secondary_key: Secret

    @property
    def keys(self) -> tuple[Secret, Secret]:
        """Both keys; either one signs."""
        return self.primary_key, self.secondary_key


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConnection:
    """The named meeting point of listeners and senders."""

    name: str
    """As it is shown; it compares without case."""

    requires_client_authorization: bool = True
    """Whether senders need a token. Listeners always do."""

    user_metadata: str = ""
    """Free text; by custom it names the target."""

    rules: Mapping[str, AuthorizationRule] = field(default_factory=dict)
    """By name in lower case."""

    created_at: float = 0.0
    """Unix time in seconds."""

    updated_at: float = 0.0
    """Unix time in seconds."""

    @property
    def target_from_metadata(self) -> tuple[str, int] | None:
        """Host and port of the target, where the metadata names one."""
        return user_metadata.parse_target(self.user_metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """One host with its hybrid connections and its own rules."""

    name: str

    hosts: tuple[str, ...]
    """All host names it answers to: lower case, no port, IPv6 without brackets."""

    rules: Mapping[str, AuthorizationRule] = field(default_factory=dict)
    """By name in lower case; good for every hybrid connection."""

    hybrid_connections: Mapping[str, HybridConnection] = field(default_factory=dict)
    """By name in lower case."""

    def find(self, segments: Sequence[str]) -> tuple[HybridConnection, tuple[str, ...]] | None:
        """Find the hybrid connection that a path leads to, and what is left of the path.

        Args:
            segments: The path, decoded, as in `hybridge.protocol.address.Target.segments`.
        """
        found = address.find_entity(segments, self.hybrid_connections)
        if found is None:
            return None
        name, suffix = found
        return self.hybrid_connections[name], suffix


def entity_of(namespace: Namespace, name: str) -> str:
    """Name a hybrid connection in the whole relay: ``demo-ns/orders-db``, in lower case."""
    return f"{namespace.name}/{name}".lower()
