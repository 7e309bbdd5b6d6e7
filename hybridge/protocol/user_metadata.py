"""The target of a hybrid connection, as its ``userMetadata`` names it. Section 9.3."""

from __future__ import annotations

import json

MAX_USER_METADATA_CHARACTERS = 1_024
"""Longest user metadata that Azure takes."""


def serialize_target(host: str, port: int) -> str:
    """Give user metadata that names a TCP target: ``[{"key":"endpoint","value":"db:1433"}]``."""
    shown = f"[{host}]" if ":" in host else host
    return json.dumps([{"key": "endpoint", "value": f"{shown}:{port}"}], separators=(",", ":"))


def parse_target(user_metadata: str) -> tuple[str, int] | None:
    """Find the TCP target in user metadata.

    Returns:
        Host (an IPv6 address without brackets) and port, or None: the metadata is free text to
        Azure, so whatever names no target is no error.
    """
    try:
        entries = json.loads(user_metadata)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entries, list):
        return None
    for entry in entries:
        if isinstance(entry, dict):
            key, value = entry.get("key"), entry.get("value")
            if isinstance(key, str) and key.lower() == "endpoint" and isinstance(value, str):
                return _host_and_port(value)
    return None


def _host_and_port(text: str) -> tuple[str, int] | None:
    host, _, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not host or not host.isprintable() or any(c in host for c in " /@[]"):
        return None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65_535):
        return None
    return host, int(port)
