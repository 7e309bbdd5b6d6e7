from __future__ import annotations

import pytest

from hybridge.protocol.errors import HandshakeRefused
from hybridge.protocol.redaction import one_line

SECRET = "c2VjcmV0+/%2B="


@pytest.mark.parametrize(
    "text",
    [
        f"Endpoint=sb://x/;SharedAccessKeyName=r;SharedAccessKey={SECRET};EntityPath=e",
        f"sharedaccesskey = {SECRET}",
        f"401 no good: SharedAccessSignature sr=x&sig={SECRET}&se=1&skn=r.",
        f"wss://x/?sb-hc-token=SharedAccessSignature%20sr%3Dx%26sig%3D{SECRET}&a=b",
        f"(SIG%3d{SECRET})",
    ],
)
def test_keys_and_signatures_are_left_out(text: str) -> None:
    assert "c2VjcmV0" not in one_line(text)
    assert "***" in one_line(text)


def test_what_is_no_key_stays() -> None:
    text = "404 Endpoint does not exist. TrackingId:1_G1, SystemTracker:sb://x/hc1, design=good"

    assert one_line(text).startswith("404 Endpoint does not exist. TrackingId:1_G1, ")


def test_nothing_steers_a_terminal_or_ends_a_line() -> None:
    assert one_line("a\r\nb\u2028c\x1b[31m\x00d\x85e\u202ef ") == "a b c\\x1b[31m\\x00d e\\u202ef"


def test_a_refusal_keeps_its_reason_as_it_was_said_and_shows_it_without_the_token() -> None:
    refused = HandshakeRefused(403, "SharedAccessSignature sr=x&sig=c2VjcmV0&se=1")

    assert refused.reason == "SharedAccessSignature sr=x&sig=c2VjcmV0&se=1"
    assert str(refused) == "403 SharedAccessSignature sr=x&sig=***&se=1"
    assert "c2VjcmV0" not in repr(refused)
