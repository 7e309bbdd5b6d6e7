"""Text that others wrote, made fit for an error or a log."""

from __future__ import annotations

import re

_KEY_TEXT = re.compile(
    r"(SharedAccessKey\s*=\s*|sig(?:=|%3D)|sb-hc-token=|sb-hc-sas-key=)[^;\s'\"&)]+", re.IGNORECASE
)


def one_line(text: str) -> str:
    """Make a text safe to show on one line of a terminal or a log.

    Line ends become blanks, other control characters are escaped, and keys or signatures are left
    out: a user typed them in the wrong place, or a peer repeats the token that it was sent.
    """
    text = " ".join(text.split())
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return _KEY_TEXT.sub(r"\1***", text)
