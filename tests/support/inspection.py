"""Tokens to look into, and what the workbench finds."""

from __future__ import annotations

import base64
import hmac
from urllib.parse import quote

from hybridge.protocol import sas
from hybridge.protocol.connection_string import ConnectionString, parse
from hybridge.protocol.token_faults import Fault
from hybridge.protocol.token_inspection import Inspection, inspect
from tests.support.sas_tokens import HOST, NOW

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SEND = parse(
    f"Endpoint=sb://{HOST}:8443/;SharedAccessKeyName=send;SharedAccessKey={KEY};EntityPath=orders"
)
ORDERS = f"http://{HOST}/orders/"


def signed(
    resource: str = ORDERS, *, key: str = KEY, key_name: str = "send", expires_at: int = NOW + 3_600
) -> str:
    return sas.sign(resource, key_name=key_name, key=key, expires_at=expires_at)


def signed_otherwise(key: bytes, text: str, sr: str, *, se: int = NOW + 3_600) -> str:
    digest = hmac.digest(key, text.encode(), "sha256")
    sig = quote(base64.b64encode(digest), safe="")
    return f"SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn=send"


def look(text: str, connection_string: ConnectionString | None = SEND) -> Inspection:
    return inspect(text, now=NOW, connection_string=connection_string)


def only_fault(text: str, connection_string: ConnectionString | None = SEND) -> Fault:
    inspection = look(text, connection_string)
    assert len(inspection.faults) == 1, inspection.faults
    assert inspection.is_valid is False
    return inspection.faults[0]


def states(inspection: Inspection) -> dict[str, str]:
    return {check.part.value: check.state.value for check in inspection.checks}
