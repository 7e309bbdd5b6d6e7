"""The smuggling table, by the modules that read requests; over the wire in test_http_smuggling."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridge.protocol import address
from hybridge.protocol.errors import MalformedAddress, MalformedRequest
from relay.request_body import BodyReader
from relay.request_head import MAX_HEAD_BYTES, parse_head
from relay.response_writer import ResponseWriter
from tests.support.smuggling import CANARY, Row, load_table, page

TABLE = load_table()
PAGE = Path(__file__).parent.parent.parent / "docs" / "smuggling.md"


def read_all(data: bytes) -> tuple[list[str], int | str]:
    """Read requests one after the other, as a connection does.

    Give what was read whole, as method, target and body, and how it ended: the status of a
    refusal, ``served``, or ``waits`` in the middle of one.
    """
    seen: list[str] = []
    while data:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > MAX_HEAD_BYTES:
            return seen, 431 if len(data) > MAX_HEAD_BYTES else "waits"
        try:
            head = parse_head(data[:end])
            if head.method == "CONNECT":
                return seen, 405
            if address.split_authority(head.host)[0] != "localhost":
                return seen, 404
            target = address.parse_target(head.target)
            if target.is_websocket_path:
                return seen, 400  # There, test_http_smuggling says why.
            body = BodyReader(head)
            payload = b"".join(body.feed(data[end:]))
        except (MalformedRequest, MalformedAddress) as error:
            return seen, error.status or 400
        if not body.is_done:
            return seen, "waits"
        seen.append(f"{head.method} {head.target} {payload.decode('latin-1')}")
        if not ResponseWriter(head).keeps_alive:
            break
        data = body.rest
    return seen, "served"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.kind}: {row.name}")
def test_a_row_is_read_one_way_or_not_at_all(row: Row) -> None:
    seen, end = read_all(row.sent + CANARY)

    assert (seen, end) == (row.all_seen, row.gets)


def test_what_is_refused_is_refused_before_another_byte_is_waited_for() -> None:
    waiting = {row.name for row in TABLE if row.gets == 400 and read_all(row.sent)[1] != 400}

    assert waiting == {
        # These lack the end of their head, or of their body, so they may be those of a slow sender;
        # the canary is no such end.
        "bare LF throughout",
        "LF LF at the end",
        "LF CR LF at the end",
        "last chunk without its empty line",
        # This one is whole; what is refused is the line that begins the next.
        "CR LF behind a body",
    }


def test_the_page_is_the_table() -> None:
    fresh = page(TABLE)

    assert PAGE.read_text(encoding="utf-8") == fresh, (
        "run: python -m tests.support.smuggling > docs/smuggling.md"
    )
