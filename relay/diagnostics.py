"""The diagnostic log: one line an event, under Azure's names, and Azure's record of it in JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from hybridge.protocol.errors import AuthorizationFailed, ClaimMissing, MissingToken, RelayError
from relay.core.operations import Operation

_logger = logging.getLogger(__name__)

CATEGORY: Final = "HybridConnectionsEvent"
"""What Azure files these events under."""

SUBSCRIPTION_ID: Final = "00000000-0000-0000-0000-000000000000"
"""There is none here; the place that Azure's resource ids have for it is filled all the same."""

RESOURCE_GROUP: Final = "hybridge"
"""As `SUBSCRIPTION_ID`."""

_NAMES: Final = frozenset(operation.value for operation in Operation)


def report(
    operation: Operation,
    message: str,
    *args: object,
    labels: Mapping[str, object],
    **fields: object,
) -> None:
    """Log an event of a hybrid connection, at the level of its operation.

    Args:
        operation: Azure's name for it.
        message: What happened, for people; ``%`` places for ``args``. No key, no token, no payload.
        args: What belongs there.
        labels: ``id`` (the TrackingId), ``hybrid_connection`` and ``endpoint``: see
            `relay.visit.Visit.labels`.
        fields: More of it, for machines.
    """
    if _logger.isEnabledFor(operation.level):
        extra = {"event": operation.value, **labels, **fields}
        _logger.log(operation.level, message, *args, extra=extra)


def operation_of(error: RelayError) -> Operation:
    """Give the operation that a refusal is logged under."""
    if isinstance(error, ClaimMissing | MissingToken):
        return Operation.AUTHORIZATION_FAILED
    if isinstance(error, AuthorizationFailed):
        return Operation.INVALID_SAS_TOKEN
    return Operation.PROCESSING_REQUEST_FAILED


def azure_fields(record: logging.LogRecord) -> dict[str, object]:
    """Give what Azure's own record of an event has besides ``message``; nothing for other lines.

    ``resourceId``, ``ActivityId``, ``endpoint``, ``operationName``, ``EventTimeString`` and
    ``category``, spelled as in Azure's sample of a hybrid connections event.
    """
    values = vars(record)
    event = values.get("event")
    if event not in _NAMES:
        return {}
    tracking_id = str(values.get("id", ""))
    namespace = str(values.get("hybrid_connection", "")).partition("/")[0]
    time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return {
        "resourceId": f"/SUBSCRIPTIONS/{SUBSCRIPTION_ID}/RESOURCEGROUPS/{RESOURCE_GROUP}"
        f"/PROVIDERS/MICROSOFT.RELAY/NAMESPACES/{namespace}",
        "ActivityId": tracking_id.partition("_G")[0],
        "endpoint": f"{values.get('endpoint', '')}/{tracking_id}",
        "operationName": f"Microsoft.Relay/HybridConnections/{event}",
        # .NET's ticks: seven digits.
        "EventTimeString": f"{time}0Z",
        "category": CATEGORY,
    }
