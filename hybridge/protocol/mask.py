"""The mask of a client's WebSocket frames (RFC 6455, 5.3)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - a platform without the compiled wheel
    from websockets.utils import apply_mask

__all__ = ["apply_mask", "mask_keys", "turn_key"]

KEY_BYTES = 4

_KEYS_AT_ONCE = 1_024


def turn_key(key: bytes, by: int) -> bytes:
    """Rotate a mask key, so that it fits data that begins ``by`` bytes further on."""
    by %= 4
    return key[by:] + key[:by] if by else key


def mask_keys() -> Iterator[bytes]:
    """Give fresh keys for ever, unpredictable as RFC 6455 (5.3) wants them.

    The system is asked for many at once: one by one cost as much as masking a short message.
    """
    while True:
        block = secrets.token_bytes(KEY_BYTES * _KEYS_AT_ONCE)
        for start in range(0, len(block), KEY_BYTES):
            yield block[start : start + KEY_BYTES]
