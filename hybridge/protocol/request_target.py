"""What a listener sees of an HTTP request's target: the path decoded, the query raw (1.4)."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_UNIT = re.compile(r"%[0-9A-Fa-f]{2}")
_KEPT = frozenset(b"?#%")


def request_target(path: str, query: str) -> str:
    """Give the ``requestTarget`` of a ``request`` message. Clause 16.

    ``%3F``, ``%23``, ``%25`` and control characters stay encoded, so that the target can be read in
    one way only; so do bytes that are no UTF-8.

    Args:
        path: `hybridge.protocol.address.Target.path`: as it came, without the first slash.
        query: `hybridge.protocol.address.Target.query`: filtered, without ``?``.
    """
    shown = "/" + _ESCAPES.sub(lambda match: _decoded(match[0]), path)
    return f"{shown}?{query}" if query else shown


def _decoded(escapes: str) -> str:
    units = _UNIT.findall(escapes)
    data = bytes(int(unit[1:], 16) for unit in units)
    shown: list[str] = []
    at = 0
    while at < len(data):
        size, character = _character(data[at : at + 4])
        shown.append(character if character is not None else "".join(units[at : at + size]))
        at += size
    return "".join(shown)


def _character(data: bytes) -> tuple[int, str | None]:
    """Read the first character of some UTF-8; None where it must stay encoded."""
    for size in range(1, len(data) + 1):
        try:
            character = data[:size].decode()
        except UnicodeDecodeError:
            continue
        if size == 1 and (data[0] in _KEPT or data[0] < 0x20 or data[0] == 0x7F):
            return size, None
        is_control = "\x80" <= character <= "\x9f" or character in "\u2028\u2029"
        return size, None if is_control else character
    return 1, None
