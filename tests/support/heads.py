"""Request heads that two parsers could read differently."""

from __future__ import annotations

_POST = b"POST /hc1 HTTP/1.1\r\nHost: localhost\r\n"

AMBIGUOUS_HEADS = {
    "bare LF": b"GET / HTTP/1.1\nHost: localhost\r\n\r\n",
    "bare LF between headers": b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rY: b\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "blank before the first header": b"GET / HTTP/1.1\r\n X: y\r\nHost: localhost\r\n\r\n",
    "blank before the colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n",
    "name with a slash": b"GET / HTTP/1.1\r\nHost: localhost\r\nX/Y: x\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    "0x01 in a value": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x01b\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x7fb\r\n\r\n",
    "vertical tab": b"GET / HTTP/1.1\r\nHost: localhost\r\nX:\x0bb\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "two framings": _POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two equal lengths": _POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": _POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "length with zeros": _POST + b"Content-Length: 003\r\n\r\nabc",
    "length with a sign": _POST + b"Content-Length: +3\r\n\r\nabc",
    "negative length": _POST + b"Content-Length: -3\r\n\r\nabc",
    "length in hex": _POST + b"Content-Length: 0x3\r\n\r\nabc",
    "huge length": _POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "empty length": _POST + b"Content-Length:\r\n\r\n",
    "chunked on 1.0": _POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n",
    "chunked twice": _POST + b"Transfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and more": _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, misspelt": _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two blanks in the first line": b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tab in the first line": b"GET\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /\r\nHost: localhost\r\n\r\n",
    "version in lower case": b"GET / http/1.1\r\nHost: localhost\r\n\r\n",
    "version 1.10": b"GET / HTTP/1.10\r\nHost: localhost\r\n\r\n",
    "blank in the target": b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "raw bytes in the target": b"GET /\xc3\xb8 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "raw bytes in a name": b"GET / HTTP/1.1\r\nHost: localhost\r\nX\xf8: y\r\n\r\n",
    "empty first line": b"\r\n\r\n",
    "a frame instead of a head": b"\x81\x85\x00\x00\x00\x00hello\r\n\r\n",
    "absolute target": b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
