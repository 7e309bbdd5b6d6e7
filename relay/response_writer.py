"""One HTTP response to one sender, in the only framing that its request allows."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from relay.request_head import RequestHead
from relay.responses import serialize_head

# The relay says itself how long a body is and what becomes of the connection.
_OWN_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})
_WITHOUT_BODY = frozenset({204, 304})


class ResponseWriter:
    """Writes one response to one sender: `start` once, `data` any number of times, `end` once.

    What its methods give is to be sent in that order. A body of a known length gets a
    ``Content-Length``, another is chunked, or to a sender of HTTP/1.0 ended by the end of the
    connection. Responses to HEAD and those with 204 and 304 have no body, whatever `data` is given.

    Who cannot complete a body does not call `end`, and aborts the connection.

    Args:
        head: The head of the request that is answered.

    Protocol:
        Section 7.6; clauses 106 to 109. RFC 9112, sections 6 and 9.
    """

    def __init__(self, head: RequestHead) -> None:
        options = ",".join(head.values("Connection")).lower().split(",")
        self._is_head = head.method == "HEAD"
        self._is_http_1_1 = head.http_version != "1.0"
        self._expects_continue = head.expects_continue
        self.keeps_alive = self._is_http_1_1 and "close" not in map(str.strip, options)
        """Whether the connection may carry the next request, after `end`.

        It may be set to False before `start`, and the response then says so.
        """
        self._has_started = False
        self._has_ended = False
        self._has_body = False
        self._is_chunked = False
        self._left: int | None = None

    def continue_(self) -> bytes:
        """Give the 100 that a sender with ``Expect: 100-continue`` waits for (clause 123).

        Nothing, where this sender does not expect it or the response has begun.
        """
        if not self._expects_continue or self._has_started:
            return b""
        self._expects_continue = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def start(
        self,
        status: int,
        reason: str | None,
        headers: Iterable[tuple[str, str]],
        *,
        body_length: int | None,
        now: float,
    ) -> bytes:
        """Give the response's head.

        Args:
            status: 200 to 999.
            reason: Reason phrase, verbatim; None for the standard phrase of the status, and
                nothing where it has none.
            headers: Further headers, verbatim. Those that frame a body or a connection are left
                out: this writer decides them.
            body_length: Bytes of the body; None where they are not known yet.
            now: Unix time in seconds, for a ``Date`` where ``headers`` have none.

        Raises:
            ValueError: The status is none of a final response, or the name of a header none that
                HTTP knows. (Control characters in reason and values become blanks.)
            RuntimeError: The response has begun already.
        """
        if not 200 <= status <= 999:
            raise ValueError(f"{status} is not the status of a final response")
        if self._has_started:
            raise RuntimeError("the response has begun already")
        lines = [(name, value) for name, value in headers if name.lower() not in _OWN_HEADERS]
        if not any(name.lower() == "date" for name, _ in lines):
            lines.insert(0, ("Date", formatdate(now, usegmt=True)))
        self._has_body = not self._is_head and status not in _WITHOUT_BODY
        lines += self._framing(status, body_length)
        if not self.keeps_alive:
            lines.append(("Connection", "close"))
        # Only now: a head that cannot be written has not begun.
        phrase = _standard_phrase(status) if reason is None else reason
        head = serialize_head(f"HTTP/1.1 {status} {phrase}", lines)
        self._has_started = True
        return head

    def _framing(self, status: int, length: int | None) -> list[tuple[str, str]]:
        if not self._has_body:
            # What GET would get; a HEAD handler that has no body says nothing of that.
            is_known = length and status not in _WITHOUT_BODY
            return [("Content-Length", str(length))] if is_known else []
        if length is not None:
            self._left = length
            return [("Content-Length", str(length))]
        if self._is_http_1_1:
            self._is_chunked = True
            return [("Transfer-Encoding", "chunked")]
        self.keeps_alive = False
        return []

    def data(self, payload: bytes | memoryview) -> bytes:
        """Give a piece of the body as it goes on the wire; nothing where no body is allowed.

        Raises:
            ValueError: It is more than ``body_length`` said.
            RuntimeError: The response has not begun, or has ended.
        """
        self._check_is_open()
        if not self._has_body or not payload:
            return b""  # An empty chunk would be the end.
        if self._is_chunked:
            return b"".join((b"%x\r\n" % len(payload), payload, b"\r\n"))
        if self._left is not None:
            if len(payload) > self._left:
                raise ValueError("the body is longer than its Content-Length")
            self._left -= len(payload)
        return bytes(payload)

    def end(self) -> bytes:
        """Give what ends the body.

        Raises:
            ValueError: The body is shorter than ``body_length`` said: nothing that is sent now
                could complete it, so the connection has to be aborted.
            RuntimeError: The response has not begun, or has ended.
        """
        self._check_is_open()
        if self._left:
            raise ValueError("the body is shorter than its Content-Length")
        self._has_ended = True
        return b"0\r\n\r\n" if self._is_chunked else b""

    def _check_is_open(self) -> None:
        if not self._has_started or self._has_ended:
            raise RuntimeError("the response has not begun, or has ended")


def _standard_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
