"""One HTTP request head: strict first, then h11.

h11 is no smuggling filter: it takes bare LF, obs-fold, two framings at once and more. The check
here stands before it, so that nobody behind the relay reads a head otherwise than the relay did.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11

from hybridge.protocol.errors import MalformedRequest

MAX_HEAD_BYTES = 32_768
"""Longest request head (section 7.2)."""

MAX_HEADERS = 128
"""Most header lines."""

_LONE_CR_OR_LF = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_HEADER_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """A request line and its headers, spelled as they came."""

    method: str
    target: str
    http_version: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """Give all values of a header, in order."""
        key = name.lower()
        return [value for spelled, value in self.headers if spelled.lower() == key]

    def value(self, name: str) -> str | None:
        """Give a header's first value, or None."""
        return next(iter(self.values(name)), None)

    @property
    def host(self) -> str:
        """The Host header: name and, where given, port."""
        return self.values("Host")[0]

    @property
    def wants_websocket(self) -> bool:
        """Whether this asks for an upgrade to WebSocket."""
        upgrades = ",".join(self.values("Upgrade")).lower()
        options = ",".join(self.values("Connection")).lower().replace(" ", "").split(",")
        return "websocket" in upgrades and "upgrade" in options

    @property
    def announces_body(self) -> bool:
        """Whether a body follows: chunked, which may be empty, or of a length that is not 0."""
        return bool(self.values("Transfer-Encoding")) or self.value("Content-Length") not in (
            None,
            "0",
        )

    @property
    def expects_continue(self) -> bool:
        """Whether the sender waits for a 100 before it sends its body (RFC 9110, 10.1.1).

        Never in HTTP/1.0, which knows no 100.
        """
        return self.http_version != "1.0" and bool(self.values("Expect"))


def parse_head(raw: bytes) -> RequestHead:
    """Read a request head, blank line included.

    Raises:
        MalformedRequest: 400; 417 for an expectation other than ``100-continue``; 431 for too many
            headers; 505 for another HTTP than 1.x. After it the connection must be closed: where
            the next request begins is not known.
    """
    if _LONE_CR_OR_LF.search(raw):
        raise MalformedRequest("a line does not end with CR and LF")
    if _CONTROL.search(raw):
        raise MalformedRequest("the head contains a control character")
    first, *lines = raw[:-4].split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(first)
    if request_line is None:
        raise MalformedRequest("the request line is not METHOD target HTTP/1.1")
    if request_line[3] != b"1":
        raise MalformedRequest("only HTTP/1.1 is spoken here", status=505)
    if len(lines) > MAX_HEADERS:
        raise MalformedRequest(f"more than {MAX_HEADERS} headers", status=431)
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            raise MalformedRequest("a header line is not NAME: value")
        found.setdefault(match[1].lower(), []).append(match[2])
    _check_framing(found, is_http_1_1=request_line[4] != b"0")
    if len(found.get(b"host", ())) != 1:
        raise MalformedRequest("there is not exactly one Host header")
    if any(value.lower() != b"100-continue" for value in found.get(b"expect", ())):
        raise MalformedRequest("the only expectation known here is 100-continue", status=417)
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES + 1)
    try:
        http.receive_data(raw)
        event = http.next_event()
    except h11.RemoteProtocolError as error:
        raise MalformedRequest(str(error), status=error.error_status_hint) from error
    if not isinstance(event, h11.Request):
        raise MalformedRequest("the request head is not complete")
    return RequestHead(
        method=event.method.decode("ascii"),
        target=event.target.decode("ascii"),
        http_version=event.http_version.decode("ascii"),
        headers=tuple(
            (bytes(name).decode("ascii"), bytes(value).decode("latin-1"))
            for name, value in event.headers.raw_items()
        ),
    )


def _check_framing(found: dict[bytes, list[bytes]], *, is_http_1_1: bool) -> None:
    lengths = found.get(b"content-length", [])
    codings = found.get(b"transfer-encoding", [])
    if lengths and codings:
        raise MalformedRequest("Content-Length and Transfer-Encoding stand together")
    if len(lengths) > 1 or any(_LENGTH.fullmatch(value) is None for value in lengths):
        raise MalformedRequest("Content-Length is not one plain number")
    if codings and (not is_http_1_1 or len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise MalformedRequest("Transfer-Encoding is not exactly 'chunked'")
