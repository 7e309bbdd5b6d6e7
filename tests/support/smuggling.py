"""The smuggling table: what is sent, and what must come of it (``tests/vectors``).

python -m tests.support.smuggling    the table as docs/smuggling.md has it
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from tests.support.vectors import load_vectors, rows

CANARY = b"GET /hc1/canary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""What is sent behind each row, on the same connection. It must not be taken for another thing."""

CANARY_SEEN = "GET /hc1/canary "
"""The canary, where a listener sees it: method, target, body."""

MAX_SHOWN = 74
"""Longest text of a row in the page, in characters."""

Part: TypeAlias = "str | list[object]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table."""

    kind: str
    name: str
    parts: tuple[tuple[str, int], ...]
    gets: int | str
    """Status of the refusal, ``served``, or ``waits`` for bytes that do not come."""

    late: int | None
    """Status that a row gets which ``waits``."""

    sees: tuple[str, ...]
    """What reaches the listener before the canary: method, target, body."""

    is_canary_served: bool

    @property
    def sent(self) -> bytes:
        return b"".join(text.encode("latin-1") * times for text, times in self.parts)

    @property
    def statuses(self) -> list[int]:
        """What the sender gets, up to the end of the connection."""
        refusal = self.late if self.gets == "waits" else self.gets
        return [200] * len(self.all_seen) + ([refusal] if isinstance(refusal, int) else [])

    @property
    def all_seen(self) -> list[str]:
        """What reaches the listener, the canary included."""
        return [*self.sees, *([CANARY_SEEN] if self.is_canary_served else [])]


def load_table() -> list[Row]:
    """Read the table."""
    return [_row(fields) for fields in rows(load_vectors("http_smuggling")["rows"])]


def _row(fields: dict[str, object]) -> Row:
    sent, gets, sees = fields["sent"], fields["gets"], fields.get("sees", [])
    late = fields.get("late")
    assert isinstance(gets, int | str)
    assert isinstance(late, int) is (gets == "waits")
    assert isinstance(sees, list)
    return Row(
        kind=str(fields["class"]),
        name=str(fields["row"]),
        parts=tuple(map(_part, sent if isinstance(sent, list) else [sent])),
        gets=gets,
        late=late if isinstance(late, int) else None,
        sees=tuple(map(str, sees)),
        is_canary_served=gets == "served" and fields.get("canary") is not False,
    )


def _part(part: object) -> tuple[str, int]:
    if isinstance(part, list):
        text, times = part
        return str(text), int(times)
    return str(part), 1


# --- as a page -----------------------------------------------------------------------------------


def page(table: list[Row]) -> str:
    """Write the table in Markdown, one section a class."""
    lines = [_HEAD.format(rows=len(table), refused=sum(isinstance(r.gets, int) for r in table))]
    for kind, each in groupby(table, key=lambda row: row.kind):
        lines += [f"## {kind}", "", "| Row | Sent | The sender gets | The listener sees |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| {row.name} | {_shown(row)} | {_outcome(row)} | {_seen(row)} |" for row in each
        ]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


_HEAD = """\
# Requests that two readers could read differently

What the relay does with each of {rows} requests, {refused} of which it refuses. Behind every one
stands a second request on the same connection, the canary: where the first is refused, the
connection is closed and the canary reaches nobody. The table is
`tests/vectors/http_smuggling.json`; `tests/relay/test_smuggling_table.py` checks it against the
modules that read requests, and `tests/relay/test_http_smuggling.py` sends it to a relay over TLS,
with a listener behind it that notes every request it is given. This page is made of it:
`python -m tests.support.smuggling`.

"Nothing whole" is that: where a body is refused in the middle, and is not one that the control
channel carries, the listener has its head and a rendezvous socket that breaks.

In the second column, `␍` is CR, `␊` is LF, `␉` is a tab, and other bytes that cannot be seen are
in hexadecimal; the blanks are as they were sent, the first line and `Host: localhost` are left
out where they are ordinary, and `…` stands for more of it.
"""

_ORDINARY = (
    "POST /hc1 HTTP/1.1\r\nHost: localhost\r\n",
    "GET /hc1 HTTP/1.1\r\nHost: localhost\r\n",
)
_SHOWN = {"\r": "␍", "\n": "␊", "\t": "␉", " ": " ", "|": "\\|", "`": "'"}


def _shown(row: Row) -> str:
    text = "".join(part if times == 1 else part[:12] + "…" for part, times in row.parts)
    for start in _ORDINARY:
        text = text.removeprefix(start)
    visible = "".join(map(_visible, text))
    if len(visible) > MAX_SHOWN:
        visible = visible[:MAX_SHOWN].rstrip("\\") + "…"
    return f"`{visible}`"


def _visible(character: str) -> str:
    if character in _SHOWN:
        return _SHOWN[character]
    return character if "!" <= character <= "~" else f"\\x{ord(character):02x}"


def _outcome(row: Row) -> str:
    match row.gets:
        case "served":
            return "its response" if row.is_canary_served else "its response, then the end"
        case "waits":
            return f"{row.late} in the end, closed"
        case status if row.sees:
            return f"the response to the first, then {status}, closed"
        case status:
            return f"{status}, closed"


def _seen(row: Row) -> str:
    requests = len(row.sees)
    if not requests:
        return "nothing whole"
    return f"{'it' if requests == 1 else requests}{', the canary' if row.is_canary_served else ''}"


if __name__ == "__main__":
    sys.stdout.write(page(load_table()))
