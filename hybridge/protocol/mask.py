"""The mask of a client's WebSocket frames (RFC 6455, 5.3)."""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - a platform without the compiled wheel
    from websockets.utils import apply_mask

__all__ = ["apply_mask", "turn_key"]


def turn_key(key: bytes, by: int) -> bytes:
    """Rotate a mask key, so that it fits data that begins ``by`` bytes further on."""
    by %= 4
    return key[by:] + key[:by] if by else key
