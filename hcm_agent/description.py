"""One hybrid connection as `hcm show` has it: Hybrid Connection Manager's fields, then ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridge.program.advice import advice
from hybridge.program.host_port import format_host_port
from hybridge.protocol.claims import Claim

if TYPE_CHECKING:
    from datetime import datetime

    from hcm_agent.allow_list import AllowList
    from hcm_agent.hybrid_connection import HybridConnection

AZURE_SUFFIX = ".servicebus.windows.net"

ADDED = "added"
"""The source of what `hcm add` stored."""


def namespace_name(host: str) -> str:
    """The namespace as Azure names it: ``contoso``; elsewhere its whole host name."""
    return host.removesuffix(AZURE_SUFFIX)


def describe(
    served: HybridConnection,
    *,
    open_connections: int,
    source: str,
    allow_list: AllowList | None,
) -> dict[str, object]:
    """Give all that is known of one hybrid connection, for JSON. No key is in it.

    Args:
        served: The hybrid connection.
        open_connections: With those that outlived a restart of its listener.
        source: `ADDED`, or where it is configured.
        allow_list: Where connections may lead.
    """
    status, entry = served.status, served.settings
    information = served.facts.information
    target = status.target
    if not target and information is not None and information.target is not None:
        target = format_host_port(*information.target)
    address = entry.connection_string
    endpoint = status.endpoint
    error = status.last_error
    return {
        "Namespace": namespace_name(address.host),
        "Name": entry.name,
        "Endpoint": target,
        "Status": status.state.value,
        "NumberOfListeners": None if information is None else information.listener_count,
        "ServiceBusEndpoint": (
            address.host if address.port == 443 else format_host_port(address.host, address.port)
        ),
        "CreatedOn": None if information is None else information.created_at,
        "LastUpdated": None if information is None else information.updated_at,
        "StatusSince": _written(status.since),
        "LastError": str(error or ""),
        "Hint": advice(error, claim=Claim.LISTEN) if error else "",
        "EndpointReachable": endpoint.is_reachable,
        "EndpointSince": None if endpoint.since is None else _written(endpoint.since),
        "EndpointLastError": endpoint.last_error,
        "AllowedTargets": None if allow_list is None else [str(each) for each in allow_list.rules],
        "OpenConnections": open_connections,
        "KeyName": address.key_name or "",
        "Source": source,
    }


def _written(time: datetime) -> str:
    """As the relay writes times: UTC, in whole seconds."""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
